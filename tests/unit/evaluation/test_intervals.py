"""Intervals keep their promise: they hold the truth in about 95 % of test sets, also near 0 and 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils_cv.evaluation.intervals import (
    Score,
    compute_bootstrap_error,
    compute_wilson_interval,
    draw_bootstrap_counts,
    make_fraction_score,
    make_score,
    resample_in_chunks,
)


def test_wilson_agrees_with_scipy():
    from scipy.stats import binomtest

    for n_successes, n in ((0, 7), (3, 10), (153, 160), (20, 20)):
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


@pytest.mark.parametrize("n_successes", [pytest.param(-1, id="negative"), pytest.param(6, id="more than all")])
def test_wilson_refuses_impossible_counts(n_successes):
    with pytest.raises(ValueError, match="0 <= n_successes <= n"):
        compute_wilson_interval(n_successes, 5)


def test_perfect_score_without_spread_gets_wilsons_limits():
    assert make_score(1.0, 0.0, 40) == make_fraction_score(40, 40)


def test_score_with_the_spread_of_a_fraction_is_that_fraction():
    standard_error = np.sqrt(0.9 * 0.1 / 50)
    assert make_score(0.9, standard_error, 50) == pytest.approx(make_fraction_score(45, 50), abs=1e-12)


def test_score_reads_well():
    assert str(Score(0.9, 0.8, 0.95, 40)) == "0.900 (0.800 to 0.950, n = 40)"


def test_bootstrap_counts_draw_every_image_as_often():
    counts = draw_bootstrap_counts(5, 4000, np.random.default_rng(0))
    assert (counts.sum(axis=1) == 5).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(5), abs=0.06)


def test_bootstrap_error_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(0).normal(size=400)
    error = compute_bootstrap_error(lambda counts: counts @ values / 400, 400, n_bootstrap=4000, seed=0)
    assert error == pytest.approx(values.std() / 20, rel=0.05)


def test_bootstrap_is_split_into_chunks_when_there_are_many_images():
    sizes = []
    values = resample_in_chunks(lambda size: sizes.append(size) or np.zeros(size), 1_000_000, 5)
    assert sizes == [2, 2, 1] and len(values) == 5


def test_bootstrap_refuses_a_single_resample():
    with pytest.raises(ValueError, match="at least 2 resamples"):
        resample_in_chunks(np.zeros, 10, 1)


def test_interval_of_macro_f1_holds_the_truth_where_percentiles_do_not():
    from utils_cv.evaluation.metrics import measure_macro_f1

    rng, y_true, held = np.random.default_rng(0), np.repeat(np.arange(4), 10), 0
    for seed in range(200):
        is_wrong = rng.random(40) < 0.02  # each class with the same symmetric errors: true macro-F1 0.98
        score = measure_macro_f1(y_true, (y_true + is_wrong * rng.integers(1, 4, 40)) % 4, n_bootstrap=200, seed=seed)
        held += score.low <= 0.98 <= score.high
    assert 0.9 <= held / 200 <= 1  # a percentile bootstrap holds it in 0.54
