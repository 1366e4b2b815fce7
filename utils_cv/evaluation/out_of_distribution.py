"""Out-of-distribution (OOD) images: are new images like the training images, or of none of the classes?

A classifier names a class whatever it is shown. Two signals tell OOD images: a low highest probability, and a long
distance to the training images in the features of a backbone. Held-out images set their thresholds, never new ones.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .intervals import Score, make_fraction_score, make_score

N_NEIGHBORS = 3  # one training image alone may be an outlier


@dataclass(frozen=True)
class OODDetector:
    """Training features (n_train, n_features) scaled to length 1, and the distance beyond which an image is OOD.

    `expected` is the share of in-distribution images beyond the `threshold`.
    """

    neighbors: np.ndarray
    threshold: float
    expected: float

    def measure_distance(self, features: np.ndarray) -> np.ndarray:
        """Measure the mean distance to the 3 nearest training images, (n_images,), from 0 to 2."""
        if features.ndim != 2 or features.shape[1] != self.neighbors.shape[1]:
            expected = f"(n_images, {self.neighbors.shape[1]}), of the backbone of the training images"
            raise ValueError(f"features: expected {expected}, got {features.shape}.")
        squared = 2 - 2 * _scale_to_length_1(features) @ self.neighbors.T
        nearest = np.partition(squared, min(N_NEIGHBORS, squared.shape[1]) - 1, axis=1)[:, :N_NEIGHBORS]
        return np.sqrt(np.clip(nearest, 0, None)).mean(axis=1)

    def is_ood(self, features: np.ndarray) -> np.ndarray:
        """Tell which images are farther from the training images than the threshold, bool (n_images,)."""
        return self.measure_distance(features) > self.threshold


def fit_ood_detector(
    train_features: np.ndarray, held_out_features: np.ndarray, *, expected: float = 0.05
) -> OODDetector:
    """Fit a detector: angles to the nearest training images (Sun et al. 2022), a threshold from held-out images.

    Features are (n_images, n_features) of one backbone. `expected` is the share of the held-out images that may lie
    beyond the threshold: the false alarms to live with. Centered, standardized or whitened features, Mahalanobis
    distances and the probabilities of a classifier found images of a class that was left out of training less often.

    Example:
        >>> features = np.random.default_rng(0).normal(1, 0.3, (120, 8))
        >>> detector = fit_ood_detector(features[:100], features[100:])
        >>> detector.is_ood(-features[:3])
        array([ True,  True,  True])
    """
    n_train, n_held_out = len(train_features), len(held_out_features)
    if n_train <= N_NEIGHBORS or not 0 < expected < 1 or n_held_out < 1 / expected:
        got = f"{n_train} train and {n_held_out} held-out images, expected={expected}"
        raise ValueError(f"Got {got}; needed are more than {N_NEIGHBORS}, at least 1 / expected, and a fraction.")
    detector = OODDetector(_scale_to_length_1(train_features), math.inf, expected)
    threshold = np.quantile(detector.measure_distance(held_out_features), 1 - expected)
    return dataclasses.replace(detector, threshold=float(threshold))


def measure_ood_fraction(detector: OODDetector, features: np.ndarray) -> pd.Series:
    """Measure whether more of some new images are OOD than chance explains.

    Returns `n_images`, `n_ood`, `ood_fraction`, `expected`, and `p_value`, the probability that in-distribution images
    give at least as many (binomial). Below 0.01, scores of the old test images do not hold for the new ones.

    Example:
        >>> features = np.random.default_rng(0).normal(1, 0.3, (120, 8))
        >>> facts = measure_ood_fraction(fit_ood_detector(features[:100], features[100:]), -features)
        >>> facts["ood_fraction"], facts["p_value"] < 0.01
        (np.float64(1.0), np.True_)
    """
    from scipy.stats import binom

    n, n_ood = len(features), int(detector.is_ood(features).sum())
    if n == 0:
        raise ValueError("Got no new images; expected at least one row of features.")
    facts = {"n_images": n, "n_ood": n_ood, "ood_fraction": n_ood / n, "expected": detector.expected}
    return pd.Series(facts | {"p_value": float(binom.sf(n_ood - 1, n, detector.expected))})


def compare_rejections(
    held_out: Mapping[str, Any], in_distribution: Mapping[str, Any], ood: Mapping[str, Any], *, expected: float = 0.05
) -> pd.DataFrame:
    """Compare signals that reject OOD images, when each rejects a share `expected` of the held-out images.

    Each mapping holds the scores (n,) of some images by signal, higher is more OOD. Two rows per signal: `signal`,
    `images` ("out-of-distribution" or "in-distribution"), the share of them that is rejected as `value`, `low`, `high`,
    `n`, and the `threshold`.

    Example:
        >>> known = {"distance": [0.1, 0.2]}
        >>> compare_rejections(known, known, {"distance": [0.5, 0.6]})["value"].tolist()
        [1.0, 0.5]
    """
    rows = []
    for signal, scores in held_out.items():
        threshold = float(np.quantile(np.asarray(scores, float), 1 - expected))
        for images, values in (("out-of-distribution", ood[signal]), ("in-distribution", in_distribution[signal])):
            is_rejected = np.asarray(values, float) > threshold
            score = make_fraction_score(int(is_rejected.sum()), len(is_rejected))
            rows.append({"signal": signal, "images": images, **score._asdict(), "threshold": threshold})
    return pd.DataFrame(rows)


def measure_auroc(scores_in: Any, scores_ood: Any) -> Score:
    """Measure the probability that an OOD image has a higher score than an in-distribution one (area under the ROC).

    0.5 is a coin toss, 1 separates all. The interval uses the standard error of Hanley and McNeil 1982.

    Example:
        >>> round(measure_auroc([0.1, 0.2, 0.3], [0.25, 0.9]).value, 3)  # 5 of 6 pairs are in order
        0.833
    """
    from sklearn.metrics import roc_auc_score

    n, m = len(scores_in), len(scores_ood)
    if not n or not m:
        raise ValueError(f"Got {n} in-distribution and {m} OOD images; expected at least one of each.")
    area = float(roc_auc_score(np.arange(n + m) >= n, np.concatenate([scores_in, scores_ood])))
    two_ood, two_in = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (m - 1) * (two_ood - area**2) + (n - 1) * (two_in - area**2)
    return make_score(area, math.sqrt(max(variance, 0.0) / (n * m)), n + m)


def _scale_to_length_1(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, float)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
