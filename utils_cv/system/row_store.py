"""Rows of equal size in a file of the cache folder: written once, by one process at a time, and read many times."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from .files import get_cache_dir, lock_folder

_N_FLUSHED = 256  # items between two moments from which an interrupted process goes on
_ROWS, _LOG = "rows.bin", "log.bin"  # the log has a byte per item: 1 where it has a row, 0 where it has none
_ADVICE = "Free some space, or set UTILS_CV_CACHE to a folder on a larger disk."


class NoRoomError(OSError):
    """The disk of the cache folder cannot take what is to be stored."""


def fill_store(
    name: str, key: str, n_items: int, row_bytes: int, make_rows: Callable[[int], Iterable[np.ndarray | None]]
) -> tuple[IO[bytes], np.ndarray]:
    """Write the row of every item, unless it is there already; give the file, and which items have a row, (n_items,).

    `make_rows` gives the rows from a number on, None for an item without. A killed process is continued by the next
    one, others wait. Stores of one name take at most half of the free disk: those unused longest make room.
    """
    folder = get_cache_dir(name)
    entry = folder / key
    entry.mkdir(exist_ok=True)
    with lock_folder(entry):
        done = _read_log(entry, row_bytes)
        if len(done) < n_items:
            _make_room(folder, entry, (n_items - len(done)) * row_bytes)
            try:
                done = np.concatenate([done, np.fromiter(_append(entry, done, row_bytes, make_rows(len(done))), bool)])
            except NoRoomError:  # what is there would keep the disk full for everybody
                _empty(entry)
                raise
        os.utime(entry)
        return (entry / _ROWS).open("rb"), done  # open, it stays readable after its name is deleted


def _read_log(entry: Path, row_bytes: int) -> np.ndarray:
    """Which of the items so far have a row; none where the files do not fit each other, as after a power cut."""
    if not (entry / _LOG).exists() or not (entry / _ROWS).exists():
        return np.zeros(0, bool)
    done = np.fromfile(entry / _LOG, np.uint8).astype(bool)
    return done if done.sum() * row_bytes <= _measure_bytes(entry) else done[:0]


def _append(entry: Path, done: np.ndarray, row_bytes: int, rows: Iterable[np.ndarray | None]) -> Iterator[bool]:
    """Write rows, then that they are written: in this order also on the disk, so that the log promises no more."""
    pending = bytearray()

    def write(to: Any, left: memoryview) -> None:
        while left:
            left = left[to.write(left) :]

    def flush() -> None:
        os.fsync(file.fileno())
        write(log, memoryview(bytes(pending)))
        pending.clear()

    # Without buffers: on a full disk they would fail a second time when they are closed.
    with (entry / _ROWS).open("ab", buffering=0) as file, (entry / _LOG).open("ab", buffering=0) as log:
        file.truncate(int(done.sum()) * row_bytes)  # the killed process may have begun rows that its log lacks
        log.truncate(len(done))
        try:
            for row in rows:
                with _explain_full(entry):
                    if row is not None:
                        write(file, np.ascontiguousarray(row).data.cast("B"))
                    pending.append(row is not None)
                    if len(pending) == _N_FLUSHED:
                        flush()
                yield row is not None
        finally:  # what was made before an interruption is kept
            with _explain_full(entry):
                flush()


@contextlib.contextmanager
def _explain_full(entry: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoRoomError(f"{entry} cannot be written: {error.strerror}. {_ADVICE}") from error


def _make_room(folder: Path, entry: Path, n_bytes: int) -> None:
    """Delete the stores that were unused longest until so many bytes more may be written."""
    others = sorted((path for path in folder.iterdir() if path != entry), key=lambda path: path.stat().st_mtime)
    stored = {path: _measure_bytes(path) for path in [*others, entry]}
    allowed = (shutil.disk_usage(folder).free + sum(stored.values())) / 2
    for path in others:
        if sum(stored.values()) + n_bytes <= allowed:
            break
        with contextlib.suppress(BlockingIOError), lock_folder(path, wait=False):  # which is being written
            _empty(path)
            stored[path] = 0
    if sum(stored.values()) + n_bytes > allowed:
        raise NoRoomError(
            f"{n_bytes / 1e9:.1f} GB are to be stored in {folder}, which may take {allowed / 1e9:.1f} GB, half of what "
            f"is free without it. {_ADVICE}"
        )


def _empty(entry: Path) -> None:
    for name in (_LOG, _ROWS):  # the folder stays: another process may be waiting for its lock
        (entry / name).unlink(missing_ok=True)


def _measure_bytes(entry: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (entry / _ROWS).stat().st_size
    return 0
