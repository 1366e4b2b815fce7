"""Exported networks in ONNX Runtime and OpenVINO: any number of images, and a clear word on files that are none."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from utils_cv.models.runtimes import load_onnx, load_openvino

in_both = pytest.mark.parametrize("load", [load_onnx, load_openvino])


def save_network(path, *, input_name="pixels"):
    """Save a network that sums up the pixels of each image, without torch."""
    pixels = helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["n", 2, 2, 3])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n"])
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    nodes = [
        helper.make_node("Cast", [input_name], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axes"], ["output"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "sum", [pixels], [output], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@in_both
@pytest.mark.parametrize("n_images", [0, 1, 5])
@pytest.mark.parametrize("n_threads", [None, 1])
def test_any_number_of_images(tmp_path, load, n_images, n_threads):
    run = load(save_network(tmp_path / "sum.onnx"), n_threads=n_threads)
    pixels = np.arange(n_images * 12, dtype=np.uint8).reshape(n_images, 2, 2, 3)
    np.testing.assert_allclose(run(pixels), pixels.sum(axis=(1, 2, 3)))


@in_both
@pytest.mark.parametrize("n_bytes", [0, 10, -10], ids=["empty", "only its start", "end missing"])
def test_a_damaged_file_is_named(tmp_path, load, n_bytes):
    path = save_network(tmp_path / "sum.onnx")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"sum\.onnx (cannot be loaded|takes the inputs)"):
        load(path)


@in_both
def test_a_network_of_another_kind_is_named(tmp_path, load):
    with pytest.raises(ValueError, match=r"takes the inputs \['image'\], expected \['pixels'\]"):
        load(save_network(tmp_path / "foreign.onnx", input_name="image"))


@in_both
def test_a_missing_file_is_named(tmp_path, load):
    with pytest.raises(ValueError, match=r"missing\.onnx cannot be loaded"):
        load(tmp_path / "missing.onnx")


def test_openvino_that_is_not_installed_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'utils_cv\[openvino\]'"):
        load_openvino(save_network(tmp_path / "sum.onnx"))
