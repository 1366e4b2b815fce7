"""The recipes on small learnable images: they learn, keep the best epoch, and give the same numbers twice."""

import numpy as np
import pytest

from utils_cv.training.scratch import train_from_scratch
from utils_cv.training.training import fine_tune, linear_probe, predict_files, predict_images


@pytest.fixture(scope="module")
def images(small_images):
    return small_images


@pytest.fixture(scope="module")
def probe(small_probe):
    return small_probe


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


@pytest.mark.parametrize("depth", ["top", "all"])
def test_one_seed_gives_the_same_numbers_twice_and_another_others(images, probe, depth):
    runs = [fine_tune(images, depth=depth, epochs=1, start=probe, batch_size=8, seed=seed) for seed in (3, 3, 4)]
    first, second, other = (run.history["train_loss"].iloc[1] for run in runs)
    assert first == second != other
    first, second = (predict_images(run, images).probabilities for run in runs[:2])
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("depth", ["top", "all"])
def test_the_start_is_not_changed(images, probe, depth):
    before = predict_images(probe, images).probabilities
    fine_tune(images, depth=depth, epochs=1, start=probe, batch_size=8)
    np.testing.assert_array_equal(before, predict_images(probe, images).probabilities)


def test_the_top_leaves_the_lower_part_and_all_statistics_alone(images, probe):
    tuned = fine_tune(images, depth="top", epochs=2, start=probe, batch_size=8, learning_rate=0.01)
    before, after = (run.learn.model.state_dict() for run in (probe, tuned))
    changed = {name for name in before if not before[name].equal(after[name])}
    kept = tuned.history.loc[tuned.history["is_kept"], "epoch"].item()
    assert bool(changed) == (kept > 0)
    assert not any("running_" in name or name.startswith("body.conv_stem") for name in changed)


def test_a_rung_starts_from_the_kept_epoch_of_the_one_below(images, probe):
    top = fine_tune(images, depth="top", epochs=2, start=probe, batch_size=8)
    kept = top.history.loc[top.history["is_kept"]].iloc[0]
    both = fine_tune(images, epochs=0, start=top)
    assert both.history["valid_loss"].item() == kept["valid_loss"]
    np.testing.assert_array_equal(predict_images(both, images).probabilities, predict_images(top, images).probabilities)


def test_options_are_taken(images, probe):
    options = {"class_weights": "balanced", "label_smoothing": 0.1, "mixup": 0.4}
    for option, value in options.items():
        plain, changed = (
            fine_tune(images, depth="top", epochs=1, start=probe, batch_size=8, **extra).history["train_loss"].iloc[1]
            for extra in ({}, {option: value})
        )
        is_balanced_already = option == "class_weights"
        assert (plain == pytest.approx(changed)) == is_balanced_already, option


def test_training_stops_when_the_best_epoch_is_long_ago(images, probe):
    tuned = fine_tune(images, depth="top", epochs=6, learning_rate=1.0, start=probe, batch_size=4, patience=2)
    best = tuned.history.loc[tuned.history["is_kept"], "epoch"].item()
    peak = 1  # of the learning rate: a quarter of six epochs
    assert tuned.history["epoch"].max() == max(best, peak) + 2 < 6


def test_from_scratch_the_network_learns_something_or_says_how_badly(images):
    scratch = train_from_scratch(images, epochs=2, batch_size=8)
    assert list(scratch.history["epoch"]) == [1, 2]
    assert scratch.history["train_loss"].iloc[0] > 0.3  # a pretrained start is far below
    assert predict_images(scratch, images).probabilities.shape[1] == 2


def test_several_labels_an_image(images):
    import dataclasses

    both = images.table.assign(label=images.table["label"].where(images.table.index % 5 != 0, "can|carton"))
    multilabel = dataclasses.replace(images, table=both, is_multilabel=True)
    probe = linear_probe(multilabel)
    tuned = fine_tune(multilabel, depth="top", epochs=1, start=probe, batch_size=8, class_weights="balanced")
    predictions = predict_images(tuned, multilabel)
    assert predictions.y_true.shape == predictions.probabilities.shape
    assert predictions.probabilities.sum(axis=1).max() > 1.01  # one sigmoid each, not a softmax


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"depth": "bottom"}, "'top' or 'all'", id="depth"),
        pytest.param({"epochs": -1}, "expected 0 or more", id="epochs"),
        pytest.param({"class_weights": "equal"}, "'none' or 'balanced'", id="weights"),
        pytest.param({"label_smoothing": 1.0}, r"fraction in \[0, 1\)", id="smoothing"),
    ],
)
def test_wrong_arguments_say_what_is_expected(images, probe, arguments, message):
    with pytest.raises(ValueError, match=message):
        fine_tune(images, start=probe, **{"epochs": 1} | arguments)


def test_unknown_augmentation_names_the_presets(images, probe):
    with pytest.raises(ValueError, match="any_side_up"):
        fine_tune(images, epochs=1, start=probe, augment="upside_down")


def test_wrong_split_says_what_there_is(images, probe):
    with pytest.raises(ValueError, match="No image of split 'exam'"):
        predict_images(probe, images, split="exam")
