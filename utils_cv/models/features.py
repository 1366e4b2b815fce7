"""Features of a frozen backbone, as fast as the machine gives them: ONNX Runtime on a CPU, torch on a GPU."""

import contextlib
import functools
import io
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import PIL
from joblib.externals.loky import ProcessPoolExecutor
from tqdm.auto import tqdm

from utils_cv.data.images import Fit, find_path, find_value_range, load_or_explain
from utils_cv.data.lazy_pixels import LazyPixels, hash_files
from utils_cv.system.files import get_cache_dir
from utils_cv.system.machine import DEVICE_VARIABLE, choose_device, count_cpus, measure_free_memory_mb
from utils_cv.system.row_store import NoRoomError, fill_store
from utils_cv.system.threads import N_MANY, announce, map_in_shards, map_in_threads

from .model_files import DEFAULT_BACKBONE
from .runtimes import Network, load_onnx, run_in_torch

if TYPE_CHECKING:
    from .onnx_export import Normalized

_STORE, _SHARD_SIZE = "features", 512  # folder in the cache folder; files that are computed at a time
_N_PER_BATCH, _N_PER_CALL = 16, 4  # images of one call of a network; of one that is called in several threads


def compute_features(
    images: Any,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    backbone: str = DEFAULT_BACKBONE,
    im_size_px: int | None = None,
    fit: Fit = "squash",
    show_progress: bool = False,
) -> np.ndarray:
    """Compute what a frozen backbone sees in each image: the values in front of its ImageNet classifier.

    On a CPU the backbone runs in ONNX Runtime, exported once for each backbone and size into the user's cache
    folder (seconds, once). PyTorch, which exports it, takes 0.7 GB: where it was not imported before, that is done
    in a process of its own, which ends.

    Files, of any number, are decoded while the network is at work, in memory that does not grow with them. Their
    features are kept in the cache folder: an interrupted call goes on where it stopped, and the same files are not
    computed twice. Shards of 512 files run through joblib, so that `joblib.parallel_config` around the call sends them
    to processes, or to a Dask or Ray cluster whose machines see the same files.

    Args:
        images: uint8 RGB images, (n, size, size, 3), as `utils_cv.data.images.load_images` gives them; or paths of
            files, or an image table.
        rows: Of which images, in this order. Default: of all.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        im_size_px: Side of the square that files are resized to. Default: the size that the backbone was trained at.
        fit: How files become square, see `utils_cv.data.images.resize_image`.
        show_progress: Show a bar: images per second and time left; and before many files one line: how long, how large.

    Returns:
        float32, (n, n_features). A file that cannot be opened has a row of NaN; a warning counts them.

    Raises:
        ValueError: If pixels are not of that shape and type, or there is no such backbone.
        MemoryError: If neither the disk nor the memory can take the features.

    Example:
        >>> compute_features(np.zeros((2, 224, 224, 3), np.uint8)).shape  # doctest: +SKIP
        (2, 1280)
        >>> compute_features(table["path"], show_progress=True).shape  # doctest: +SKIP
        (480, 1280)
    """
    is_array = isinstance(images, LazyPixels) or (isinstance(images, np.ndarray) and images.dtype.kind not in "OU")
    if not is_array:
        paths = [find_path(path) for path in (images["path"] if hasattr(images, "columns") else images)]
        paths = paths if rows is None else [paths[row] for row in rows]
        size_px = im_size_px or _find_source(backbone, None).im_size_px
        shard = _Shard(backbone, size_px, fit, find_value_range(paths))
        return _compute_stored(paths, shard, show_progress)
    if images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2] or images.dtype != np.uint8:
        raise ValueError(
            f"Got pixels of shape {images.shape} and type {images.dtype}; expected uint8 (n, size, size, 3). "
            "Open images with utils_cv.data.images.load_images."
        )
    network = _load_network(backbone, _find_source(backbone, images.shape[1]))
    return run_in_batches(network, images, rows, show_progress=show_progress)


class _Shard(NamedTuple):
    """How the features of some files are computed, in this process or in another one."""

    backbone: str
    im_size_px: int
    fit: Fit
    value_range: int

    def load(self, path: Path) -> np.ndarray | str:
        return load_or_explain(path, self.im_size_px, self.fit, self.value_range)

    def compute(self, paths: Sequence[Path]) -> np.ndarray:
        """Features (n, n_features), with rows of NaN where a file cannot be opened."""
        failed = []

        def read(first: int, stop: int) -> np.ndarray:
            pixels = np.zeros((stop - first, self.im_size_px, self.im_size_px, 3), np.uint8)
            for row in range(first, stop):
                found = self.load(paths[row])
                if isinstance(found, str):
                    failed.append(row)
                else:
                    pixels[row - first] = found
            return pixels

        network = _load_network(self.backbone, _find_source(self.backbone, self.im_size_px))
        features = run_in_batches(network, LazyPixels(len(paths), self.im_size_px, read))  # type: ignore[arg-type]
        features[failed] = np.nan
        return features


def _compute_stored(paths: list[Path], shard: _Shard, show_progress: bool) -> np.ndarray:
    """Compute the features of files in shards that go into a file, and say how many could not be opened."""
    _, device, fingerprint, n_features, _ = _find_source(shard.backbone, shard.im_size_px)
    shape = (len(paths), n_features)
    if show_progress and len(paths) >= N_MANY:
        what, n_mb = f"Features of {len(paths):,} images at {shard.im_size_px} px", 4 * len(paths) * n_features / 1e6
        kept = f"{n_mb:,.0f} MB in {get_cache_dir(_STORE)}. Interrupted, it goes on where it stopped."
        announce(what, paths, shard.compute, f"{kept} A smaller size, or more machines by joblib, take less.")

    def compute_from(first: int) -> Iterator[np.ndarray]:
        bar: dict[str, Any] = {"n_done": first, "description": "features", "show_progress": show_progress}
        for part in map_in_shards(shard.compute, paths[first:], shard_size=_SHARD_SIZE, **bar):
            yield from part

    key = hash_files(paths, fingerprint, shard, device, PIL.__version__)
    try:
        file, _ = fill_store(_STORE, key, len(paths), n_features * 4, compute_from)
        features = np.asarray(np.memmap(file, np.float32, "c", shape=shape)) if paths else np.zeros(shape, np.float32)
        # A part at a time: what is mapped counts as memory of the process.
        parts = [(row, min(_SHARD_SIZE, len(paths) - row)) for row in range(0, len(paths), _SHARD_SIZE)]
        mapped = (np.memmap(file, np.float32, "r", 4 * row * n_features, (n, n_features)) for row, n in parts)
        failed = np.flatnonzero(np.concatenate([[False], *(np.isnan(part[:, 0]) for part in mapped)])) - 1
    except NoRoomError as error:
        if (n_mb := 4 * len(paths) * n_features / 1e6) > measure_free_memory_mb():
            raise MemoryError(f"{error} For {n_mb:,.0f} MB of features the memory is too small as well.") from error
        warnings.warn(f"{error} Until then features are lost at the end of the process.", stacklevel=3)
        features = np.fromiter(compute_from(0), np.dtype((np.float32, n_features)), len(paths))
        failed = np.flatnonzero(np.isnan(features[:, 0]))
    if len(failed):
        listed = "; ".join(f"{paths[row]} ({shard.load(paths[row])})" for row in failed[:3])
        words = f"{len(failed)} of {len(paths)} images could not be opened; their features are NaN: {listed}"
        warnings.warn(words, stacklevel=3)
    return features


def find_similar(features: np.ndarray, queries: np.ndarray, *, n_similar: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Find the images whose features are most like those of others: "more like this".

    Compared is the direction in which an image differs from the mean of all images searched.

    Args:
        features: Of the images to search, (n_images, n_features).
        queries: Of the images to compare with, (n_queries, n_features); an image that is searched too finds itself.
        n_similar: Images to find for each; fewer where there are not so many.

    Returns:
        Their positions (n_queries, n_similar), the most similar first, and the cosine similarities, in [-1, 1].

    Example:
        >>> rows, similarity = find_similar(np.eye(3), np.array([[0.1, 0.9, 0.1]]), n_similar=1)
        >>> rows.tolist(), similarity.round(2).tolist()
        ([[1]], [[1.0]])
    """
    from sklearn.neighbors import NearestNeighbors

    mean = features.mean(axis=0)
    search = NearestNeighbors(metric="cosine").fit(features - mean)  # in chunks of bounded memory
    distances, rows = search.kneighbors(queries - mean, n_neighbors=min(n_similar, len(features)))
    return rows, 1 - distances


def prepare_network(network: "Normalized", im_size_px: int, *, name: str) -> Network:
    """Make the function that runs a frozen network, bytes in, float32 out; `name` begins that of its cached export."""
    from .onnx_export import export_to_cache

    device = choose_device()
    if device == "cpu":
        try:
            return load_onnx(export_to_cache(network, im_size_px, name=name), n_threads=1)
        except OSError as error:
            words = f"The export for ONNX Runtime cannot be written ({error}), so torch runs the network, more slowly."
            warnings.warn(f"{words} Set UTILS_CV_CACHE to a folder with some space.", stacklevel=3)
    return run_in_torch(network, runtime="channels_last", device=device)


def run_in_batches(
    network: Network,
    pixels: np.ndarray,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    dtype: type[np.floating] | None = None,
    description: str = "features",
    show_progress: bool = False,
) -> np.ndarray:
    """Run a network over images, or some rows, `change` before it; a few batches are read while it is at work.

    One whose calls take one thread is called in several at once, with few images: less time is spent on waiting.
    """
    is_threaded = getattr(network, "n_threads", None) == 1
    batch_size = _N_PER_CALL if is_threaded else _N_PER_BATCH
    n = len(pixels) if rows is None else len(rows)
    if show_progress and n >= N_MANY:
        order: Any = range(n) if rows is None else rows
        what, needs = f"{description} of {n:,} images at {pixels.shape[1]} px", "in batches. A smaller size takes less."
        announce(what, order, lambda some: run_in_batches(network, pixels, some, change=change), needs)

    def read(start: int) -> np.ndarray:
        part = slice(start, min(start + batch_size, n))
        return np.ascontiguousarray(pixels[part if rows is None else np.asarray(rows[part])])

    found, starts = np.zeros((0, 0), np.float32), range(0, n, batch_size)
    in_threads = functools.partial(map_in_threads, n_threads=count_cpus(), n_ahead=2)
    batches = in_threads(read, starts)
    changed = map(change, batches) if change else batches  # one after the other: it may draw random numbers
    parts = in_threads(network, changed) if is_threaded else (network(batch) for batch in changed)
    bar = tqdm(total=n, desc=description, unit="image", disable=not show_progress)
    with contextlib.closing(batches), contextlib.closing(parts), bar:
        for start, part in zip(starts, parts, strict=True):
            found = found if start else np.empty((n, *part.shape[1:]), dtype or part.dtype)
            found[start : start + len(part)] = part
            bar.update(len(part))
    return found


class _Source(NamedTuple):
    """What PyTorch knows of a frozen backbone on this machine: who knows it can do without PyTorch."""

    im_size_px: int
    device: str
    fingerprint: str
    n_features: int
    export: str  # the file for ONNX Runtime; "" where PyTorch runs the network


def _find_source(backbone: str, im_size_px: int | None) -> _Source:
    device = choose_device() if "torch" in sys.modules else os.environ.get(DEVICE_VARIABLE, "")
    return _find_source_for(backbone, im_size_px, device)


@functools.lru_cache(maxsize=4)
def _find_source_for(backbone: str, im_size_px: int | None, device: str) -> _Source:
    """Keep the last: studies ask for the features of one backbone hundreds of times, on one device."""
    if "torch" in sys.modules or multiprocessing.current_process().daemon:  # which may not start another
        source, said = _make_source(backbone, im_size_px)
    else:
        environment = {"UTILS_CV_CACHE": str(get_cache_dir("onnx").parent)}  # a temporary one of its own ends with it
        with ProcessPoolExecutor(1, env=environment) as pool:
            source, said = pool.submit(_make_source, backbone, im_size_px).result()
    print(said, end="")
    return source


def _make_source(backbone: str, im_size_px: int | None) -> tuple[_Source, str]:
    """Export a backbone unless that was done before, and describe it; give what that prints, the license, as well."""
    from .backbones import count_outputs, describe_backbone
    from .onnx_export import Normalized, export_to_cache, make_fingerprint

    size_px = im_size_px or describe_backbone(backbone).im_size_px
    with contextlib.redirect_stdout(io.StringIO()) as said:
        network = Normalized.load(backbone, size_px)
    device, export = choose_device(), ""
    if device == "cpu":
        with contextlib.suppress(OSError):  # `prepare_network` says so
            export = str(export_to_cache(network, size_px, name=backbone))
    n_features = count_outputs(network.body, size_px)
    return _Source(size_px, device, make_fingerprint(network), n_features, export), said.getvalue()


@functools.lru_cache(maxsize=2)
def _load_network(backbone: str, source: _Source) -> Network:
    if source.export and Path(source.export).is_file():  # the cache folder may have been emptied
        return load_onnx(source.export, n_threads=1)
    from .onnx_export import Normalized

    return prepare_network(Normalized.load(backbone, source.im_size_px), source.im_size_px, name=backbone)
