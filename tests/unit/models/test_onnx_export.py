"""A trained network as files: the same answers from safetensors and from ONNX, with and without a cached export."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from utils_cv.models.backbones import load_backbone
from utils_cv.models.model_files import ModelFileError, ModelInfo
from utils_cv.models.onnx_export import (
    Normalized,
    copy_network,
    export_network,
    export_onnx,
    fix_padding,
    name_export,
    read_network,
    write_network_weights,
)
from utils_cv.models.runtimes import load_onnx
from utils_cv.training.learners import Classifier

SIZE_PX = 64
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(1)
    body = load_backbone("efficientnet_lite0", n_classes=0)
    weight, bias = rng.normal(size=(3, 1280)) / 50, rng.normal(size=3)
    return Classifier(body, weight, bias, mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7)).eval()


@pytest.fixture(scope="module")
def expected(model):
    with torch.inference_mode():
        return model(torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255).numpy()


def run(network):
    with torch.inference_mode():
        return network(torch.from_numpy(PIXELS)).numpy()


def test_the_copy_takes_bytes_and_gives_the_same_logits(model, expected):
    np.testing.assert_allclose(run(copy_network(model)), expected, atol=1e-4)


def test_the_copy_is_a_copy(model, expected):
    network = copy_network(model)
    network.body.get_submodule("head").bias.data += 1
    np.testing.assert_allclose(run(copy_network(model)), expected, atol=1e-4)


INFO = ModelInfo(["a", "b", "c"], False, "efficientnet_lite0", SIZE_PX, "squash", [0.5, 0.4, 0.3], [0.5, 0.6, 0.7])


def test_weights_come_back_from_safetensors(model, expected, tmp_path):
    write_network_weights(copy_network(model), tmp_path / "model.safetensors")
    np.testing.assert_allclose(run(read_network(INFO, tmp_path / "model.safetensors")), expected, atol=1e-4)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert {"head.weight", "head.bias"} < set(file.keys())


def test_a_head_of_other_classes_is_refused(model, tmp_path):
    write_network_weights(copy_network(model), tmp_path / "model.safetensors")
    other = ModelInfo(["a", "b"], False, "efficientnet_lite0", SIZE_PX, "squash", [0.5] * 3, [0.5] * 3)
    with pytest.raises(ModelFileError, match="no head for the 2 classes"):
        read_network(other, tmp_path / "model.safetensors")


@pytest.mark.parametrize("is_cached", [True, False], ids=["backbone exported before", "nothing exported before"])
def test_onnx_gives_the_same_logits(model, expected, tmp_path, monkeypatch, is_cached):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    network = copy_network(model)
    bare = Normalized(model.body, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7)).eval()
    cached = name_export(bare, SIZE_PX, name="efficientnet_lite0")
    if is_cached:
        bare.body = fix_padding(bare.body, SIZE_PX)
        export_onnx(bare, SIZE_PX, cached)
        before = cached.read_bytes()
    export_network(network, SIZE_PX, tmp_path / "model.onnx", backbone="efficientnet_lite0")
    np.testing.assert_allclose(load_onnx(tmp_path / "model.onnx")(PIXELS), expected, atol=1e-4)
    np.testing.assert_allclose(load_onnx(tmp_path / "model.onnx")(PIXELS[:1]), expected[:1], atol=1e-4)
    if is_cached:
        assert cached.read_bytes() == before and "head" in list_names(tmp_path / "model.onnx")
    else:
        assert not cached.exists(), "a network of one's own does not belong into the cache"


def list_names(path):
    import onnx

    return [node.name for node in onnx.load(str(path)).graph.node]


def test_a_changed_body_does_not_take_the_cached_export(model, tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    bare = Normalized(model.body, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7)).eval()
    changed = copy_network(model)
    changed.body.get_submodule("body").conv_stem.weight.data *= 1.5
    bare_of_changed = Normalized(changed.body.get_submodule("body"), (0.5, 0.4, 0.3), (0.5, 0.6, 0.7)).eval()
    names = {name_export(network, SIZE_PX, name="a").name for network in (bare, bare_of_changed)}
    assert len(names) == 2, json.dumps(sorted(names))
