"""Intervals agree with the published ones and hold the truth in about 95 % of test sets, also near 0 and 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_rel
from scipy.stats import t as student_t

from utils_cv.evaluation.intervals import (
    Z_95,
    Score,
    _count_effective,
    compare_means,
    compare_scores,
    compute_wilson_interval,
    make_fraction_score,
    make_score,
    measure_mean,
    measure_resamples,
    resample_means,
    resample_statistic,
)


@pytest.mark.parametrize(("n_successes", "n"), [(0, 7), (3, 10), (153, 160), (20, 20)])
def test_wilson_agrees_with_scipy(n_successes, n):
    expected = binomtest(n_successes, n).proportion_ci(method="wilson")
    assert compute_wilson_interval(n_successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_fraction_and_stays_in_range(counts):
    low, high = compute_wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1 and low < high


def test_wilson_of_arrays_is_wilson_of_each_and_nan_for_nothing():
    low, high = compute_wilson_interval([3, 0], [10, 0])
    assert (low[0], high[0]) == compute_wilson_interval(3, 10)
    assert np.isnan([low[1], high[1]]).all()


def test_score_with_the_spread_of_a_fraction_or_none_at_1_is_that_fraction():
    assert make_score(1.0, 0.0, 40) == make_fraction_score(40, 40)
    assert make_score(0.9, np.sqrt(0.9 * 0.1 / 50), 50) == pytest.approx(make_fraction_score(45, 50), abs=1e-12)


def test_bootstrap_draws_as_many_images_as_there_are_and_each_as_often():
    counts = []
    resample_statistic(lambda drawn: counts.append(drawn) or drawn[:, 0], 5, n_bootstrap=4000)
    drawn = np.concatenate(counts)
    assert drawn.shape == (4000, 5) and (drawn.sum(axis=1) == 5).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(5), abs=0.06)


def test_bootstrap_error_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(0).normal(size=400)
    means = resample_statistic(lambda counts: counts @ values / 400, 400, n_bootstrap=4000)
    assert means.std(ddof=1) == pytest.approx(values.std() / 20, rel=0.05)


def test_bootstrap_is_split_into_chunks_when_there_are_many_images():
    sizes = []
    values = resample_statistic(lambda counts: sizes.append(len(counts)) or counts[:, 0], 1_000_000, n_bootstrap=5)
    assert sizes == [2, 2, 1] and len(values) == 5


def test_resampled_score_follows_what_varies_and_skips_undefined_resamples():
    right, weights = np.arange(100) < 80, np.where(np.arange(100) % 5 == 0, 21, 1)  # 20 images count nearly alone

    def measure(counts):
        value = counts @ (right * weights) / (counts @ weights)
        return np.where(counts[:, 0] == 3, np.nan, value)

    values = np.append(measure(np.ones((1, 100))), resample_statistic(measure, 100))
    assert measure_resamples(values, 100) == pytest.approx((0.8, 0.62, 0.91, 100), abs=0.02)


def test_groups_of_one_size_give_the_t_interval_of_their_means_but_for_the_added_images():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.6, 0.1, 40).clip(0, 1), rng.normal(0.5, 0.1, 40).clip(0, 1)
    oracle = ttest_rel(a, b).confidence_interval(0.95)
    score = compare_means(np.tile(a, 5), np.tile(b, 5), groups=np.tile([f"scene {i}" for i in range(40)], 5))
    assert (score.low, score.high, score.n) == pytest.approx((oracle.low, oracle.high, 40), abs=0.006)
    assert compare_means(a, b)[:3] == pytest.approx((score.value, oracle.low, oracle.high), abs=0.006)


def test_bonett_and_price_by_hand():
    # (12 + 1) / 102 and (3 + 1) / 102 give 9/102 ± 1.96 * sqrt((17/102 - (9/102)**2) / 102)
    a, b = np.arange(100) < 12, (np.arange(100) >= 12) & (np.arange(100) < 15)
    assert compare_means(a, b) == pytest.approx((0.09, 0.0108772, 0.1655934, 100), abs=1e-5)
    assert compare_means([a] * 10, [b] * 10) == pytest.approx(compare_means(a, b))  # nothing new in the same answers


def test_of_20_images_a_model_must_win_5_to_be_shown_better():  # what data.splits warns of
    lows = [compare_means(np.arange(20) < n_won, np.zeros(20)).low for n_won in (4, 5)]
    assert lows[0] < 0 < lows[1]


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["never differ", "always differ"])
def test_no_variation_keeps_a_width(value):
    score = compare_means(np.full((3, 50), value), np.zeros((3, 50)))
    assert score.value == value and score.high - score.low > 0.05
    assert score == pytest.approx(compare_means(np.full(50, value), np.zeros(50)))


def test_variance_of_images_and_seeds_is_that_of_the_two_way_layout():
    rng = np.random.default_rng(3)
    x = rng.random((4, 80)) < rng.random(80)[None] * np.array([0.2, 0.5, 0.8, 1.0])[:, None]
    of_image, of_seed = x.mean(axis=0) - x.mean(), x.mean(axis=1) - x.mean()
    squares = [4 * of_image @ of_image / 79, 80 * of_seed @ of_seed / 3]
    rest = ((x - x.mean() - of_image - of_seed[:, None]) ** 2).sum() / (79 * 3)
    variance, seeds, rest = (squares[0] + squares[1] - rest) / 320, squares[1] / 320, rest / 320
    assert seeds > rest
    n, n_effective = _count_effective(x.astype(float), None, spread := x.mean() * (1 - x.mean()))
    quantile = student_t.ppf(0.975, variance**2 / (seeds**2 / 3))
    assert (n, n_effective) == pytest.approx((80, spread * 80 / 79 / variance * (Z_95 / quantile) ** 2))


def test_fractions_agree_with_newcombes_published_example():
    score = compare_scores(make_fraction_score(56, 70), make_fraction_score(48, 80))  # table II, method 10
    assert (score.low, score.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_swapping_two_scores_turns_the_difference_around():
    a, b = Score(0.8, 0.7, 0.86, 50), Score(0.6, 0.4, 0.75, 40)
    forth, back = compare_scores(a, b), compare_scores(b, a)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.n == 40


def test_the_same_answers_once_or_ten_times_have_the_interval_of_their_images():
    right = np.arange(100) < 90
    for repeated in (right, np.repeat(right[None], 10, axis=0)):
        assert measure_mean(repeated) == pytest.approx(make_fraction_score(90, 100))


def test_60_of_60_scenes_have_wilsons_interval_of_60():
    assert measure_mean(np.ones(300), groups=np.arange(300) // 5) == make_fraction_score(60, 60)


def test_settings_share_the_drawn_images_and_seeds():
    right = np.random.default_rng(2).random((4, 60)) < 0.8
    means = resample_means(np.stack([right, right]), n_bootstrap=50)
    assert means.shape == (50, 2)
    np.testing.assert_allclose(means[:, 0], means[:, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: compute_wilson_interval(-1, 5), "0 <= n_successes <= n", id="negative count"),
        pytest.param(lambda: compute_wilson_interval(6, 5), "0 <= n_successes <= n", id="more than all"),
        pytest.param(lambda: make_fraction_score(0, 0), "at least one image", id="fraction of nothing"),
        pytest.param(lambda: resample_statistic(len, 10, n_bootstrap=1), "at least 2 resamples", id="one resample"),
        pytest.param(lambda: compare_means([1, 0], [1]), "same seeds and images", id="lengths differ"),
        pytest.param(lambda: compare_means([[1]], [[1]] * 2), "same seeds and images", id="other seeds"),
        pytest.param(lambda: measure_mean([1, 0], groups=[1]), "of 2 images", id="groups too short"),
        pytest.param(lambda: measure_mean([1, 2]), r"values in \[0, 1\]", id="counts"),
        pytest.param(lambda: measure_mean([0.5, np.nan]), r"values in \[0, 1\]", id="not a number"),
        pytest.param(lambda: measure_mean(np.zeros((2, 0))), "n_images", id="empty"),
        pytest.param(lambda: measure_mean(np.zeros((2, 2, 2))), r"got \(2, 2, 2\)", id="three axes"),
    ],
)
def test_what_has_no_interval_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_group_says_nothing_and_groups_of_one_image_change_nothing():
    right = np.arange(20) % 3 > 0
    assert measure_mean(right, groups=[7] * 20) == (right.mean(), 0.0, 1.0, 1)
    assert compare_means(right, ~right, groups=["a"] * 20)[1:] == (-1.0, 1.0, 1)
    assert measure_mean(right, groups=range(20)) == measure_mean(right)
