"""8-bit networks of a small network: smaller, nearly equal, calibrated on training images alone."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from utils_cv.models.onnx_export import Normalized, export_onnx
from utils_cv.models.quantization import choose_calibration_rows, list_operations, quantize_onnx
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
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    export_onnx(Normalized(body, (0.5,) * 3, (0.5,) * 3), 32, path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"per_channel": False},
        {"reduce_range": True},
        {"calibration": "percentile"},
        {"calibration": "entropy"},
    ],
    ids=["default", "one scale a weight", "7 bits", "percentile", "entropy"],
)
def test_logits_are_nearly_those_of_floats(path, pixels, tmp_path, options):
    quantize_onnx(path, tmp_path / "small.int8.onnx", pixels, **options)
    logits, changed = load_onnx(path)(pixels), load_onnx(tmp_path / "small.int8.onnx")(pixels)
    assert 0 < np.abs(changed - logits).max() < 0.25 * np.ptp(logits)


def list_float_operations(path):
    """Operations with weights whose weights are not unpacked from integers."""
    graph = onnx.load(str(path)).graph
    unpacked = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    return [node.name for node in weighted if node.input[1] not in unpacked]


def test_both_ends_and_what_is_asked_for_stay_in_floats(path, pixels, tmp_path):
    names = [name for name, _ in list_operations(path)]
    assert [kind for _, kind in list_operations(path)] == ["Conv", "Conv", "Conv", "Gemm"]
    quantize_onnx(path, tmp_path / "a.onnx", pixels)
    assert list_float_operations(tmp_path / "a.onnx") == [names[0], names[3]]
    quantize_onnx(path, tmp_path / "b.onnx", pixels, keep_float=[names[2]])
    assert list_float_operations(tmp_path / "b.onnx") == [names[0], names[2], names[3]]


def test_a_share_of_the_operations_stays_in_floats(path, pixels, tmp_path):
    names = [name for name, _ in list_operations(path)]
    quantize_onnx(path, tmp_path / "a.onnx", pixels, float_share=0.5)
    assert list_float_operations(tmp_path / "a.onnx") == [names[0], names[1], names[2], names[3]]
    with pytest.raises(ValueError, match="fraction"):
        quantize_onnx(path, tmp_path / "b.onnx", pixels, float_share=1.5)


@pytest.mark.parametrize(("n", "calibration"), [(0, "minmax"), (4, "guess")], ids=["no images", "unknown calibration"])
def test_what_cannot_be_calibrated_is_refused(path, pixels, tmp_path, n, calibration):
    with pytest.raises(ValueError, match="expected minmax, percentile, entropy on 1"):
        quantize_onnx(path, tmp_path / "a.onnx", pixels[:n], calibration=calibration)
    assert not list(tmp_path.iterdir())


def test_calibration_images_are_trained_on_and_repeat():
    split = np.array(["train", "valid", "test"] * 50)
    rows = choose_calibration_rows(split, n=20)
    assert len(set(rows)) == 20 and set(split[rows]) == {"train"} and (np.diff(rows) > 0).all()
    assert (rows == choose_calibration_rows(split, n=20)).all()
    assert (choose_calibration_rows(split, n=20, seed=1) != rows).any()
    assert len(choose_calibration_rows(split, n=500)) == 50
