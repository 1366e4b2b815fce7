"""What makes opening images slow or fast: their size, the storage, threads and a cache.

Everything is measured in rounds: each setting once, then each again, so that a machine whose speed drifts disturbs all
alike. Times are medians of the rounds, in ms per image; a ratio is the median of the ratios within each round.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from utils_cv.data.decoding import decode_image
from utils_cv.data.downsizing import downsize_images
from utils_cv.data.image_cache import ImageCache
from utils_cv.data.images import load_image, load_images, resize_image
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import count_cpus
from utils_cv.system.threads import map_in_threads
from utils_cv.system.timing import measure_rounds, summarize_rounds

from .storage import STORAGES, SlowedReader, Storage

_TILE_PX = (400, 300)
_GRAIN = 4.0  # standard deviation of the noise of a camera, of 255; without it files are a third of their usual size
WAYS = ("decode in full", "decode reduced", "downsized once")


def write_large_images(
    paths: Sequence[str | Path], folder: str | Path, megapixels: float, *, n_images: int = 2, seed: int = 0
) -> list[Path]:
    """Write large JPEG files to measure with: mosaics of small images, as detailed as a photograph of that size.

    An image that is merely enlarged is smooth, and its file is small and quickly decoded. A mosaic with the noise of a
    camera is not.

    Args:
        paths: Small images to tile; each becomes 400 × 300 px.
        folder: Where to write.
        megapixels: Size, in millions of pixels, 4 to 3.
        n_images: How many files.
        seed: Seed of the order of the tiles.

    Returns:
        The files.
    """
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    width, rng = round(height * 4 / 3), np.random.default_rng(seed)
    tiles = np.stack([_add_grain(np.asarray(load_image(path).resize(_TILE_PX)), rng) for path in paths])
    n_rows, n_columns = -(-height // _TILE_PX[1]), -(-width // _TILE_PX[0])
    written = []
    for i in range(n_images):
        chosen = tiles[rng.integers(0, len(tiles), (n_rows, n_columns))]  # (n_rows, n_columns, 300, 400, 3)
        mosaic = chosen.swapaxes(1, 2).reshape(n_rows * _TILE_PX[1], n_columns * _TILE_PX[0], 3)
        written.append(Path(folder) / f"{megapixels:g}_megapixels_{i}.jpg")
        with write_atomic(written[-1]) as temporary_path:
            Image.fromarray(mosaic[:height, :width]).save(temporary_path, quality=90)
    return written


def _add_grain(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grain = rng.normal(0, _GRAIN, pixels.shape[:2])[..., None]  # the same in all colors
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def measure_opening(
    paths: Sequence[str | Path],
    folder: str | Path,
    megapixels: Sequence[float],
    *,
    im_size_px: int = 224,
    n_images: int = 2,
    n_rounds: int = 7,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how long large images take to open and resize, in three ways, on one thread and from memory.

    "decode in full" is what most loaders do; "decode reduced" lets the JPEG decoder give 1/2, 1/4 or 1/8 of the size,
    as `data.images.load_images` does; "downsized once" opens copies made by `data.downsizing.downsize_images`.

    Args:
        paths: Small images, tiled into large ones.
        folder: An empty folder for these.
        megapixels: Sizes to measure.
        im_size_px: Side of the squares that a network takes; copies have twice that as their shorter side.
        n_images: Files of each size.
        n_rounds: Rounds.
        seed: Seed of the mosaics.

    Returns:
        `megapixels`, `way` (one of `WAYS`), `file_mb`, and the columns of `summarize_rounds`; the ratio is to decoding
        in full at the same size.
    """
    folder, functions, sizes_mb = Path(folder), {}, {}
    for size in megapixels:
        large = write_large_images(paths, folder / f"{size:g}", size, n_images=n_images, seed=seed)
        small_dir = folder / f"{size:g}_downsized"
        downsize_images(large[0].parent, small_dir, min_side_px=2 * im_size_px, show_progress=False)
        small = [small_dir / path.name for path in large]
        openers = (
            functools.partial(_open_all, large, im_size_px, is_reduced=False),
            functools.partial(_open_all, large, im_size_px, is_reduced=True),
            functools.partial(_open_all, small, im_size_px, is_reduced=True),
        )
        for way, opener, files in zip(WAYS, openers, (large, large, small), strict=True):
            functions[f"{size:g}|{way}"] = opener
            sizes_mb[f"{size:g}|{way}"] = float(np.mean([path.stat().st_size for path in files]) / 1e6)
    rounds = measure_rounds(functions, n_rounds=n_rounds, n_images=n_images)
    parts = []
    for size in megapixels:
        names = [f"{size:g}|{way}" for way in WAYS]
        part = summarize_rounds(rounds[rounds["name"].isin(names)], baseline=names[0])
        facts = {"megapixels": float(size), "way": list(WAYS), "file_mb": [sizes_mb[name] for name in names]}
        parts.append(pd.DataFrame(facts).join(part.drop(columns="name")))
    return pd.concat(parts, ignore_index=True)


def measure_storages(
    kinds: Mapping[str, Sequence[str | Path]],
    *,
    storages: Sequence[Storage] = STORAGES,
    im_size_px: int = 224,
    n_images: int = 8,
    n_rounds: int = 3,
) -> pd.DataFrame:
    """Measure how fast images are opened when reading them is slowed down to what other storages would give.

    The rates are simulated (`utils_cv.studies.storage.SlowedReader`), decoding is real, on all processors.

    Args:
        kinds: Files by kind, such as small and large ones; repeated up to `n_images`.
        storages: What to imitate.
        im_size_px: Side of the squares.
        n_images: Images opened in a round.
        n_rounds: Rounds.

    Returns:
        `kind`, `storage` ("memory" is not slowed down), and the columns of `summarize_rounds`, the ratio to "memory".
    """
    parts = []
    for kind, paths in kinds.items():
        chosen = [Path(paths[i % len(paths)]) for i in range(n_images)]
        readers: dict[str, Callable[[Path], bytes]] = {"memory": Path.read_bytes}
        readers |= {storage.name: SlowedReader(storage).read_bytes for storage in storages}
        functions = {name: functools.partial(_open_through, read, chosen, im_size_px) for name, read in readers.items()}
        rounds = measure_rounds(functions, n_rounds=n_rounds, n_images=n_images)
        parts.append(summarize_rounds(rounds, baseline="memory").rename(columns={"name": "storage"}).assign(kind=kind))
    table = pd.concat(parts, ignore_index=True)
    return table[["kind", *table.columns.drop("kind")]]


def measure_threads_and_cache(
    paths: Sequence[str | Path], folder: str | Path, *, im_size_px: int = 224, n_rounds: int = 7
) -> pd.DataFrame:
    """Measure opening images on one thread, on all processors, on twice as many, and from a cache in memory or on disk.

    Args:
        paths: Images to open.
        folder: An empty folder for the cache on disk.
        im_size_px: Side of the squares.
        n_rounds: Rounds.

    Returns:
        The columns of `summarize_rounds`; the ratio is to one thread.
    """
    n_cpus = count_cpus()
    in_memory = ImageCache(1e6, disk_budget_mb=0)
    on_disk = ImageCache(0, folder=folder)
    load = functools.partial(load_images, paths, im_size_px)
    functions: dict[str, Callable[[], object]] = {
        f"{n} thread{'s' if n > 1 else ''}": functools.partial(load, n_threads=n)
        for n in dict.fromkeys((1, n_cpus, 2 * n_cpus))
    }
    functions["cache on disk"] = functools.partial(load, cache=on_disk)
    functions["cache in memory"] = functools.partial(load, cache=in_memory)
    return summarize_rounds(measure_rounds(functions, n_rounds=n_rounds, n_images=len(paths)), baseline="1 thread")


def open_content(content: bytes, im_size_px: int, target_px: int | None) -> np.ndarray:
    """Decode the bytes of an image file, at a reduced size when `target_px` is given, and resize it to a square."""
    return np.asarray(resize_image(decode_image(content, target_px=target_px)[0], im_size_px))


def _open_all(paths: Sequence[Path], im_size_px: int, *, is_reduced: bool) -> None:
    for path in paths:
        open_content(path.read_bytes(), im_size_px, im_size_px if is_reduced else None)


def _open_through(read: Callable[[Path], Any], paths: Sequence[Path], im_size_px: int) -> None:
    def open_one(path: Path) -> np.ndarray:
        return open_content(read(path), im_size_px, im_size_px)

    list(map_in_threads(open_one, paths, n_threads=count_cpus()))
