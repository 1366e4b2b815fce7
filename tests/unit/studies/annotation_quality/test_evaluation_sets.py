"""Test sets: formulas against simulations of what they promise; wrong labels, size, two models."""

import numpy as np
import pytest

from utils_cv.studies.annotation_quality.evaluation_sets import (
    count_images_for_width,
    count_images_to_tell_apart,
    simulate_test_noise,
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
    row = simulate_test_noise(y_true, y_pred, [fraction], n_classes=n_classes).iloc[0]
    assert row["accuracy"] == pytest.approx(row["expected"], abs=0.005)
    assert row["accuracy_low"] <= row["expected"] <= row["accuracy_high"]


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
    n = count_images_to_tell_apart(difference, discordance)
    share = simulate_test_sizes(right_a, right_b, [n], n_repeats=1000).set_index("name")["share"]
    assert share["paired interval"] == pytest.approx(0.8, abs=0.07)


def test_models_with_the_same_mistakes_need_fewer_images():
    assert count_images_to_tell_apart(0.02, 0.03) < count_images_to_tell_apart(0.02, 0.10) / 2


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: count_images_to_tell_apart(0.0, 0.1), id="no difference"),
        pytest.param(lambda: count_images_to_tell_apart(0.2, 0.1), id="difference above discordance"),
        pytest.param(lambda: count_images_for_width(1.0, 0.02), id="accuracy 1"),
    ],
)
def test_counts_that_do_not_exist(call):
    with pytest.raises(ValueError, match=r"(?i)expected"):
        call()


def test_larger_test_sets_and_paired_intervals_tell_more_in_either_order_of_the_models():
    rng = np.random.default_rng(0)
    better = rng.random(400) < 0.9
    worse = better & (rng.random(400) < 0.93)
    rows, turned = (
        simulate_test_sizes(*pair, [20, 80, 320], n_repeats=200) for pair in ((better, worse), (worse, better))
    )
    assert rows.equals(turned)
    assert (rows["share_low"] <= rows["share"]).all() and (rows["share"] <= rows["share_high"]).all()
    shares = rows.pivot(index="n_test", columns="name", values="share")
    assert shares["paired interval"].is_monotonic_increasing and shares["paired interval"].iloc[-1] > 0.9
    assert shares["worse model scores higher"].eq(0).all()  # the worse one is right nowhere that the better is wrong
    assert (shares["paired interval"] >= shares["separate intervals"]).all()
    assert shares["paired interval"].iloc[-1] > shares["separate intervals"].iloc[-1] + 0.3


def test_the_worse_model_wins_now_and_then_on_small_test_sets():
    right = np.arange(100)
    rows = simulate_test_sizes(right < 80, (right < 70) | (right > 91), [10, 1000], n_repeats=200).set_index("name")
    small, large = rows.loc["worse model scores higher", "share"]
    assert small > 0.2 > large
