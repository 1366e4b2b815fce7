"""OOD images are found, in-distribution images are not, and the areas agree with scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from utils_cv.evaluation.intervals import make_fraction_score, make_score
from utils_cv.evaluation.out_of_distribution import measure_auroc, measure_feature_distance, measure_rejected

CENTERS = np.random.default_rng(9).normal(0, 3, (5, 40))


def draw_features(n, *, seed, away=0.0):
    """Features of four kinds of images; `away` moves them towards a fifth kind that nobody has trained on."""
    rng = np.random.default_rng(seed)
    centers = CENTERS[rng.integers(0, 4, n)] * (1 - away) + CENTERS[4] * away
    return (centers + rng.normal(0, 1, (n, 40))).astype(np.float32)


TRAIN = draw_features(200, seed=0)


def measure(n, *, seed, away=0.0):
    return measure_feature_distance(draw_features(n, seed=seed, away=away), TRAIN)


def test_ood_images_are_rejected_and_others_as_often_as_asked_for():
    held_out = measure(100, seed=1)
    assert 0.01 <= measure_rejected(measure(400, seed=2), held_out).value <= 0.12
    assert measure_rejected(measure(100, seed=3, away=1.0), held_out).value > 0.9


def test_distance_is_the_mean_of_the_three_nearest_directions():
    features = draw_features(20, seed=4) * 7
    lengths = np.outer(np.linalg.norm(features, axis=1), np.linalg.norm(TRAIN, axis=1))
    cosine = features @ TRAIN.T / lengths
    expected = np.sort(np.sqrt(2 - 2 * cosine), axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(measure_feature_distance(features, TRAIN), expected, rtol=1e-4)


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


def test_interval_of_auroc_is_wilsons_with_the_variance_of_delong_by_all_pairs():
    rng = np.random.default_rng(3)
    known, unknown = rng.normal(0, 1, 50).round(1), rng.normal(0.5, 2, 30).round(1)
    wins = (unknown[:, None] > known) + 0.5 * (unknown[:, None] == known)  # of every pair
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / 30 + wins.mean(axis=0).var(ddof=1) / 50)
    assert measure_auroc(known, unknown) == pytest.approx(make_score(wins.mean(), error, 80))


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: measure_auroc([], [1.0]), "0 in-distribution and 1 OOD images", id="no known image"),
        pytest.param(lambda: measure_auroc([1.0], []), "expected at least one of each", id="no OOD image"),
        pytest.param(lambda: measure_rejected([], [1.0]), "0 scores", id="nothing to reject"),
        pytest.param(lambda: measure_rejected([1.0], []), "0 held-out scores", id="no held-out image"),
        pytest.param(lambda: measure_feature_distance(TRAIN, TRAIN[:2]), "at least 3", id="too few neighbors"),
        pytest.param(lambda: measure_feature_distance(TRAIN[:, :7], TRAIN), "of one backbone", id="another backbone"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
