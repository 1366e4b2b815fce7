"""Tests of utils_cv.data.image_cache: the second epoch decodes nothing, and nothing is ever stale."""

import os

import numpy as np
import pytest
from PIL import Image

from utils_cv.data.image_cache import ImageCache
from utils_cv.data.images import ImageError, load_images, load_pixels

IMAGE_MB = 32 * 32 * 3 / 1e6


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / "images" / f"{number}.png" for number in range(6)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        Image.new("RGB", (40, 30), (number * 40, 0, 0)).save(path)
    return paths


@pytest.fixture
def forbid_decoding(monkeypatch):
    def fail(*args, **options):
        raise AssertionError("an image was decoded")

    return lambda: monkeypatch.setattr("utils_cv.data.images.load_image", fail)


@pytest.mark.parametrize(
    ("budget_mb", "n_files"),
    [
        pytest.param(1, 0, id="all in memory"),
        pytest.param(2.5 * IMAGE_MB, 4, id="two in memory, four on disk"),
        pytest.param(0, 6, id="all on disk"),
    ],
)
def test_the_second_epoch_decodes_nothing(paths, tmp_path, forbid_decoding, budget_mb, n_files):
    cache = ImageCache(budget_mb, folder=tmp_path / "cache")
    first = load_images(paths, 32, cache=cache)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == n_files
    forbid_decoding()
    second = load_images(paths, 32, cache=cache)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert (cache.n_missed, cache.n_found) == (6, 6)


def test_the_disk_is_found_by_a_later_session(paths, tmp_path, forbid_decoding):
    load_images(paths, 32, cache=ImageCache(0, folder=tmp_path / "cache"))
    forbid_decoding()
    later = ImageCache(1, folder=tmp_path / "cache")
    assert len(load_images(paths, 32, cache=later).rows) == 6
    assert "6 images" in repr(later)


def change_content(path):
    Image.new("RGB", (40, 30), (9, 200, 9)).save(path)


def replace_and_keep_its_time(path):
    status = path.stat()
    other = path.with_name("other.png")
    change_content(other)
    other.replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change_content, id="written again"),
        pytest.param(replace_and_keep_its_time, id="replaced by a file of the same age"),
    ],
)
@pytest.mark.parametrize("budget_mb", [1, 0])
def test_a_changed_file_is_never_stale(paths, tmp_path, change, budget_mb):
    cache = ImageCache(budget_mb, folder=tmp_path / "cache")
    load_pixels(paths[0], 32, cache=cache)
    change(paths[0])
    assert load_pixels(paths[0], 32, cache=cache)[0, 0].tolist() == [9, 200, 9]


def test_size_and_fit_are_part_of_the_key(paths, tmp_path):
    cache = ImageCache(1, folder=tmp_path)
    keys = {cache.make_key(paths[0], size_px, fit) for size_px in (32, 33) for fit in ("squash", "pad")}
    assert len(keys) == 4


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:50], id="cut"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"\x80\x04" + content, id="not an array"),
    ],
)
def test_a_damaged_file_on_disk_counts_as_absent(paths, tmp_path, damage):
    cache = ImageCache(0, folder=tmp_path / "cache")
    expected = load_pixels(paths[1], 32, cache=cache)
    (file,) = (tmp_path / "cache").rglob("*.npy")
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(load_pixels(paths[1], 32, cache=cache), expected)
    np.testing.assert_array_equal(np.load(file), expected)  # written anew


def test_the_disk_budget_is_kept(paths, tmp_path):
    cache = ImageCache(0, disk_budget_mb=2.9 * IMAGE_MB, folder=tmp_path / "cache")
    load_images(paths, 32, cache=cache)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2


def test_no_disk_at_all(paths, tmp_path):
    cache = ImageCache(0, disk_budget_mb=0, folder=tmp_path / "cache")
    assert len(load_images(paths, 32, cache=cache).rows) == 6
    assert not (tmp_path / "cache").exists()


def test_what_is_found_cannot_be_changed(paths, tmp_path):
    for budget_mb in (1, 0):
        cache = ImageCache(budget_mb, folder=tmp_path / "cache")
        load_pixels(paths[0], 32, cache=cache)
        with pytest.raises(ValueError, match="read-only"):
            load_pixels(paths[0], 32, cache=cache)[0] = 0


def test_clear_removes_its_own_files_only(paths, tmp_path):
    cache = ImageCache(0, folder=tmp_path / "cache")
    load_images(paths, 32, cache=cache)
    mine = tmp_path / "cache" / "ab" / "mine.npy"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    cache.clear()
    assert list((tmp_path / "cache").rglob("*.npy")) == [mine]


def test_a_missing_file_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        load_pixels(tmp_path / "gone.png", 32, cache=ImageCache(1))


def test_the_default_folder_is_the_package_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path))
    assert ImageCache().folder == tmp_path / "images"


def test_a_negative_budget_is_refused():
    with pytest.raises(ValueError, match="0 or more"):
        ImageCache(-1)
