"""Padding that depends on the input, replaced by constants: equal answers, clean export."""

import copy
import math
from typing import Any

import torch
from torch import nn


def fix_padding(model: nn.Module, im_size_px: int) -> nn.Module:
    """Replace padding that depends on the input by the same amount as a constant.

    TensorFlow pads a strided convolution by what its input's size asks for; networks that come from there
    (`tf_efficientnet_...` in timm) compute it at every call. For one size of image it is always the same.

    Args:
        model: A network; it is not changed.
        im_size_px: Side of the square images that the copy will take.

    Returns:
        A copy with the same outputs at this size.

    Example:
        >>> fixed = fix_padding(load_backbone("efficientnet_lite0"), 224)  # doctest: +SKIP
    """
    from timm.layers import Conv2dSame

    fixed = copy.deepcopy(model).eval()
    sizes: dict[str, tuple[int, int]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: sizes.__setitem__(name, inputs[0].shape[-2:]))
        for name, module in fixed.named_modules()
        if isinstance(module, Conv2dSame)
    ]
    if hooks:
        parameter = next(fixed.parameters())
        with torch.inference_mode():
            fixed(torch.zeros(1, 3, im_size_px, im_size_px, device=parameter.device, dtype=parameter.dtype))
    for hook in hooks:
        hook.remove()
    for name, size in sizes.items():
        parent, _, child = name.rpartition(".")
        setattr(fixed.get_submodule(parent), child, _pad_statically(fixed.get_submodule(name), size))
    return fixed


def _pad_statically(convolution: Any, size: tuple[int, int]) -> nn.Sequential:
    (top, bottom), (left, right) = (
        _split_padding(size[i], convolution.kernel_size[i], convolution.stride[i], convolution.dilation[i])
        for i in (0, 1)
    )
    plain = nn.Conv2d(
        convolution.in_channels, convolution.out_channels, convolution.kernel_size, convolution.stride,
        dilation=convolution.dilation, groups=convolution.groups, bias=convolution.bias is not None,
    ).to(convolution.weight)  # fmt: skip
    plain.load_state_dict(convolution.state_dict())
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain).eval()


def _split_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's rule: as much as the last window needs, the odd pixel at the end."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
