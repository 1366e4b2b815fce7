"""Out-of-distribution (OOD) images: are new images like the training images, or of none of the classes?

A classifier names a class whatever it is shown. Two signals tell OOD images: a low highest probability, and a long
distance to the training images in the features of a backbone. Held-out images set their thresholds, never new ones.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .intervals import Score, make_fraction_score, make_score

N_NEIGHBORS = 3  # one training image alone may be an outlier


@dataclass(frozen=True)
class OODDetector:
    """Training features (n_train, n_features) of length 1, and the distance that `expected` of known images exceed."""

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
        """Tell which images are farther from the training images than the threshold, bool (n_images,).

        `scipy.stats.binomtest(n_ood, n_images, expected, alternative="greater")` tells whether they are too many.
        """
        return self.measure_distance(features) > self.threshold


def fit_ood_detector(train_features: Any, held_out_features: Any, *, expected: float = 0.05) -> OODDetector:
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


def measure_rejected(scores: Any, held_out_scores: Any, *, expected: float = 0.05) -> Score:
    """Measure the share of images that is rejected by the score which rejects a share `expected` of held-out images.

    Scores are (n,), higher is more OOD: distances, or 1 minus the highest probability.

    Example:
        >>> measure_rejected([0.5, 0.6, 0.1], [0.1, 0.2, 0.3, 0.2]).value
        0.6666666666666666
    """
    threshold = np.quantile(np.asarray(held_out_scores, float), 1 - expected)
    is_rejected = np.asarray(scores, float) > threshold
    return make_fraction_score(int(is_rejected.sum()), len(is_rejected))


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
