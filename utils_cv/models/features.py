"""Features of a frozen backbone, as fast as the machine gives them: ONNX Runtime on a CPU, torch on a GPU."""

import functools

import numpy as np
from tqdm.auto import tqdm

from utils_cv.system.machine import choose_device

from .backbones import DEFAULT_BACKBONE, describe_backbone, load_backbone
from .onnx_export import Normalized, export_to_cache
from .runtimes import Network, load_onnx, run_in_torch


def compute_features(
    pixels: np.ndarray, *, backbone: str = DEFAULT_BACKBONE, show_progress: bool = False
) -> np.ndarray:
    """Compute what a frozen backbone sees in each image: the values in front of its ImageNet classifier.

    On a CPU the backbone runs in ONNX Runtime, exported once for each backbone and size into the user's cache
    folder (seconds, once).

    Args:
        pixels: uint8 RGB images, (n, size, size, 3), as `utils_cv.data.images.load_images` gives them.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        show_progress: Show a bar that counts images.

    Returns:
        float32, (n, n_features).

    Raises:
        ValueError: If `pixels` is not of that shape and type, or there is no such backbone.

    Example:
        >>> compute_features(np.zeros((2, 224, 224, 3), np.uint8)).shape  # doctest: +SKIP
        (2, 1280)
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.shape[1] != pixels.shape[2] or pixels.dtype != np.uint8:
        raise ValueError(
            f"Got pixels of shape {pixels.shape} and type {pixels.dtype}; expected uint8 (n, size, size, 3). "
            "Open images with utils_cv.data.images.load_images."
        )
    network = _load_network(backbone, pixels.shape[1], choose_device())
    return run_in_batches(network, pixels, show_progress=show_progress)


def prepare_network(network: Normalized, im_size_px: int, *, name: str) -> Network:
    """Make the function that runs a frozen network, bytes in, float32 out; `name` begins that of its cached export."""
    device = choose_device()
    if device == "cpu":
        return load_onnx(export_to_cache(network, im_size_px, name=name))
    return run_in_torch(network, runtime="channels_last", device=device)


def run_in_batches(
    network: Network,
    pixels: np.ndarray,
    *,
    batch_size: int = 16,
    description: str = "features",
    show_progress: bool = False,
) -> np.ndarray:
    """Run a network over many images, (n, size, size, 3), with a bar on request; a mirrored view will do."""
    parts = []
    with tqdm(total=len(pixels), desc=description, unit="image", disable=not show_progress) as bar:
        for start in range(0, len(pixels), batch_size):
            batch = np.ascontiguousarray(pixels[start : start + batch_size])
            parts.append(network(batch))
            bar.update(len(batch))
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


@functools.lru_cache(maxsize=2)
def _load_network(backbone: str, im_size_px: int, device: str) -> Network:
    """Keep the last two: studies ask for the features of one backbone hundreds of times, on one device."""
    facts = describe_backbone(backbone)
    network = Normalized(load_backbone(backbone, n_classes=0, im_size_px=im_size_px), facts.mean, facts.std)
    return prepare_network(network, im_size_px, name=backbone)
