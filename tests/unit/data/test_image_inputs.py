"""What a finished model takes: whatever it is given, the pixels are those of `load_pixels`."""

import numpy as np
import pytest
from PIL import Image

from utils_cv.data.images import ImageError, list_images, load_pixels, open_pixels


@pytest.fixture
def path(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_files_images_and_arrays_give_the_same_pixels(path, fit):
    expected = load_pixels(path, 16, fit=fit)
    image = Image.open(path)
    for given in (path, str(path), image, np.asarray(image)):
        np.testing.assert_array_equal(open_pixels(given, 16, fit=fit), expected)


def test_a_pillow_image_is_turned_upright_and_made_rgb(tmp_path):
    image = Image.new("RGBA", (4, 8), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))  # transparent: becomes white
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    expected = load_pixels(tmp_path / "turned.png", 8)
    np.testing.assert_array_equal(open_pixels(Image.open(tmp_path / "turned.png"), 8), expected)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_an_array_of_the_right_size_stays_as_it_is(fit):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert open_pixels(pixels, 16, fit=fit) is pixels
    np.testing.assert_array_equal(open_pixels(Image.fromarray(pixels), 16, fit=fit), pixels)


def test_a_mirrored_view_of_the_right_size_is_laid_out_anew():
    mirrored = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)[:, ::-1]
    opened = open_pixels(mirrored, 16)
    assert opened.flags.c_contiguous and (opened == mirrored).all()


def test_the_given_image_is_not_changed(path):
    image = Image.open(path)
    before = np.asarray(image).copy()
    open_pixels(image, 8)
    assert image.size == (40, 30) and (np.asarray(image) == before).all()


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        open_pixels(tmp_path / "a.jpg", 16)


@pytest.mark.parametrize("given", [None, 3, b"bytes", np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)], ids=repr)
def test_other_things_are_refused(given):
    with pytest.raises(TypeError, match="expected a path, a Pillow image"):
        open_pixels(given, 16)


def test_one_image_becomes_a_list_and_a_list_stays_one():
    array = np.zeros((4, 4, 3), np.uint8)
    assert [len(list_images(given)) for given in ("a.jpg", array, array[None], ["a.jpg", array])] == [1, 1, 1, 2]
