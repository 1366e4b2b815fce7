"""Tests of data.image_table: files that cannot be opened are skipped, counted and listed, and the rest goes on."""

from pathlib import Path

import numpy as np
import pytest

from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.images import load_pixels


@pytest.fixture
def table(image_dir):
    return load_image_table(image_dir)


def test_pixels_are_those_of_the_rows(table):
    images = load_table_images(table, 32, fit="pad")
    assert images.table["image"].tolist() == table["image"].tolist()
    assert (images.class_names, images.is_multilabel, images.fit) == (["can", "carton"], False, "pad")
    for path, pixels in zip(images.table["path"], images.pixels, strict=True):
        np.testing.assert_array_equal(pixels, load_pixels(path, 32, fit="pad"))


def test_bad_files_are_skipped_counted_and_listed(table, image_dir):
    (image_dir / "can" / "3.png").write_bytes(b"")
    (image_dir / "carton" / "5.png").write_text("notes")
    with pytest.warns(UserWarning, match=r"Skipped 2 of 20 images: can/3.png \(the file is empty\)"):
        images = load_table_images(table, 32)
    assert images.skipped["image"].tolist() == ["can/3.png", "carton/5.png"]
    assert images.skipped["cause"].str.contains("empty|not an image").all()
    assert len(images.table) == len(images.pixels) == 18
    assert "can/3.png" not in set(images.table["image"])
    np.testing.assert_array_equal(images.pixels[3], load_pixels(image_dir / "can" / "4.png", 32))
    assert (image_dir / "can" / "3.png").exists()


def test_a_class_of_which_nothing_opens_is_an_error(table, image_dir):
    for path in (image_dir / "can").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="10 could not be opened, among them all of class can"):
        load_table_images(table, 32)


def test_a_table_of_which_nothing_opens_is_an_error(table):
    for path in table["path"]:
        Path(path).write_bytes(b"")
    with pytest.raises(ValueError, match="20 could not be opened"):
        load_table_images(table, 32)
