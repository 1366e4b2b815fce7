"""The gate in front of 8 bits: faster and hardly worse, both measured, or not offered."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.data.image_table import TableImages
from utils_cv.evaluation.intervals import Score
from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.models import quantization as int8_gate
from utils_cv.models.quantization import compare_int8, decide_offer, make_int8


def make_images(n_valid=600, *, n_train=4):
    labels = (["can", "carton"] * n_valid)[: n_valid + n_train]
    table = pd.DataFrame({"label": labels, "split": ["train"] * n_train + ["valid"] * n_valid})
    pixels = np.zeros((len(table), 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = [label == "carton" for label in labels]
    pixels[:, 0, 0, 1] = np.arange(len(table)) % 256
    return TableImages(table, pixels, ["can", "carton"], False, "squash", pd.DataFrame())


def run_right(batch):
    return np.eye(2, dtype=np.float32)[batch[:, 0, 0, 0]]


def run_wrong_now_and_then(batch):
    return np.where(batch[:, 0, 0, 1, None] < 5, -1, 1) * run_right(batch)


@pytest.mark.parametrize(
    ("low", "float_ms", "int8_ms", "is_offered", "reason"),
    [
        (-0.005, 8, 5, True, "1.6 times as fast"),
        (-0.010, 8, 5, True, "at most 0.010"),
        (-0.011, 8, 5, False, "do not show that at most 0.010"),
        (-0.001, 5, 8, False, "not faster: 8.0 ms against 5.0 ms"),
        (-0.001, 5, 5, False, "not faster"),
    ],
)
def test_the_offer_follows_both_limits(low, float_ms, int8_ms, is_offered, reason):
    decision = decide_offer(Score(0.0, low, 0.01, 500), float_ms=float_ms, int8_ms=int8_ms, max_loss=0.01)
    assert decision[0] == is_offered and reason in decision[1]


def test_276_images_without_a_difference_are_just_enough():
    for n, is_enough in ((275, False), (276, True)):
        labels = ["can"] * n
        assert (compare_accuracy(labels, labels, labels).low >= -0.01) == is_enough


def give_times(monkeypatch, float_ms, int8_ms):
    times = pd.DataFrame({"name": ["float", "int8"], "median_ms": [float_ms, int8_ms]})
    monkeypatch.setattr(int8_gate, "measure_in_turn", lambda *_, **__: times)


def test_equal_answers_at_less_time_are_offered(monkeypatch):
    give_times(monkeypatch, 8.0, 4.0)
    verdict = compare_int8(run_right, run_right, make_images())
    assert verdict["is_offered"] and verdict["n"] == 600 and verdict["difference"] == 0
    assert (verdict["float_ms"], verdict["int8_ms"]) == (8.0, 4.0)


def test_worse_answers_are_not_offered(monkeypatch):
    give_times(monkeypatch, 8.0, 4.0)
    verdict = compare_int8(run_right, run_wrong_now_and_then, make_images())
    assert not verdict["is_offered"] and verdict["difference"] < 0


def test_only_the_named_split_judges(monkeypatch):
    give_times(monkeypatch, 8.0, 4.0)
    assert compare_int8(run_right, run_right, make_images(10), split="train")["n"] == 4
    assert not compare_int8(run_right, run_right, make_images(10), split="test")["is_offered"]


@pytest.mark.parametrize("is_offered", [True, False])
def test_the_file_is_kept_only_when_it_is_offered(monkeypatch, tmp_path, is_offered):
    give_times(monkeypatch, 8.0, 4.0 if is_offered else 9.0)
    calibrated = []

    def quantize(path, out_path, pixels):
        calibrated.append(pixels)
        out_path.write_bytes(b"8 bits")

    monkeypatch.setattr(int8_gate, "quantize_onnx", quantize)
    monkeypatch.setattr(int8_gate, "load_onnx", lambda path: run_right)
    images = make_images()
    verdict = make_int8(tmp_path / "model.onnx", tmp_path / "model.int8.onnx", images)
    assert verdict["is_offered"] == (tmp_path / "model.int8.onnx").exists() == is_offered
    assert len(calibrated[0]) == verdict["n_calibration"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["model.int8.onnx"] * is_offered


def test_an_image_with_several_labels_counts_when_all_are_right():
    images = make_images(2, n_train=0)
    table = images.table.assign(label=["can|carton", "carton"])
    images = TableImages(table, images.pixels, images.class_names, True, "squash", pd.DataFrame())
    answers = int8_gate._decide(lambda batch: np.array([[1.0, 2.0], [-1.0, 1.0]]), images.pixels, images)
    assert answers.tolist() == ["can|carton", "carton"]
