"""What may be given to a finished model as an image: a file, a Pillow image or an array, opened in one way."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from .color_modes import convert_to_rgb
from .decoding import read_orientation, turn_upright
from .images import Fit, load_image, resize_image

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray


def open_pixels(image: ImageLike, size_px: int, *, fit: Fit = "squash") -> np.ndarray:
    """Open a file, a Pillow image or an RGB array in the one way of `utils_cv.data.images`.

    Args:
        image: A path, a Pillow image of any mode, or uint8 (height, width, 3).
        size_px: Side of the square that it becomes.
        fit: See `utils_cv.data.images.resize_image`.

    Returns:
        uint8 (size_px, size_px, 3). It may be read-only, and is the given array itself where that has this size.

    Raises:
        utils_cv.data.images.ImageError: A file cannot be opened as an image.
        TypeError: It is none of these kinds.

    Example:
        >>> open_pixels(np.zeros((480, 640, 3), np.uint8), 224).shape
        (224, 224, 3)
    """
    if isinstance(image, str | Path):
        opened = load_image(image, target_px=size_px)
    elif isinstance(image, Image.Image):
        opened = turn_upright(convert_to_rgb(image), read_orientation(image))
    elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.shape == (size_px, size_px, 3):  # every fit would leave it as it is, at a tenth of a network's time
            return np.ascontiguousarray(image)
        opened = Image.fromarray(image)
    else:
        shape = f" of shape {image.shape} and type {image.dtype}" if isinstance(image, np.ndarray) else ""
        raise TypeError(
            f"Got {type(image).__name__}{shape}; expected a path, a Pillow image, or an RGB array "
            "(height, width, 3) of uint8."
        )
    return np.asarray(resize_image(opened, size_px, fit=fit))


def list_images(images: ImageLike | Sequence[ImageLike]) -> Sequence[ImageLike]:
    """Make a sequence of one image or many; an array of three dimensions is one image."""
    is_one = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3)
    return [images] if is_one else images  # type: ignore[list-item,return-value]
