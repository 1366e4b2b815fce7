"""How fast a folder is read, and reads slowed down to what another storage would give."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils_cv.system.timing import Timer


class Storage(NamedTuple):
    """How fast a storage reads.

    Attributes:
        name: What it is.
        read_mb_per_s: Megabytes (10**6 bytes) a second once a file is found.
        access_ms: Time to find a file, in milliseconds.
    """

    name: str
    read_mb_per_s: float
    access_ms: float


# Round figures of common hardware, not measured here. A hard disk moves its head for every file; a network drive asks
# over the wire.
STORAGES = (
    Storage("solid-state disk", 500.0, 0.1),
    Storage("hard disk", 150.0, 10.0),
    Storage("network drive, 1 Gbit/s", 110.0, 2.0),
    Storage("network drive, Wi-Fi", 10.0, 5.0),
)


class SlowedReader:
    """Reads files no faster than a given storage would: a simulation, for comparing storages on one machine.

    One request is served after the other, as a disk or a line does, however many threads ask. The time that the real
    storage takes is part of the simulated one, so nothing becomes faster than it is.

    Args:
        storage: The storage to imitate.

    Example:
        >>> reader = SlowedReader(Storage("hard disk", 150.0, 10.0))
        >>> content = reader.read_bytes("photo.jpg")  # doctest: +SKIP
    """

    def __init__(self, storage: Storage) -> None:
        if storage.read_mb_per_s <= 0 or storage.access_ms < 0:
            raise ValueError(f"Got {storage}; expected a rate above 0 and an access time of 0 or more.")
        self.storage = storage
        self._free_at = 0.0
        self._lock = threading.Lock()

    def read_bytes(self, path: str | Path) -> bytes:
        """Read a whole file, and wait until the simulated storage would have delivered it."""
        asked_at = time.perf_counter()
        content = Path(path).read_bytes()
        with self._lock:
            begins_at = max(asked_at, self._free_at)
            self._free_at = begins_at + self.compute_seconds(len(content))
            ready_at = self._free_at
        time.sleep(max(0.0, ready_at - time.perf_counter()))
        return content

    def compute_seconds(self, n_bytes: int) -> float:
        """Compute how long the storage takes for one file of so many bytes."""
        return self.storage.access_ms / 1e3 + n_bytes / 1e6 / self.storage.read_mb_per_s


class ReadRate(NamedTuple):
    """How fast files were read.

    Attributes:
        mb_per_s: Megabytes (10**6 bytes) a second.
        files_per_s: Files a second.
        n_files: Files that were read.
        is_cold: Whether the system was asked to forget the files first; otherwise they may have come from memory.
    """

    mb_per_s: float
    files_per_s: float
    n_files: int
    is_cold: bool


def measure_read_rate(paths: Sequence[str | Path]) -> ReadRate:
    """Measure how fast files are read, one after the other, from the storage where they are.

    On Linux the system is asked to forget its copies in memory first. A host below a virtual machine, or the cache of
    the disk itself, may still remember them: the first reading after a restart is the slowest.

    Args:
        paths: Files; the more, the better.

    Raises:
        ValueError: If there is no file.
    """
    if not len(paths):
        raise ValueError("Got no files to read.")
    is_cold = all([_forget(Path(path)) for path in paths])
    with Timer() as timer:
        n_bytes = sum(len(Path(path).read_bytes()) for path in paths)
    return ReadRate(n_bytes / 1e6 / timer.seconds, len(paths) / timer.seconds, len(paths), is_cold)


def _forget(path: Path) -> bool:
    """Ask the system to drop its copy of a file; False where there is no such call."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.fsync(file.fileno())  # pages not yet written cannot be dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
