"""Test sets: formulas against simulations of what they promise; wrong labels, size, two models."""

import numpy as np
import pytest

from utils_cv.studies.test_set_labels import (
    KINDS,
    compute_measured_accuracy,
    compute_true_accuracy,
    simulate_test_noise,
)
from utils_cv.studies.test_set_size import (
    count_images_for_width,
    count_images_to_tell_apart,
    measure_discordance,
    simulate_test_sizes,
)


def make_answers(n=500, accuracy=0.9, *, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, n_classes, n)
    is_wrong = np.arange(n) >= round(accuracy * n)
    return y_true, np.where(is_wrong, (y_true + rng.integers(1, n_classes, n)) % n_classes, y_true)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.4])
def test_formula_agrees_with_the_simulation(n_classes, fraction):
    y_true, y_pred = make_answers(n_classes=n_classes)
    rows = simulate_test_noise(y_true, y_pred, [fraction], n_classes=n_classes, n_repeats=200)
    row = rows[rows["name"] == KINDS[0]].iloc[0]
    assert row["accuracy"] == pytest.approx(row["expected"], abs=0.005)
    assert row["accuracy_low"] <= row["expected"] <= row["accuracy_high"]


@pytest.mark.parametrize("accuracy", [0.0, 0.7, 1.0])
def test_formula_can_be_turned_round(accuracy):
    assert compute_true_accuracy(compute_measured_accuracy(accuracy, 0.2, 4), 0.2, 4) == pytest.approx(accuracy)


def test_accuracy_that_such_labels_cannot_show_is_cut():
    assert compute_true_accuracy(0.99, 0.2, 4) == 1.0
    assert compute_true_accuracy(0.0, 0.2, 4) == 0.0


def test_labels_that_say_nothing():
    with pytest.raises(ValueError, match="say nothing"):
        compute_true_accuracy(0.5, 0.5, 2)


@pytest.mark.parametrize(("fraction", "n_classes"), [(1.2, 4), (-0.1, 4), (0.1, 1)])
def test_arguments_out_of_range(fraction, n_classes):
    with pytest.raises(ValueError, match="expected a fraction"):
        compute_measured_accuracy(0.9, fraction, n_classes)


def test_labels_that_repeat_the_mistakes_of_the_model_flatter_it():
    y_true, y_pred = make_answers()
    rows = simulate_test_noise(y_true, y_pred, [0.05, 0.3], n_classes=4, n_repeats=20)
    assert rows.loc[rows["name"] == KINDS[1], "accuracy"].tolist() == pytest.approx([0.95, 1.0])


@pytest.mark.parametrize(("accuracy", "half_width", "n"), [(0.5, 0.1, 97), (0.9, 0.02, 865)])
def test_images_for_an_interval(accuracy, half_width, n):
    assert count_images_for_width(accuracy, half_width) == n


@pytest.mark.parametrize(("difference", "discordance"), [(0.05, 0.15), (0.1, 0.12), (0.03, 0.06)])
def test_as_many_images_as_counted_tell_models_apart_four_times_in_five(difference, discordance):
    """Ten thousand images on which the two models differ exactly as stated."""
    n_only_a, n_only_b = (round(5000 * (discordance + sign * difference)) for sign in (1, -1))
    right_a, right_b = np.ones(10_000, bool), np.ones(10_000, bool)
    right_b[:n_only_a] = False
    right_a[n_only_a : n_only_a + n_only_b] = False
    assert measure_discordance(right_a, right_b) == pytest.approx(discordance)
    n = count_images_to_tell_apart(difference, discordance)
    row = simulate_test_sizes(right_a, right_b, [n], n_repeats=1000).iloc[0]
    assert row["told_apart"] == pytest.approx(0.8, abs=0.07)


def test_models_with_the_same_mistakes_need_fewer_images():
    assert count_images_to_tell_apart(0.02, 0.03) < count_images_to_tell_apart(0.02, 0.10) / 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: count_images_to_tell_apart(0.0, 0.1),
        lambda: count_images_to_tell_apart(0.2, 0.1),
        lambda: count_images_to_tell_apart(0.1, 0.2, power=1.0),
        lambda: count_images_for_width(1.0, 0.02),
    ],
    ids=["no difference", "difference above discordance", "certainty", "accuracy 1"],
)
def test_counts_that_do_not_exist(call):
    with pytest.raises(ValueError, match=r"(?i)expected"):
        call()


@pytest.fixture(scope="module")
def sizes():
    rng = np.random.default_rng(0)
    right_a = rng.random(400) < 0.9
    right_b = right_a & (rng.random(400) < 0.93)
    return right_a, right_b, simulate_test_sizes(right_a, right_b, [20, 80, 320], n_repeats=200)


def test_larger_test_sets_tell_more(sizes):
    rows = sizes[2]
    assert rows["told_apart"].is_monotonic_increasing and rows["told_apart"].iloc[-1] > 0.9
    assert rows["half_width"].is_monotonic_decreasing
    assert rows["wrong_winner"].eq(0).all()  # B is right nowhere that A is wrong


def test_paired_intervals_see_more_than_two_separate_ones(sizes):
    rows = sizes[2]
    assert (rows["told_apart"] >= rows["intervals_apart"]).all()
    assert rows["told_apart"].iloc[-1] > rows["intervals_apart"].iloc[-1] + 0.3
    assert (rows["told_apart_low"] <= rows["told_apart"]).all()


def test_order_of_the_models_does_not_matter(sizes):
    right_a, right_b, rows = sizes
    swapped = simulate_test_sizes(right_b, right_a, [20, 80, 320], n_repeats=200)
    assert swapped["told_apart"].tolist() == rows["told_apart"].tolist()
    assert swapped["intervals_apart"].tolist() == rows["intervals_apart"].tolist()
