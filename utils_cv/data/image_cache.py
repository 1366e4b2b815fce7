"""Opened and resized images, kept in memory while they fit and on disk beyond that: a second epoch decodes nothing."""

import hashlib
import logging
import os
import re
import threading
from pathlib import Path

import numpy as np

from ..system.files import get_cache_dir, write_atomic

_logger = logging.getLogger(__name__)

# Part of every key: raise it when opening or resizing changes its results, so that no old pixels are found.
_PIXELS_VERSION = 1
_OWN_FILE_NAME = re.compile(r"[0-9a-f]{32}\.npy|\.[0-9a-f]{32}\.[0-9a-f]{8}\.tmp\.npy")


class ImageCache:
    """Pixels of image files by path, size and fit, never stale.

    A file that was changed, replaced or touched since gets another key (its times in nanoseconds and its size are
    part of it). Entries on disk are written under a temporary name first and one damaged afterwards counts as absent,
    so an interruption does no harm. Threads may share a cache. Pass it to `utils_cv.data.images.load_images`.

    Args:
        budget_mb: Megabytes of pixels to keep in memory; images beyond that go to disk. One image at 224 px
            takes 0.15 MB.
        disk_budget_mb: Megabytes to keep on disk; images beyond that are opened anew each time. 0 uses no disk.
        folder: Where to keep those. Default: `images` in the package's cache folder, used again by later sessions.

    Attributes:
        n_found: How often a wanted image was there.
        n_missed: How often it was not.

    Example:
        >>> cache = ImageCache(budget_mb=500)
        >>> loaded = load_images(table.path, 224, cache=cache)  # doctest: +SKIP
        >>> loaded = load_images(table.path, 224, cache=cache)  # opens no file  # doctest: +SKIP
    """

    def __init__(
        self, budget_mb: float = 2_000, *, disk_budget_mb: float = 20_000, folder: str | Path | None = None
    ) -> None:
        if budget_mb < 0 or disk_budget_mb < 0:
            raise ValueError(f"Got a budget of {budget_mb} MB and {disk_budget_mb} MB on disk, expected 0 or more.")
        self.budget_mb = budget_mb
        self.disk_budget_mb = disk_budget_mb
        self.n_found = 0
        self.n_missed = 0
        self._folder = None if folder is None else Path(folder)
        self._in_memory: dict[str, np.ndarray] = {}
        self._memory_bytes = 0
        self._disk_bytes: int | None = None  # unknown until the disk is first needed
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        memory_mb = self._memory_bytes / 1e6
        return (
            f"ImageCache({len(self._in_memory)} images and {memory_mb:.0f} of {self.budget_mb:.0f} MB in memory, "
            f"found {self.n_found}, missed {self.n_missed})"
        )

    @property
    def folder(self) -> Path:
        """Where images that do not fit in memory are kept."""
        if self._folder is None:
            self._folder = get_cache_dir("images")
        return self._folder

    def make_key(self, path: str | Path, size_px: int, fit: str) -> str:
        """Name the pixels of a file in its present state.

        Raises:
            OSError: There is no such file.
        """
        status = Path(path).stat()
        state = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)  # ctime also sees copies that keep the mtime
        name = f"{_PIXELS_VERSION}|{os.path.realpath(path)}|{state}|{size_px}|{fit}"
        return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def find(self, key: str) -> np.ndarray | None:
        """Look an image up, in memory first.

        Returns:
            (size_px, size_px, 3) uint8, read-only; None where it is not kept.
        """
        pixels = self._in_memory.get(key)
        if pixels is None and self.disk_budget_mb > 0:
            pixels = self._read(key)
        with self._lock:
            self.n_found += pixels is not None
            self.n_missed += pixels is None
        return pixels

    def store(self, key: str, pixels: np.ndarray) -> None:
        """Keep an image, in memory while it fits the budget, else on disk while it fits that budget."""
        if not self._keep_in_memory(key, pixels) and self._reserve_disk(pixels.nbytes):
            self._write(key, pixels)

    def _keep_in_memory(self, key: str, pixels: np.ndarray) -> bool:
        with self._lock:
            if key not in self._in_memory:
                if self._memory_bytes + pixels.nbytes > self.budget_mb * 1e6:
                    return False
                kept = pixels.copy()
                kept.flags.writeable = False
                self._in_memory[key] = kept
                self._memory_bytes += kept.nbytes
        return True

    def clear(self) -> None:
        """Forget everything in memory and remove this cache's own files from disk."""
        with self._lock:
            self._in_memory.clear()
            self._memory_bytes = 0
            if self.disk_budget_mb > 0:
                for path in self._list_disk_files():
                    path.unlink(missing_ok=True)
            self._disk_bytes = None

    def _get_path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"  # 256 folders: some systems are slow with 100,000 files in one

    def _list_disk_files(self) -> list[Path]:
        # Only names that this class gives, should somebody choose a folder with other files in it.
        return [path for path in self.folder.glob("??/*.npy") if _OWN_FILE_NAME.fullmatch(path.name)]

    def _read(self, key: str) -> np.ndarray | None:
        try:
            pixels = np.load(self._get_path(key), allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            _logger.warning("Ignored a damaged file of the image cache, %s: %s", self._get_path(key), error)
            return None
        pixels.flags.writeable = False
        self._keep_in_memory(key, pixels)
        return pixels

    def _reserve_disk(self, n_bytes: int) -> bool:
        with self._lock:
            if self.disk_budget_mb == 0:
                return False
            if self._disk_bytes is None:
                self._disk_bytes = sum(path.stat().st_size for path in self._list_disk_files())
            fits = self._disk_bytes + n_bytes <= self.disk_budget_mb * 1e6
            if fits:
                self._disk_bytes += n_bytes
            else:
                _logger.info("The image cache is full; images beyond it are opened anew each time.")
        return fits

    def _write(self, key: str, pixels: np.ndarray) -> None:
        try:
            with write_atomic(self._get_path(key)) as temporary_path:
                np.save(temporary_path, pixels, allow_pickle=False)
        except OSError as error:  # a full disk must not stop a training run
            _logger.warning("Could not write to the image cache in %s: %s", self.folder, error)
