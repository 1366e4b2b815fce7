"""A network as files: the same answers from safetensors and from ONNX, with and without a cached export."""

import os

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from torch import nn

from utils_cv.models.backbones import describe_backbone, load_backbone
from utils_cv.models.model_files import ModelFileError, ModelInfo
from utils_cv.models.onnx_export import (
    Normalized,
    export_classifier,
    export_to_cache,
    read_network,
    write_network_weights,
)
from utils_cv.models.runtimes import load_onnx

SIZE_PX = 75  # odd, so that TensorFlow's padding differs between the sides
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.6, 0.7)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
INFO = ModelInfo(["a", "b", "c"], False, "efficientnet_lite0", SIZE_PX, "squash", list(MEAN), list(STD))


def run(network, images=None):
    with torch.inference_mode():
        return network(torch.from_numpy(PIXELS) if images is None else images).numpy()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Normalized(load_backbone(n_classes=0), MEAN, STD, head=nn.Linear(1280, 3)).eval()


@pytest.fixture(scope="module")
def expected(network):
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return run(nn.Sequential(network.body, network.head), (images - mean) / std)


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_backbone_brings_its_facts_and_takes_a_new_head(pretrained):
    loaded = Normalized.load("efficientnet_lite1", SIZE_PX, n_classes=3, pretrained=pretrained)
    facts = describe_backbone("efficientnet_lite1")
    assert [values.flatten().tolist() for values in (loaded.mean, loaded.std)] == [list(facts.mean), list(facts.std)]
    assert run(loaded).shape == (3, 3) and loaded.weights_license == (facts.license if pretrained else "")


def test_bytes_and_floats_are_normalized_alike(network, expected):
    np.testing.assert_allclose(run(network), expected, atol=1e-4)
    np.testing.assert_allclose(run(network, torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255), expected, atol=1e-6)


def test_weights_come_back_from_safetensors(network, expected, tmp_path):
    path = tmp_path / "model.safetensors"
    write_network_weights(network, path)
    np.testing.assert_allclose(run(read_network(INFO, path.read_bytes(), path)), expected, atol=1e-4)
    with safe_open(path, framework="pt") as file:
        assert {key.split(".")[0] for key in file.keys()} == {"body", "head"}  # noqa: SIM118
    other = ModelInfo(["a", "b"], False, "efficientnet_lite0", SIZE_PX, "squash", [0.5] * 3, [0.5] * 3)
    with pytest.raises(ModelFileError, match="no head for the 2 classes"):
        read_network(other, path.read_bytes(), path)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_weights_are_as_readable_as_any_other_file(network, tmp_path, umask):
    before = os.umask(umask)
    try:
        write_network_weights(network, tmp_path / "model.safetensors")
        (tmp_path / "other").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("is_cached", [True, False], ids=["backbone exported before", "nothing exported before"])
def test_onnx_gives_the_same_logits(network, expected, tmp_path, monkeypatch, is_cached):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    if is_cached:
        cached = export_to_cache(Normalized(network.body, MEAN, STD), SIZE_PX, name="efficientnet_lite0")
        before = cached.read_bytes()
    export_classifier(network, SIZE_PX, tmp_path / "model.onnx", backbone="efficientnet_lite0")
    for pixels in (PIXELS, PIXELS[:1]):
        np.testing.assert_allclose(load_onnx(tmp_path / "model.onnx")(pixels), expected[: len(pixels)], atol=1e-4)
    nodes = onnx.load(str(tmp_path / "model.onnx")).graph.node
    assert not {"Loop", "Range"} & {node.op_type for node in nodes}, "strides are no operations"
    assert ("head" in [node.name for node in nodes]) == is_cached
    assert not is_cached or cached.read_bytes() == before
    assert len(list((tmp_path / "cache").rglob("*.onnx"))) == is_cached, "a user's own network is not for the cache"


def test_an_export_is_made_once_for_each_network(tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path))
    written = []
    monkeypatch.setattr("utils_cv.models.onnx_export._export", lambda _, size, path: written.append(path))
    networks = [Normalized(nn.Conv2d(3, 2, kernel), MEAN, STD) for kernel in (1, 1, 3)]
    networks.append(Normalized(networks[0].body, STD, MEAN))
    paths = [export_to_cache(network, 8, name="a/b") for network in networks]
    assert len(set(paths)) == len(written) == 4 and paths[0].name.startswith("a_b_8px_")
    paths[0].touch()
    assert export_to_cache(networks[0], 8, name="a/b") == paths[0] and len(written) == 4
