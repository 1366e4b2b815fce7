"""Unknown images are rejected by a finished model: alike in all runtimes, by what was fitted to its network."""

import dataclasses
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import pandas as pd
import pytest
import safetensors.numpy
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.unit.models.tiny_models import change_info, save_tiny_model
from utils_cv.evaluation.out_of_distribution import HIGHEST_LOGIT, MAHALANOBIS, OodDetector, fit_ood_detector
from utils_cv.models.model_card import make_model_card
from utils_cv.models.model_files import ModelFileError, read_model_info
from utils_cv.models.runtimes import list_runtimes, load_onnx
from utils_cv.models.saved_classifier import ImageClassifier, load_classifier, save_classifier
from utils_cv.models.unknown import append_score, describe_detector, read_detector

RNG = np.random.default_rng(0)
LEFT_OUT = pd.DataFrame(
    [{"name": "a|b", "auroc": 0.9, "rejected": 0.5, "rejected_low": 0.25, "rejected_high": 0.75, "rejected_n": 12}]
)


def draw(n, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), np.uint8)
    pixels[: n // 2, :4] //= 4  # two kinds
    return pixels, (np.arange(n) >= n // 2).astype(int)


@pytest.mark.parametrize("runtime", [name for name in ("onnx", "openvino") if name in list_runtimes()])
@pytest.mark.parametrize("name", [MAHALANOBIS, HIGHEST_LOGIT])
def test_the_exported_network_gives_the_score(name, runtime, tmp_path):
    weight, path = RNG.normal(0, 0.01, (2, 192)).astype(np.float32), tmp_path / "model.onnx"
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["flat"]),
        helper.make_node("Sub", ["flat", "shift"], ["features"]),  # features may be negative
        helper.make_node("Gemm", ["features", "weight"], ["output"], transB=1),
    ]
    ends = [("pixels", TensorProto.UINT8, ["n", 8, 8, 3]), ("output", TensorProto.FLOAT, ["n", 2])]
    constants = {"weight": weight, "shape": np.array([-1, 192]), "shift": np.float32(40)}
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "flat", *([helper.make_tensor_value_info(*end)] for end in ends), constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))
    train, codes = draw(60, seed=0)
    plain = load_onnx(path, runtime=runtime)(train)
    detector = fit_ood_detector(train.reshape(60, -1) - np.float32(40), codes, np.arange(9))
    detector = detector if name == MAHALANOBIS else OodDetector(name, {})
    append_score(path, detector)
    onnx.checker.check_model(str(path))
    new = draw(7, seed=1)[0]
    new[0] = 40  # features of length 0
    run = load_onnx(path, runtime=runtime)
    logits, scores = run(new, scored=True)
    expected = detector.score(new.reshape(7, -1) - np.float32(40), logits)
    assert logits.shape == (7, 2) and scores.shape == (7,)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4 * max(np.ptp(expected), 1.0))
    np.testing.assert_array_equal(run(train), plain)


@pytest.fixture(scope="module")
def learned(small_images, trained):
    """Features, codes and logits of the images that the network has learned."""
    codes = small_images.table["label"].map(trained.class_names.index).to_numpy()
    network = trained.learn.model
    with torch.inference_mode():
        features = network.body(network.normalize(torch.from_numpy(small_images.pixels)))
        return features.numpy(), codes, network.head(features).numpy()


@pytest.fixture(scope="module")
def detector(learned):
    """A score whose threshold rejects one of three of them."""
    found = fit_ood_detector(*learned[:2], np.arange(9))
    scores = np.sort(found.score(learned[0], learned[2]))
    return dataclasses.replace(found, threshold=float(scores[-len(scores) // 3 :][:2].mean()))


@pytest.fixture(scope="module")
def folder(small_images, trained, detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unknown") / "model"
    save_classifier(trained, folder, images=small_images, detector=detector, left_out=LEFT_OUT)
    return folder


@pytest.mark.parametrize("runtime", [name for name in list_runtimes() if "int8" not in name and name != "compile"])
def test_all_runtimes_reject_the_same_images(runtime, folder, detector, learned, small_images):
    classifier = load_classifier(folder, runtime=runtime)
    expected = detector.score(learned[0], learned[2])
    logits, scores = classifier.run(small_images.pixels, scored=True)
    assert np.abs(scores - expected).max() <= 1e-3 * np.ptp(expected)
    np.testing.assert_allclose(classifier.run(small_images.pixels), logits, atol=1e-5)
    paths, is_unknown = small_images.table["path"].tolist(), expected > detector.threshold
    assert classifier.can_reject and 0 < is_unknown.sum() < len(paths)
    labels, kept = classifier.predict_labels(paths), classifier.predict_labels(paths, reject=True)
    assert kept == ["" if is_new else label for label, is_new in zip(labels, is_unknown, strict=True)]
    again = pickle.loads(pickle.dumps(classifier))
    with ThreadPoolExecutor(4) as pool:  # each thread asks about other images
        found = list(pool.map(lambda path: again.predict_labels(path, reject=True)[0], paths))
    assert found == kept


def test_a_table_says_which_images_are_unknown(folder, detector, learned, small_images, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"")
    table = load_classifier(folder).predict_table([*small_images.table["path"], tmp_path / "broken.jpg"])
    assert list(table)[-2:] == ["is_unknown", "problem"] and table["is_unknown"].dtype == "boolean"
    expected = detector.score(learned[0], learned[2]) > detector.threshold
    assert table["is_unknown"].tolist() == [*expected.tolist(), pd.NA] and (table["label"][:-1] != "").all()


def test_what_cannot_reject_says_so(folder, tmp_path):
    save_tiny_model(tmp_path / "plain")
    images = np.zeros((2, 8, 8, 3), np.uint8)
    plain = load_classifier(tmp_path / "plain")
    assert not plain.can_reject and plain.predict_table(images)["is_unknown"].isna().all()
    with pytest.raises(ValueError, match=r"cannot reject images\. Save it with a detector"):
        plain.predict_labels(images, reject=True)
    int8 = ImageClassifier(read_model_info(folder), "int8", lambda batch: np.zeros((len(batch), 2)), folder)
    assert not int8.can_reject and int8.predict_table(images)["is_unknown"].isna().all()
    with pytest.raises(ValueError, match="8-bit network cannot reject"):
        int8.predict_labels(images, reject=True)


def test_the_card_says_what_was_promised_and_found(folder, detector):
    info = read_model_info(folder)
    assert info.unknown == describe_detector(detector, LEFT_OUT) and len(info.unknown["left_out"]) == 1
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"5 % of images of the classes are rejected by mistake, on {detector.n_known} images" in card
    assert "| a\\|b | 0.50 | 0.25 to 0.75 | 12 |" in card and "Every image gets a label" not in card
    none_left_out = dataclasses.replace(info, unknown=info.unknown | {"left_out": []})
    assert "left out of training was not measured" in make_model_card(none_left_out, title="plain")
    assert "none of the classes" in make_model_card(dataclasses.replace(info, unknown={}), title="plain")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"arrays": {"mean": np.zeros((1, 7))}}, "7 features, expected 1280", id="other features"),
        pytest.param({"threshold": -1e6}, "rejects more than half", id="of another network"),
        pytest.param({"threshold": np.inf}, "No model can have unknown", id="no threshold"),
    ],
)
def test_a_detector_that_does_not_fit_the_network_is_refused(
    change, message, small_images, trained, detector, tmp_path
):
    with pytest.raises(ValueError, match=message):
        save_classifier(trained, tmp_path, images=small_images, detector=dataclasses.replace(detector, **change))
    multilabel = SimpleNamespace(**vars(trained) | {"is_multilabel": True})
    with pytest.raises(ValueError, match="No model can have unknown"):
        save_classifier(multilabel, tmp_path, detector=detector)
    assert not list(tmp_path.iterdir())


FACTS = {"score": "energy", "threshold": 1.0, "expected": 0.05, "n_known": 4, "left_out": []}
ROW = {"name": "can", "rejected": 0.5, "rejected_low": 0.1, "rejected_high": 0.9, "rejected_n": 8}
WRONG = [("score", 3), ("n_known", -1), ("n_known", 0.5), ("expected", 2), ("left_out", {})]
WRONG_ROWS = [("name", ""), ("rejected", 1.5), ("rejected_low", "0"), ("rejected_n", -1)]


@pytest.mark.parametrize(
    "unknown",
    [
        *([], {"score": "energy"}, *(FACTS | {name: value} for name, value in WRONG)),
        *(FACTS | {"left_out": [ROW | {name: value}]} for name, value in WRONG_ROWS),
    ],
    ids=str,
)
def test_facts_that_no_detector_has_are_refused(unknown, tmp_path):
    save_tiny_model(tmp_path / "model")
    change_info(tmp_path / "model", unknown=unknown)
    with pytest.raises(ModelFileError, match="no model can have: unknown"):
        load_classifier(tmp_path / "model")


def test_a_network_without_the_promised_score_is_refused(tmp_path):
    save_tiny_model(tmp_path / "model", unknown=FACTS | {"left_out": [ROW]})
    with pytest.raises(ModelFileError, match="does not give the unknown_score"):
        load_classifier(tmp_path / "model")


@pytest.mark.parametrize(
    ("drop", "score"),
    [("unknown.mean", MAHALANOBIS), ("unknown.class_roots", MAHALANOBIS), ("", "energy")],
    ids=["an array is gone", "arrays of before", "another score"],
)
def test_weights_without_what_the_score_needs_are_refused(drop, score, folder, tmp_path):
    content = safetensors.numpy.load((folder / "model.safetensors").read_bytes())
    content.pop(drop, None)
    info = read_model_info(folder)
    info = dataclasses.replace(info, unknown=info.unknown | {"score": score})
    with pytest.raises(ModelFileError, match="does not hold what the score"):
        read_detector(info, safetensors.numpy.save(content), tmp_path)


def test_a_model_of_before_has_no_detector_and_loads(tmp_path):
    save_tiny_model(tmp_path / "model")
    change_info(tmp_path / "model", without="unknown", version=1)
    assert not load_classifier(tmp_path / "model").can_reject
    assert "unknown" not in json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
