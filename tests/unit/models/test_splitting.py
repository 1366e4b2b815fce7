"""The cut in front of the last stage: both parts in a row are the network, and are made of its own modules."""

import pytest
import torch
from torch import nn

from utils_cv.models.backbones import PACKAGED, load_backbone
from utils_cv.models.splitting import CannotSplitError, find_map, list_blocks, record_outputs, split_backbone


@pytest.mark.parametrize(
    ("name", "shape", "share"),
    [
        pytest.param("efficientnet_lite0", (112, 4, 4), (0.7, 0.9), id="64 / 16: in front of the last resolution"),
        pytest.param("torchvision/resnet18", (256, 4, 4), (0.7, 0.9), id="flattens outside of any module"),
        pytest.param("mobilenetv3_small_050", (24, 4, 4), (0.7, 0.99), id="layers behind the pooling"),
        pytest.param("test_vit", (17, 64), (0.1, 0.5), id="tokens: the last quarter of the blocks"),
        pytest.param("swin_tiny_patch4_window7_224", (4, 4, 384), (0.4, 0.6), id="channels last"),
    ],
)
def test_both_parts_in_a_row_are_the_backbone(name, shape, share):
    body = load_backbone(name, n_classes=0, im_size_px=64, pretrained=name in PACKAGED)
    first, second = split_backbone(body, 64)
    example = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(second(first(example)), body(example), rtol=1e-4, atol=1e-4)
        assert first(example).shape[1:] == shape
    n_second, n_all = (sum(p.numel() for p in part.parameters()) for part in (second, body))
    assert share[0] < n_second / n_all < share[1]
    assert {id(p) for p in second.parameters()} <= {id(p) for p in body.parameters()}, "a copy would not be trained"


def test_parts_change_with_the_mode_of_the_network():
    body = load_backbone("torchvision/mobilenet_v3_small", n_classes=0, pretrained=False)
    second = split_backbone(body, 64)[1].train()
    assert {module.training for module in second.modules() if isinstance(module, nn.Dropout | nn.BatchNorm2d)} == {True}


def test_stacks_of_stages_count_one_by_one():
    body = nn.ModuleDict({"stem": nn.Identity(), "stages": nn.Sequential(nn.ReLU(), nn.Tanh())})
    assert list(list_blocks(body)) == ["stem", "stages.0", "stages.1"]
    assert [type(block) for block in list_blocks(body).values()] == [nn.Identity, nn.ReLU, nn.Tanh]


class Branches(nn.Module):
    """Two branches side by side all the way: no single value crosses from lower to higher layers."""

    def __init__(self):
        super().__init__()
        self.feature_info = [{"module": "stages.0", "reduction": 2}, {"module": "stages.1", "reduction": 4}]
        self.stages = nn.ModuleList(nn.Conv2d(3, 4, 3, stride=2, padding=1) for _ in range(2))

    def forward(self, x):  # noqa: D102
        return (self.stages[0](x) + self.stages[1](x)).mean(dim=(2, 3))


class Moody(nn.Sequential):
    """Computes what depends on the images, so that it cannot be followed without them."""

    def forward(self, x):  # noqa: D102
        return super().forward(x if x.mean() > 0 else -x).mean(dim=(2, 3))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(Branches(), id="branches"),
        pytest.param(Moody(nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 4, 2, stride=2)), id="depends on the images"),
        pytest.param(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)), id="no maps"),
        pytest.param(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), id="one map"),
    ],
)
def test_what_cannot_be_cut_says_what_to_do(body):
    with pytest.raises(CannotSplitError, match=r"cannot be cut.*trainable='all'"):
        split_backbone(body, 64)


@pytest.mark.parametrize(
    ("shape", "n_prefix", "expected"),
    [
        pytest.param((2, 5, 4, 4), 0, (2, 5, 4, 4), id="channels first"),
        pytest.param((2, 4, 4, 5), 0, (2, 5, 4, 4), id="channels last"),
        pytest.param((2, 9, 7), 0, (2, 7, 3, 3), id="tokens"),
        pytest.param((2, 9, 7), 5, (2, 7, 2, 2), id="tokens behind a class token and four registers"),
        pytest.param((2, 8, 7), 0, None, id="tokens of no square"),
        pytest.param((2, 5, 1, 1), 0, None, id="pooled"),
        pytest.param((2, 5), 0, None, id="features"),
    ],
)
def test_maps_are_found_in_every_order(shape, n_prefix, expected):
    found = find_map(torch.arange(float(torch.Size(shape).numel())).reshape(shape), n_prefix)
    assert (found if found is None else found.shape) == expected
    if expected and len(shape) == 3:  # the first place is the first token behind the prefix
        assert found[0, 0, 0, 0] == n_prefix * shape[2] and found[0, 0, 0, 1] == (n_prefix + 1) * shape[2]


def test_hooks_are_gone_when_the_network_fails():
    block = nn.Linear(2, 2)
    with pytest.raises(RuntimeError):
        record_outputs({"block": block}, lambda: block(torch.zeros(3)))
    assert not block._forward_hooks
