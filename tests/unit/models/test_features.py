"""Features of a frozen backbone: the same from every runtime, and refused for other arrays."""

import numpy as np
import pytest
import torch

from utils_cv.models.backbones import load_backbone
from utils_cv.models.features import compute_features, prepare_network, run_in_batches
from utils_cv.models.onnx_export import Normalized

SIZE_PX = 64


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.fixture(params=["ONNX Runtime on a CPU", "torch on another device"])
def device(request, monkeypatch, tmp_path):
    """A machine without, and one with another device, which is a CPU by another name."""
    name = "cpu" if "ONNX" in request.param else "cpu:0"
    monkeypatch.setattr("utils_cv.models.features.choose_device", lambda: name)
    return name


def test_features_are_those_of_the_backbone_on_normalized_images(pixels, device):
    body = load_backbone(n_classes=0)
    normalized = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 * 2 - 1  # mean and std are 0.5
    with torch.inference_mode():
        expected = body(normalized).numpy()
    np.testing.assert_allclose(compute_features(pixels), expected, atol=2e-3)
    assert len(compute_features(pixels[:0])) == 0


def test_a_prepared_network_runs_in_batches_and_is_not_changed(pixels, device, monkeypatch, tmp_path):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path))
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Dropout(), torch.nn.Flatten())
    network = Normalized(body, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)).train()
    run = prepare_network(network, SIZE_PX, name="small")
    assert network.training and body[0].weight.is_contiguous()
    assert bool(list(tmp_path.rglob("small_64px_*.onnx"))) == (device == "cpu")
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(pixels)).numpy()
    for batch_size in (2, 16):
        np.testing.assert_allclose(run_in_batches(run, pixels, batch_size=batch_size), expected, atol=1e-4)
    mirrored = run_in_batches(run, pixels[:, :, ::-1])
    np.testing.assert_allclose(mirrored, run_in_batches(run, pixels[:, :, ::-1].copy()), atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(np.zeros((2, 3, 64, 64), np.uint8), id="channels first"),
        pytest.param(np.zeros((2, 64, 32, 3), np.uint8), id="not square"),
        pytest.param(np.zeros((64, 64, 3), np.uint8), id="one image"),
        pytest.param(np.zeros((2, 64, 64, 3), np.float32), id="floats"),
    ],
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected uint8 \(n, size, size, 3\)"):
        compute_features(wrong)
