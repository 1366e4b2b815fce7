"""Rows in the cache folder: whole after a kill, written once by several processes, bounded, and refused in time."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from utils_cv.system import row_store
from utils_cv.system.files import lock_folder
from utils_cv.system.row_store import NoRoomError, fill_store

N, ROW_BYTES = 40, 8
HAS_ROW = np.arange(N) % 7 != 3
EXPECTED = np.arange(N, dtype=np.int64)[HAS_ROW]
# A process that makes a row in 10 ms, and says at the end how many it had to make.
SCRIPT = """
import sys, time, numpy as np
from utils_cv.system import row_store
row_store._N_FLUSHED, made = 4, []
def make_rows(first):
    for i in range(first, 40):
        time.sleep(0.01)
        made.append(i)
        yield np.int64(i) if i % 7 != 3 else None
row_store.fill_store("rows", "key", 40, 8, make_rows)
print(len(made))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path))
    monkeypatch.setattr(row_store, "_N_FLUSHED", 4)
    return tmp_path / "rows"


def make_rows(first, n=N):
    return (np.int64(i) if i % 7 != 3 else None for i in range(first, n))


def check_whole(make=make_rows):
    file, has_row = fill_store("rows", "key", N, ROW_BYTES, make)
    with file:
        assert np.frombuffer(file.read(), np.int64).tolist() == EXPECTED.tolist()
    assert has_row.tolist() == HAS_ROW.tolist()


def test_rows_are_written_once_and_items_without_one_are_known(folder):
    check_whole()
    check_whole(lambda first: pytest.fail("made again"))
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_a_killed_process_is_continued(folder):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT])
    while not (folder / "key" / "log.bin").exists() or (folder / "key" / "log.bin").stat().st_size < 8:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    with (folder / "key" / "rows.bin").open("ab") as file:
        file.write(b"half")  # as if it had been killed within a row
    started = []
    check_whole(lambda first: [started.append(first), *make_rows(first)][1:])
    assert started[0] >= 8


def test_a_row_that_raises_leaves_those_before(folder):
    def fail(first):
        yield from make_rows(first, 9)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fill_store("rows", "key", N, ROW_BYTES, fail)
    check_whole(lambda first: make_rows(first) if first == 9 else pytest.fail(str(first)))


@pytest.mark.linux
def test_four_processes_share_the_work_of_one(folder):
    processes = [subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE) for _ in range(4)]
    made = [int(process.communicate()[0]) for process in processes]
    assert sorted(made) == [0, 0, 0, N]
    check_whole(lambda first: pytest.fail("made again"))


def test_a_file_that_lost_rows_is_made_anew(folder):
    check_whole()
    os.truncate(folder / "key" / "rows.bin", 5 * ROW_BYTES)  # as a power cut may leave it
    check_whole(lambda first: make_rows(first) if first == 0 else pytest.fail("went on"))


@pytest.fixture
def disk(folder, monkeypatch):
    """A disk of 1,000 bytes on which nothing else is stored."""

    def measure(_):
        return SimpleNamespace(free=1000 - sum(path.stat().st_size for path in folder.rglob("rows.bin")))

    monkeypatch.setattr(row_store.shutil, "disk_usage", measure)


def fill(key, n_rows=20):
    fill_store("rows", key, n_rows, ROW_BYTES, lambda first: map(np.int64, range(first, n_rows)))[0].close()


@pytest.mark.linux
def test_what_was_unused_longest_makes_room(folder, disk):
    for age, key in enumerate("abc"):  # of 160 bytes each; half of the disk holds three
        fill(key)
        os.utime(folder / key, (age, age))
    fill("a")  # used again
    fill("d")
    assert sorted(path.parent.name for path in folder.rglob("rows.bin")) == ["a", "c", "d"]
    with lock_folder(folder / "c"):  # which another process writes
        fill("e")
    assert sorted(path.parent.name for path in folder.rglob("rows.bin")) == ["c", "d", "e"]


def test_too_much_is_refused_before(folder, disk):
    with pytest.raises(NoRoomError, match=r"may take 0\.0 GB, half of what.*set UTILS_CV_CACHE"):
        fill_store("rows", "key", 63, ROW_BYTES, lambda first: pytest.fail("made"))


@pytest.mark.linux
@pytest.mark.parametrize(("n", "row"), [(1100, np.int64(0)), (8100, None)], ids=["rows", "log"])
def test_a_disk_that_fills_up_is_an_error_with_advice_and_is_freed(folder, n, row):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        with pytest.raises(NoRoomError, match=r"cannot be written: File too large.*set UTILS_CV_CACHE"):
            fill_store("rows", "key", n, ROW_BYTES, lambda first: [row] * (n - first))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((folder / "key").iterdir())
