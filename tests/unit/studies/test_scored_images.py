"""Images with predictions: what was learned, what was scored, and further sets of the same classes."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.data.image_table import complete_splits, load_image_table
from utils_cv.studies import scored_images
from utils_cv.studies.scored_images import load_matching_table, score_images


@pytest.fixture
def colored_features(monkeypatch):
    """Mean colors in place of a network."""
    monkeypatch.setattr(scored_images, "compute_features", lambda pixels, **_: pixels.mean(axis=(1, 2)))


def test_every_row_is_answered(image_dir, colored_features):
    scored = score_images(complete_splits(load_image_table(image_dir)), im_size_px=32)
    rows = scored.images.table
    assert len(rows) == 20 and (rows["right"] == (rows["predicted"] == rows["label"])).all()
    assert rows["right"].all(), "red cans and blue cartons"
    assert rows["confidence"].between(0.5, 1).all()
    probabilities = scored.predict(scored.features)
    assert probabilities.max(axis=1) == pytest.approx(rows["confidence"])
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(20))


def test_only_train_images_are_learned(image_dir, colored_features):
    table = complete_splits(load_image_table(image_dir))
    first = score_images(table, im_size_px=32)
    is_test = table["split"] == "test"
    swapped = table["label"].map({"can": "carton", "carton": "can"})
    second = score_images(table.assign(label=table["label"].where(~is_test, swapped)), im_size_px=32)
    assert (first.weight == second.weight).all()
    assert not second.images.table.loc[is_test, "right"].any()


def test_several_labels_are_refused(image_dir):
    table = complete_splits(load_image_table(image_dir))
    table.loc[0, "label"] = "can|carton"
    with pytest.raises(ValueError, match="one label an image"):
        score_images(table, im_size_px=32)


def test_only_images_of_known_classes_match(image_dir):
    assert load_matching_table(str(image_dir), ["can", "mug"])["label"].unique().tolist() == ["can"]


@pytest.mark.parametrize("names", [["mug"], []], ids=["other classes", "no classes"])
def test_nothing_that_matches_gives_an_empty_table(image_dir, names):
    table = load_matching_table(str(image_dir), names)
    assert table.empty and list(table) == ["image", "path", "label", "split"]


def test_no_source_gives_an_empty_table_that_joins():
    empty = load_matching_table("", ["can"])
    assert empty.empty and len(pd.concat([pd.DataFrame({"image": ["a"], "label": ["can"]}), empty])) == 1


def test_a_missing_source_is_an_error():
    with pytest.raises(FileNotFoundError):
        load_matching_table("no such folder", ["can"])
