"""OOD images are found, in-distribution images are not, and the areas agree with scikit-learn."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.metrics import roc_auc_score

from utils_cv.evaluation import out_of_distribution
from utils_cv.evaluation.intervals import make_score
from utils_cv.evaluation.out_of_distribution import (
    HIGHEST_LOGIT,
    OodDetector,
    fit_ood_detector,
    measure_auroc,
    measure_rejected,
    select_ridge,
)

CENTERS = np.random.default_rng(9).normal(0, 3, (5, 40))


def draw_features(n, *, seed, away=0.0):
    """Features of four kinds of images; `away` moves them towards a fifth kind that nobody has trained on."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, n)
    centers = CENTERS[codes] * (1 - away) + CENTERS[4] * away
    return (centers + rng.normal(0, 1, (n, 40))).astype(np.float32), codes


def find_roots(features):
    """Square roots with their signs, of length 1: their squares are the shares of the features in their sum."""
    return np.sign(features) * np.sqrt(np.abs(features) / np.abs(features).sum(axis=1, keepdims=True)).astype(float)


def score(detector, features):
    return detector.score(features, features[:, :4])


TRAIN, TRAIN_CODES = draw_features(200, seed=0)
KNOWN = score(fit_ood_detector(TRAIN, TRAIN_CODES), draw_features(300, seed=1)[0])


def test_ood_images_are_rejected_and_others_as_often_as_asked_for():
    detector = fit_ood_detector(TRAIN, TRAIN_CODES, KNOWN)
    unusual = {away: score(detector, draw_features(400, seed=3, away=away)[0]) for away in (0.0, 1.0)}
    assert 0.01 <= np.mean(unusual[0.0] > detector.threshold) <= 0.12
    assert np.mean(unusual[1.0] > detector.threshold) > 0.9
    assert fit_ood_detector(TRAIN, TRAIN_CODES).threshold == np.inf  # without known images nothing is rejected


def test_a_detector_is_a_dictionary_of_numbers_that_makes_it_again():
    detector = fit_ood_detector(TRAIN, TRAIN_CODES, KNOWN)
    values = dataclasses.asdict(detector)
    text = json.dumps({**values, "arrays": {key: array.tolist() for key, array in values["arrays"].items()}})
    loaded = json.loads(text)
    loaded["arrays"] = {key: np.array(array, np.float32) for key, array in loaded["arrays"].items()}
    new = draw_features(50, seed=4)[0]
    np.testing.assert_allclose(score(OodDetector(**loaded), new), score(detector, new), rtol=1e-5)
    assert OodDetector(HIGHEST_LOGIT, {}).score(new, np.array([[2.0, 3.0]])).tolist() == [-3.0]


@pytest.mark.parametrize("n", [30, 200], ids=["fewer images than features", "more images than features"])
def test_relative_mahalanobis_is_the_textbook_distance_with_a_ridge(n):
    unit, codes = find_roots(TRAIN[:n]), TRAIN_CODES[:n]
    means = np.stack([unit[codes == k].mean(axis=0) for k in range(4)])
    new = draw_features(20, seed=5, away=0.3)[0]

    def measure(centers, deviations, n_free):
        covariance = deviations.T @ deviations / n_free
        covariance += 3 * np.trace(covariance) / 40 * np.eye(40)
        density = [multivariate_normal(center, covariance) for center in centers]
        at_center = [one.logpdf(one.mean) for one in density]
        return np.min(
            [2 * (top - one.logpdf(find_roots(new))) for one, top in zip(density, at_center, strict=True)], axis=0
        )

    center = unit.mean(axis=0)
    expected = measure(means, unit - means[codes], n - 4) - measure([center], unit - center, n - 1)
    found = score(fit_ood_detector(TRAIN[:n], codes), new)
    np.testing.assert_allclose(found, expected, atol=0.01 * np.ptp(expected))


def test_the_ridge_finds_classes_left_out_best_among_those_that_do_so_equally_well():
    """Two directions tell kinds apart; many others differ a lot within kinds: a large ridge would drown in them."""
    rng, codes = np.random.default_rng(0), np.repeat(np.arange(5), 40)
    centers = np.c_[rng.normal(0, 1, (5, 4)), np.zeros((5, 26))]
    spread = np.r_[np.full(4, 0.2), np.full(26, 0.5)]
    features = centers[codes] + spread * rng.normal(size=(200, 30))
    assert select_ridge(np.c_[np.full(200, 10), features], codes) == 0.3
    assert select_ridge(TRAIN, TRAIN_CODES) == 30.0  # every ridge finds every class


@pytest.mark.parametrize(
    ("areas", "ridge"),
    [
        pytest.param([[0.9, 0.9, 0.8, 0.7, 0.6]], 1.0, id="equally good: the largest"),
        pytest.param([[0.8, 0.9, 0.95, 0.9, 0.6], [0.8, 0.9, 0.85, 0.9, 0.6]], 10.0, id="within one standard error"),
        pytest.param([[0.5, 0.9, 0.7, 0.7, 0.6]] * 2, 1.0, id="the best"),
    ],
)
def test_the_largest_ridge_within_one_standard_error_is_selected(areas, ridge, monkeypatch):
    turns = iter(areas * 100)
    monkeypatch.setattr(out_of_distribution, "_measure_ridges", lambda *args: next(turns))
    assert select_ridge(TRAIN, TRAIN_CODES) == ridge


def test_a_ridge_is_judged_by_what_the_distance_with_it_tells_apart(monkeypatch):
    unit, learned, known, unknown = find_roots(TRAIN), *np.split(np.arange(200), [80, 150])
    found = out_of_distribution._measure_ridges(unit, TRAIN_CODES, learned, known, unknown)
    for area, ridge in zip(found, (0.3, 1, 3, 10, 30), strict=True):
        detector = fit_ood_detector(TRAIN[:80], TRAIN_CODES[:80], ridge=ridge)
        assert area == pytest.approx(measure_auroc(score(detector, TRAIN[80:150]), score(detector, TRAIN[150:])).value)


@pytest.mark.parametrize(
    ("codes", "groups"),
    [
        pytest.param(TRAIN_CODES % 2, None, id="two classes"),
        pytest.param(TRAIN_CODES, np.zeros(200), id="one group"),
        pytest.param(np.r_[0, 1, 2, np.full(197, 3)], None, id="classes of one image"),
    ],
)
def test_where_no_class_can_be_left_out_the_ridge_is_the_default(codes, groups):
    assert select_ridge(TRAIN, codes, groups=groups) == out_of_distribution.DEFAULT_RIDGE


def test_copies_of_images_that_are_one_group_make_no_interval_narrower():
    rng = np.random.default_rng(0)
    known, new, copies = rng.normal(0, 1, 60), rng.normal(1.5, 1, 30), {"groups": np.repeat(np.arange(30), 4)}
    known_copies = np.repeat(known, 4), np.repeat(np.arange(60), 4)
    once, often = measure_rejected(new, known), measure_rejected(np.repeat(new, 4), known, **copies)
    assert often.n == 30 and often.high - often.low >= 0.98 * (once.high - once.low)
    often = measure_rejected(new, known_copies[0], known_groups=known_copies[1])
    assert often.high - often.low >= 0.9 * (once.high - once.low)
    area = measure_auroc(known, new)
    repeated = measure_auroc(known_copies[0], np.repeat(new, 4), groups_in=known_copies[1], groups_ood=copies["groups"])
    assert repeated == pytest.approx(area)


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
        pytest.param(np.arange(100) / 100, 0.1, id="the known images themselves"),
    ],
)
def test_as_many_known_images_are_rejected_as_asked_for(scores, share):
    rejected = measure_rejected(scores, np.arange(100) / 100, expected=0.1)
    assert rejected.value == pytest.approx(share) and rejected.low <= share <= rejected.high
    assert rejected.n == len(scores)


@pytest.mark.parametrize(("n_known", "n"), [(64, 120), (320, 120), (64, 1000)], ids=["few known", "usual", "many new"])
def test_the_interval_of_the_rejected_share_holds_the_threshold_as_well(n_known, n):
    """Accepted: 0.90 to 0.99 of 400; with the threshold taken as known it is 0.6 for 64 known and 1000 new images."""
    rng, truth, n_held = np.random.default_rng(2), norm.sf(norm.isf(0.05) - 1.5), 0
    for _ in range(400):
        rejected = measure_rejected(rng.normal(1.5, 1, n), rng.normal(0, 1, n_known))
        n_held += rejected.low <= truth <= rejected.high
    assert 0.90 <= n_held / 400 <= 0.99


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: measure_auroc([], [1.0]), "0 in-distribution and 1 OOD images", id="no known image"),
        pytest.param(lambda: measure_auroc([1.0], []), "expected at least one of each", id="no OOD image"),
        pytest.param(lambda: measure_rejected([], [1.0]), "0 scores", id="nothing to reject"),
        pytest.param(lambda: measure_rejected([1.0], []), "0 known scores", id="no known score"),
        pytest.param(lambda: fit_ood_detector(TRAIN[:0], TRAIN_CODES[:0]), "no training image", id="nothing learned"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
