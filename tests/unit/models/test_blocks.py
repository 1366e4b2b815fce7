"""A backbone in two parts computes what it computes whole, and what cannot be cut says so."""

import pytest
import torch
import torchvision
from torch import nn

from utils_cv.models.backbones import cut_body, list_blocks, load_backbone


@pytest.mark.parametrize(
    "name", [pytest.param("efficientnet_lite0", id="timm"), pytest.param("resnet18", id="torchvision flattens outside")]
)
def test_both_parts_in_a_row_are_the_body(name):
    if name == "resnet18":
        body = torchvision.models.resnet18(weights=None).eval()
        body.fc = nn.Identity()
    else:
        body = load_backbone(name, n_classes=0)
    lower, upper = cut_body(body, 64)
    example = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(upper(lower(example)), body(example), rtol=1e-4, atol=1e-4)


def test_the_cut_is_in_front_of_the_last_resolution():
    lower, upper = cut_body(load_backbone(n_classes=0), 64)
    with torch.inference_mode():
        assert lower(torch.rand(1, 3, 64, 64)).shape[-1] == 4  # 64 / 16
    parameters = [sum(p.numel() for p in part.parameters()) for part in (lower, upper)]
    assert parameters[1] > parameters[0]


def test_the_parts_are_the_bodys_own_modules():
    body = load_backbone(n_classes=0)
    _, upper = cut_body(body, 64)
    assert {id(p) for p in upper.parameters()} <= {id(p) for p in body.parameters()}


def test_stacks_of_stages_count_one_by_one():
    body = nn.ModuleDict({"stem": nn.Identity(), "stages": nn.Sequential(nn.ReLU(), nn.Tanh())})
    assert [type(block) for block in list_blocks(body)] == [nn.Identity, nn.ReLU, nn.Tanh]


class Branches(nn.Module):
    """Two branches side by side, which no row of blocks computes."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x):  # noqa: D102
        return (self.left(x) + self.right(x)).mean(dim=(2, 3))


class Flat(nn.Module):
    """No maps at all."""

    def __init__(self):
        super().__init__()
        self.flatten, self.linear = nn.Flatten(), nn.Linear(3 * 64 * 64, 4)

    def forward(self, x):  # noqa: D102
        return self.linear(self.flatten(x))


@pytest.mark.parametrize(
    ("body", "message"),
    [pytest.param(Branches(), "cannot be cut", id="branches"), pytest.param(Flat(), "no lower part", id="no maps")],
)
def test_what_cannot_be_cut_says_what_to_do(body, message):
    with pytest.raises(ValueError, match=rf"{message}.*depth='all'"):
        cut_body(body, 64)
