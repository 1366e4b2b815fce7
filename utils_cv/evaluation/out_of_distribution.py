"""Out-of-distribution (OOD) images: are new images like the training images, or of none of the classes?

A classifier names a class whatever it is shown. A score says how unusual an image is, from its features or its logits.
Its threshold comes from images of the classes that the model has not learned, never from those it is to reject.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .intervals import Score, compute_wilson_interval, count_effective, find_variance, measure_mean

HIGHEST_LOGIT, MAHALANOBIS = "highest logit", "relative Mahalanobis"
DEFAULT_RIDGE = 3.0  # where there are too few classes to select one
_RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0)
_MAX_TURNS, _MAX_CLASSES, _MAX_IMAGES = 12, 30, 600  # a ridge needs no more; only the time would grow


@dataclasses.dataclass(frozen=True)
class OodDetector:
    """Says how unusual an image is, and from where on it belongs to none of the classes.

    The "relative Mahalanobis" distance (Ren et al. 2021) asks how far the nearest class is, beside the distance to all
    images. Features are replaced by their square roots (Perronnin et al. 2010) and scaled to length 1, so that a few
    large ones do not outweigh the others. The "highest logit" (Hendrycks et al. 2022) is low; it needs no features.

    It holds a name, numbers and arrays only: `dataclasses.asdict(detector)` is what a file needs, and
    `OodDetector(**values)` makes the same detector again.
    """

    name: str  # `MAHALANOBIS` or `HIGHEST_LOGIT`
    arrays: Mapping[str, np.ndarray]  # what the former needs: class means and covariances, see `fit_ood_detector`
    threshold: float = math.inf  # an image with a higher score is rejected
    expected: float = 0.05  # the share of images of the classes that it rejects, in [0, 1]
    n_known: int = 0  # how many of these have set the threshold

    def score(self, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Score images, (n_images,), by features (n_images, n_features) or logits (n_images, n_classes)."""
        if self.name == HIGHEST_LOGIT:
            return -np.asarray(logits).max(axis=1)
        return _measure_distance(scale_features(features), self.arrays)


def fit_ood_detector(
    features: np.ndarray, codes: np.ndarray, known: Any = (), *, expected: float = 0.05, ridge: float = DEFAULT_RIDGE
) -> OodDetector:
    """Fit the relative Mahalanobis distance to the images learned, and its threshold to images that were not.

    Args:
        features: (n_images, n_features), of the training images, from a backbone.
        codes: (n_images,), their classes.
        known: (n_known,), scores of images of the classes by models that have not learned them, as
            `utils_cv.studies.confidence_and_unknown_images.score_by_folds` gives them. Default: none, then nothing is
            rejected.
        expected: Share of such images to reject, in [0, 1]: the false alarms to live with.
        ridge: How far directions in which the images hardly differ are held back, the same as for `known`; see
            `select_ridge`.

    Returns:
        The detector.

    Raises:
        ValueError: If there is no training image.

    Example:
        >>> detector = fit_ood_detector(np.eye(4), np.arange(4), np.arange(101.0), expected=0.1)
        >>> detector.threshold, detector.n_known
        (90.0, 101)
    """
    if not len(features):
        raise ValueError("Got no training image; expected features (n_images, n_features) of some.")
    (fitted,) = _fit_arrays(scale_features(features), codes, [ridge])
    threshold = float(np.quantile(known, 1 - expected)) if len(known) else math.inf
    arrays = {key: array.astype(np.float32) for key, array in fitted.items()}
    return OodDetector(MAHALANOBIS, arrays, threshold, expected, len(known))


def scale_features(features: np.ndarray) -> np.ndarray:
    """Replace features (n, n_features) by their square roots, with their signs, and scale each image to length 1."""
    from sklearn.preprocessing import normalize

    features = np.asarray(features, float)
    return normalize(np.sign(features) * np.sqrt(np.abs(features)))


def select_ridge(features: np.ndarray, codes: np.ndarray, *, groups: Any = None) -> float:
    """Select the ridge of an `OodDetector`: each class is left out in turn, and has to be found.

    Half of the other images are learned, the other half is known. Of 0.3, 1, 3, 10 and 30 the largest is taken whose
    AUROC is within one standard error, over the classes left out, of the best. No image of another kind is needed.
    At most 12 classes of 30 take their turn, with 600 images in all, evenly spaced.

    Args:
        features: (n_images, n_features).
        codes: (n_images,), their classes; with fewer than three it is 3.
        groups: (n_images,) scene, video or patient of each image; equal ones stay in one half.

    Returns:
        The ridge, a multiple of the mean variance of a feature.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> select_ridge(rng.random((60, 8)), np.arange(60) % 3) in (0.3, 1, 3, 10, 30)
        True
    """
    from sklearn.model_selection import StratifiedGroupKFold

    found, counts = np.unique(codes, return_counts=True)
    classes = space_evenly(found[counts > 1], _MAX_CLASSES)
    if len(classes) < 3 or (groups is not None and len(np.unique(groups)) < 2):
        return DEFAULT_RIDGE
    n_each = _MAX_IMAGES // len(classes)
    rows = np.concatenate([space_evenly(np.flatnonzero(codes == code), n_each) for code in classes])
    unit, codes = scale_features(features[rows]), np.asarray(codes)[rows]
    groups = np.arange(len(rows)) if groups is None else np.asarray(groups)[rows]
    areas: list[list[float]] = []
    halves = list(StratifiedGroupKFold(2, shuffle=True, random_state=0).split(unit, codes, groups))
    for left_out in space_evenly(classes, _MAX_TURNS):
        for learned, held_out in halves:
            learned = learned[codes[learned] != left_out]
            known = held_out[np.isin(codes[held_out], codes[learned])]
            unknown = held_out[codes[held_out] == left_out]
            if len(np.unique(codes[learned])) > 1 and len(known) and len(unknown):
                areas.append(_measure_ridges(unit, codes, learned, known, unknown))
    if not areas:
        return DEFAULT_RIDGE
    means = np.mean(areas, axis=0)
    lost = np.array(areas)[:, [means.argmax()]] - areas
    error = lost.std(axis=0, ddof=min(1, len(areas) - 1)) / np.sqrt(len(areas))
    return _RIDGES[np.flatnonzero(lost.mean(axis=0) <= error)[-1]]


def measure_rejected(
    scores: Any, known_scores: Any, *, expected: float = 0.05, groups: Any = None, known_groups: Any = None
) -> Score:
    """Measure the share of `scores` above the threshold that rejects the share `expected` of `known_scores`.

    The threshold is a quantile of few images, so the interval allows for another one (order statistics and MOVER, Zou
    and Donner 2008): it is that of the share at exactly `expected` false alarms. Images of equal `groups` do not count
    as independent; `n` counts `scores`, or their groups.
    """
    from scipy.stats import binom

    if not len(scores) or not len(known_scores):
        raise ValueError(f"Got {len(scores)} scores and {len(known_scores)} known scores; expected some of each.")
    scores, known = np.asarray(scores, float), np.asarray(known_scores, float)
    threshold, n_known = np.quantile(known, 1 - expected), len(known)
    if known_groups is not None:
        n_known = max(round(count_effective(known > threshold, known_groups)), 1)
    # How many known images lie below the true quantile is binomial: it may be between any two, or above all of them.
    n_below = binom.cdf(np.arange(n_known + 2), n_known, 1 - expected)
    limits = np.searchsorted((n_below + np.r_[0, n_below[:-1]]) / 2, (0.025, 0.975))
    limits = np.rint(limits * (len(known) + 1) / (n_known + 1)).astype(int)
    most, least = (float((scores > limit).mean()) for limit in np.r_[-np.inf, np.sort(known), np.inf][limits])
    score = measure_mean(scores > threshold, groups=groups)
    value = score.value
    low, high = value - np.hypot(value - score.low, value - least), value + np.hypot(score.high - value, most - value)
    return Score(value, max(float(low), 0.0), min(float(high), 1.0), score.n)


def measure_auroc(scores_in: Any, scores_ood: Any, *, groups_in: Any = None, groups_ood: Any = None) -> Score:
    """Measure how often an OOD image has the higher score, the area under the ROC curve; `n` counts images or groups.

    The interval comes from the variance of DeLong et al. 1988. It is Wilson's of as many images as that variance is
    worth, at most twice the smaller kind, so that it stays in range and keeps a width where the two kinds are told
    apart without a mistake.
    """
    from scipy.stats import rankdata

    n, m = len(scores_in), len(scores_ood)
    if not n or not m:
        raise ValueError(f"Got {n} in-distribution and {m} OOD images; expected at least one of each.")
    ranks = rankdata(np.concatenate([scores_in, scores_ood]))
    below = (ranks[n:] - rankdata(scores_ood)) / n  # of each OOD image, the share of the others; ties count half
    above = 1 - (ranks[:n] - rankdata(scores_in)) / m  # of each in-distribution image, likewise
    area = float(below.mean())
    (variance_ood, m), (variance_in, n) = (
        find_variance(part - part.mean(), groups) for part, groups in ((below, groups_ood), (above, groups_in))
    )
    variance = variance_ood + variance_in
    n_effective = min(area * (1 - area) / variance, 2.0 * min(n, m)) if variance > 0 else float(min(n, m))
    return Score(area, *compute_wilson_interval(area * n_effective, n_effective), n + m)


def _measure_distance(unit: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Measure the relative Mahalanobis distance of scaled features."""
    from scipy.spatial.distance import cdist

    distances = []
    for name, centers in (("within", arrays["class_roots"]), ("total", arrays["mean"])):
        directions = arrays[f"{name}_directions"].T.astype(float)
        along = cdist(unit @ directions, centers @ directions, "sqeuclidean")
        distances.append((cdist(unit, centers, "sqeuclidean") - along) / arrays[f"{name}_ridge"])
    return distances[0].min(axis=1) - distances[1][:, 0]


def _fit_arrays(unit: np.ndarray, codes: np.ndarray, ridges: Sequence[float]) -> list[dict[str, np.ndarray]]:
    """Fit class means, and covariances within the classes and of all images; with each ridge, what a detector needs.

    The ridge keeps the covariances invertible; directions of hardly any variance are left out.
    """
    codes = np.unique(codes, return_inverse=True)[1]
    means = np.stack([unit[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
    mean = unit.mean(axis=0, keepdims=True)
    fits = [{"class_roots": means, "mean": mean} for _ in ridges]
    for name, deviations, n_learned in (("within", unit - means[codes], len(means)), ("total", unit - mean, 1)):
        n_free, is_wide = max(len(unit) - n_learned, 1), len(unit) < unit.shape[1]
        # The smaller of two matrices has the same eigenvalues.
        variances, vectors = np.linalg.eigh(deviations @ deviations.T if is_wide else deviations.T @ deviations)
        kept = variances > 1e-9 * max(variances[-1], 1e-12)
        variances, vectors = variances[kept], vectors[:, kept]
        directions = vectors.T @ deviations / np.sqrt(variances)[:, None] if is_wide else vectors.T
        variances, mean_variance = variances / n_free, float((deviations**2).sum()) / n_free / unit.shape[1]
        for arrays, ridge in zip(fits, ridges, strict=True):
            # A squared Mahalanobis distance is the squared length minus that along the directions, over the ridge.
            added = max(ridge * mean_variance, 1e-9)
            kept = variances > 0.01 * added
            lengths = np.sqrt(variances[kept] / (variances[kept] + added))
            arrays |= {f"{name}_directions": directions[kept] * lengths[:, None], f"{name}_ridge": np.array(added)}
    return fits


def _measure_ridges(
    unit: np.ndarray, codes: np.ndarray, learned: np.ndarray, known: np.ndarray, unknown: np.ndarray
) -> list[float]:
    """Measure how well each ridge tells unknown rows from known ones: the AUROC."""
    fits = _fit_arrays(unit[learned], codes[learned], _RIDGES)
    distances = [[_measure_distance(unit[rows], arrays) for rows in (known, unknown)] for arrays in fits]
    return [measure_auroc(*pair).value for pair in distances]


def space_evenly(values: np.ndarray, n_most: int) -> np.ndarray:
    """Take at most so many values, evenly spaced."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(len(values), n_most)).astype(int))]
