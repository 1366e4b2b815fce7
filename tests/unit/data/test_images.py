"""Tests of utils_cv.data.images: finding, opening and resizing one image or many."""

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from utils_cv.data.images import (
    ImageError,
    find_value_range,
    iterate_images,
    load_image,
    load_images,
    load_pixels,
    resize_image,
)


def make_photo(width, height, seed=0):
    """Smooth cells, edges and a little grain, about as hard for a decoder as a photograph."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    for _ in range(12):
        x, y = random.integers(0, width), random.integers(0, height)
        image.paste(tuple(random.integers(0, 255, 3).tolist()), (x, y, x + width // 9, y + height // 7))
    grain = random.normal(0, 4, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


@pytest.fixture
def photo_paths(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        make_photo(160, 120, seed=number).save(path, quality=92)
    return paths


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        pytest.param(lambda path: None, "there is no such file", id="missing"),
        pytest.param(lambda path: path.mkdir(), "a folder, not a file", id="folder"),
        pytest.param(lambda path: os.mkfifo(path), "a pipe, a", id="pipe", marks=pytest.mark.linux),
        pytest.param(lambda path: path.write_bytes(b""), "the file is empty", id="empty"),
        pytest.param(lambda path: path.write_text("notes"), "not an image", id="text"),
    ],
)
def test_an_error_names_file_and_cause(tmp_path, make, cause):
    make(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=cause) as caught:
        load_image(tmp_path / "a.jpg")
    assert caught.value.path == tmp_path / "a.jpg"


def test_broken_exif_gives_a_warning_with_the_name(photo_paths, monkeypatch):
    def fail(self):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    with pytest.warns(UserWarning, match=r"0\.jpg: EXIF data are broken \(division by zero\)") as caught:
        assert load_image(photo_paths[0]).size == (160, 120)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="EXIF data are broken"):
        assert load_pixels(Image.open(photo_paths[0]), 32).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("width", "height", "target_px"),
    [
        pytest.param(4000, 3000, 224, id="12 megapixels, an eighth"),
        pytest.param(716, 900, 224, id="just reduced by two"),
        pytest.param(1432, 1432, 224, id="just reduced by four"),
        pytest.param(2864, 2900, 224, id="just reduced by eight"),
        pytest.param(3000, 400, 128, id="panorama"),
    ],
)
def test_reduced_decoding_equals_full_decoding_to_44_db(tmp_path, width, height, target_px):
    make_photo(width, height).save(tmp_path / "a.jpg", quality=92)
    reduced = resize_image(load_image(tmp_path / "a.jpg", target_px=target_px), target_px)
    full = resize_image(load_image(tmp_path / "a.jpg"), target_px)
    difference = np.asarray(reduced, float) - np.asarray(full, float)
    assert np.abs(difference).mean() <= 1
    assert 10 * np.log10(255**2 / max(np.mean(difference**2), 1e-9)) >= 44


def make_stripes():
    """Three upright stripes: red, green, blue."""
    image = Image.new("RGB", (90, 30), (255, 0, 0))
    image.paste((0, 255, 0), (30, 0, 60, 30))
    image.paste((0, 0, 255), (60, 0, 90, 30))
    return image


@pytest.mark.parametrize("is_tall", [pytest.param(False, id="wide"), pytest.param(True, id="tall")])
@pytest.mark.parametrize(
    ("fit", "first", "middle", "last", "beside"),
    [
        pytest.param("squash", "red", "lime", "blue", "lime", id="squash keeps all three"),
        pytest.param("crop", "lime", "lime", "lime", "lime", id="crop keeps the middle"),
        pytest.param("pad", "red", "lime", "blue", "grey", id="pad adds bars"),
    ],
)
def test_each_fit_shows_its_part(is_tall, fit, first, middle, last, beside):
    colors = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}
    image = make_stripes().transpose(Image.Transpose.TRANSPOSE) if is_tall else make_stripes()
    square = np.asarray(resize_image(image, 60, fit=fit))  # (60, 60, 3)
    square = square.swapaxes(0, 1) if is_tall else square
    found = [tuple(square[y, x]) for y, x in ((30, 2), (30, 30), (30, 57), (2, 30), (57, 30))]
    assert found == [colors[name] for name in (first, middle, last, beside, beside)]


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (33, 77)])
def test_any_shape_becomes_a_square(fit, size):
    assert resize_image(Image.new("RGB", size), 32, fit=fit).size == (32, 32)


def test_another_fit_is_refused():
    with pytest.raises(ValueError, match="'squash', 'crop' or 'pad'"):
        resize_image(make_stripes(), 32, fit="stretch")


def test_a_large_file_is_decoded_reduced(tmp_path):
    make_photo(1600, 1200).save(tmp_path / "a.jpg")
    reduced, full = (resize_image(load_image(tmp_path / "a.jpg", target_px=px), 64) for px in (64, None))
    pixels = load_pixels(tmp_path / "a.jpg", 64)
    assert (pixels == np.asarray(reduced)).all() and (pixels != np.asarray(full)).any()


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_files_images_and_arrays_give_the_same_pixels(tmp_path, fit):
    make_photo(40, 30).save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    expected = np.asarray(resize_image(make_photo(40, 30), 16, fit=fit))
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), image, np.asarray(image)):
        np.testing.assert_array_equal(load_pixels(given, 16, fit=fit), expected)
    assert image.size == (40, 30) and (np.asarray(image) == np.asarray(make_photo(40, 30))).all()  # stays as it was
    pixels = np.asarray(make_photo(16, 16))  # has the right size and stays as it is
    assert load_pixels(pixels, 16, fit=fit) is pixels
    np.testing.assert_array_equal(load_pixels(Image.fromarray(pixels), 16, fit=fit), pixels)
    mirrored = load_pixels(pixels[:, ::-1], 16, fit=fit)  # a view is laid out anew
    assert mirrored.flags.c_contiguous and (mirrored == pixels[:, ::-1]).all()


@pytest.mark.parametrize(("suffix", "options"), [(".png", {}), (".tif", {"compression": "tiff_lzw"})])
def test_a_pillow_image_is_turned_upright_and_made_rgb(tmp_path, suffix, options):
    image = Image.new("RGBA", (4, 8), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 2, 2))  # transparent: becomes white
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise
    image.save(tmp_path / f"turned{suffix}", exif=exif, **options)
    with Image.open(tmp_path / f"turned{suffix}") as opened:
        pixels = load_pixels(opened, 8)
    np.testing.assert_array_equal(pixels, load_pixels(tmp_path / f"turned{suffix}", 8))
    assert pixels[0, -1].tolist() == [255, 255, 255] and pixels[0, 0].tolist() == [255, 0, 0]


PIXELS = np.asarray(make_photo(16, 16))
GREY = PIXELS[..., 0]
AS_FILE = {
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "upload, read to its end": lambda path: read_to_end(io.BytesIO(path.read_bytes())),
    "open file": lambda path: path.open("rb"),
    "Pillow image of the file": Image.open,
}


def read_to_end(file):
    file.read()
    return file


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", AS_FILE)
def test_what_holds_a_file_gives_the_pixels_of_its_path(tmp_path, kind):
    make_photo(1600, 1200).save(tmp_path / "a.jpg")  # large enough to be decoded reduced
    given = AS_FILE[kind](tmp_path / "a.jpg")
    for _ in range(2):  # nothing is used up
        np.testing.assert_array_equal(load_pixels(given, 64), load_pixels(tmp_path / "a.jpg", 64))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(GREY, np.dstack([GREY] * 3), id="grey"),
        pytest.param(GREY[..., None], np.dstack([GREY] * 3), id="grey with an axis"),
        pytest.param(np.dstack([PIXELS, np.full_like(GREY, 255)]), PIXELS, id="opaque RGBA"),
        pytest.param(np.dstack([PIXELS, np.zeros_like(GREY)]), np.full_like(PIXELS, 255), id="transparent RGBA"),
    ],
)
def test_arrays_of_one_three_and_four_channels_are_seen_like_files(given, expected):
    np.testing.assert_array_equal(load_pixels(given, 16), expected)


WRONG = [None, 3, np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), io.StringIO("a")]
WRONG += [np.zeros((3, 8, 9), np.uint8), {"a.jpg"}]
WRONG_IDS = ["nothing", "number", "floats", "two channels", "no rows", "text file", "channels first", "set"]


@pytest.mark.parametrize("given", WRONG, ids=WRONG_IDS)
def test_other_things_are_refused(given):
    with pytest.raises(TypeError, match="expected a path, the bytes of a file"):
        load_pixels(given, 16)


def test_a_cut_file_given_as_a_pillow_image_names_the_file_and_the_cause(tmp_path):
    make_photo(400, 300).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"a\.jpg: damaged: image file is truncated"):
        load_pixels(Image.open(tmp_path / "a.jpg"), 16)


def test_the_home_folder_is_found_and_a_name_with_a_tilde_is_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "~b.png"):
        make_photo(16, 16).save(tmp_path / name)
    for given in ("~/a.png", "~b.png"):
        np.testing.assert_array_equal(load_pixels(given, 16), PIXELS)


@pytest.mark.linux
@pytest.mark.parametrize("name", ["caf\udce9.png", "a#b%20$c$.png", "line\nbreak.png", "é🍎.png", "a" * 251 + ".png"])
def test_any_name_is_opened_and_its_error_can_be_printed(tmp_path, name):
    make_photo(16, 16).save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(tmp_path / name)
    assert (load_pixels(tmp_path / name, 16) == PIXELS).all()
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ImageError, match="the file is empty") as caught:
        load_pixels(tmp_path / name, 16)
    assert str(caught.value).encode() and caught.value.path == tmp_path / name


@pytest.mark.parametrize("make", [list, tuple, iter, np.array, pd.Series, lambda paths: (path for path in paths)])
def test_many_images_come_in_any_iterable(make):
    assert list(iterate_images(make(["a.jpg", "b.jpg"]))) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "one",
    ["a.jpg", Path("a.jpg"), b"1", Image.new("L", (2, 2)), PIXELS, GREY],
    ids=["text", "path", "bytes", "Pillow image", "RGB array", "grey array"],
)
def test_one_image_is_a_list_of_one(one):
    assert [image is one for image in iterate_images(one)] == [True]


@pytest.mark.parametrize("wrong", [None, 3, {"a.jpg": 1}, {"a.jpg"}, pd.DataFrame({"path": ["a.jpg"]})], ids=type)
def test_what_has_no_order_or_is_no_image_is_refused(wrong):
    with pytest.raises(TypeError, match="or a list or generator of these"):
        iterate_images(wrong)


@pytest.mark.parametrize(("name", "words"), [("*.jpg", r"pass Path\(folder\)\.glob"), ("", "list_image_files lists")])
def test_a_pattern_and_a_folder_say_what_to_pass(tmp_path, name, words):
    with pytest.raises(ImageError, match=words):
        load_image(tmp_path / name)


@pytest.mark.parametrize("n_threads", [1, 4])
def test_failures_are_listed_and_the_rest_goes_on(photo_paths, n_threads):
    expected = [load_pixels(path, 32) for path in photo_paths]
    photo_paths[1].write_bytes(b"no image")
    photo_paths[3].unlink()
    loaded = load_images(photo_paths, 32, n_threads=n_threads)
    assert loaded.rows.tolist() == [0, 2, 4]
    assert loaded.failures["path"].tolist() == [str(photo_paths[1]), str(photo_paths[3])]
    assert loaded.failures["cause"].str.contains("not an image|no such file").tolist() == [True, True]
    np.testing.assert_array_equal(loaded.pixels, np.stack(expected)[loaded.rows])


@pytest.mark.parametrize("names", [[], ["a.jpg", "b.jpg"]], ids=["no path", "no image"])
def test_nothing_opened_gives_no_pixels(tmp_path, names):
    loaded = load_images((tmp_path / name for name in names), 16)
    assert loaded.pixels.shape == (0, 16, 16, 3)
    assert len(loaded.rows) == 0 and len(loaded.failures) == len(names)


def save_deep(folder, largest, *, suffix=".png", n=3):
    """Gray files of 16 bits whose largest value is given, the last one's."""
    gray = np.asarray(make_photo(40, 30).convert("L"), np.float64) / 255
    for i in range(n):
        values = np.round(gray / gray.max() * largest * (i + 1) / n).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{i}{suffix}")
    return sorted(folder.iterdir()), gray / gray.max()


@pytest.mark.linux
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("largest", "expected"), [(200, 255), (256, 1023), (1023, 1023), (3210, 4095), (16000, 16383), (20000, 65535)]
)
def test_the_largest_value_of_a_set_decides_its_range(tmp_path, suffix, largest, expected):
    paths, gray = save_deep(tmp_path, largest, suffix=suffix)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    os.mkfifo(tmp_path / "pipe.tif")  # opening it would wait forever
    assert find_value_range([*paths, *(tmp_path / name for name in ("broken.png", "gone.tif", "pipe.tif"))]) == expected
    assert find_value_range(reversed(paths)) == expected
    opened = np.asarray(load_image(paths[-1], value_range=expected), float)[..., 0]
    np.testing.assert_allclose(opened, gray * largest * 255 / expected, atol=1)


def test_a_set_without_16_bit_files_has_the_full_range_and_nothing_is_decoded(photo_paths, tmp_path, monkeypatch):
    paths = [tmp_path / f"a.{suffix}" for suffix in ("png", "tif", "ppm", "jp2")]
    for path in paths:
        make_photo(16, 16).save(path)
    monkeypatch.setattr("utils_cv.data.images.read_file", lambda *_, **__: pytest.fail("read"))
    assert find_value_range([*photo_paths, *paths]) == 65535


def test_values_beyond_the_range_become_white_with_a_warning(tmp_path):
    paths, _ = save_deep(tmp_path, 60000)
    with pytest.warns(UserWarning, match=r"2\.png: values up to 60000; those above 4095 become white"):
        assert load_pixels(paths[-1], 16, value_range=4095).max() == 255
