"""Scores repeated over seeds: the interval covers images and seeds, and promises no more than the images hold."""

import numpy as np
import pytest

from utils_cv.evaluation.intervals import (
    compare_repeated,
    compute_wilson_interval,
    measure_repeated,
    resample_means,
)
from utils_cv.evaluation.metrics import compare_accuracy


def draw_right(rng, n_seeds, n_images, *, image_sd=0.2, seed_sd=0.05, level=0.8):
    """Answers whose chance of being right depends on image and seed; the truth is `level`."""
    chance = level + rng.normal(0, image_sd, n_images)[None] + rng.normal(0, seed_sd, n_seeds)[:, None]
    return rng.random((n_seeds, n_images)) < chance


def test_one_seed_has_the_interval_of_its_images():
    right = np.arange(100)[None] < 90
    score = measure_repeated(right, n_bootstrap=4000)
    assert score.value == 0.9 and score.n == 100
    assert (score.low, score.high) == pytest.approx(compute_wilson_interval(90, 100), abs=0.005)


def test_the_same_answers_ten_times_are_no_more_images():
    right = np.arange(100) < 90
    once, ten_times = measure_repeated(right[None]), measure_repeated(np.repeat(right[None], 10, axis=0))
    assert ten_times.low == pytest.approx(once.low, abs=0.01)


def test_the_interval_holds_the_truth_in_nearly_all_simulated_studies():
    rng = np.random.default_rng(0)
    scores = [measure_repeated(draw_right(rng, 5, 120, seed_sd=0.08), n_bootstrap=200) for _ in range(300)]
    truth = draw_right(rng, 2000, 2000, seed_sd=0.08).mean()
    covered = np.mean([score.low <= truth <= score.high for score in scores])
    assert covered >= 0.93


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    calm, wild = (measure_repeated(draw_right(rng, 5, 200, seed_sd=sd, level=0.7)) for sd in (0.0, 0.2))
    assert wild.high - wild.low > 1.5 * (calm.high - calm.low)


def test_comparison_of_one_seed_agrees_with_the_paired_interval():
    rng = np.random.default_rng(1)
    a, b = rng.random(300) < 0.9, rng.random(300) < 0.8
    paired = compare_accuracy(np.ones(300, int), a.astype(int), b.astype(int))
    score = compare_repeated(a[None], b[None], n_bootstrap=4000)
    assert score.value == pytest.approx(paired.value)
    assert (score.low, score.high) == pytest.approx((paired.low, paired.high), abs=0.01)


def test_models_that_agree_everywhere_still_have_an_interval():
    right = np.ones((3, 50), bool)
    agreeing = compare_accuracy(np.ones(50, int), np.ones(50, int), np.ones(50, int))
    score = compare_repeated(right, right)
    assert score.value == 0 and score.low == pytest.approx(agreeing.low, abs=1e-9)


def test_settings_share_the_drawn_images_and_seeds():
    rng = np.random.default_rng(2)
    right = draw_right(rng, 4, 60)
    means = resample_means(np.stack([right, right]), n_bootstrap=50)
    assert means.shape == (50, 2)
    np.testing.assert_allclose(means[:, 0], means[:, 1])


@pytest.mark.parametrize("right", [[[1, 0]], [True, False], np.zeros((2, 0), bool)], ids=["numbers", "1-D", "empty"])
def test_arrays_of_other_kinds(right):
    with pytest.raises(ValueError, match="Expected bool"):
        measure_repeated(right)


def test_other_seeds_or_images_cannot_be_compared():
    with pytest.raises(ValueError, match="same seeds and images"):
        compare_repeated(np.ones((2, 5), bool), np.ones((3, 5), bool))
