"""Study of notebook 13: what makes opening images, and training on them, slow or fast.

Settings are timed in turn, so that a machine whose speed drifts disturbs all alike. Times are medians, in ms per image;
a `ratio` says how many times faster a setting is than the first one of its kind.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from utils_cv.data.decoding import decode_image
from utils_cv.data.downsizing import downsize_images
from utils_cv.data.images import find_path, find_value_range, load_image, load_images, resize_image
from utils_cv.models.backbones import load_backbone
from utils_cv.models.model_files import DEFAULT_BACKBONE
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import choose_device, count_cpus, tune_allocator
from utils_cv.system.threads import map_in_threads
from utils_cv.system.timing import measure_in_turn
from utils_cv.training.augmentation import augment_pixels

WAYS = ("full", "reduced", "downsized")
STAGES = ("read", "decode", "augment", "forward", "backward")
_N_PASSES = 3  # timed passes of a network
_STEP_SIZE, _PASS_SIZE = 16, 32  # images of one training step, and of all steps of one pass
_TILE_PX = (400, 300)
_GRAIN = 4.0  # standard deviation of the noise of a camera, of 255; without it files are a third of their usual size


def write_large_images(
    paths: Sequence[str | Path], folder: str | Path, megapixels: float, *, n_images: int = 2, seed: int = 0
) -> list[Path]:
    """Write large JPEG files to measure with: mosaics of small images, as detailed as a photograph of that size.

    An image that is merely enlarged is smooth, and its file is small and quickly decoded. A mosaic with the noise of a
    camera is not.

    Args:
        paths: Small images to tile; each becomes 400 × 300 px.
        folder: Where to write; it is made.
        megapixels: Size, in millions of pixels, 4 to 3.
        n_images: How many files.
        seed: Seed of the order of the tiles and of the noise.

    Returns:
        The files, `n_images` of them, such as `12_megapixels_0.jpg`.
    """
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    width, rng = round(height * 4 / 3), np.random.default_rng(seed)
    paths = _keep_readable(paths)
    value_range = find_value_range(paths)
    images = (load_image(path, value_range=value_range) for path in paths)
    tiles = np.stack([_add_grain(np.asarray(image.resize(_TILE_PX)), rng) for image in images])
    n_rows, n_columns = -(-height // _TILE_PX[1]), -(-width // _TILE_PX[0])
    written = []
    for i in range(n_images):
        chosen = tiles[rng.integers(0, len(tiles), (n_rows, n_columns))]  # (n_rows, n_columns, 300, 400, 3)
        mosaic = chosen.swapaxes(1, 2).reshape(n_rows * _TILE_PX[1], n_columns * _TILE_PX[0], 3)
        written.append(Path(folder) / f"{megapixels:g}_megapixels_{i}.jpg")
        with write_atomic(written[-1]) as temporary_path:
            Image.fromarray(mosaic[:height, :width]).save(temporary_path, quality=90)
    return written


def measure_opening(
    paths: Sequence[str | Path],
    folder: str | Path,
    megapixels: Sequence[float],
    *,
    im_size_px: int = 224,
    n_images: int = 2,
    n_repeats: int = 7,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how long large images take to open and resize, in three ways, on one thread and from memory.

    Args:
        paths: Small images, tiled into large ones.
        folder: An empty folder for these and their copies.
        megapixels: Sizes to measure.
        im_size_px: Side of the squares that a network takes; copies have twice that as their shorter side.
        n_images: Files of each size.
        n_repeats: How often each setting is timed.
        seed: Seed of the mosaics.

    Returns:
        One row per size and way: `megapixels`; `way`, "full" (decoded in full, as most loaders do), "reduced" (the
        JPEG decoder gives 1/2, 1/4 or 1/8 of the size, as `load_images` asks for) or "downsized" (a copy that
        `downsize_images` made); `file_mb`; `median_ms`, `images_per_second`; `ratio` to "full" at the same size.
    """
    rows, functions = [], {}
    for size in megapixels:
        large = write_large_images(paths, Path(folder) / f"{size:g}", size, n_images=n_images, seed=seed)
        small_dir = Path(folder) / f"{size:g}_downsized"
        downsize_images(large[0].parent, small_dir, min_side_px=2 * im_size_px, show_progress=False)
        small = [small_dir / path.name for path in large]
        for way, files, target_px in zip(WAYS, (large, large, small), (None, im_size_px, im_size_px), strict=True):
            functions[f"{size:g} {way}"] = functools.partial(_open_files, files, im_size_px, target_px)
            file_mb = float(np.mean([path.stat().st_size for path in files]) / 1e6)
            rows.append({"megapixels": float(size), "way": way, "file_mb": file_mb})
    return _time_images(pd.DataFrame(rows), functions, n_images, n_repeats, by="megapixels")


def measure_threads(paths: Sequence[str | Path], *, im_size_px: int = 224, n_repeats: int = 7) -> pd.DataFrame:
    """Measure opening images on one thread, on one per processor, and on twice as many.

    Args:
        paths: Images to open.
        im_size_px: Side of the squares.
        n_repeats: How often each setting is timed.

    Returns:
        One row per setting: `n_threads`, `median_ms`, `images_per_second`, `ratio` to one thread.
    """
    counts, paths = sorted({1, count_cpus(), 2 * count_cpus()}), _keep_readable(paths)
    functions = {str(n): functools.partial(load_images, paths, im_size_px, n_threads=n) for n in counts}
    return _time_images(pd.DataFrame({"n_threads": counts}), functions, len(paths), n_repeats)


def measure_stages(
    kinds: Mapping[str, Sequence[str | Path]],
    *,
    backbone: str = DEFAULT_BACKBONE,
    im_size_px: int = 224,
    in_full: Sequence[str] = (),
) -> pd.DataFrame:
    """Measure where the time of an epoch goes when all layers are trained.

    Args:
        kinds: Files by kind; repeated up to 16. They are read from memory, where the first reading put them.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        im_size_px: Side of the images.
        in_full: Kinds whose JPEG files are decoded at their full size, as most loaders do.

    Returns:
        One row per kind and stage: `kind`; `stage`, "read", "decode" (on all processors), "augment", "forward" or
        "backward" (with the update of the weights); `median_ms` per image; `share_of_ms`, of the kind's total. The last
        three stages do not depend on the file and are the same for every kind.
    """
    steps, functions = _TrainingSteps(backbone, im_size_px), dict[str, Callable[[], object]]()
    pixels = _draw_noise(_STEP_SIZE, im_size_px)
    for kind, given in kinds.items():
        paths = _keep_readable(given)
        files = [find_path(paths[i % len(paths)]) for i in range(_STEP_SIZE)]
        contents, target_px = [path.read_bytes() for path in files], None if kind in in_full else im_size_px
        functions[f"read {kind}"] = functools.partial(_read_files, files)
        functions[f"decode {kind}"] = functools.partial(_decode, contents, im_size_px, target_px, count_cpus())
    functions |= {
        "augment": functools.partial(augment_pixels, pixels, "upright"),
        "forward": functools.partial(steps.run_forward, pixels),
        "step": functools.partial(steps.train_epoch, pixels, _STEP_SIZE),
    }
    times = measure_in_turn(functions, n_warmup=1, n_repeats=_N_PASSES, settle_ms=0, warn=False)
    ms = times.set_index("name")["median_ms"] / _STEP_SIZE
    network = [ms["augment"], ms["forward"], max(0.0, ms["step"] - ms["forward"])]
    rows = [
        {"kind": kind, "stage": stage, "median_ms": value}
        for kind in kinds
        for stage, value in zip(STAGES, [ms[f"read {kind}"], ms[f"decode {kind}"], *network], strict=True)
    ]
    table = pd.DataFrame(rows)
    return table.assign(share_of_ms=table["median_ms"] / table.groupby("kind")["median_ms"].transform("sum"))


def measure_batch_sizes(
    batch_sizes: Sequence[int], *, backbone: str = DEFAULT_BACKBONE, im_size_px: int = 224
) -> pd.DataFrame:
    """Measure training steps (forward, backward, update of all layers) at several batch sizes.

    Args:
        batch_sizes: Images per step; divisors of 32, so that every size sees the same images.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        im_size_px: Side of the images.

    Returns:
        One row per size: `batch_size`, `median_ms`, `images_per_second`, `ratio` to the first size.

    Raises:
        ValueError: There is no size, or one does not divide 32.
    """
    if not batch_sizes or any(_PASS_SIZE % size for size in batch_sizes):
        raise ValueError(f"Got batch_sizes={list(batch_sizes)}; expected one or more divisors of {_PASS_SIZE}.")
    steps, pixels = _TrainingSteps(backbone, im_size_px), _draw_noise(_PASS_SIZE, im_size_px)
    functions = {str(size): functools.partial(steps.train_epoch, pixels, size) for size in batch_sizes}
    return _time_images(pd.DataFrame({"batch_size": list(batch_sizes)}), functions, _PASS_SIZE, _N_PASSES)


def _time_images(
    rows: pd.DataFrame, functions: Mapping[str, Callable[[], object]], n_images: int, n_repeats: int, by: str = ""
) -> pd.DataFrame:
    """Add times per image to `rows`, one per function; the ratio is to the first row (of the same `by`)."""
    times = measure_in_turn(functions, n_warmup=1, n_repeats=n_repeats, settle_ms=0, warn=False)
    ms = times["median_ms"] / n_images
    first = ms.groupby(rows[by]).transform("first") if by else ms.iloc[0]
    return rows.assign(median_ms=ms, images_per_second=1000 / ms, ratio=first / ms)


def _keep_readable(paths: Sequence[str | Path]) -> list[str | Path]:
    """Leave out files that cannot be opened, so that none stops a measurement."""
    loaded = load_images(paths, 32)
    if not len(loaded.rows):
        raise ValueError(f"Got {len(paths)} files; none can be opened. {loaded.failures.head(1).to_dict('records')}")
    return [paths[row] for row in loaded.rows]


def _add_grain(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grain = rng.normal(0, _GRAIN, pixels.shape[:2])[..., None]  # the same in all colors
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def _draw_noise(n_images: int, im_size_px: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n_images, im_size_px, im_size_px, 3), dtype=np.uint8)


def _read_files(paths: Sequence[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def _open_files(paths: Sequence[Path], im_size_px: int, target_px: int | None) -> None:
    _decode(_read_files(paths), im_size_px, target_px, n_threads=1)


def _decode(contents: Sequence[bytes], im_size_px: int, target_px: int | None, n_threads: int) -> None:
    def decode_one(content: bytes) -> np.ndarray:
        return np.asarray(resize_image(decode_image(content, target_px=target_px)[0], im_size_px))

    list(map_in_threads(decode_one, contents, n_threads=n_threads))


class _TrainingSteps:
    """Training steps of a whole network without a loader: what the arithmetic alone takes."""

    def __init__(self, backbone: str, im_size_px: int) -> None:
        tune_allocator()
        self.device = torch.device(choose_device())
        model = load_backbone(backbone, n_classes=2, im_size_px=im_size_px).train()
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6)

    def run_forward(self, pixels: np.ndarray) -> torch.Tensor:
        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        targets = torch.zeros(len(batch), dtype=torch.long, device=self.device)
        loss = torch.nn.functional.cross_entropy(self.model(batch), targets)
        loss.item()  # waits for a GPU, which works on after a call has returned
        return loss

    def train_epoch(self, pixels: np.ndarray, batch_size: int) -> None:
        for start in range(0, len(pixels), batch_size):
            self.run_forward(pixels[start : start + batch_size]).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        next(self.model.parameters())[:1].sum().item()  # likewise
