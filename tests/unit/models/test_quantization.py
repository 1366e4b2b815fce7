"""8 bits: nearly equal, calibrated on train images alone, and offered only if faster and hardly worse."""

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from torch import nn

from utils_cv.data.image_table import TableImages
from utils_cv.models import quantization
from utils_cv.models.model_files import ModelInfo, commit_model, read_model, read_model_info
from utils_cv.models.onnx_export import Normalized, export_to_cache
from utils_cv.models.quantization import (
    MAX_LOSS,
    add_int8,
    check_int8,
    choose_calibration_rows,
    compare_runtimes,
    measure_logit_error,
    quantize_onnx,
)
from utils_cv.models.runtimes import load_onnx


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UTILS_CV_CACHE", str(tmp_path_factory.mktemp("cache")))
        return export_to_cache(Normalized(body, (0.5,) * 3, (0.5,) * 3), 32, name="small")


def list_float_operations(path):
    """Say of each operation with weights, from the image on, whether its weights are not unpacked from integers."""
    graph = onnx.load(str(path)).graph
    unpacked = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    return [node.input[1] not in unpacked for node in weighted]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [True, False, False, True], id="both ends"),
        pytest.param({"per_channel": False}, [True, False, False, True], id="one scale per operation"),
        pytest.param({"float_share": 0.25}, [True, True, False, True], id="a share"),
    ],
)
def test_ends_and_a_share_stay_in_floats_and_logits_are_nearly_the_same(path, pixels, tmp_path, options, expected):
    quantize_onnx(path, tmp_path / "a.onnx", pixels, **options)
    assert list_float_operations(tmp_path / "a.onnx") == expected
    logits, changed = load_onnx(path)(pixels), load_onnx(tmp_path / "a.onnx")(pixels)
    assert 0 < np.abs(changed - logits).max() < 0.25 * np.ptp(logits)


def test_without_images_nothing_is_written(path, pixels, tmp_path):
    with pytest.raises(ValueError, match=r"Got 0 images.*split 'train'"):
        quantize_onnx(path, tmp_path / "a.onnx", pixels[:0])
    assert not list(tmp_path.iterdir())


def test_calibration_images_are_trained_on_and_repeat():
    split = np.array(["train", "valid", "test"] * 50)
    rows = choose_calibration_rows(split, n=20)
    assert len(set(rows)) == 20 and set(split[rows]) == {"train"} and (np.diff(rows) > 0).all()
    assert (rows == choose_calibration_rows(split, n=20)).all() and len(choose_calibration_rows(split, n=500)) == 50


@pytest.mark.parametrize(
    ("n_images", "n_wrong", "error", "int8_ms", "is_offered", "reason"),
    [
        (600, 0, 0.3, 5, True, "1.6 times as fast, at most 0.005 of accuracy lost"),
        (276, 0, 0.3, 5, True, "at most 0.010"),
        (275, 0, 0.1, 5, True, "too few images to judge accuracy (276 needed), so by agreement: answers"),
        (275, 0, 0.11, 5, False, "error of logits 0.110; expected at least 0.9 from the lower end and 0.1"),
        (64, 1, 0.04, 5, True, "answers equal in 0.984 (0.917 to 0.997, n = 64), error of logits 0.040"),
        (64, 2, 0.04, 5, False, "answers equal in 0.969 (0.893"),
        (35, 0, 0.04, 5, True, "too few images to judge"),
        (34, 0, 0.04, 5, False, "too few images to judge"),
        (600, 9, 0.04, 5, False, "do not show that at most 0.010 of accuracy is lost: the difference is -0.015"),
        (600, 0, 0.04, 9, False, "not faster: 9.0 ms against 8.0 ms"),
        (600, 0, 0.04, 8, False, "not faster"),
    ],
)
def test_the_offer_follows_the_limits(n_images, n_wrong, error, int8_ms, is_offered, reason):
    labels = ["can"] * n_images
    int8_labels = ["carton"] * n_wrong + labels[n_wrong:]
    found = check_int8(labels, labels, int8_labels, logit_error=error, float_ms=8, int8_ms=int8_ms)
    assert found["is_offered"] == is_offered and reason in found["reason"]
    assert found["n"] == n_images and found["difference"] == pytest.approx(-n_wrong / n_images)
    assert found["difference_low"] <= found["difference"] <= found["difference_high"]
    assert not is_offered or n_images < 276 or found["difference_low"] >= -MAX_LOSS


def test_images_of_one_group_do_not_count_as_independent():
    labels, times = ["can"] * 600, {"logit_error": 0.04, "float_ms": 8, "int8_ms": 5}
    found = check_int8(labels, labels, labels, groups=np.arange(600) // 10, **times)
    assert found["n"] == 60 and "too few images to judge" in found["reason"]


def run_right(batch):
    return np.eye(2, dtype=np.float32)[batch[:, 0, 0, 0]] * 2 - 1


def run_wrong_now_and_then(batch):
    return np.where(batch[:, 0, 0, 1, None] < 5, -1, 1) * run_right(batch)


def make_images(n_valid=600, *, is_multilabel=False):
    labels = (["can", "carton"] * (n_valid + 4))[: n_valid + 4]
    table = pd.DataFrame({"label": labels, "split": ["train"] * 4 + ["valid"] * n_valid})
    pixels = np.zeros((len(table), 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = [label == "carton" for label in labels]
    pixels[:, 0, 0, 1] = np.arange(len(table)) % 256
    return TableImages(table, pixels, ["can", "carton"], is_multilabel, "squash", pd.DataFrame())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished model whose 8-bit copy is made, timed and run by stand-ins."""
    (tmp_path / "model.onnx").write_bytes(b"floats")
    info = ModelInfo(["can", "carton"], False, "net", 2, "squash", [0.5] * 3, [0.5] * 3, files={"model.onnx": ""})
    commit_model(info, tmp_path, tmp_path)

    def quantize(path, out_path, pixels):
        assert path.read_bytes() == b"floats" and len(pixels) == 4, "it is calibrated on the 4 train images alone"
        out_path.write_bytes(b"8 bits")

    monkeypatch.setattr(quantization, "quantize_onnx", quantize)
    monkeypatch.setattr(quantization, "load_onnx", lambda path: run_right)
    times = pd.DataFrame({"name": ["float", "int8"], "median_ms": [8.0, 4.0]})
    monkeypatch.setattr(quantization, "measure_in_turn", lambda *_, **__: times)
    return tmp_path


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_equal_answers_in_less_time_are_offered_and_listed(folder, is_multilabel):
    info = add_int8(folder, make_images(is_multilabel=is_multilabel))
    assert info == read_model_info(folder)
    assert read_model(folder, ["model.int8.onnx"]) == (info, "model.int8.onnx", b"8 bits")
    assert info.int8["is_offered"] and info.int8["n"] == 600 and info.int8["n_calibration"] == 4
    assert (info.int8["difference"], info.int8["float_ms"], info.int8["int8_ms"]) == (0, 8.0, 4.0)
    assert info.int8["agreement"] == 1 and info.int8["logit_error"] == 0


def test_runtimes_are_compared_in_size_and_answers(saved_folder, small_images, monkeypatch):
    load = quantization.load_network
    monkeypatch.setattr(  # one that gives the second class whatever it sees
        quantization, "load_network", lambda *given: run_wrong if given[1] == "openvino" else load(*given)
    )
    rows = compare_runtimes(saved_folder, small_images.pixels[:8]).set_index("runtime")
    assert rows.index.tolist() == ["torch", "channels_last", "onnx", "openvino"] and set(rows["n"]) == {8}
    assert rows.loc["onnx", "size_mb"] == (saved_folder / "model.onnx").stat().st_size / 1e6
    assert rows.loc["onnx", "agreement"] == 1 and rows.loc["onnx", "logit_error"] < 1e-3 < rows["logit_error"].max()
    expected = np.mean(load(saved_folder, "onnx")(small_images.pixels[:8]).argmax(axis=1) == 1)
    assert rows.loc["openvino", "agreement"] == expected and (rows["median_ms"] > 0).all()


def run_wrong(pixels):
    return np.tile(np.float32([[0, 9]]), (len(pixels), 1))


def test_error_of_logits_is_relative_to_their_spread():
    logits = np.random.default_rng(0).normal(0, 2, (500, 4))
    assert measure_logit_error(logits, logits + 0.2) == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("n_valid", [600, 0], ids=["worse answers", "no validation images"])
def test_what_does_not_pass_is_not_kept_unless_nobody_asks(folder, monkeypatch, n_valid):
    networks = {"model.onnx": run_right}
    monkeypatch.setattr(quantization, "load_onnx", lambda path: networks.get(path.name, run_wrong_now_and_then))
    info = add_int8(folder, make_images(n_valid))
    assert not info.int8["is_offered"] and info.int8["reason"] and info == read_model_info(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.onnx"]
    info = add_int8(folder, make_images(n_valid), is_checked=False)
    assert info.int8 == {"n_calibration": 4} and "model.int8.onnx" in info.files


def test_an_image_with_several_labels_counts_when_all_are_right(folder, monkeypatch):
    images = make_images(2, is_multilabel=True)
    images.table.loc[images.table["split"] == "valid", "label"] = ["carton|can", "can"]
    logits = {"model.onnx": [[1.0, 2.0], [1.0, -1.0]]}
    monkeypatch.setattr(
        quantization, "load_onnx", lambda path: lambda _: np.array(logits.get(path.name, [[1.0, -2.0], [1.0, -1.0]]))
    )
    assert add_int8(folder, images).int8["difference"] == -0.5
