"""Rungs side by side: nested subsets, the same test images, a paired gain."""

import pytest

from utils_cv.studies.rungs import compare_rungs_by_size, take_images


def test_both_rungs_are_scored_on_the_same_test_images(small_images):
    rows = compare_rungs_by_size(
        small_images, [3, 6, 1000], backbone="efficientnet_lite0", epochs=1, batch_size=4, show_progress=False
    )
    assert list(zip(rows["n_per_class"], rows["name"], strict=True)) == [
        (3, "probe"), (3, "top"), (6, "probe"), (6, "top"),
    ]  # fmt: skip
    assert rows["n_test"].nunique() == 1
    top, probe = (rows[rows["name"] == name].reset_index() for name in ("top", "probe"))
    assert (top["accuracy"] - probe["accuracy"]).tolist() == pytest.approx(top["gain"].tolist())
    assert (top["seconds"] > probe["seconds"]).all()


def test_smaller_sets_are_parts_of_larger_ones(small_images):
    small, large = (take_images(small_images, n) for n in (2, 5))
    trained = [set(part.table.loc[part.table["split"] == "train", "image"]) for part in (small, large)]
    assert trained[0] < trained[1]
    assert len(trained[0]) == 4
    for part in (small, large):
        assert (part.pixels.shape[0] == len(part.table)) and (part.table["split"] == "test").any()


def test_too_few_images_say_how_many_there_are(small_images):
    with pytest.raises(ValueError, match="expected at least 500"):
        compare_rungs_by_size(small_images, [500], backbone="efficientnet_lite0")
