"""Intervals agree with the published ones and hold the truth in about 95 % of test sets, also near 0 and 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_rel

from utils_cv.evaluation.intervals import (
    Score,
    compare_means,
    compare_repeated,
    compare_scores,
    compute_wilson_interval,
    make_fraction_score,
    make_paired_score,
    make_score,
    measure_repeated,
    measure_resampled,
    resample_means,
    resample_statistic,
)
from utils_cv.evaluation.metrics import compare_accuracy, measure_f1


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

    assert measure_resampled(measure, 100) == pytest.approx((0.8, 0.62, 0.91, 100), abs=0.02)


def test_interval_of_macro_f1_holds_the_truth_where_percentiles_do_not():
    rng, y_true, held = np.random.default_rng(0), np.repeat(np.arange(4), 10), 0
    for seed in range(200):
        is_wrong = rng.random(40) < 0.02  # each class with the same symmetric errors: true macro-F1 0.98
        score = measure_f1(y_true, (y_true + is_wrong * rng.integers(1, 4, 40)) % 4, n_bootstrap=200, seed=seed)
        held += score.low <= 0.98 <= score.high
    assert 0.9 <= held / 200 <= 1  # a percentile bootstrap holds it in 0.54


def test_single_images_give_the_paired_t_interval():
    rng = np.random.default_rng(0)
    a, b = rng.random(40), rng.random(40)
    oracle = ttest_rel(a, b).confidence_interval(0.95)
    score = compare_means(a, b)
    assert (score.low, score.high, score.n) == pytest.approx((oracle.low, oracle.high, 40))


@pytest.mark.parametrize("names", [7 - np.arange(20), [*"ywxzabcdefghijklmnop"]], ids=["numbers", "letters"])
def test_images_of_one_group_of_any_name_count_once(names):
    of_group = np.random.default_rng(1).normal(0, 0.3, 20)
    score = compare_means(np.tile(of_group, 5), np.zeros(100), groups=np.tile(names, 5))
    assert score == pytest.approx(compare_means(of_group, np.zeros(20)))


def test_grouped_intervals_hold_the_truth_about_as_often_as_they_say():
    rng, n_held = np.random.default_rng(2), 0
    for _ in range(400):
        values = np.repeat(rng.normal(0.1, 0.2, 30), 4) + rng.normal(0, 0.1, 120)
        score = compare_means(values, np.zeros(120), groups=np.repeat(np.arange(30), 4))
        n_held += score.low <= 0.1 <= score.high
    assert 0.92 <= n_held / 400 <= 0.98


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["never differ", "always differ"])
def test_no_variation_gives_the_paired_interval_that_keeps_a_width(value):
    score = compare_means(np.full(50, value), np.zeros(50))
    assert score == make_paired_score(value, value, 50)
    assert score.value == value and score.high - score.low > 0.05


def test_paired_score_reproduces_bonett_and_price():
    # by hand: (12 + 1) / 102 and (3 + 1) / 102 give 9/102 ± 1.96 * sqrt((17/102 - (9/102)**2) / 102)
    assert make_paired_score(0.09, 0.15, 100) == pytest.approx((0.09, 0.0108772, 0.1655934, 100), abs=1e-5)


def test_fractions_agree_with_newcombes_published_example():
    score = compare_scores(make_fraction_score(56, 70), make_fraction_score(48, 80))  # table II, method 10
    assert (score.low, score.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_swapping_two_scores_turns_the_difference_around():
    a, b = Score(0.8, 0.7, 0.86, 50), Score(0.6, 0.4, 0.75, 40)
    forth, back = compare_scores(a, b), compare_scores(b, a)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.n == 40


def draw_right(rng, n_seeds, n_images, *, image_sd=0.2, seed_sd=0.05, level=0.8):
    """Answers whose chance of being right depends on image and seed; the truth is `level`."""
    chance = level + rng.normal(0, image_sd, n_images)[None] + rng.normal(0, seed_sd, n_seeds)[:, None]
    return rng.random((n_seeds, n_images)) < chance


def test_the_same_answers_once_or_ten_times_have_the_interval_of_their_images():
    right = np.arange(100)[None] < 90
    for repeated in (right, np.repeat(right, 10, axis=0)):
        assert measure_repeated(repeated, n_bootstrap=4000) == pytest.approx(make_fraction_score(90, 100), abs=0.005)


def test_the_interval_holds_the_truth_in_nearly_all_simulated_studies():
    rng = np.random.default_rng(0)
    scores = [measure_repeated(draw_right(rng, 5, 120, seed_sd=0.08), n_bootstrap=200) for _ in range(300)]
    truth = draw_right(rng, 2000, 2000, seed_sd=0.08).mean()
    assert np.mean([score.low <= truth <= score.high for score in scores]) >= 0.93


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    calm, wild = (measure_repeated(draw_right(rng, 5, 200, seed_sd=sd, level=0.7)) for sd in (0.0, 0.2))
    assert wild.high - wild.low > 1.5 * (calm.high - calm.low)


def test_comparison_of_one_seed_or_without_a_difference_agrees_with_the_paired_interval():
    rng, right = np.random.default_rng(1), np.ones((3, 50), bool)
    a, b = rng.random(300) < 0.9, rng.random(300) < 0.8
    paired = compare_accuracy(np.ones(300, int), a.astype(int), b.astype(int))
    assert compare_repeated(a[None], b[None], n_bootstrap=4000) == pytest.approx(paired, abs=0.01)
    assert compare_repeated(right, right) == pytest.approx(make_paired_score(0.0, 0.0, 50), abs=1e-9)


def test_settings_share_the_drawn_images_and_seeds():
    right = draw_right(np.random.default_rng(2), 4, 60)
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
        pytest.param(lambda: compare_means([1, 0], [1]), "lengths", id="lengths differ"),
        pytest.param(lambda: compare_means([1, 0], [1, 0], groups=[1]), "lengths", id="groups too short"),
        pytest.param(lambda: compare_means([1, 0], [1, 0], groups=[1, 1]), "at least 2", id="one group"),
        pytest.param(lambda: measure_repeated([[1, 0]]), "Expected bool", id="numbers"),
        pytest.param(lambda: measure_repeated([True, False]), "Expected bool", id="1-D"),
        pytest.param(lambda: measure_repeated(np.zeros((2, 0), bool)), "Expected bool", id="empty"),
        pytest.param(lambda: compare_repeated([[True]], [[True]] * 2), "same seeds and images", id="other seeds"),
    ],
)
def test_what_has_no_interval_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
