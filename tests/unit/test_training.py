"""The recipes on small learnable images: they learn, keep the best epoch, and give the same numbers twice."""

import numpy as np
import pytest

from utils_cv.datasets import complete_splits, load_image_table
from utils_cv.table_images import load_table_images
from utils_cv.training import fine_tune, linear_probe, predict_files, predict_images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    from tests.conftest import COLORS, draw_image

    root = tmp_path_factory.mktemp("images")
    for label in COLORS:
        (root / label).mkdir()
        for i in range(15):
            draw_image(label, seed=i + 100 * (label == "can")).save(root / label / f"{i}.png")
    return load_table_images(complete_splits(load_image_table(root)), 64)


@pytest.fixture(scope="module")
def probe(images):
    return linear_probe(images)


def test_probe_learns(images, probe):
    predictions = predict_images(probe, images)
    assert (predictions.y_pred == predictions.y_true).mean() >= 0.8
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-5)


def test_files_are_predicted_as_the_opened_images(images, probe):
    predictions = predict_images(probe, images)
    again = predict_files(probe, list(predictions.table["path"]))
    np.testing.assert_allclose(again, predictions.probabilities, atol=1e-4)


def test_fine_tuning_never_ends_with_a_higher_validation_loss(images, probe):
    tuned = fine_tune(images, epochs=1, learning_rate=1.0, start=probe, batch_size=4)  # a rate that breaks the network
    kept = tuned.history.loc[tuned.history["is_kept"], "valid_loss"].item()
    assert kept <= probe.history["valid_loss"].item()
    assert list(tuned.history["epoch"]) == [0, 1]


def test_one_seed_gives_the_same_numbers_twice(images, probe):
    runs = [fine_tune(images, epochs=1, start=probe, batch_size=8, seed=3) for _ in range(2)]
    first, second = (predict_images(run, images).probabilities for run in runs)
    np.testing.assert_array_equal(first, second)


def test_the_start_is_not_changed(images, probe):
    before = predict_images(probe, images).probabilities
    fine_tune(images, epochs=1, start=probe, batch_size=8)
    np.testing.assert_array_equal(before, predict_images(probe, images).probabilities)


def test_unknown_augmentation_names_the_presets(images, probe):
    with pytest.raises(ValueError, match="any_side_up"):
        fine_tune(images, epochs=1, start=probe, augment="upside_down")


def test_wrong_split_says_what_there_is(images, probe):
    with pytest.raises(ValueError, match="No image of split 'exam'"):
        predict_images(probe, images, split="exam")
