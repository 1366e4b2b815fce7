"""Finished models: the network's answers from plain files, in a fresh process too, and no trust in damaged ones."""

import dataclasses
import io
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.special
import torch
from PIL import Image

from utils_cv.data.image_table import load_table_images
from utils_cv.data.images import ImageError
from utils_cv.models import saved_classifier
from utils_cv.models.model_files import ModelFileError
from utils_cv.models.saved_classifier import ImageClassifier, load_classifier, save_classifier
from utils_cv.system.files import hash_file
from utils_cv.system.machine import count_cpus
from utils_cv.system.timing import measure_fresh_process


@pytest.fixture(scope="module")
def paths(small_images):
    return small_images.table["path"].tolist()


@pytest.fixture(scope="module")
def expected(small_images, trained):
    with torch.inference_mode():
        return scipy.special.softmax(trained.learn.model(torch.from_numpy(small_images.pixels)).numpy(), axis=1)


@pytest.fixture
def copied(saved_folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved_folder, tmp_path / "model")


PREDICT_IN_A_FRESH_PROCESS = """
import json, sys
from utils_cv.models.saved_classifier import load_classifier
folder, runtime, paths = json.load(open({request!r}))
probabilities = load_classifier(folder, runtime=runtime).predict(paths)
heavy = sorted({{"torch", "fastai", "timm", "pandas", "sklearn", "matplotlib", "scipy"}} & set(sys.modules))
print(json.dumps([probabilities.tolist(), heavy]))
"""


@pytest.mark.parametrize(("runtime", "loaded"), [("onnx", []), ("openvino", []), ("torch", ["timm", "torch"])])
def test_a_fresh_process_gives_the_networks_answers(tmp_path, saved_folder, paths, expected, runtime, loaded):
    request = tmp_path / "request.json"
    request.write_text(json.dumps([str(saved_folder), runtime, paths]))
    done = measure_fresh_process(PREDICT_IN_A_FRESH_PROCESS.format(request=str(request)))
    probabilities, heavy = json.loads(done.output.splitlines()[-1])
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    assert set(heavy) <= set(loaded)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_size_of_a_batch_changes_nothing(saved_folder, paths, expected, batch_size, monkeypatch):
    monkeypatch.setattr("utils_cv.models.saved_classifier.BATCH_SIZE", batch_size)
    classifier = load_classifier(saved_folder)
    np.testing.assert_allclose(classifier.predict(paths), expected, atol=1e-4)
    labels = [classifier.info.class_names[i] for i in expected.argmax(axis=1)]
    assert classifier.predict_labels(paths) == labels and len(set(labels)) == 2


def test_all_kinds_of_images_give_one_answer_and_no_images_none(saved_folder, paths, expected):
    classifier, image, path = load_classifier(saved_folder), Image.open(paths[0]), Path(paths[0])
    pixels, content, pattern = np.asarray(image), path.read_bytes(), f"{path.parent}/{path.stem}.*"
    many = ([paths[0]], [pixels, image], pixels[None], iter([path]), [content, content], pd.Series(paths[:1]))
    for given in (paths[0], path, pattern, image, pixels, content, memoryview(content), io.BytesIO(content), *many):
        probabilities = classifier.predict(given)
        np.testing.assert_allclose(probabilities, np.repeat(expected[:1], len(probabilities), axis=0), atol=1e-4)
    assert classifier.predict([]).shape == (0, 2) and classifier.predict_labels([]) == []


@pytest.mark.parametrize("wrong", [3, np.zeros((4, 4)), np.zeros((4, 4, 3))], ids=["number", "grey", "floats"])
def test_other_things_are_refused(saved_folder, wrong):
    for given in ([wrong], wrong):
        with pytest.raises(TypeError, match="expected a path"):
            load_classifier(saved_folder).predict(given)


def test_many_batches_from_a_generator_stay_in_order(saved_folder, paths, expected):
    classifier = load_classifier(saved_folder)
    np.testing.assert_allclose(classifier.predict(Path(path).read_bytes() for path in paths), expected, atol=1e-4)


@pytest.fixture
def partly_broken(paths, tmp_path):
    """A folder of images of which three cannot be opened."""
    for i, path in enumerate(paths):
        shutil.copyfile(path, tmp_path / f"{i:02d}.png")
    for i in (0, 7, 20):
        (tmp_path / f"{i:02d}.png").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "give",
    [
        pytest.param(lambda folder: folder, id="folder"),
        pytest.param(str, id="folder as text"),
        pytest.param(lambda folder: f"{folder}/*.png", id="pattern"),
        pytest.param(lambda folder: f"{folder.parent}/{folder.name}/**/[0-9]*.png", id="pattern through folders"),
        pytest.param(lambda folder: sorted(folder.iterdir()), id="list"),
        pytest.param(lambda folder: iter(sorted(folder.iterdir())), id="generator"),
        pytest.param(lambda folder: [path.read_bytes() for path in sorted(folder.iterdir())], id="bytes"),
    ],
)
def test_a_table_has_a_row_per_image_and_says_what_cannot_be_opened(saved_folder, partly_broken, expected, give):
    given, classifier = give(partly_broken), load_classifier(saved_folder)
    found = classifier.predict_table(given)
    assert list(found) == ["image", "label", "probability", "can", "carton", "problem"]
    is_named = not (isinstance(given, list) and isinstance(given[0], bytes))
    names = [str(partly_broken / f"{i:02d}.png") if is_named else f"image {i}" for i in range(len(expected))]
    assert found["image"].tolist() == names
    is_open = (found["problem"] == "").to_numpy()
    assert np.flatnonzero(~is_open).tolist() == [0, 7, 20]
    assert set(found["problem"][~is_open]) == {"the file is empty"} and set(found["label"][~is_open]) == {""}
    assert found.loc[~is_open, ["probability", "can", "carton"]].isna().all(axis=None)
    np.testing.assert_allclose(found.loc[is_open, ["can", "carton"]], expected[is_open], atol=1e-4)
    np.testing.assert_allclose(found["probability"][is_open], expected[is_open].max(axis=1), atol=1e-4)
    assert found["label"][is_open].tolist() == found.loc[is_open, ["can", "carton"]].idxmax(axis=1).tolist()


def test_a_table_of_nothing_is_empty_and_a_mistyped_path_is_named(saved_folder, partly_broken, tmp_path):
    classifier = load_classifier(saved_folder)
    assert list(classifier.predict_table([])) == ["image", "label", "probability", "can", "carton", "problem"]
    with pytest.raises(ImageError, match=r"photoes: there is no such file or folder"):
        classifier.predict_table(tmp_path / "photoes")
    with pytest.raises(FileNotFoundError, match=r"No file fits the pattern .*\*\.jpg"):
        classifier.predict_table(f"{tmp_path}/*.jpg")
    with pytest.raises(ImageError, match=r"00\.png: the file is empty"):
        classifier.predict(partly_broken)
    (tmp_path / "[a].png").write_bytes((tmp_path / "01.png").read_bytes())
    assert len(classifier.predict_table(f"{tmp_path}/[a].png")) == 1  # a name that looks like a pattern is a name


def test_each_file_is_opened_once_and_only_a_few_are_ahead_of_the_rows(saved_folder, paths, monkeypatch):
    opened, load = [], saved_classifier.load_pixels
    monkeypatch.setattr(
        saved_classifier, "load_pixels", lambda path, *a, **k: opened.append(path) or load(path, *a, **k)
    )
    rows = load_classifier(saved_folder).predict_rows(itertools.cycle(paths))
    assert [next(rows)["image"] for _ in range(5)] == paths[:5]
    assert len(opened) <= saved_classifier.BATCH_SIZE + 8 * count_cpus() + 1
    rows.close()
    opened.clear()
    load_classifier(saved_folder).predict_table(paths)
    assert sorted(opened) == sorted(paths)


def test_classes_that_are_called_like_other_columns_have_columns_of_their_own(saved_folder):
    classifier = make_classifier(saved_folder, [[0.0, 1.0]] * 2, class_names=["problem", "can"])
    row = classifier.predict_table(np.zeros((1, 64, 64, 3), np.uint8)).iloc[0]
    assert row["problem"] == "" and row["problem (class)"] == pytest.approx(1 - row["can"]) != row["can"]


def test_16_bit_files_are_opened_at_prediction_as_in_training(trained, tmp_path):
    noise = np.random.default_rng(0).integers(0, 4096, (12, 80, 80), dtype=np.uint16)
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(12)], "label": ["can", "carton"] * 6, "split": "train"})
    table["path"] = [str(tmp_path / image) for image in table["image"]]
    for values, path in zip(noise, table["path"], strict=True):
        Image.fromarray(values).save(path)
    with pytest.warns(UserWarning, match="values up to 4095 only, which becomes white"):
        images = load_table_images(table, 64)
    assert images.value_range == 4095 and images.pixels.mean() > 100
    save_classifier(SimpleNamespace(**vars(trained) | {"value_range": images.value_range}), tmp_path / "model")
    classifier = load_classifier(tmp_path / "model")
    np.testing.assert_allclose(classifier.predict(table["path"]), classifier.predict(images.pixels), atol=1e-6)


def test_the_facts_are_written(saved_folder, small_images):
    content = json.loads((saved_folder / "model.json").read_text())
    assert content["schema_version"] == 1 and content["class_names"] == small_images.class_names
    assert content["scores"] == [{"name": "accuracy", **content["scores"][0]}] and content["scores"][0]["n"] == 6
    assert content["backbone"] == "efficientnet_lite0" and content["im_size_px"] == 64
    np.testing.assert_allclose([content["mean"], content["std"]], [[0.5, 0.4, 0.3], [0.5, 0.6, 0.7]], rtol=1e-6)
    names = ["model.onnx", "model.safetensors"]
    assert content["files"] == {name: hash_file(saved_folder / name) for name in reversed(names)}
    assert sorted(path.name for path in saved_folder.iterdir()) == ["README.md", "model.json", *names]
    assert sum(content["training"][f"n_{split}"] for split in ("train", "valid", "test")) == len(small_images.table)
    assert content["versions"]["torch"] and content["int8"]["n"] < 276 and content["int8"]["is_offered"] is False


def test_the_hash_of_the_table_follows_its_labels(small_images, trained, saved_folder, tmp_path):
    table, hashes = small_images.table, []
    latin = table.assign(image="caf\udce9/" + table["image"])  # bytes that are not UTF-8, from an old archive
    save_classifier(trained, tmp_path / "latin", images=dataclasses.replace(small_images, table=latin), onnx=False)
    for changed in (table.sample(frac=1, random_state=0), table.assign(label="can")):
        images = dataclasses.replace(small_images, table=changed)
        hashes.append(save_classifier(trained, tmp_path / str(len(hashes)), images=images, onnx=False).table_sha256)
    assert hashes[0] == load_classifier(saved_folder).info.table_sha256 != hashes[1]


def test_without_onnx_torch_is_taken_and_saving_changes_nothing(trained, tmp_path, paths, expected):
    before = {name: value.clone() for name, value in trained.learn.model.state_dict().items()}
    save_classifier(trained, tmp_path / "plain", onnx=False)
    classifier = load_classifier(tmp_path / "plain")
    assert classifier.runtime == "channels_last" and not (tmp_path / "plain" / "model.onnx").exists()
    np.testing.assert_allclose(classifier.predict(paths), expected, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in trained.learn.model.state_dict().items())


def test_files_of_others_are_not_overwritten(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"):
        save_classifier(trained, tmp_path, onnx=False, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_model_is_replaced_only_when_asked(trained, copied):
    (copied / "notes.txt").write_text("mine")
    before = (copied / "model.json").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_classifier(trained, copied, onnx=False)
    assert (copied / "model.json").read_bytes() == before
    save_classifier(trained, copied, onnx=False, overwrite=True)
    assert load_classifier(copied).runtime == "channels_last" and (copied / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@pytest.mark.parametrize("damage", ["cut short", "one byte changed", "empty", "of another model"])
def test_a_damaged_file_is_not_loaded(copied, runtime, damage, monkeypatch):
    path = copied / {"onnx": "model.onnx", "torch": "model.safetensors"}[runtime]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"cut short": content[:-100], "one byte changed": content, "empty": b"", "of another model": b"x" * 999}
    path.write_bytes(damaged[damage])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(ModelFileError, match=f"{path.name} is not the file that model.json lists"):
        load_classifier(copied, runtime=runtime)


def test_weights_that_fit_their_hash_but_not_the_network_are_refused(copied):
    content = json.loads((copied / "model.json").read_text())
    (copied / "model.json").write_text(json.dumps(content | {"backbone": "efficientnet_lite1"}))
    with pytest.raises(ModelFileError, match="does not fit efficientnet_lite1"):
        load_classifier(copied, runtime="torch")


def test_what_is_not_there_is_named(saved_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.json"):
        load_classifier(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model\.int8\.onnx is missing"):
        load_classifier(saved_folder, runtime="int8")
    with pytest.raises(ValueError, match="'tensorrt'; here there are 'torch', 'channels_last'"):
        load_classifier(saved_folder, runtime="tensorrt")


def test_requests_that_cannot_be_met_write_nothing(trained, tmp_path):
    with pytest.raises(ValueError, match="needs images"):
        save_classifier(trained, tmp_path / "a", int8=True)
    with pytest.raises(ValueError, match="3 thresholds for 2 classes"):
        save_classifier(trained, tmp_path / "a", thresholds=[0.5] * 3)
    assert not (tmp_path / "a").exists()


def make_classifier(folder, logits, **changes):
    """A classifier whose network gives these logits, whatever the images."""
    info = dataclasses.replace(load_classifier(folder).info, **changes)
    return ImageClassifier(info, "", lambda pixels: np.array(logits)[: len(pixels)])


def test_multi_label_answers_follow_their_thresholds(saved_folder):
    logits = scipy.special.logit([[0.6, 0.95], [0.6, 0.8], [0.5, 1e-9], [0.1, 0.1]])
    images, changes = np.zeros((4, 64, 64, 3), np.uint8), {"is_multilabel": True}
    classifier = make_classifier(saved_folder, logits, thresholds=[0.5, 0.9], **changes)
    assert classifier.predict_labels(images) == ["can|carton", "can", "can", ""]
    assert make_classifier(saved_folder, logits, **changes).predict_labels(images)[1] == "can|carton"


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_probabilities_are_those_of_scipy_for_extreme_logits_too(saved_folder, is_multilabel):
    logits = np.array([[1000.0, -1000.0], [0.0, 0.0], [3.0, -2.0]])
    expected = scipy.special.expit(logits) if is_multilabel else scipy.special.softmax(logits, axis=1)
    classifier = make_classifier(saved_folder, logits, is_multilabel=is_multilabel)
    np.testing.assert_allclose(classifier.predict(np.zeros((3, 64, 64, 3), np.uint8)), expected, atol=1e-12)
