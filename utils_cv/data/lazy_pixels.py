"""Pixels of more images than fit into memory: an array of which a part at a time is read or decoded."""

import functools
import hashlib
import itertools
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..system.files import get_cache_dir
from ..system.machine import measure_free_memory_mb
from ..system.row_store import NoRoomError, fill_store
from .image_headers import ImageError

STORE = "pixels"  # in the cache folder


class LazyPixels:
    """An array, uint8 (n, size, size, 3), on the disk: its first axis is indexed, as in NumPy, which gives arrays."""

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, n: int, size_px: int, read: Callable[[int, int], np.ndarray]) -> None:
        """Take what reads the images from a number to another (not included), (n, size, size, 3)."""
        self.shape, self._read = (n, size_px, size_px, 3), read
        self.nbytes = n * size_px * size_px * 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, int | np.integer):
            row = range(len(self))[key]
            return self._read(row, row + 1)[0]
        if isinstance(key, tuple):
            raise TypeError("Pixels that are not in memory are indexed by image only: pixels[rows][:, :, ::-1].")
        rows = np.arange(len(self))[key]
        n_mb = len(rows) * self.shape[1] ** 2 * 3 / 1e6
        if n_mb > 100 and n_mb > (free_mb := measure_free_memory_mb()):
            raise MemoryError(
                f"{len(rows)} images take {n_mb:,.0f} MB, {free_mb:,.0f} MB are free. Take a batch at a time."
            )
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)  # of runs, which are read at once
        for start, stop in itertools.pairwise([*starts, len(rows)]):
            found[start:stop] = self._read(rows[start], rows[stop - 1] + 1)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class _StoredRows:
    """Read images from a file of them; it travels to other processes, which open the file again."""

    def __init__(self, file: IO[bytes] | str, size_px: int) -> None:
        self.file = Path(file).open("rb") if isinstance(file, str) else file  # noqa: SIM115 - as long as its rows
        self.size_px = size_px

    def __call__(self, first: int, stop: int) -> np.ndarray:
        """Read the images from a number to another (not included)."""
        row_bytes, shape = self.size_px**2 * 3, (stop - first, self.size_px, self.size_px, 3)
        # Mapped for a moment: what stays mapped counts as memory of the process, up to all of it.
        return np.array(np.memmap(self.file, np.uint8, "r", offset=int(first) * row_bytes, shape=shape))

    def __reduce__(self) -> tuple:
        return _StoredRows, (self.file.name, self.size_px)


def hash_files(paths: Sequence[str | Path], *settings: Any) -> str:
    """Hash settings, and paths with the sizes and times of their files, also those that nobody can set back."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in paths:
        try:
            facts = Path(path).stat()
            known = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        except (OSError, ValueError):  # the latter for names with a zero byte
            known = None
        digest.update(repr((str(Path(path).absolute()), known)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def fits_memory(n: int, size_px: int, memory_mb: float | None) -> bool:
    """Whether pixels are to be held in memory: up to so many MB, by default a third of what is free."""
    n_mb, free_mb = n * size_px**2 * 3 / 1e6, measure_free_memory_mb()
    if memory_mb is not None and free_mb < n_mb <= memory_mb:
        raise MemoryError(
            f"{n} images at {size_px} px take {n_mb:,.0f} MB, {free_mb:,.0f} MB are free. Without memory_mb they are "
            "kept in a file; or take a smaller size."
        )
    return n_mb <= (free_mb / 3 if memory_mb is None else memory_mb)


def describe_place(n: int, size_px: int, is_held: bool) -> str:
    """Say how much memory or disk pixels take, and where."""
    place = f"memory (free: {measure_free_memory_mb() / 1e3:.1f} GB)"
    if not is_held:
        folder = get_cache_dir(STORE)
        place = f"{folder} (free: {shutil.disk_usage(folder).free / 1e9:.1f} GB), written once; UTILS_CV_CACHE moves it"
    return f"{n * size_px**2 * 3 / 1e6:,.0f} MB in {place}. A smaller size takes less."


def store_pixels(
    key: str,
    images: Sequence[Any],
    size_px: int,
    load: Callable[[Any], np.ndarray | str],
    load_from: Callable[[int], Iterable[np.ndarray | None]],
) -> tuple[Any, list[int]]:
    """Write pixels to a file, or check that all can be opened where it has no room; give those, and what failed."""
    try:
        file, is_opened = fill_store(STORE, key, len(images), size_px**2 * 3, load_from)
        read: Callable[[int, int], np.ndarray] = _StoredRows(file, size_px)
    except NoRoomError as error:
        warnings.warn(f"{error} Until then images are decoded each time they are needed: slower.", stacklevel=3)
        is_opened = np.fromiter((found is not None for found in load_from(0)), bool)
        read = functools.partial(_decode, [images[row] for row in np.flatnonzero(is_opened).tolist()], load)
    return LazyPixels(int(is_opened.sum()), size_px, read), np.flatnonzero(~is_opened).tolist()


def _decode(images: list[Any], load: Callable[[Any], np.ndarray | str], first: int, stop: int) -> np.ndarray:
    found = [load(image) for image in images[first:stop]]
    for image, cause in zip(images[first:stop], found, strict=True):
        if isinstance(cause, str):
            raise ImageError(image, cause)
    return np.stack(found)
