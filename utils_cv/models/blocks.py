"""A backbone as a row of blocks: where it can be cut into a frozen lower and a trained upper part."""

from collections.abc import Sequence

import torch
from torch import nn


def list_blocks(body: nn.Module) -> list[nn.Module]:
    """List the blocks of a backbone in their order; a stack of stages counts one by one.

    Args:
        body: A network without its classifier, as `utils_cv.models.backbones.load_backbone(name, n_classes=0)` gives it.

    Returns:
        The body's own modules, not copies. Running them one after the other need not equal the body, see `cut_body`.
    """
    blocks: list[nn.Module] = []
    for child in body.children():
        # Architectures differ in what they call a stack of stages, not in its type.
        blocks += list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return blocks


def cut_body(body: nn.Module, im_size_px: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a backbone in front of its last resolution: most of the time is below, most of the weights above.

    Args:
        body: A network without its classifier.
        im_size_px: Side of the square images.

    Returns:
        Lower and upper part, made of the body's own modules: training the upper part trains the body.

    Raises:
        ValueError: If the blocks in a row do not compute what the body computes (transformers, several branches), or
            there is nothing to cut.

    Example:
        >>> lower, upper = cut_body(load_backbone("efficientnet_lite0", n_classes=0), 224)  # doctest: +SKIP
    """
    device = next(body.parameters()).device
    example = torch.rand(1, 3, im_size_px, im_size_px, device=device, generator=torch.Generator(device).manual_seed(0))
    with torch.inference_mode():
        expected = body.eval()(example)
        blocks, shapes = _complete(list_blocks(body), example, expected)
    maps = [shape for shape in shapes if len(shape) == 4 and shape[-1] > 1]
    cut = next((i for i, shape in enumerate(shapes) if maps and shape[-1] <= maps[-1][-1]), 0)
    if cut == 0:
        raise ValueError(
            "This backbone has no lower part of higher resolution to freeze; train all of it: depth='all'."
        )
    return nn.Sequential(*blocks[:cut]), nn.Sequential(*blocks[cut:])


def _complete(
    blocks: Sequence[nn.Module], example: torch.Tensor, expected: torch.Tensor
) -> tuple[list[nn.Module], list[torch.Size]]:
    """Run the blocks in a row, flattening pooled maps as torchvision's networks do outside of any module."""
    completed, shapes, value = [], [], example
    for block in blocks:
        try:
            value = block(value)
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise ValueError(_CANNOT_CUT) from error
        completed.append(block)
        if value.ndim == 4 and value.shape[-2:] == (1, 1) and expected.ndim == 2:
            value = value.flatten(1)
            completed[-1] = nn.Sequential(block, nn.Flatten(1))
        shapes.append(value.shape)
    if value.shape != expected.shape or not torch.allclose(value, expected, rtol=1e-3, atol=1e-4):
        raise ValueError(_CANNOT_CUT)
    return completed, shapes


_CANNOT_CUT = (
    "The blocks of this backbone, one after the other, do not compute what the backbone computes, so it cannot be cut; "
    "train all of it: depth='all'."
)
