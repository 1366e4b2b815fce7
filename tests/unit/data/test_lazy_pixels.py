"""Pixels that are not in memory: the same as those that are, for every way to ask, and never stale."""

import os
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import draw_image, write_images
from utils_cv.data import images as images_module
from utils_cv.data import lazy_pixels
from utils_cv.data.images import load_images
from utils_cv.data.lazy_pixels import LazyPixels
from utils_cv.system import row_store

N = 9
ARRAY = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
LAZY = LazyPixels(N, 4, lambda first, stop: ARRAY[first:stop].copy())
KEYS = st.one_of(
    st.integers(-N, N - 1),
    st.slices(N),
    st.lists(st.integers(-N, N - 1)).map(lambda rows: np.array(rows, int)),
    st.lists(st.booleans(), min_size=N, max_size=N).map(np.array),
)


@given(KEYS)
@settings(max_examples=200)
def test_every_key_gives_what_an_array_gives(key):
    found = LAZY[key]
    np.testing.assert_array_equal(found, ARRAY[key])
    assert found.dtype == np.uint8 and found.flags.writeable


def test_it_looks_like_an_array():
    assert (len(LAZY), LAZY.shape, LAZY.nbytes, LAZY.ndim) == (N, ARRAY.shape, ARRAY.nbytes, 4)
    np.testing.assert_array_equal(np.stack(list(LAZY)), ARRAY)
    np.testing.assert_array_equal(np.asarray(LAZY), ARRAY)


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        pytest.param(N, IndexError, "out of range", id="number"),
        pytest.param([0, N], IndexError, "out of bounds", id="rows"),
        pytest.param((slice(None), 0), TypeError, "by image only", id="second axis"),
    ],
)
def test_other_keys_are_refused(key, kind, words):
    with pytest.raises(kind, match=words):
        LAZY[key]


def test_more_than_the_free_memory_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(lazy_pixels, "measure_free_memory_mb", lambda: 200.0)
    large = LazyPixels(2000, 224, lambda first, stop: pytest.fail("read"))
    with pytest.raises(MemoryError, match=r"2000 images take 301 MB, 200 MB are free\. Take a batch at a time"):
        np.asarray(large)


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """Seven images, of which two are broken, and a cache folder."""
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    found = write_images(tmp_path, 7)
    found[2].write_bytes(b"")
    found[5].unlink()
    return found


def check_same(stored, held):
    assert isinstance(stored.pixels, LazyPixels) and isinstance(held.pixels, np.ndarray)
    np.testing.assert_array_equal(stored.pixels[:], held.pixels)
    np.testing.assert_array_equal(stored.rows, held.rows)
    assert stored.failures.equals(held.failures)


def test_stored_pixels_are_those_in_memory_and_opened_once(paths, monkeypatch):
    held = load_images(paths, 16)
    check_same(load_images(paths, 16, memory_mb=0), held)
    load, opened = images_module.load_pixels, []
    monkeypatch.setattr(images_module, "load_pixels", lambda path, *a, **b: opened.append(path) or load(path, *a, **b))
    again = load_images(paths, 16, memory_mb=0)
    check_same(again, held)
    assert opened == [paths[2], paths[5]]  # only to say why
    check_same(again._replace(pixels=pickle.loads(pickle.dumps(again.pixels))), held)


@pytest.mark.parametrize("settings", [{"size_px": 8}, {"fit": "crop"}, {"value_range": 255}], ids=str)
def test_other_settings_are_other_pixels(paths, settings):
    load_images(paths, 16, memory_mb=0)
    options = {"size_px": 16} | settings
    check_same(load_images(paths, **options, memory_mb=0), load_images(paths, **options))


def test_a_changed_file_is_opened_again_even_with_its_old_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    path, pixels = tmp_path / "a.ppm", ARRAY[0]
    for values in (pixels, 255 - pixels):
        path.write_bytes(b"P6 4 4 255\n" + values.tobytes())
        os.utime(path, (1e9, 1e9))
        np.testing.assert_array_equal(load_images([path], 4, memory_mb=0).pixels[0], values)


def test_bytes_and_arrays_are_stored_too_but_not_taken_for_others(paths):
    for seed in (0, 1):
        array = np.asarray(draw_image("can", seed=seed))
        check_same(load_images([array, paths[0]], 16, memory_mb=0), load_images([array, paths[0]], 16))


def test_without_room_images_are_decoded_when_they_are_needed(paths, monkeypatch):
    monkeypatch.setattr(row_store.shutil, "disk_usage", lambda _: row_store.shutil._ntuple_diskusage(1, 1, 1))
    with pytest.warns(UserWarning, match=r"set UTILS_CV_CACHE .* decoded each time they are needed"):
        stored = load_images(paths, 16, memory_mb=0)
    check_same(stored, load_images(paths, 16))
    paths[0].unlink()
    with pytest.raises(images_module.ImageError, match=r"0\.png: there is no such file"):
        stored.pixels[0]


@pytest.mark.parametrize(("free_mb", "is_held"), [(0.012, True), (0.01, False)])
def test_a_third_of_the_free_memory_is_used(paths, monkeypatch, free_mb, is_held):
    monkeypatch.setattr(lazy_pixels, "measure_free_memory_mb", lambda: free_mb)  # the seven take 0.0038 MB at 13 px
    assert isinstance(load_images(paths, 13).pixels, np.ndarray) == is_held


def test_too_much_memory_is_refused_before(monkeypatch):
    monkeypatch.setattr(lazy_pixels, "measure_free_memory_mb", lambda: 1000.0)
    words = r"100000 images at 224 px take 15,053 MB, 1,000 MB are free\. Without memory_mb"
    with pytest.raises(MemoryError, match=words):
        load_images(["a.png"] * 100_000, 224, memory_mb=20_000)


@pytest.mark.parametrize(
    ("n", "memory_mb", "words"),
    [
        pytest.param(
            2000, None, r"2,000 images at 4 px: about \d+ s here, 0 MB in memory \(free: .* GB\)\.", id="many"
        ),
        pytest.param(7, 0, r"7 images at 4 px: .* in .*cache.pixels \(free: .*\), written once; UTILS_CV", id="stored"),
        pytest.param(7, None, "^$", id="few"),
    ],
)
def test_one_line_says_before_what_many_images_take(paths, capsys, n, memory_mb, words):
    load_images((paths * n)[:n], 4, memory_mb=memory_mb, show_progress=True)
    assert re.search(words, capsys.readouterr().out)
