"""Features of a frozen backbone: the same from every runtime, kept between programs, refused for other arrays."""

import numpy as np
import pytest
import torch

from utils_cv.models.backbones import load_backbone
from utils_cv.models.features import choose_runtime, compute_features
from utils_cv.models.onnx_export import export_backbone, export_onnx
from utils_cv.models.runtimes import load_onnx

SIZE_PX = 64


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def features(pixels):
    return compute_features(pixels, runtime="onnx")


def test_features_are_those_of_the_backbone_on_normalised_images(pixels, features):
    body = load_backbone(n_classes=0)
    normalized = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 * 2 - 1  # mean and std are 0.5
    with torch.inference_mode():
        expected = body(normalized).numpy()
    np.testing.assert_allclose(features, expected, atol=2e-3)


def test_torch_and_onnx_runtime_agree(pixels, features):
    np.testing.assert_allclose(compute_features(pixels, runtime="torch"), features, atol=2e-3)


def test_the_batch_changes_nothing(pixels, features):
    np.testing.assert_allclose(compute_features(pixels, batch_size=2, runtime="onnx"), features, atol=1e-4)


def test_mirror_averages_both_views(pixels, features):
    mirrored = compute_features(np.ascontiguousarray(pixels[:, :, ::-1]), runtime="onnx")
    averaged = compute_features(pixels, mirror=True, runtime="onnx")
    np.testing.assert_allclose(averaged, (features + mirrored) / 2, atol=1e-4)


def test_no_images_give_no_features():
    assert len(compute_features(np.zeros((0, SIZE_PX, SIZE_PX, 3), np.uint8), runtime="onnx")) == 0


def test_an_export_is_made_once(features):
    path = export_backbone("efficientnet_lite0", SIZE_PX)
    before = path.stat().st_mtime_ns
    assert export_backbone("efficientnet_lite0", SIZE_PX) == path
    assert path.stat().st_mtime_ns == before


def test_other_weights_get_another_export(tmp_path, monkeypatch):
    from utils_cv.models import onnx_export

    written = []
    monkeypatch.setattr(features, "export_onnx", lambda model, size, path: written.append(path))
    monkeypatch.setattr(features, "get_cache_dir", lambda name: tmp_path)
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = onnx_export.Normalized(torch.nn.Conv2d(3, 2, 1), (0.5,) * 3, (0.5,) * 3)
        onnx_export.export_to_cache(network, 8, name="a/b")
    assert len({path.name for path in written}) == 2
    assert written[0].name.startswith("a_b_8px_")


def test_an_exported_network_takes_any_number_of_images(tmp_path):
    class Mean(torch.nn.Module):
        def forward(self, pixels):
            return pixels.float().mean(dim=(1, 2))

    export_onnx(Mean(), 8, tmp_path / "mean.onnx")
    run = load_onnx(tmp_path / "mean.onnx")
    for n in (1, 3):
        np.testing.assert_allclose(run(np.full((n, 8, 8, 3), 7, np.uint8)), 7.0)


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


def test_an_unknown_runtime_is_refused():
    with pytest.raises(ValueError, match="'auto', 'onnx' or 'torch'"):
        choose_runtime("tensorrt")
