"""Features of a frozen backbone, as fast as the machine gives them: ONNX Runtime on a CPU, torch on a GPU."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from tqdm.auto import tqdm

from utils_cv.system.machine import choose_device, tune_allocator

from .backbones import DEFAULT_BACKBONE
from .onnx_export import Normalized, _load_normalized, export_to_cache
from .runtimes import load_onnx


def compute_features(
    pixels: np.ndarray,
    *,
    backbone: str = DEFAULT_BACKBONE,
    mirror: bool = False,
    batch_size: int = 16,
    runtime: str = "auto",
    show_progress: bool = False,
) -> np.ndarray:
    """Compute what a frozen backbone sees in each image: the values in front of its ImageNet classifier.

    On a CPU the backbone runs in ONNX Runtime, exported once for each backbone and size into the user's cache
    folder (seconds, once).

    Args:
        pixels: uint8 RGB images, (n, size, size, 3), as `utils_cv.data.images.load_images` gives them.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        mirror: Average with the features of the mirror image; twice the time.
        batch_size: Images a step; changes nothing but time and memory.
        runtime: "onnx", "torch", or "auto": torch on a GPU, else ONNX.
        show_progress: Show a bar that counts images.

    Returns:
        float32, (n, n_features).

    Raises:
        ValueError: If `pixels` is not of that shape and type, or the runtime is unknown.

    Example:
        >>> compute_features(np.zeros((2, 224, 224, 3), np.uint8)).shape  # doctest: +SKIP
        (2, 1280)
    """
    _check_pixels(pixels)
    run = _make_backbone_runner(backbone, pixels.shape[1], choose_runtime(runtime))
    features = run_in_batches(run, pixels, batch_size=batch_size, show_progress=show_progress)
    if not mirror:
        return features
    mirrored = run_in_batches(run, pixels[:, :, ::-1], batch_size=batch_size, show_progress=show_progress)
    return (features + mirrored) / 2


def choose_runtime(runtime: str = "auto") -> str:
    """Choose what runs a frozen network: torch on a GPU, ONNX Runtime on a CPU, unless one is asked for.

    Raises:
        ValueError: If the runtime is none of "auto", "onnx" and "torch".
    """
    if runtime not in ("auto", "onnx", "torch"):
        raise ValueError(f"Got runtime {runtime!r}; expected 'auto', 'onnx' or 'torch'.")
    if runtime != "auto":
        return runtime
    return "torch" if choose_device() != "cpu" else "onnx"


def run_in_batches(
    run: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    *,
    batch_size: int = 16,
    description: str = "features",
    show_progress: bool = False,
) -> np.ndarray:
    """Run a frozen network over many images.

    Args:
        run: From `make_runner`.
        pixels: uint8, (n, size, size, 3); views such as a mirrored array will do.
        batch_size: Images a step; changes nothing but time and memory.
        description: Words in front of the bar.
        show_progress: Show a bar that counts images.

    Returns:
        What the network gives for each image, in order.
    """
    parts = []
    with tqdm(total=len(pixels), desc=description, unit="image", disable=not show_progress) as bar:
        for start in range(0, len(pixels), batch_size):
            batch = np.ascontiguousarray(pixels[start : start + batch_size])
            parts.append(run(batch))
            bar.update(len(batch))
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def make_runner(
    network: Normalized, im_size_px: int, *, name: str, runtime: str = "auto"
) -> Callable[[np.ndarray], np.ndarray]:
    """Make the function that runs a frozen network: bytes in, float32 out.

    Args:
        network: Takes bytes, (n, size, size, 3); it is not changed.
        im_size_px: Side of the square images.
        name: What its cached export is called.
        runtime: As in `compute_features`.

    Returns:
        A function of one batch.
    """
    if choose_runtime(runtime) == "onnx":
        return load_onnx(export_to_cache(network, im_size_px, name=name))
    tune_allocator()
    device = choose_device()
    network = network.eval().to(device)

    def run(batch: np.ndarray) -> np.ndarray:
        batch = np.require(batch, requirements="W")  # torch warns about arrays that it must not change
        with torch.inference_mode():
            return network(torch.from_numpy(batch).to(device)).float().cpu().numpy()

    return run


@functools.lru_cache(maxsize=2)
def _make_backbone_runner(backbone: str, im_size_px: int, runtime: str) -> Callable[[np.ndarray], np.ndarray]:
    """Keep the last two: studies ask for the features of one backbone hundreds of times."""
    return make_runner(_load_normalized(backbone), im_size_px, name=backbone, runtime=runtime)


def _check_pixels(pixels: np.ndarray) -> None:
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.shape[1] != pixels.shape[2] or pixels.dtype != np.uint8:
        raise ValueError(
            f"Got pixels of shape {pixels.shape} and type {pixels.dtype}; expected uint8 (n, size, size, 3). "
            "Open images with utils_cv.data.images.load_images."
        )
