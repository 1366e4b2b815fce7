"""A network as files: the same answers from safetensors, from ONNX, and with padding made constant."""

import os

import numpy as np
import onnx
import pytest
import timm
import torch
from safetensors import safe_open
from timm.layers import Conv2dSame
from torch import nn

from utils_cv.models.backbones import load_backbone
from utils_cv.models.model_files import ModelFileError, ModelInfo
from utils_cv.models.onnx_export import (
    Normalized,
    copy_network,
    export_classifier,
    export_onnx,
    export_to_cache,
    fix_padding,
    read_network,
    write_network_weights,
)
from utils_cv.models.runtimes import load_onnx

SIZE_PX = 64
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


def test_bytes_and_floats_are_normalized_alike(network, expected):
    np.testing.assert_allclose(run(network), expected, atol=1e-4)
    np.testing.assert_allclose(run(network, torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255), expected, atol=1e-6)


def test_a_copy_answers_alike_and_shares_nothing(network, expected):
    copied = copy_network(network)
    np.testing.assert_allclose(run(copied), expected, atol=1e-4)
    copied.head.bias.data += 1
    copied.body.conv_stem.weight.data *= 2
    np.testing.assert_allclose(run(network), expected, atol=1e-4)


def test_weights_come_back_from_safetensors(network, expected, tmp_path):
    path = tmp_path / "model.safetensors"
    write_network_weights(network, path)
    np.testing.assert_allclose(run(read_network(INFO, path)), expected, atol=1e-4)
    with safe_open(path, framework="pt") as file:
        assert {key.split(".")[0] for key in file.keys()} == {"body", "head"}  # noqa: SIM118
    other = ModelInfo(["a", "b"], False, "efficientnet_lite0", SIZE_PX, "squash", [0.5] * 3, [0.5] * 3)
    with pytest.raises(ModelFileError, match="no head for the 2 classes"):
        read_network(other, path)


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
    names = [node.name for node in onnx.load(str(tmp_path / "model.onnx")).graph.node]
    assert ("head" in names) == is_cached
    assert not is_cached or cached.read_bytes() == before
    assert len(list((tmp_path / "cache").rglob("*.onnx"))) == is_cached, "a user's own network is not for the cache"


def test_an_export_is_made_once_for_each_network(tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path))
    written = []
    monkeypatch.setattr("utils_cv.models.onnx_export.export_onnx", lambda _, size, path: written.append(path))
    networks = [Normalized(nn.Conv2d(3, 2, kernel), MEAN, STD) for kernel in (1, 1, 3)]
    networks.append(Normalized(networks[0].body, STD, MEAN))
    paths = [export_to_cache(network, 8, name="a/b") for network in networks]
    assert len(set(paths)) == len(written) == 4 and paths[0].name.startswith("a_b_8px_")
    paths[0].touch()
    assert export_to_cache(networks[0], 8, name="a/b") == paths[0] and len(written) == 4


def test_an_exported_network_takes_any_number_of_images(tmp_path):
    class Mean(nn.Module):
        def forward(self, pixels):
            return pixels.float().mean(dim=(1, 2))

    export_onnx(Mean(), 8, tmp_path / "mean.onnx")
    for n in (1, 3):
        np.testing.assert_allclose(load_onnx(tmp_path / "mean.onnx")(np.full((n, 8, 8, 3), 7, np.uint8)), 7.0)


@pytest.mark.parametrize("im_size_px", [31, 32, 33, 45])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"kernel_size": 3, "stride": 2}, id="3 by 3"),
        pytest.param({"kernel_size": 5, "stride": 2}, id="5 by 5"),
        pytest.param({"kernel_size": (3, 5), "stride": (1, 2)}, id="sides differ"),
        pytest.param({"kernel_size": 3, "stride": 2, "dilation": 2}, id="dilated"),
        pytest.param({"kernel_size": 1, "stride": 3}, id="nothing to pad"),
        pytest.param({"kernel_size": 3, "stride": 2, "groups": 3}, id="depthwise"),
        pytest.param({"kernel_size": 3, "stride": 2, "bias": False}, id="no bias"),
    ],
)
def test_constant_padding_gives_equal_answers(im_size_px, options):
    model = nn.Sequential(Conv2dSame(3, 6, **options))
    image = torch.randn(2, 3, im_size_px, im_size_px)
    torch.testing.assert_close(fix_padding(model, image)(image), model(image))


def test_a_whole_network_gives_equal_answers():
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    image = torch.randn(1, 3, 75, 75)
    fixed = fix_padding(model, image)
    assert any(isinstance(module, Conv2dSame) for module in model.modules()), "the given network was changed"
    assert not any(isinstance(module, Conv2dSame) for module in fixed.modules())
    with torch.inference_mode():
        torch.testing.assert_close(fixed(image), model(image), rtol=1e-4, atol=1e-5)


def test_a_network_without_such_padding_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
    fixed = fix_padding(model, torch.zeros(1, 3, 32, 32))
    assert fixed is not model and str(fixed) == str(model.eval())
