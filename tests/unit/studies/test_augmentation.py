"""The study of augmentation: what the comparison says where the answer is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from utils_cv.data.image_table import TableImages
from utils_cv.studies import augmentation
from utils_cv.studies.augmentation import CONDITIONS, compare_augmentations


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

    def compute(pixels, rows=slice(None), **_):
        return pixels[rows].reshape(len(pixels[rows]), -1)[:, ::7].astype(np.float32)

    monkeypatch.setattr(augmentation, "compute_features", compute)


def test_mirrors_hurt_where_left_and_right_are_the_classes(shrunk_features, monkeypatch):
    def change(pixels, name, *, seed):
        return pixels[:, :, ::-1] if name == "always mirror" else pixels

    monkeypatch.setattr(augmentation, "augment_pixels", change)
    options = {"n_per_class": 10, "n_draws": 3}
    rows = compare_augmentations(make_images(40), ["always mirror", "color"], **options)
    upright = rows[rows["condition"] == "upright"].set_index("augmentation")
    assert upright.loc["none", "effect"] == "baseline" and upright.loc["none", "accuracy"] == 1.0
    assert upright.loc["always mirror", "effect"] == "hurts" and upright.loc["always mirror", "value"] < -0.5
    assert upright.loc["color", "effect"] == "no difference shown"
    assert upright["n"].unique().tolist() == [20]


def test_mirrors_hurt_where_left_and_right_are_two_of_several_labels(shrunk_features, monkeypatch):
    monkeypatch.setattr(augmentation, "augment_pixels", lambda pixels, *_, seed: pixels[:, :, ::-1])
    images, labels = make_images(40), np.array(["left", "right", "left|right", ""])[np.arange(80) % 4]
    dark = np.random.default_rng(1).integers(0, 60, images.pixels.shape, dtype=np.uint8)
    for part, label in ((slice(0, 12), "left"), (slice(12, None), "right")):
        dark[:, :, part] += np.where(pd.Series(labels).str.contains(label), 150, 0).astype(np.uint8)[
            :, None, None, None
        ]
    images = replace(images, table=images.table.assign(label=labels), pixels=dark, is_multilabel=True)
    rows = compare_augmentations(images, ["always mirror"], n_per_class=10, n_draws=3)
    upright = rows[rows["condition"] == "upright"].set_index("augmentation")
    assert upright.loc["none", "mean_average_precision"] == 1.0
    assert upright.loc["always mirror", "value"] < -0.1 and upright.loc["always mirror", "effect"] == "hurts"


def test_images_are_turned_some_at_a_time_as_all_at_once():
    pixels, rows = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8), np.array([299, 3, 256])
    expected = augmentation.augment_pixels(pixels, "rotate_any", seed=5)[rows]
    np.testing.assert_array_equal(augmentation._turn(pixels, rows, 5), expected)


def test_only_test_images_are_turned_under_the_third_condition(shrunk_features, monkeypatch):
    def turn(pixels, name, *, seed):
        return pixels if name == "color" else pixels[:, :, ::-1]  # half a turn and a mirror swap the classes

    monkeypatch.setattr(augmentation, "augment_pixels", turn)
    monkeypatch.setattr(augmentation, "BatchAugmentation", lambda *_: lambda pixels: turn(pixels, "rotate_any", seed=0))
    options = {"n_per_class": 8, "n_draws": 5, "n_views": 1}
    rows = compare_augmentations(make_images(40), ["color", "always mirror"], **options)
    assert rows[rows["augmentation"] == "always mirror"]["effect"].tolist() == ["hurts", "hurts", "helps"]
    none = rows[rows["augmentation"] == "none"]
    assert none["accuracy"].tolist() == [1.0, 1.0, 0.0]
    assert none["value"].tolist() == [0.0, 0.0, -1.0] and none["high"].iloc[2] < 0, "compared with the first condition"


def test_draws_and_intervals_take_groups_as_a_whole(shrunk_features, monkeypatch):
    images, taken, fit = make_images(40), [], augmentation.fit_linear_head
    number_of = {image.tobytes(): i for i, image in enumerate(augmentation.compute_features(images.pixels))}
    groups = np.array([f"{label} {i // 8}" for i, label in enumerate(images.table["label"])])  # 4 images of a class

    def note(features, *arguments, **options):
        taken.append(groups[[number_of[row.tobytes()] for row in features]])
        return fit(features, *arguments, **options)

    monkeypatch.setattr(augmentation, "fit_linear_head", note)
    monkeypatch.setattr(augmentation, "augment_pixels", lambda pixels, *_, **__: pixels)
    monkeypatch.setattr(augmentation, "BatchAugmentation", lambda *_: lambda pixels: pixels)
    images.table["group"] = groups
    rows = compare_augmentations(images, ["crop"], n_per_class=6, n_views=1, n_draws=3)
    assert rows["n"].unique().tolist() == [20]
    assert all(len(np.unique(drawn)) == 4 for drawn in taken) and len(taken) == 18  # two groups of each class


def test_every_condition_has_its_rows_and_a_seed_gives_them_again(shrunk_features):
    options = {"n_per_class": 4, "n_draws": 2, "n_views": 1}
    first, again = (compare_augmentations(make_images(), ["crop"], **options) for _ in range(2))
    assert first.equals(again)
    assert first["condition"].unique().tolist() == list(CONDITIONS) and len(first) == 6


@pytest.mark.parametrize(
    ("name", "n_per_class", "message"),
    [
        pytest.param("shake", 4, "augment='shake'", id="unknown augmentation"),
        pytest.param("crop", 50, "Ask for fewer", id="too few images"),
    ],
)
def test_what_cannot_be_compared_is_refused(name, n_per_class, message, shrunk_features):
    with pytest.raises(ValueError, match=message):
        compare_augmentations(make_images(), [name], n_per_class=n_per_class)
