"""The study of augmentation: what each change does to an image, and what the comparison says of known worlds."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from utils_cv.data.image_table import TableImages
from utils_cv.studies import augmentation
from utils_cv.studies.augmentation import CHANGES, WORLDS, change_images, compare_augmentations, turn_image


def make_images(n_per_class=12, size=24):
    """Class `left` is bright on the left, class `right` on the right; a fourth of each class are test images."""
    rng = np.random.default_rng(0)
    labels = np.array(["left", "right"] * n_per_class)
    pixels = rng.integers(0, 60, (len(labels), size, size, 3), dtype=np.uint8)
    pixels[labels == "left", :, : size // 2] += 150
    pixels[labels == "right", :, size // 2 :] += 150
    split = np.where(np.arange(len(labels)) % 8 < 6, "train", "test")
    table = pd.DataFrame({"path": [f"{i:03d}" for i in range(len(labels))], "label": labels, "split": split})
    return TableImages(table, pixels, ["left", "right"], False, "squash", pd.DataFrame())


@pytest.fixture
def shrunk_features(monkeypatch):
    """Features that see where an image is bright, in place of a network."""
    monkeypatch.setattr(
        augmentation, "compute_features", lambda pixels, **_: pixels.reshape(len(pixels), -1)[:, ::7].astype(np.float32)
    )


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_shape_and_type_repeats_with_its_seed_and_leaves_the_images_alone(name):
    pixels = make_images().pixels[:6]
    before = pixels.copy()
    views = change_images(pixels, name, seed=3)
    assert views.shape == pixels.shape and views.dtype == np.uint8
    assert (views == change_images(pixels, name, seed=3)).all()
    assert (views != change_images(pixels, name, seed=4)).any()
    assert (pixels == before).all()


def test_a_mirror_is_a_mirror_in_about_half_of_the_cases():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
    views = change_images(pixels, "mirror")
    is_mirrored = (views == pixels[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (is_mirrored | (views == pixels).all(axis=(1, 2, 3))).all()
    assert 30 < is_mirrored.sum() < 70


@pytest.mark.parametrize("angle", [0, 90, 180, -90])
def test_right_angles_agree_with_numpy(angle):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    turned = np.asarray(turn_image(Image.fromarray(pixels), angle))
    assert (turned == np.rot90(pixels, angle // 90)).all()


def test_turning_leaves_no_black_corners():
    turned = np.asarray(turn_image(Image.fromarray(np.full((30, 30, 3), 200, np.uint8)), 45))
    assert (turned == 200).all()


def test_an_unknown_change_is_refused():
    with pytest.raises(ValueError, match="No augmentation 'shake'"):
        change_images(np.zeros((1, 8, 8, 3), np.uint8), "shake")


def test_mirrors_hurt_where_left_and_right_are_the_classes(shrunk_features, monkeypatch):
    monkeypatch.setitem(CHANGES, "always mirror", lambda image, rng: ImageOps.mirror(image))
    rows = compare_augmentations(
        make_images(40), ["always mirror", "color"], worlds=WORLDS[:1], n_per_class=10, n_draws=3, show_progress=False
    ).set_index("augmentation")
    assert rows.loc["none", "verdict"] == "baseline" and rows.loc["none", "accuracy"] == 1.0
    assert rows.loc["always mirror", "verdict"] == "hurts" and rows.loc["always mirror", "difference"] < -0.5
    assert rows.loc["color", "verdict"] == "no difference shown"
    assert rows["n_test"].unique().tolist() == [20]


def test_every_world_has_its_rows_and_a_seed_gives_them_again(shrunk_features):
    options = {"n_per_class": 4, "n_draws": 2, "n_views": 1, "show_progress": False}
    first, again = (compare_augmentations(make_images(), ["crop"], **options) for _ in range(2))
    assert first.equals(again)
    assert sorted(first["world"].unique()) == sorted(WORLDS) and len(first) == 6


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        pytest.param(["shake"], {}, "unknown names", id="unknown augmentation"),
        pytest.param(["crop"], {"worlds": ["upside down"]}, "unknown names", id="unknown world"),
        pytest.param(["crop"], {"n_per_class": 50}, "Ask for fewer", id="too few images"),
    ],
)
def test_what_cannot_be_compared_is_refused(names, options, message):
    with pytest.raises(ValueError, match=message):
        compare_augmentations(make_images(), names, show_progress=False, **options)
