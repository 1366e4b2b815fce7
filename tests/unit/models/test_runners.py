"""One model in several runtimes: the same logits, and only what is installed is offered."""

import numpy as np
import pytest

from utils_cv.models import runtimes as runners
from utils_cv.models.runtimes import INT8_RUNTIMES, STUDY_INT8_NAME, list_runtimes, make_run, measure_file_mb
from utils_cv.models.saved_classifier import save_classifier

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from types import SimpleNamespace

    from utils_cv.models.backbones import load_backbone
    from utils_cv.training.learners import Classifier

    rng = np.random.default_rng(1)
    body = load_backbone("efficientnet_lite0", n_classes=0)
    model = Classifier(body, rng.normal(size=(2, 1280)) / 50, np.zeros(2), mean=(0.5,) * 3, std=(0.5,) * 3)
    trained = SimpleNamespace(
        learn=SimpleNamespace(model=model), class_names=["can", "carton"], backbone="efficientnet_lite0", fit="squash",
        im_size_px=64, is_multilabel=False, seconds=1.0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "model"
    save_classifier(trained, folder)
    return folder


@pytest.mark.parametrize("runtime", [name for name in list_runtimes() if name not in ("compile", *INT8_RUNTIMES)])
@pytest.mark.parametrize("n_images", [1, 3])
def test_runtimes_in_floats_give_equal_logits(folder, runtime, n_images):
    expected = make_run(folder, "torch")(PIXELS)
    logits = make_run(folder, runtime, n_threads=1)(PIXELS[:n_images])
    np.testing.assert_allclose(logits, expected[:n_images], atol=1e-3)


def test_read_only_images_are_no_reason_to_warn(folder, recwarn):
    pixels = PIXELS.copy()
    pixels.setflags(write=False)  # as Pillow gives them
    make_run(folder, "torch")(pixels)
    assert not [warning for warning in recwarn if "not writable" in str(warning.message)]


def test_compiled_networks_are_asked_for_by_torch_compile(folder, monkeypatch):
    import torch

    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **_: compiled.append(model) or model)
    make_run(folder, "compile")(PIXELS[:1])
    assert len(compiled) == 1


@pytest.mark.parametrize(("runtime", "loader"), [("int8", "load_onnx"), ("openvino_int8", "load_openvino")])
def test_8_bits_are_those_of_the_study(folder, monkeypatch, runtime, loader):
    monkeypatch.setattr(runners, loader, lambda path, n_threads: path.name)
    assert make_run(folder, runtime) == STUDY_INT8_NAME


def test_only_what_is_installed_is_offered(folder, monkeypatch):
    monkeypatch.setattr(runners, "find_spec", lambda name: None)
    assert list_runtimes() == ["torch", "channels_last", "compile", "onnx", "int8"]
    with pytest.raises(ValueError, match="'openvino'; here there are torch"):
        make_run(folder, "openvino")


def test_the_size_is_that_of_the_file_which_is_loaded(folder, tmp_path):
    (tmp_path / STUDY_INT8_NAME).write_bytes(bytes(500_000))
    assert [measure_file_mb(tmp_path, runtime) for runtime in INT8_RUNTIMES] == [0.5, 0.5]
    assert measure_file_mb(folder, "onnx") == (folder / "model.onnx").stat().st_size / 1e6
    assert measure_file_mb(folder, "torch") == (folder / "model.safetensors").stat().st_size / 1e6


def test_a_damaged_model_is_not_run(folder, tmp_path):
    import shutil

    from utils_cv.models.model_files import ModelFileError

    copied = shutil.copytree(folder, tmp_path / "model")
    (copied / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelFileError, match="was not loaded"):
        make_run(copied, "onnx")
