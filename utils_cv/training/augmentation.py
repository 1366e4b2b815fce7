"""What may change about an image without changing its label: augmentation by presets, and the views it makes."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

with warnings.catch_warnings():
    # Importing fastai with current torch prints a deprecation that readers can do nothing about.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    from fastai.vision.augment import aug_transforms
    from fastai.vision.core import TensorImage

# What each preset allows: the mirror image of a shoe is a shoe, the mirror image of a 3 is not a 3.
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "upright": {"do_flip": True, "max_rotate": 10.0, "max_warp": 0.0},
    "any_side_up": {"do_flip": True, "flip_vert": True, "max_rotate": 45.0, "max_warp": 0.0},
    "digits": {"do_flip": False, "max_rotate": 10.0, "max_warp": 0.0},
}

_CHUNK = 64  # images augmented at a time: some 40 MB as floats at 224 px


def make_augmentations(augment: str) -> list[Any]:
    """Make the fastai batch transforms of a preset.

    Raises:
        ValueError: If there is no such preset.
    """
    settings = _find_preset(augment)
    return aug_transforms(**settings) if settings else []


def allows_mirror(augment: str) -> bool:
    """Tell whether the mirror image of an image keeps its label under a preset.

    Raises:
        ValueError: If there is no such preset.
    """
    return bool(_find_preset(augment).get("do_flip", False))


def augment_pixels(pixels: np.ndarray, augment: str, *, seed: int = 0) -> np.ndarray:
    """Apply a preset once to each image; the program's own random numbers go on as if this had not been called.

    Args:
        pixels: uint8, (n, size, size, 3).
        augment: One of `AUGMENTATIONS`.
        seed: The same seed gives the same views.

    Returns:
        uint8 images of the same shape.

    Raises:
        ValueError: If there is no such preset.

    Example:
        >>> augment_pixels(np.zeros((2, 32, 32, 3), np.uint8), "upright").shape
        (2, 32, 32, 3)
    """
    transforms, parts = make_augmentations(augment), []
    with _random_numbers_of(seed):
        for start in range(0, len(pixels), _CHUNK):
            chunk = np.ascontiguousarray(pixels[start : start + _CHUNK])
            views = TensorImage(torch.from_numpy(chunk).permute(0, 3, 1, 2).float() / 255)
            for transform in transforms:
                views = transform(views, split_idx=0)
            parts.append((views.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def make_views(pixels: np.ndarray, augment: str, n_views: int, *, seed: int = 0) -> np.ndarray:
    """Make several views of each image: the image as it is, then augmented ones. Look at them before training.

    Args:
        pixels: uint8, (n, size, size, 3).
        augment: One of `AUGMENTATIONS`.
        n_views: Views of each image, at least 1.
        seed: The same seed gives the same views.

    Returns:
        uint8, (n_views, n, size, size, 3).

    Raises:
        ValueError: If there is no such preset, or `n_views` is below 1.

    Example:
        >>> views = make_views(np.zeros((2, 32, 32, 3), np.uint8), "upright", 3)
        >>> views.shape
        (3, 2, 32, 32, 3)
    """
    if n_views < 1:
        raise ValueError(f"Got n_views={n_views}; expected at least 1, the image as it is.")
    augmented = [augment_pixels(pixels, augment, seed=seed * 1000 + view) for view in range(1, n_views)]
    return np.stack([pixels, *augmented])


def _find_preset(augment: str) -> dict[str, Any]:
    if augment not in AUGMENTATIONS:
        raise ValueError(f"No augmentation preset {augment!r}; choose one of {', '.join(AUGMENTATIONS)}.")
    return AUGMENTATIONS[augment]


@contextmanager
def _random_numbers_of(seed: int) -> Iterator[None]:
    """Draw from a seed inside the block, and go on afterwards as if nothing had been drawn."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
