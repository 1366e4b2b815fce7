"""Where a network looked: Grad-CAM, the parts of an image that speak for a class."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import nn

from .onnx_export import Normalized
from .splitting import find_map, list_blocks, record_outputs


def compute_grad_cam(model: Normalized, pixels: np.ndarray, class_codes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Compute for each image which places raise the logit of a class.

    The last maps of the network are weighted by how much each of them raises the logit, added up, and what speaks
    against the class is left out (Grad-CAM, Selvaraju et al. 2017). It is coarse: 7 × 7 places at 224 px. It shows
    where the evidence lies, not why it is evidence. The tokens of a transformer are its maps: 14 × 14 places of 16 px.
    Where only its class token is read, they are taken in front of the last block, which brings them to that token.
    Of several networks side by side it shows the last.

    Args:
        model: A trained network, `model.learn.model`.
        pixels: uint8, (n, size, size, 3).
        class_codes: (n,), the class asked about in each image: the predicted one, or the true one.

    Returns:
        float32, (n, size, size), in [0, 1]; 1 is the strongest place of that image, 0 one that does not speak for it.

    Raises:
        ValueError: If the network keeps no places of the image apart.
    """
    model = model.eval()
    device = next(model.parameters()).device
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 255
    body: Any = getattr(model.body, "networks", [model.body])[-1]
    view: Callable[[Any], Any] = partial(find_map, n_prefix=getattr(body, "num_prefix_tokens", 0))
    with torch.enable_grad():
        logits, outputs = record_outputs(list_blocks(body), lambda: model(images.requires_grad_()))
    values = [value for _, value in outputs if view(value) is not None]
    if not values:
        raise ValueError("This network has no maps of height and width in front of its features; Grad-CAM needs them.")
    wanted = logits.gather(1, torch.as_tensor(np.asarray(class_codes), device=device).view(-1, 1)).sum()
    gradients = torch.autograd.grad(wanted, values, allow_unused=True)
    maps = [(view(value), view(slope)) for value, slope in zip(values, gradients, strict=True) if slope is not None]
    # The last maps that the logits depend on. Tokens that nothing reads any more have no slope.
    last, slopes = next((pair for pair in reversed(maps) if pair[1].any()), maps[-1])
    heat = (slopes.mean(dim=(2, 3), keepdim=True) * last).sum(dim=1, keepdim=True).relu()
    heat = nn.functional.interpolate(heat, size=pixels.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    return (heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)).detach().float().cpu().numpy()


def overlay_heat(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay heat over images, for `utils_cv.plots.images.plot_images`.

    Args:
        pixels: uint8, (n, size, size, 3).
        heat: (n, size, size), in [0, 1], from `compute_grad_cam`.

    Returns:
        uint8, (n, size, size, 3).

    Example:
        >>> overlay_heat(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8))).max()
        np.uint8(0)
    """
    if pixels.shape[:3] != heat.shape:
        raise ValueError(f"Got images of shape {pixels.shape} and heat of shape {heat.shape}; expected one heat each.")
    colors = colormaps["inferno"](heat)[..., :3] * 255
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])[..., None]
    opacity = 0.5 * np.sqrt(heat)[..., None]  # cold places show the image as it is
    base = 0.5 * pixels + 0.5 * grey  # the image fades a little, so that the colors of the heat stand out
    base = pixels * (1 - opacity) + base * opacity
    return (base * (1 - opacity) + colors * opacity).round().clip(0, 255).astype(np.uint8)
