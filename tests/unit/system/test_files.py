"""Files: nothing half-finished, and a cache folder where the user or the system wants it."""

import hashlib
import sys

import pytest

from utils_cv.system.files import get_cache_dir, hash_file, lock_folder, write_atomic


def list_names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_write_atomic_makes_the_file_and_its_folder_and_says_when_nothing_was_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="Nothing was written"), write_atomic(tmp_path / "a.txt"):
        pass
    with write_atomic(tmp_path / "new" / "a.txt") as temporary_path:
        assert temporary_path.suffix == ".txt"
        temporary_path.write_text("done")
    assert list_names(tmp_path) == ["new", "new/a.txt"]


def test_readers_see_the_old_file_until_the_new_one_is_whole_also_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomic(path) as temporary_path:
        temporary_path.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list_names(tmp_path) == ["a.txt"]
    with write_atomic(path) as temporary_path:
        temporary_path.write_text("new, but not yet")
        assert temporary_path != path and path.read_text() == "old"
    assert path.read_text() == "new, but not yet" and list_names(tmp_path) == ["a.txt"]


def test_without_fcntl_as_on_windows_a_folder_is_entered_without_a_lock(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with lock_folder(tmp_path), lock_folder(tmp_path):
        (tmp_path / "a").touch()
    assert list_names(tmp_path) == ["a"]


def test_hash_file_equals_hashlib(tmp_path):
    (tmp_path / "a").write_bytes(b"apple" * 1000)
    assert hash_file(tmp_path / "a") == hashlib.sha256(b"apple" * 1000).hexdigest()


def test_get_cache_dir_follows_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    assert get_cache_dir("onnx") == tmp_path / "cache" / "onnx"
    assert (tmp_path / "cache" / "onnx").is_dir()


def test_get_cache_dir_is_in_the_cache_of_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv("UTILS_CV_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: tmp_path / name)
    assert get_cache_dir("onnx") == tmp_path / "utils_cv" / "onnx"


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "C:"])
def test_get_cache_dir_refuses_paths(name):
    with pytest.raises(ValueError, match="plain name"):
        get_cache_dir(name)


FULL = pytest.param("the disk is full", marks=pytest.mark.linux)


@pytest.mark.parametrize("cause", ["a file is in the way", FULL, "no home folder"])
def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(tmp_path, monkeypatch, cause):
    wanted = tmp_path / cause
    monkeypatch.setenv("UTILS_CV_CACHE", str(wanted))
    if cause == "the disk is full":
        import resource

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    elif cause == "no home folder":
        monkeypatch.setenv("UTILS_CV_CACHE", "~nobody_here/cache")
        monkeypatch.chdir(tmp_path)
    else:
        wanted.write_text("")
    try:
        with pytest.warns(UserWarning, match="cannot be written.*Set UTILS_CV_CACHE") as caught:
            folder = get_cache_dir("onnx")
    finally:
        if cause == "the disk is full":
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(caught) == 1 and str(folder.parent) in str(caught[0].message)
    if cause != "the disk is full":  # which is over
        assert get_cache_dir("onnx") == folder  # one per process
        assert not (wanted / "onnx").exists()


@pytest.mark.linux
def test_a_folder_is_locked_for_others_and_free_again(tmp_path):
    with lock_folder(tmp_path), pytest.raises(BlockingIOError), lock_folder(tmp_path, wait=False):
        pass
    with lock_folder(tmp_path, wait=False):
        pass
