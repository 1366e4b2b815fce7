"""The study of augmentation: what the comparison says where the answer is known."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.data.image_table import TableImages
from utils_cv.studies import augmentation
from utils_cv.studies.augmentation import CONDITIONS, compare_augmentations


def make_images(n_per_class=12, size=24, kinds=("left", "right")):
    """`left` is bright on the left, `right` on the right; a fourth of each kind are test images."""
    labels = np.resize(kinds, 2 * n_per_class)
    pixels = np.random.default_rng(0).integers(0, 60, (len(labels), size, size, 3), dtype=np.uint8)
    pixels[np.char.find(labels, "left") >= 0, :, : size // 2] += 150
    pixels[np.char.find(labels, "right") >= 0, :, size // 2 :] += 150
    split = np.where(np.arange(len(labels)) // len(kinds) % 4 < 3, "train", "test")
    table = pd.DataFrame({"path": [f"{i:03d}" for i in range(len(labels))], "label": labels, "split": split})
    return TableImages(table, pixels, ["left", "right"], len(kinds) > 2, "squash", pd.DataFrame())


@pytest.fixture
def shrunk_features(monkeypatch):
    """Features that see where an image is bright, in place of a network."""

    def compute(pixels, rows=slice(None), **_):
        return pixels[rows].reshape(len(pixels[rows]), -1)[:, ::7].astype(np.float32)

    monkeypatch.setattr(augmentation, "compute_features", compute)


@pytest.mark.parametrize(
    ("kinds", "measure", "value"),
    [
        (("left", "right"), "accuracy", -0.5),
        (("left", "right", "left", "right", "left|right", ""), "mean_average_precision", -0.1),
    ],
    ids=["one label", "several"],
)
def test_mirrors_hurt_where_left_and_right_are_the_classes(kinds, measure, value, shrunk_features, monkeypatch):
    def change(pixels, name, *, seed):
        return pixels[:, :, ::-1] if name == "always mirror" else pixels

    monkeypatch.setattr(augmentation, "augment_pixels", change)
    rows = compare_augmentations(make_images(40, kinds=kinds), ["always mirror", "color"], n_per_class=10, n_draws=3)
    upright = rows[rows["condition"] == "upright"].set_index("augmentation")
    assert upright.loc["none", "effect"] == "baseline" and upright.loc["none", measure] == 1.0
    assert upright.loc["always mirror", "effect"] == "hurts" and upright.loc["always mirror", "value"] < value
    assert upright.loc["color", "effect"] == "no difference shown"


def test_images_are_turned_some_at_a_time_as_all_at_once():
    pixels, rows = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8), np.array([299, 3, 256])
    expected = augmentation.augment_pixels(pixels, "rotate_any", seed=5)[rows]
    np.testing.assert_array_equal(augmentation._turn(pixels, rows, 5), expected)


def test_only_test_images_are_turned_under_the_third_condition(shrunk_features, monkeypatch):
    def turn(pixels, name, *, seed):
        return pixels if name == "color" else pixels[:, :, ::-1]  # half a turn and a mirror swap the classes

    monkeypatch.setattr(augmentation, "augment_pixels", turn)
    monkeypatch.setattr(augmentation, "BatchAugmentation", lambda *_: lambda pixels: turn(pixels, "rotate_any", seed=0))
    rows = compare_augmentations(make_images(40), ["color", "always mirror"], n_per_class=8, n_draws=5, n_views=1)
    assert rows[rows["augmentation"] == "always mirror"]["effect"].tolist() == ["hurts", "hurts", "helps"]
    none = rows[rows["augmentation"] == "none"]
    assert none["accuracy"].tolist() == [1.0, 1.0, 0.0]
    assert none["value"].tolist() == [0.0, 0.0, -1.0] and none["high"].iloc[2] < 0, "compared with the first condition"


def test_a_group_counts_once_in_the_intervals(shrunk_features):
    table = (images := make_images(40)).table
    table["group"] = np.where(table["split"] == "test", table["label"], table["path"])
    rows = compare_augmentations(images, ["crop"], n_per_class=6, n_views=1, n_draws=2)
    assert rows["n"].unique().tolist() == [2]


def test_every_condition_has_its_rows_and_a_seed_gives_them_again(shrunk_features):
    options = {"n_per_class": 4, "n_draws": 2, "n_views": 1}
    first, again = (compare_augmentations(make_images(), ["crop"], **options) for _ in range(2))
    assert first.equals(again)
    assert first["condition"].unique().tolist() == list(CONDITIONS) and len(first) == 6


@pytest.mark.parametrize(
    ("name", "n_per_class", "message"),
    [("shake", 4, "augment='shake'"), ("crop", 50, "Ask for fewer")],
    ids=["unknown augmentation", "too few images"],
)
def test_what_cannot_be_compared_is_refused(name, n_per_class, message, shrunk_features):
    with pytest.raises(ValueError, match=message):
        compare_augmentations(make_images(), [name], n_per_class=n_per_class)
