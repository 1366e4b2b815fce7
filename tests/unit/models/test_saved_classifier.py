"""Finished models: the learner's answers from plain files, in a fresh process, and no trust in damaged ones."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import scipy.special
from PIL import Image

from utils_cv.evaluation.metrics import measure_accuracy
from utils_cv.models.model_files import ModelFileError
from utils_cv.models.saved_classifier import ImageClassifier, load_classifier, save_classifier
from utils_cv.system.files import hash_file
from utils_cv.system.timing import measure_fresh_process

# `trained` needs no training: a probe takes seconds, and its answers are what counts here.


@pytest.fixture(scope="module")
def images(small_images):
    return small_images


@pytest.fixture(scope="module")
def probe(small_probe):
    return small_probe


def predict_all(probe, images):
    from utils_cv.training.learner import predict_images

    everything = dataclasses.replace(images, table=images.table.assign(split="test"))
    return predict_images(probe, everything).probabilities


@pytest.fixture(scope="module")
def folder(images, probe, tmp_path_factory):
    from utils_cv.training.learner import predict_images

    predictions = predict_images(probe, images)
    folder = tmp_path_factory.mktemp("models") / "shapes"
    score = measure_accuracy(predictions.y_true, predictions.y_pred)
    save_classifier(probe, folder, images=images, scores={"accuracy": score}, onnx=True, int8=True)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(folder, tmp_path / "model")


@pytest.fixture(scope="module")
def expected(images, probe):
    return predict_all(probe, images)


PREDICT_IN_A_FRESH_PROCESS = """
import json, sys
import numpy as np
from utils_cv.models.saved_classifier import load_classifier
folder, runtime, paths = json.load(open({request!r}))
classifier = load_classifier(folder, runtime=runtime)
probabilities = classifier.predict(paths)
heavy = sorted({{"torch", "fastai", "timm", "pandas", "sklearn", "matplotlib"}} & set(sys.modules))
print(json.dumps([probabilities.tolist(), heavy]))
"""


@pytest.mark.parametrize(("runtime", "loaded"), [("onnx", []), ("openvino", []), ("torch", ["timm", "torch"])])
def test_a_fresh_process_gives_the_learners_answers(tmp_path, folder, images, expected, runtime, loaded):
    request = tmp_path / "request.json"
    request.write_text(json.dumps([str(folder), runtime, images.table["path"].tolist()]))
    done = measure_fresh_process(PREDICT_IN_A_FRESH_PROCESS.format(request=str(request)))
    probabilities, heavy = json.loads(done.output.splitlines()[-1])
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    assert "fastai" not in heavy and set(heavy) <= set(loaded)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_size_of_a_batch_changes_nothing(folder, images, expected, batch_size):
    probabilities = load_classifier(folder).predict(images.table["path"].tolist(), batch_size=batch_size)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_files_images_and_arrays_give_one_answer(folder, images, expected):
    classifier, path = load_classifier(folder), images.table["path"].iloc[0]
    image = Image.open(path)
    for given in (path, [path], image, np.asarray(image), [np.asarray(image), image], np.asarray(image)[None]):
        probabilities = classifier.predict(given)
        np.testing.assert_allclose(probabilities, np.repeat(expected[:1], len(probabilities), axis=0), atol=1e-4)


def test_no_images_give_no_rows(folder):
    assert load_classifier(folder).predict([]).shape == (0, 2) and load_classifier(folder).predict_labels([]) == []


def test_labels_are_the_most_probable_classes(folder, images, expected):
    labels = load_classifier(folder).predict_labels(images.table["path"].tolist())
    assert labels == [images.class_names[i] for i in expected.argmax(axis=1)]


@pytest.mark.parametrize(
    "wrong",
    [3, np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)],
    ids=["number", "grey array", "floating point", "four channels"],
)
def test_other_things_are_refused(folder, wrong):
    with pytest.raises(TypeError, match="expected a path, a Pillow image, or an RGB array"):
        load_classifier(folder).predict([wrong])


def test_the_facts_are_written(folder, images, probe):
    content = json.loads((folder / "model.json").read_text())
    assert content["schema_version"] == 1 and content["class_names"] == images.class_names
    assert content["scores"][0]["name"] == "accuracy" and content["scores"][0]["n"] == content["training"]["n_test"]
    assert content["backbone"] == probe.backbone and content["im_size_px"] == 64 and content["mean"] == [0.5] * 3
    assert content["files"]["model.onnx"] == hash_file(folder / "model.onnx")
    assert len(content["table_sha256"]) == 64 and content["versions"]["torch"]


def test_the_hash_of_the_table_follows_its_labels(images, probe, folder, tmp_path):
    tables = {"shuffled": images.table.sample(frac=1, random_state=0), "relabeled": images.table.assign(label="can")}
    hashes = []
    for name, table in tables.items():
        changed = dataclasses.replace(images, table=table)
        hashes.append(save_classifier(probe, tmp_path / name, images=changed, onnx=False).table_sha256)
    assert hashes[0] == load_classifier(folder).info.table_sha256 != hashes[1]


def test_8_bits_are_not_offered_where_the_images_cannot_show_it(folder):
    info = load_classifier(folder).info
    assert not info.int8["is_offered"] and info.int8["n"] < 276 and info.int8["n_calibration"] > 0
    assert not (folder / "model.int8.onnx").exists()
    with pytest.raises(FileNotFoundError, match=r"model\.int8\.onnx is missing"):
        load_classifier(folder, runtime="int8")


def test_a_folder_holds_the_model_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "model.json",
        "model.onnx",
        "model.safetensors",
    ]


def test_without_onnx_torch_is_taken(probe, tmp_path, images, expected):
    save_classifier(probe, tmp_path / "plain", onnx=False)
    classifier = load_classifier(tmp_path / "plain")
    assert classifier.runtime == "channels_last" and not (tmp_path / "plain" / "model.onnx").exists()
    np.testing.assert_allclose(classifier.predict(images.table["path"].tolist()), expected, atol=1e-4)


def test_saving_changes_neither_the_learner_nor_its_answers(probe, images, expected):
    np.testing.assert_array_equal(predict_all(probe, images), expected)


def test_files_of_others_are_not_overwritten(probe, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"):
        save_classifier(probe, tmp_path, onnx=False, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_model_is_replaced_only_when_asked(probe, copied):
    (copied / "notes.txt").write_text("mine")
    before = (copied / "model.json").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_classifier(probe, copied, onnx=False)
    assert (copied / "model.json").read_bytes() == before
    save_classifier(probe, copied, onnx=False, overwrite=True)
    assert load_classifier(copied).runtime == "channels_last" and (copied / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@pytest.mark.parametrize("damage", ["cut short", "one byte changed", "empty", "of another model"])
def test_a_damaged_file_is_not_loaded(copied, runtime, damage, monkeypatch):
    import onnxruntime

    path = copied / {"onnx": "model.onnx", "torch": "model.safetensors"}[runtime]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"cut short": content[:-100], "one byte changed": content, "empty": b"", "of another model": b"x" * 999}
    path.write_bytes(damaged[damage])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(ModelFileError, match=f"{path.name} is not the file that model.json lists"):
        load_classifier(copied, runtime=runtime)


def test_weights_that_fit_their_hash_but_not_the_network_are_refused(copied):
    content = json.loads((copied / "model.json").read_text())
    (copied / "model.json").write_text(json.dumps(content | {"backbone": "efficientnet_lite1"}))
    with pytest.raises(ModelFileError, match="does not fit efficientnet_lite1"):
        load_classifier(copied, runtime="torch")


def test_a_folder_without_a_model_and_an_unknown_runtime_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.json"):
        load_classifier(tmp_path)
    with pytest.raises(ValueError, match="'tensorrt'; here there are 'torch', 'channels_last'"):
        load_classifier(folder, runtime="tensorrt")


def test_requests_that_cannot_be_met_write_nothing(probe, tmp_path):
    with pytest.raises(ValueError, match="needs images"):
        save_classifier(probe, tmp_path / "a", int8=True)
    with pytest.raises(ValueError, match="3 thresholds for 2 classes"):
        save_classifier(probe, tmp_path / "a", thresholds=[0.5] * 3)
    assert not (tmp_path / "a").exists()


def make_classifier(info, logits, **changes):
    """A classifier whose network gives these logits for any images."""
    return ImageClassifier(dataclasses.replace(info, **changes), "", lambda pixels: np.array(logits)[: len(pixels)])


def test_multi_label_answers_follow_their_thresholds(folder):
    info, images = load_classifier(folder).info, [np.zeros((64, 64, 3), np.uint8)] * 4
    logits = scipy.special.logit([[0.6, 0.95], [0.6, 0.8], [0.5, 1e-9], [0.1, 0.1]])
    classifier = make_classifier(info, logits, is_multilabel=True, thresholds=[0.5, 0.9])
    assert classifier.predict_labels(images) == ["can|carton", "can", "can", ""]
    assert make_classifier(info, logits, is_multilabel=True).predict_labels(images)[1] == "can|carton"


@pytest.mark.parametrize(("is_multilabel", "oracle"), [(False, scipy.special.softmax), (True, scipy.special.expit)])
def test_probabilities_are_those_of_scipy_for_extreme_logits_too(folder, is_multilabel, oracle):
    logits, images = np.array([[1000.0, -1000.0], [0.0, 0.0], [3.0, -2.0]]), [np.zeros((64, 64, 3), np.uint8)] * 3
    classifier = make_classifier(load_classifier(folder).info, logits, is_multilabel=is_multilabel)
    expected = oracle(logits) if is_multilabel else oracle(logits, axis=1)
    np.testing.assert_allclose(classifier.predict(images), expected, atol=1e-12)
