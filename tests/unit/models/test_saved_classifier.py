"""Finished models: the network's answers from plain files, in a fresh process too, and no trust in damaged ones."""

import copy
import dataclasses
import io
import itertools
import json
import math
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import scipy.special
import torch
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data
from PIL import Image

from tests.conftest import ROOT
from tests.unit.models.tiny_models import change_info, make_tiny_network, save_tiny_model
from utils_cv.data.image_table import load_table_images
from utils_cv.data.images import ImageError
from utils_cv.evaluation.intervals import Score, make_fraction_score
from utils_cv.evaluation.out_of_distribution import OodDetector
from utils_cv.models import saved_classifier
from utils_cv.models.model_card import read_card
from utils_cv.models.model_files import ModelFileError
from utils_cv.models.saved_classifier import ImageClassifier, load_classifier, save_classifier
from utils_cv.system.files import hash_file
from utils_cv.system.machine import count_cpus
from utils_cv.system.timing import measure_fresh_process
from utils_cv.training.trained_models import load_trained


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
    classifier = load_classifier(saved_folder, runtime="channels_last")
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


COLUMNS = ["image", "label", "probability", "can", "carton", "is_unknown", "problem"]


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
    assert list(found) == COLUMNS
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
    assert list(classifier.predict_table([])) == COLUMNS
    with pytest.raises(ImageError, match=r"photoes: there is no such file or folder"):
        classifier.predict_table(tmp_path / "photoes")
    with pytest.raises(FileNotFoundError, match=r"No file fits the pattern .*\*\.jpg"):
        classifier.predict_table(f"{tmp_path}/*.jpg")
    with pytest.raises(ImageError, match=r"00\.png: the file is empty"):
        classifier.predict(partly_broken)
    (tmp_path / "[x]").mkdir()
    (tmp_path / "[x]/[a].png").write_bytes((tmp_path / "01.png").read_bytes())
    for name in ("[a].png", "*.png", "[[]a[]].png"):  # a name that looks like a pattern is a name
        assert len(classifier.predict_table(f"{tmp_path}/[x]/{name}")) == 1


def test_each_file_is_opened_once_and_only_a_few_are_ahead_of_the_rows(saved_folder, paths, monkeypatch):
    opened, load = [], saved_classifier.load_pixels
    monkeypatch.setattr(
        saved_classifier, "load_pixels", lambda path, *a, **k: opened.append(path) or load(path, *a, **k)
    )
    rows = load_classifier(saved_folder).predict_rows(itertools.cycle(paths))
    assert [next(rows)["image"] for _ in range(5)] == paths[:5]
    assert len(opened) <= 8 * count_cpus() + 5
    rows.close()
    opened.clear()
    load_classifier(saved_folder).predict_table(paths)
    assert sorted(opened) == sorted(paths)


def test_classes_that_are_called_like_other_columns_have_columns_of_their_own(saved_folder):
    for other, own in {"can": "problem (class)", "problem (class)": "problem (class) (class)"}.items():
        classifier = make_classifier(saved_folder, [[0.0, 1.0]] * 2, class_names=["problem", other])
        row = classifier.predict_table(np.zeros((1, 64, 64, 3), np.uint8)).iloc[0]
        assert row["problem"] == "" and row[own] == pytest.approx(1 - row[other]) != row[other]


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
    assert content["schema_version"] == 2 and content["class_names"] == small_images.class_names
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
    card = re.sub("^# .*", "# My *fridge*", (copied / "README.md").read_text(), flags=re.MULTILINE)
    (copied / "README.md").write_text(card.replace("license: other", "license: 'mit'"))  # as its owner would edit it
    before = (copied / "model.json").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_classifier(trained, copied, onnx=False)
    assert (copied / "model.json").read_bytes() == before
    save_classifier(trained, copied, onnx=False, overwrite=True)
    assert load_classifier(copied).runtime == "channels_last" and (copied / "notes.txt").read_text() == "mine"
    assert read_card(copied) == ("My *fridge*", "mit")


def test_what_was_measured_for_a_model_is_taken_over_by_the_same_network_only(trained, tmp_path, recwarn):
    score, detector = make_fraction_score(5, 6), OodDetector("highest logit", {}, 0.5, n_known=9)
    given = {"scores": {"accuracy": score, "macro F1": Score(math.nan, 0.1, math.nan, 6)}, "detector": detector}
    before = save_classifier(trained, tmp_path, onnx=False, **given)
    after = save_classifier(load_trained(tmp_path), tmp_path, overwrite=True)
    assert str((after.scores, after.unknown)) == str((before.scores, before.unknown))  # NaN is not equal to itself
    assert load_classifier(tmp_path).can_reject and not recwarn.list
    other = copy.deepcopy(trained)
    other.learn.model.head.bias.data += 1
    with pytest.warns(UserWarning, match=r"for other weights: scores=\.\.\., detector=\.\.\."):
        last = save_classifier(other, tmp_path, onnx=False, overwrite=True)
    assert not last.scores and not last.unknown


def fact(name, value, **options):
    """Another value of a fact in `model.json`, whose hash then fits; or with is_hashed=False that of before."""
    return lambda folder: change_info(folder, **{name: value}, **options)


def content(name, change):
    """Other content of a file, of which `model.json` knows nothing."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def network(**changes):
    """A model saved with a network that does not fit the rest."""
    return lambda folder: save_tiny_model(folder, network=make_tiny_network(**changes))


def changed_network(change):
    """A model saved with a network that was changed."""

    def save(folder):
        model = make_tiny_network()
        save_tiny_model(folder, network=change(model) or model)

    return save


def replace_by_folder(name):
    def replace(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return replace


def link_elsewhere(folder):
    (folder.parent / "secret").write_text("of somebody else")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(folder.parent / "secret")


def move_weights_out(model):
    """Weights that a file of the working folder would hold."""
    (weight, *_) = model.graph.initializer
    set_external_data(weight, "weights.bin")
    weight.ClearField("raw_data")


TAMPERED = {
    "one class": fact("class_names", ["can"]),
    "the same class twice": fact("class_names", ["can", "can"]),
    "a blank class": fact("class_names", ["can", " "]),
    "a number as class": fact("class_names", ["can", 1]),
    "classes as text": fact("class_names", "ab"),
    "half a character as class": fact("class_names", ["can", "\ud800"]),
    "more classes than logits": fact("class_names", ["can", "carton", "cup"]),
    "fewer classes than logits": network(bias=(0, 1, 2)),
    "several labels as text": fact("is_multilabel", "yes"),
    "separator in a class of several": fact("class_names", ["can|cup", "can"], is_multilabel=True),
    "size as text": fact("im_size_px", "8"),
    "size of a truth value": fact("im_size_px", True),
    "no size": fact("im_size_px", 0),
    "size of another model": fact("im_size_px", 16),
    "unknown fit": fact("fit", "stretch"),
    "fits in a list": fact("fit", ["pad"]),
    "mean of two channels": fact("mean", [0.5, 0.5]),
    "mean that is no number": fact("mean", [math.nan] * 3),
    "mean as text": fact("mean", ["0.5"] * 3),
    "std of zero": fact("std", [0, 1, 1]),
    "threshold above 1": fact("thresholds", [7, 0.5]),
    "thresholds of another model": fact("thresholds", [0.5]),
    "value range of no camera": fact("value_range", 1000),
    "backbone as number": fact("backbone", 0),
    "files in a list": fact("files", ["model.onnx"]),
    "a file without hash": fact("files", {"model.onnx": None}),
    "a file outside the folder": fact("files", {"../../secret": "0" * 64}),
    "scores as number": fact("scores", 0.9),
    "no std": fact("without", "std"),
    "a newer version": fact("schema_version", 3),
    "version as truth value": fact("schema_version", True),
    "another kind": fact("kind", "something else"),
    "mean of another network": fact("mean", [0.5, 0.5, 0.4]),
    "std of another network": fact("std", [0.5, 0.4, 0.5]),
    "mean and std swapped": lambda folder: change_info(folder, mean=[0.2] * 3, std=[0.4] * 3, is_hashed=False),
    "classes swapped": fact("class_names", ["class 1", "class 0"], is_hashed=False),
    "hash of model.json removed": lambda folder: change_info(folder, without="content_sha256", is_hashed=False),
    "hash and version changed": fact("mean", [0.2] * 3, version=1),
    "version changed": lambda folder: (folder / "model.json").write_text(
        (folder / "model.json").read_text().replace('"schema_version": 2', '"schema_version": 1')
    ),
    "model.json cut short": content("model.json", lambda before: before[:-10]),
    "model.json with a list": content("model.json", lambda _: b"[]"),
    "model.json that is no UTF-8": content("model.json", lambda _: b"\xff\xfe"),
    "model.json nested deep": content("model.json", lambda _: b"[" * 100_000),
    "model.json with a huge number": content("model.json", lambda _: b"9" * 10_000),
    "folder in place of model.json": replace_by_folder("model.json"),
    "one byte of the network changed": content("model.onnx", lambda before: bytes([before[0] ^ 1]) + before[1:]),
    "folder in place of the network": replace_by_folder("model.onnx"),
    "link to a file elsewhere": link_elsewhere,
    "weights in another file": changed_network(move_weights_out),
    "an operation of its own": changed_network(lambda model: setattr(model.graph.node[1], "domain", "com.other")),
    "another format": changed_network(lambda model: model.graph.ClearField("node")),
    "images of another size": network(size_px=16),
    "images in floats": network(dtype=TensorProto.FLOAT),
    "images under another name": network(input_name="image"),
    "weights that are no numbers": network(bias=(math.nan, 1)),
}


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_model_is_refused(tmp_path, monkeypatch, case, runtime):
    folder = tmp_path / "model"
    save_tiny_model(folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(1000))
    TAMPERED[case](folder)
    with pytest.raises(ModelFileError, match=r"model\.json|model\.onnx|nan where numbers are expected"):
        load_classifier(folder, runtime=runtime).predict(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["Identity", "ReduceMax"])
def test_an_unknown_score_that_is_not_one_number_per_image_is_refused(tmp_path, kind, runtime):
    model = make_tiny_network()
    model.graph.node.append(helper.make_node(kind, ["output"], ["unknown_score"]))
    model.graph.output.append(helper.make_tensor_value_info("unknown_score", TensorProto.FLOAT, None))
    unknown = {"score": "highest logit", "threshold": 9.0, "expected": 0.05, "n_known": 9, "left_out": []}
    save_tiny_model(tmp_path, network=model, unknown=unknown)
    said = r"gives \[\(1, 2\), .*\], expected \[\(1, 2\), \(1,\)\]|does not give"  # OpenVINO 2025.0 renames outputs
    with pytest.raises(ModelFileError, match=said):
        load_classifier(tmp_path, runtime=runtime).predict(np.zeros((1, 8, 8, 3), np.uint8))


def change_weights(change):
    def rewrite(folder):
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        safetensors.torch.save_file(change(weights) or weights, folder / "model.safetensors")

    return rewrite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(content("model.safetensors", lambda before: before[:-100]), "[Ii]ncomplete", id="cut short"),
        pytest.param(content("model.safetensors", lambda _: pickle.dumps({"a": 1})), "Safetensor", id="pickle"),
        pytest.param(fact("backbone", "efficientnet_lite1"), "Missing key", id="another backbone"),
        pytest.param(fact("backbone", "hf-hub:somebody/net"), "No backbone", id="a backbone from elsewhere"),
        pytest.param(fact("class_names", ["a", "b", "c"]), "no head for the 3 classes", id="another number of classes"),
        pytest.param(change_weights(lambda w: {"body": w["head.weight"]}), "KeyError", id="no head"),
        pytest.param(
            change_weights(lambda w: w | {"head.weight": torch.zeros(2)}), "no head for the 2", id="a head of one size"
        ),
        pytest.param(change_weights(lambda w: w | {"extra": torch.zeros(2)}), "Unexpected key", id="one more"),
        pytest.param(
            change_weights(lambda w: {name: value.half() for name, value in w.items()}), "float16", id="half precision"
        ),
        pytest.param(
            change_weights(lambda w: w | {"head.bias": torch.full((2,), math.nan)}), "head.bias holds NaN", id="NaN"
        ),
    ],
)
def test_weights_that_fit_their_hash_but_not_the_network_are_refused(saved_folder, tmp_path, change, message):
    for name in ("model.json", "model.safetensors"):
        shutil.copyfile(saved_folder / name, tmp_path / name)
    change(tmp_path)
    change_info(tmp_path, files={"model.safetensors": hash_file(tmp_path / "model.safetensors")})
    with pytest.raises(ModelFileError, match=rf"model\.safetensors does not fit .*{message}"):
        load_classifier(tmp_path, runtime="torch")


def test_a_model_of_version_1_is_loaded_in_every_runtime_and_replaced(trained, copied, paths, expected):
    change_info(copied, version=1, without="unknown")  # as it was written before `model.json` had a hash of its own
    for runtime in ("onnx", "openvino", "torch"):
        np.testing.assert_allclose(load_classifier(copied, runtime=runtime).predict(paths), expected, atol=1e-4)
    save_classifier(trained, copied, onnx=False, overwrite=True)
    assert sorted(path.name for path in copied.iterdir()) == ["README.md", "model.json", "model.safetensors"]


PREDICT_ELSEWHERE = """
import multiprocessing, pickle, sys
import joblib
from utils_cv.models.saved_classifier import load_classifier
if __name__ == "__main__":
    classifier = load_classifier(sys.argv[1], runtime=sys.argv[2])
    images = [bytes.fromhex(sys.argv[3])] * 2
    expected = classifier.predict_labels(images)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(classifier.predict_labels, [images]) == [expected]
    assert joblib.Parallel(2)(joblib.delayed(classifier.predict_labels)(images) for _ in range(3)) == [expected] * 3
"""


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_classifier_travels_to_other_processes(tmp_path, runtime):
    save_tiny_model(tmp_path)
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(buffer, "PNG")
    (tmp_path / "main.py").write_text(PREDICT_ELSEWHERE)
    words = [sys.executable, tmp_path / "main.py", tmp_path, runtime, buffer.getvalue().hex()]
    subprocess.run(words, cwd=ROOT, check=True, timeout=120)


def test_a_classifier_that_travels_is_still_the_same_model(saved_folder, copied, paths, expected, monkeypatch):
    monkeypatch.chdir(copied.parent)
    classifier = pickle.loads(pickle.dumps(load_classifier(copied.name, runtime="torch")))
    np.testing.assert_allclose(classifier.predict(paths), expected, atol=1e-4)
    tiny = copied.parent / "tiny"
    save_tiny_model(tiny)
    packed = pickle.dumps(load_classifier(tiny))
    save_tiny_model(tiny, (3, 4))
    with pytest.raises(ModelFileError, match="was replaced after it was loaded elsewhere"):
        pickle.loads(packed)


def test_all_files_are_as_readable_as_others(saved_folder, tmp_path):
    (tmp_path / "other").touch()
    assert {path.stat().st_mode for path in saved_folder.iterdir()} == {(tmp_path / "other").stat().st_mode}


def test_what_is_not_there_is_named(saved_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.json"):
        load_classifier(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model\.int8\.onnx is missing"):
        load_classifier(saved_folder, runtime="int8")


def test_requests_that_cannot_be_met_write_nothing(trained, tmp_path):
    with pytest.raises(ValueError, match="needs images"):
        save_classifier(trained, tmp_path / "a", int8=True)
    with pytest.raises(ValueError, match="3 thresholds for 2 classes"):
        save_classifier(trained, tmp_path / "a", thresholds=[0.5] * 3)
    assert not (tmp_path / "a").exists()


def make_classifier(folder, logits, **changes):
    """A classifier whose network gives these logits, whatever the images."""
    info = dataclasses.replace(load_classifier(folder).info, **changes)
    return ImageClassifier(info, "torch", lambda pixels: np.array(logits)[: len(pixels)], folder)


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
