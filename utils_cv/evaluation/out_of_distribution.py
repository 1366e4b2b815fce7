"""Do new images resemble the training images? A warning before a model is trusted with them, and "none of the above".

A classifier must choose one of its classes, whatever it is shown, and is often sure of itself when it is wrong. Two
signals tell such images: a low highest probability, and a long distance to the training images in the space of a
backbone's features. Their thresholds come from images that were held out, never from the new ones.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .intervals import Score, make_fraction_score, make_score

N_NEIGHBORS = 3  # one training image alone may be an odd one


class OODWarning(UserWarning):
    """New images differ from the training images more often than held-out images do."""


@dataclass(frozen=True)
class OODDetector:
    """What the training images look like in feature space, and how far away is too far.

    Attributes:
        neighbors: (n_train, n_features), the features of the training images, scaled to length 1.
        threshold: The distance beyond which an image counts as new.
        expected: Share of ordinary images beyond the threshold, a fraction.
    """

    neighbors: np.ndarray
    threshold: float
    expected: float

    def measure_distance(self, features: np.ndarray) -> np.ndarray:
        """Measure how far images are from their nearest training images.

        Args:
            features: (n_images, n_features), of the same backbone, size and fit as those of the training images.

        Returns:
            (n_images,), from 0 to 2: the mean distance to the `N_NEIGHBORS` nearest training images, between features
            scaled to length 1.

        Raises:
            ValueError: If the number of features is not that of the training images.
        """
        n_features = self.neighbors.shape[1]
        if features.ndim != 2 or features.shape[1] != n_features:
            raise ValueError(
                f"Got features of shape {features.shape}, expected (n_images, {n_features}): compute them with the "
                "backbone and image size of the training images."
            )
        squared = 2 - 2 * _scale_to_length_1(features) @ self.neighbors.T
        nearest = np.partition(squared, min(N_NEIGHBORS, squared.shape[1]) - 1, axis=1)[:, :N_NEIGHBORS]
        return np.sqrt(np.clip(nearest, 0, None)).mean(axis=1)

    def is_new(self, features: np.ndarray) -> np.ndarray:
        """Tell which images are farther from the training images than the threshold, bool (n_images,)."""
        return self.measure_distance(features) > self.threshold


def fit_ood_detector(
    train_features: np.ndarray, held_out_features: np.ndarray, *, expected: float = 0.05
) -> OODDetector:
    """Learn what the training images look like, and choose the threshold on images held out from training.

    Features are compared by angle to the nearest neighbors, as Sun and others 2022 ("Out-of-distribution detection
    with deep nearest neighbors") do. Centered, standardized or whitened features, Mahalanobis distances and the
    probabilities of a classifier all found images of a demo class that was left out of training less often.

    Args:
        train_features: (n_train, n_features), of `utils_cv.models.features.compute_features`.
        held_out_features: (n_held_out, n_features), of images that were not trained on, such as the validation images.
        expected: Share of the held-out images that may lie beyond the threshold: the false alarms to live with.

    Returns:
        The check, for any number of new images.

    Raises:
        ValueError: If there are too few images, or `expected` is not between 0 and 1.

    Example:
        >>> check = fit_ood_detector(train_features, valid_features)  # doctest: +SKIP
        >>> warn_about_new_images(check, new_features)  # doctest: +SKIP
    """
    if len(train_features) <= N_NEIGHBORS or len(held_out_features) < 1 / max(expected, 1e-9) or not 0 < expected < 1:
        raise ValueError(
            f"Got {len(train_features)} train and {len(held_out_features)} held-out images with expected={expected}; "
            f"expected more than {N_NEIGHBORS} and at least 1 / expected, for a share between 0 and 1."
        )
    check = OODDetector(_scale_to_length_1(train_features), math.inf, expected)
    threshold = choose_rejection_threshold(check.measure_distance(held_out_features), expected=expected)
    return dataclasses.replace(check, threshold=threshold)


def warn_about_new_images(check: OODDetector, features: np.ndarray, *, warn: bool = True) -> pd.Series:
    """Warn when more of some new images are far from the training images than chance explains.

    Args:
        check: Of `fit_ood_detector`.
        features: (n_images, n_features) of the new images, a few dozen or more.
        warn: Whether to warn, or only to count.

    Returns:
        `n_images`, `n_new` (beyond the threshold), `share_new`, `expected`, and `p_value`: the probability that
        ordinary images give at least as many (binomial). A `OODWarning` is given below 0.01.

    Raises:
        ValueError: If there is no image.
    """
    from scipy.stats import binom

    if len(features) == 0:
        raise ValueError("Got no new images; expected at least one row of features.")
    n_new = int(check.is_new(features).sum())
    p_value = float(binom.sf(n_new - 1, len(features), check.expected))
    if warn and p_value < 0.01:
        warnings.warn(
            f"{n_new} of {len(features)} new images are unlike the training images, about {check.expected:.0%} were "
            "expected: scores of the old test images do not hold for them. Look at the farthest, and label some.",
            OODWarning,
            stacklevel=2,
        )
    facts = {"n_images": len(features), "n_new": n_new, "share_new": n_new / len(features)}
    return pd.Series(facts | {"expected": check.expected, "p_value": p_value})


def choose_rejection_threshold(held_out_scores: Any, *, expected: float = 0.05) -> float:
    """Choose the score above which an image is called "none of the above".

    Args:
        held_out_scores: (n_images,), higher is stranger: a distance, or 1 minus the highest probability, of images
            that belong to the classes and were held out from training.
        expected: Share of such images to reject.

    Returns:
        A threshold; about `expected` of the held-out scores are above it.
    """
    return float(np.quantile(np.asarray(held_out_scores, float), 1 - expected))


def compare_rejections(
    held_out: Mapping[str, Any], ordinary: Mapping[str, Any], strange: Mapping[str, Any], *, expected: float = 0.05
) -> pd.DataFrame:
    """Compare signals that call an image "none of the above", at the same share of false alarms on held-out images.

    Args:
        held_out: Name of the signal to the scores of held-out images, higher is stranger; they set the threshold.
        ordinary: The same signals for other images of the classes, such as test images.
        strange: The same signals for images of none of the classes.
        expected: Share of the held-out images to reject.

    Returns:
        Two rows a signal, `signal` and `images` ("strange" or "ordinary"): the share of them that is rejected, as
        `value`, `low`, `high`, `n`, and the `threshold`.

    Example:
        >>> one = {"distance": [0.1, 0.2]}
        >>> compare_rejections(one, one, {"distance": [0.5, 0.6]})["value"].tolist()
        [1.0, 0.5]
    """
    rows = []
    for signal, scores in held_out.items():
        threshold = choose_rejection_threshold(scores, expected=expected)
        for images, values in (("strange", strange[signal]), ("ordinary", ordinary[signal])):
            rejected = np.asarray(values, float) > threshold
            score = make_fraction_score(int(rejected.sum()), len(rejected))
            rows.append({"signal": signal, "images": images, **score._asdict(), "threshold": threshold})
    return pd.DataFrame(rows)


def measure_auroc(scores_in: Any, scores_ood: Any) -> Score:
    """Probability that a strange image has a higher score than an ordinary one (area under the ROC curve).

    0.5 is a coin toss, 1 tells all apart. The interval uses the standard error of Hanley and McNeil 1982.

    Args:
        scores_in: (n,) scores of ordinary images.
        scores_ood: (m,) scores of strange images.

    Returns:
        The area with its 95 % interval; its `n` counts all images.

    Raises:
        ValueError: If either kind has no image.

    Example:
        >>> measure_auroc([0.1, 0.2, 0.3], [0.25, 0.9]).value  # 5 of 6 pairs are in order
        0.8333333333333334
    """
    from scipy.stats import rankdata

    ordinary, strange = np.asarray(scores_in, float), np.asarray(scores_ood, float)
    n, m = len(ordinary), len(strange)
    if not n or not m:
        raise ValueError(f"Got {n} ordinary and {m} strange images; expected at least one of each.")
    ranks = rankdata(np.concatenate([ordinary, strange]))
    area = float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))
    two_strange, two_ordinary = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (m - 1) * (two_strange - area**2) + (n - 1) * (two_ordinary - area**2)
    return make_score(area, math.sqrt(max(variance, 0.0) / (n * m)), n + m)


def _scale_to_length_1(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, float)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
