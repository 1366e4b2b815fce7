"""Grad-CAM finds the place that decides, and leaves out what speaks against the class."""

import numpy as np
import pytest
import torch
from torch import nn

from utils_cv.models.grad_cam import compute_grad_cam, overlay_heat
from utils_cv.models.onnx_export import Normalized


def make_head(weight, bias):
    """Make the linear layer with this weight, (n_classes, n_features), and bias, (n_classes,), as arrays."""
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.weight.data = torch.as_tensor(weight, dtype=torch.float32)
    head.bias.data = torch.as_tensor(bias, dtype=torch.float32)
    return head


class RedMeter(nn.Module):
    """Maps of 4 x 4 places: how red and how blue each is; the features are their means."""

    def __init__(self):
        super().__init__()
        self.pool = nn.Conv2d(3, 2, 8, stride=8, bias=False)
        weight = torch.zeros(2, 3, 8, 8)
        weight[0, 0], weight[1, 2] = 1 / 64, 1 / 64
        self.pool.weight.data = weight

    def forward(self, x):  # noqa: D102
        return self.pool(x).mean(dim=(2, 3))


@pytest.fixture
def model():
    return Normalized(RedMeter(), (0, 0, 0), (1, 1, 1), make_head(np.eye(2), np.zeros(2)))


@pytest.fixture
def pixels():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, :16, :16, 0] = 255  # red in the upper left
    image[0, 16:, 16:, 2] = 255  # blue in the lower right
    return image


@pytest.mark.parametrize(("code", "place"), [pytest.param(0, (7, 7), id="red"), pytest.param(1, (24, 24), id="blue")])
def test_the_heat_is_where_the_class_is(model, pixels, code, place):
    heat = compute_grad_cam(model, pixels, [code])[0]
    assert heat.shape == (32, 32)
    assert heat[place] == pytest.approx(1.0)
    assert heat[::-1, ::-1][place] == 0


def test_an_image_without_the_class_stays_cold(model):
    heat = compute_grad_cam(model, np.zeros((2, 32, 32, 3), np.uint8), [0, 1])
    assert np.isfinite(heat).all()
    assert heat.max() == 0


def test_each_image_is_asked_about_its_own_class(model, pixels):
    both = np.concatenate([pixels, pixels])
    heat = compute_grad_cam(model, both, [0, 1])
    np.testing.assert_allclose(heat[0], compute_grad_cam(model, pixels, [0])[0])
    np.testing.assert_allclose(heat[1], compute_grad_cam(model, pixels, [1])[0])


def test_a_network_without_maps_says_so():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3 * 32 * 32, 2)

        def forward(self, x):
            return self.linear(x.flatten(1))

    flat = Normalized(Flat(), (0, 0, 0), (1, 1, 1), make_head(np.eye(2), np.zeros(2)))
    with pytest.raises(ValueError, match="has no maps"):
        compute_grad_cam(flat, np.zeros((1, 32, 32, 3), np.uint8), [0])


def test_cold_places_show_the_image(pixels):
    heat = np.zeros((1, 32, 32))
    heat[0, 0, 0] = 1
    shown = overlay_heat(pixels, heat)
    assert (shown[0, 1:] == pixels[0, 1:]).all()
    assert (shown[0, 0, 0] != pixels[0, 0, 0]).any()


def test_one_heat_for_each_image_is_needed(pixels):
    with pytest.raises(ValueError, match="one heat each"):
        overlay_heat(pixels, np.zeros((2, 32, 32)))
