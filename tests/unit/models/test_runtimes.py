"""One network in several runtimes: the same logits, from several threads too, and files that are none are named."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch

from tests.unit.models.tiny_models import make_tiny_network
from utils_cv.models import runtimes
from utils_cv.models.runtimes import INT8_RUNTIMES, RUNTIME_FILES, list_runtimes, load_network, load_onnx

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
in_both = pytest.mark.parametrize("runtime", ["onnx", "openvino"])


def save_network(path, **changes):
    """Save a network of two classes whose logits are a tenth of the mean of red, and 1."""
    onnx.save(make_tiny_network(**changes), str(path))
    return path


@in_both
@pytest.mark.parametrize("n_images", [0, 1, 5])
@pytest.mark.parametrize("n_threads", [None, 1])
def test_any_number_of_images(tmp_path, runtime, n_images, n_threads):
    run = load_onnx(save_network(tmp_path / "tiny.onnx"), runtime=runtime, n_threads=n_threads)
    pixels = np.arange(n_images * 192, dtype=np.uint8).reshape(n_images, 8, 8, 3)
    np.testing.assert_allclose(run(pixels)[:, 0], pixels[..., 0].mean(axis=(1, 2)) / 10, rtol=1e-5)


@pytest.mark.parametrize("runtime", ["torch", "channels_last", "onnx", "openvino"])
def test_four_threads_get_their_own_answers(saved_folder, runtime):
    run = load_network(saved_folder, runtime, n_threads=1)
    batches = [np.full((1 + value % 3, 64, 64, 3), value, np.uint8) for value in range(0, 256, 16)]
    expected = [run(batch) for batch in batches]
    assert len({answer[0, 0] for answer in expected}) == len(batches)  # so that a mix-up would be seen
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(run, batches * 4))
    for answer, right in zip(answers, expected * 4, strict=True):
        np.testing.assert_allclose(answer, right, atol=1e-4)


@in_both
@pytest.mark.parametrize("n_bytes", [0, 10, -10], ids=["empty", "only its start", "end missing"])
def test_a_damaged_file_is_named(tmp_path, runtime, n_bytes):
    path = save_network(tmp_path / "tiny.onnx")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"tiny\.onnx (cannot be loaded|takes the inputs)"):
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
    monkeypatch.setattr(runtimes, "read_model", lambda folder, names: (None, names[0], asked.append(names) or b""))
    monkeypatch.setattr(runtimes, "load_onnx", lambda path, **given: (given["runtime"], given["n_threads"], path))
    monkeypatch.setattr("utils_cv.models.onnx_export.read_network", lambda info, content, path: path)
    monkeypatch.setattr(runtimes, "read_detector", lambda info, content, path: None)
    monkeypatch.setattr(runtimes, "run_in_torch", lambda path, runtime, device, detector: (runtime, device, path))
    expected = {"onnx": "model.onnx", "openvino": "model.onnx"} | dict.fromkeys(INT8_RUNTIMES, "model.int8.onnx")
    name = expected.get(runtime, "model.safetensors")
    given = "cpu" if name == "model.safetensors" else None
    assert load_network(saved_folder, runtime) == (runtime, given, saved_folder / name) and asked == [[name]]


def test_only_what_is_installed_is_listed_and_the_rest_is_named(saved_folder, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert list_runtimes() == ["torch", "channels_last", "compile", "onnx", "int8"]
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'utils_cv\[openvino\]'"):
        load_network(saved_folder, "openvino")
    with pytest.raises(ValueError, match="'tensorrt'; here there are 'torch', 'channels_last'"):
        load_network(saved_folder, "tensorrt")
