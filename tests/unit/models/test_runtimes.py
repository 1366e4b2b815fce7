"""One network in several runtimes: the same logits, from several threads too, and files that are none are named."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from utils_cv.models import runtimes
from utils_cv.models.runtimes import INT8_RUNTIMES, RUNTIME_FILES, list_runtimes, load_network, load_onnx

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
in_both = pytest.mark.parametrize("runtime", ["onnx", "openvino"])


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
def test_any_number_of_images(tmp_path, runtime, n_images, n_threads):
    run = load_onnx(save_network(tmp_path / "sum.onnx"), runtime=runtime, n_threads=n_threads)
    pixels = np.arange(n_images * 12, dtype=np.uint8).reshape(n_images, 2, 2, 3)
    np.testing.assert_allclose(run(pixels), pixels.sum(axis=(1, 2, 3)))


@in_both
def test_two_threads_get_their_own_answers(tmp_path, runtime):
    run = load_onnx(save_network(tmp_path / "sum.onnx"), runtime=runtime, n_threads=1)
    batches = [np.full((1 + value % 7, 2, 2, 3), value, np.uint8) for value in range(200)] * 5
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(run, batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer, batch.sum(axis=(1, 2, 3), dtype=np.float32))


@in_both
@pytest.mark.parametrize("n_bytes", [0, 10, -10], ids=["empty", "only its start", "end missing"])
def test_a_damaged_file_is_named(tmp_path, runtime, n_bytes):
    path = save_network(tmp_path / "sum.onnx")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"sum\.onnx (cannot be loaded|takes the inputs)"):
        load_onnx(path, runtime=runtime)


@in_both
def test_a_missing_file_and_a_network_of_another_kind_are_named(tmp_path, runtime):
    with pytest.raises(ValueError, match=r"missing\.onnx cannot be loaded"):
        load_onnx(tmp_path / "missing.onnx", runtime=runtime)
    with pytest.raises(ValueError, match=r"takes the inputs \['image'\], expected \['pixels'\]"):
        load_onnx(save_network(tmp_path / "foreign.onnx", input_name="image"), runtime=runtime)


@pytest.mark.parametrize("runtime", ["torch", "channels_last", "onnx", "openvino"])
@pytest.mark.parametrize("n_images", [1, 3])
def test_runtimes_in_floats_give_equal_logits(saved_folder, runtime, n_images, recwarn):
    pixels = PIXELS[:n_images].copy()
    pixels.setflags(write=False)  # as Pillow gives them
    logits = load_network(saved_folder, runtime, n_threads=1)(pixels)
    np.testing.assert_allclose(logits, load_network(saved_folder, "torch")(PIXELS)[:n_images], atol=1e-3)
    assert not [warning for warning in recwarn if "not writable" in str(warning.message)]


def test_compiled_networks_are_asked_for_by_torch_compile(saved_folder, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **_: compiled.append(model) or model)
    np.testing.assert_allclose(
        load_network(saved_folder, "compile")(PIXELS), load_network(saved_folder, "onnx")(PIXELS), atol=1e-3
    )
    assert len(compiled) == 1


@pytest.mark.parametrize("runtime", RUNTIME_FILES)
def test_each_runtime_loads_its_own_file(saved_folder, monkeypatch, runtime):
    asked = []
    monkeypatch.setattr(runtimes, "find_model_file", lambda folder, name, info: asked.append(name) or "")
    monkeypatch.setattr(runtimes, "load_onnx", lambda path, runtime, n_threads: (runtime, n_threads))
    monkeypatch.setattr("utils_cv.models.onnx_export.read_network", lambda info, path: None)
    monkeypatch.setattr(runtimes, "run_in_torch", lambda network, runtime, device: (runtime, device))
    assert load_network(saved_folder, runtime) == (runtime, "cpu" if "onnx" not in RUNTIME_FILES[runtime] else None)
    expected = {"onnx": "model.onnx", "openvino": "model.onnx"} | dict.fromkeys(INT8_RUNTIMES, "model.int8.onnx")
    assert asked == [expected.get(runtime, "model.safetensors")]


def test_only_what_is_installed_is_listed_and_the_rest_is_named(saved_folder, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert list_runtimes() == ["torch", "channels_last", "compile", "onnx", "int8"]
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'utils_cv\[openvino\]'"):
        load_network(saved_folder, "openvino")
    with pytest.raises(ValueError, match="'tensorrt'; here there are 'torch', 'channels_last'"):
        load_network(saved_folder, "tensorrt")
