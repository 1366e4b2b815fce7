"""Padding made constant: the same answers, for even and odd sizes, and nothing else changed."""

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

from utils_cv.models.onnx_export import fix_padding


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
def test_one_convolution_gives_equal_answers(im_size_px, options):
    torch.manual_seed(0)
    model = nn.Sequential(Conv2dSame(3, 6, **options))
    image = torch.randn(2, 3, im_size_px, im_size_px)
    fixed = fix_padding(model, im_size_px)
    torch.testing.assert_close(fixed(image), model(image))


@pytest.mark.parametrize("im_size_px", [64, 75])
def test_a_whole_network_gives_equal_answers(im_size_px):
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    fixed = fix_padding(model, im_size_px)
    assert any(isinstance(module, Conv2dSame) for module in model.modules()), "the given network was changed"
    assert not any(isinstance(module, Conv2dSame) for module in fixed.modules())
    image = torch.randn(1, 3, im_size_px, im_size_px)
    with torch.inference_mode():
        torch.testing.assert_close(fixed(image), model(image), rtol=1e-4, atol=1e-5)


def test_a_network_without_such_padding_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
    fixed = fix_padding(model, 32)
    assert fixed is not model and str(fixed) == str(model.eval())
