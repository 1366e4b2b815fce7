"""OOD images are found, in-distribution images are not, and the areas agree with scikit-learn."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from utils_cv.evaluation.intervals import make_fraction_score, make_score
from utils_cv.evaluation.out_of_distribution import fit_ood_detector, measure_auroc, measure_rejected

CENTERS = np.random.default_rng(9).normal(0, 3, (5, 40))


def draw_features(n, *, seed, away=0.0):
    """Features of four kinds of images; `away` moves them towards a fifth kind that nobody has trained on."""
    rng = np.random.default_rng(seed)
    centers = CENTERS[rng.integers(0, 4, n)] * (1 - away) + CENTERS[4] * away
    return (centers + rng.normal(0, 1, (n, 40))).astype(np.float32)


TRAIN, HELD_OUT = draw_features(200, seed=0), draw_features(100, seed=1)
DETECTOR = fit_ood_detector(TRAIN, HELD_OUT)


def test_ood_images_are_rejected_and_others_as_often_as_asked_for():
    ood = draw_features(100, seed=3, away=1.0)
    assert 0.01 <= DETECTOR.is_ood(draw_features(400, seed=2)).mean() <= 0.12
    assert DETECTOR.is_ood(ood).mean() > 0.9
    assert DETECTOR.measure_distance(TRAIN).max() < DETECTOR.measure_distance(ood).min()


def test_the_threshold_is_the_quantile_of_the_held_out_images():
    strict, loose = (fit_ood_detector(TRAIN, HELD_OUT, expected=expected) for expected in (0.01, 0.2))
    assert loose.is_ood(HELD_OUT).sum() == 20
    assert strict.threshold > loose.threshold


@pytest.mark.parametrize("ties", [False, True], ids=["all different", "with ties"])
def test_auroc_agrees_with_scikit_learn(ties):
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0, 1, 60), rng.normal(0.8, 1, 40)])
    scores = scores.round() if ties else scores
    score = measure_auroc(scores[:60], scores[60:])
    oracle = roc_auc_score([0] * 60 + [1] * 40, scores)
    assert score.value == pytest.approx(oracle)
    assert score.low < oracle < score.high and score.n == 100


def test_auroc_that_is_perfect_has_an_interval_and_stays_in_range():
    score = measure_auroc([0, 1, 2], [5, 6, 7])
    assert score.value == score.high == 1.0 and score.low < 1.0


def test_standard_error_of_auroc_is_the_published_one():
    """Hanley and McNeil 1982: 58 normal and 51 abnormal images, area 0.893, standard error 0.032."""
    n_below = np.repeat([58, 29, 31], [40, 10, 1])  # of each abnormal image
    score = measure_auroc(np.arange(58), n_below - 0.5)
    assert score.value == pytest.approx(0.893, abs=5e-4)
    assert score == pytest.approx(make_score(score.value, 0.0325, 109), abs=2e-4)


def test_the_interval_of_auroc_holds_the_truth():
    rng, truth, n_held = np.random.default_rng(1), norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(300):
        score = measure_auroc(rng.normal(0, 1, 40), rng.normal(1, 1, 40))
        n_held += score.low <= truth <= score.high
    assert 0.91 <= n_held / 300 <= 0.99


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: measure_auroc([], [1.0]), "at least one of each", id="area of nothing"),
        pytest.param(lambda: DETECTOR.measure_distance(np.zeros((3, 7))), r"\(n_images, 40\)", id="other backbone"),
        pytest.param(lambda: fit_ood_detector(TRAIN[:3], HELD_OUT), "more than 3", id="too few to have neighbors"),
        pytest.param(lambda: fit_ood_detector(TRAIN, HELD_OUT[:10]), "at least 1 / expected", id="too few held out"),
        pytest.param(lambda: fit_ood_detector(TRAIN, HELD_OUT, expected=1.0), "a fraction", id="everything rejected"),
        pytest.param(lambda: fit_ood_detector(TRAIN, HELD_OUT, expected=0.0), "a fraction", id="nothing rejected"),
    ],
)
def test_what_cannot_be_fitted_or_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("scores", "share"),
    [
        pytest.param(np.full(50, 2.0), 1.0, id="far away"),
        pytest.param(np.full(50, 0.5), 0.0, id="in the middle"),
        pytest.param(np.arange(100) / 100, 0.1, id="the held-out images themselves"),
    ],
)
def test_as_many_held_out_images_are_rejected_as_asked_for(scores, share):
    rejected = measure_rejected(scores, np.arange(100) / 100, expected=0.1)
    assert rejected == make_fraction_score(share * len(scores), len(scores))
