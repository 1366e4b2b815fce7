"""Differences of scores: the published intervals, pairs and groups, and that the intervals hold what they promise."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from utils_cv.evaluation.intervals import Score, compare_fractions, compare_means, compare_scores, describe_effect


def test_single_images_give_the_paired_t_interval():
    rng = np.random.default_rng(0)
    a, b = rng.random(40), rng.random(40)
    oracle = ttest_rel(a, b).confidence_interval(0.95)
    score = compare_means(a, b)
    assert (score.low, score.high, score.n) == pytest.approx((oracle.low, oracle.high, 40))


def test_images_of_one_group_count_once():
    rng = np.random.default_rng(1)
    of_group = rng.normal(0, 0.3, 20)
    a, groups = np.repeat(of_group, 5), np.repeat(np.arange(20), 5)
    grouped, single = compare_means(a, np.zeros(100), groups=groups), compare_means(of_group, np.zeros(20))
    assert grouped.n == 20
    assert (grouped.value, grouped.low, grouped.high) == pytest.approx((single.value, single.low, single.high))


@pytest.mark.parametrize("names", [["x", "y", "x", "y"], [7, 3, 7, 3]], ids=["names", "numbers"])
def test_groups_may_have_any_names(names):
    assert compare_means([1, 0, 1, 0], [0, 0, 0, 0], groups=names).n == 2


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    n_held = 0
    for _ in range(400):
        of_group = rng.normal(0.1, 0.2, 30)
        values = np.repeat(of_group, 4) + rng.normal(0, 0.1, 120)
        score = compare_means(values, np.zeros(120), groups=np.repeat(np.arange(30), 4))
        n_held += score.low <= 0.1 <= score.high
    assert 0.92 <= n_held / 400 <= 0.98


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["never differ", "always differ"])
def test_no_variation_still_has_a_width(value):
    score = compare_means(np.full(50, value), np.zeros(50))
    assert score.value == value and score.high - score.low > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(([1, 0], [1], None), "lengths", id="lengths differ"),
        pytest.param(([1, 0], [1, 0], [1]), "lengths", id="groups too short"),
        pytest.param(([1, 0], [1, 0], [1, 1]), "at least 2", id="one group"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, message):
    a, b, groups = arguments
    with pytest.raises(ValueError, match=message):
        compare_means(a, b, groups=groups)


def test_fractions_agree_with_the_published_example():
    score = compare_fractions(56, 70, 48, 80)  # Newcombe 1998, table II, method 10
    assert (score.low, score.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_fractions_of_an_empty_set_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        compare_fractions(0, 0, 1, 2)


def test_swapping_two_scores_turns_the_difference_around():
    a, b = Score(0.8, 0.7, 0.86, 50), Score(0.6, 0.4, 0.75, 40)
    forth, back = compare_scores(a, b), compare_scores(b, a)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.n == 40


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "helps"),
        (-0.2, -0.01, "hurts"),
        (-0.1, 0.1, "no difference shown"),
        (0.0, 0.1, "no difference shown"),
    ],
)
def test_verdict_needs_an_interval_without_zero(low, high, verdict):
    assert describe_effect(Score((low + high) / 2, low, high, 100)) == verdict
