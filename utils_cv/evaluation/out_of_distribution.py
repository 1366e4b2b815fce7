"""Out-of-distribution (OOD) images: are new images like the training images, or of none of the classes?

A classifier names a class whatever it is shown. Scores tell OOD images: a low highest probability or logit, or a long
distance to the training images in the features of a backbone. Held-out images set their thresholds, never new ones.
"""

from typing import Any

import numpy as np

from .intervals import Score, compute_wilson_interval, make_fraction_score

N_NEIGHBORS = 3  # one training image alone may be an outlier


def measure_feature_distance(features: np.ndarray, train_features: np.ndarray) -> np.ndarray:
    """Measure how far images are from their 3 nearest training images, by the angle between features.

    Source: Sun et al. 2022. Centered, standardized or whitened features and Mahalanobis distances found images of a
    class that was left out of training less often.

    Args:
        features: (n_images, n_features), from a backbone.
        train_features: (n_train, n_features), of the training images from the same backbone, at least 3.

    Returns:
        (n_images,), from 0 to 2: the mean distance of features scaled to length 1.

    Raises:
        ValueError: If there are fewer than 3 training images, or the numbers of features differ.

    Example:
        >>> train = np.random.default_rng(0).normal(1, 0.3, (100, 8))
        >>> distance = measure_feature_distance(np.array([train[0], -train[0]]), train)
        >>> distance.shape, bool(distance[0] < distance[1])
        ((2,), True)
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    if len(train_features) < N_NEIGHBORS or np.shape(features)[1:] != np.shape(train_features)[1:]:
        expected = f"(n_images, n_features) and (at least {N_NEIGHBORS}, n_features) of one backbone"
        raise ValueError(f"Expected features {expected}, got {np.shape(features)} and {np.shape(train_features)}.")
    nearest = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(normalize(train_features))
    return nearest.kneighbors(normalize(features))[0].mean(axis=1)


def measure_rejected(scores: Any, held_out_scores: Any, *, expected: float = 0.05) -> Score:
    """Measure the share of images that is rejected at a threshold which rejects few held-out images.

    Args:
        scores: (n,), higher is more OOD: distances, or 1 minus the highest probability.
        held_out_scores: (n_held_out,), the same score of images of the classes that were not trained on.
        expected: Share of the held-out images to reject, in [0, 1]: the false alarms to live with.

    Returns:
        The share, in [0, 1], with its 95 % interval, which takes the threshold as known.

    Raises:
        ValueError: If there is no image.

    Example:
        >>> print(measure_rejected([0.5, 0.6, 0.1], [0.1, 0.2, 0.3, 0.2]))  # (3,) and (4,)
        0.667 (0.208 to 0.939, n = 3)
    """
    if not len(scores) or not len(held_out_scores):
        raise ValueError(f"Got {len(scores)} scores and {len(held_out_scores)} held-out scores; expected some of each.")
    is_rejected = np.asarray(scores, float) > np.quantile(np.asarray(held_out_scores, float), 1 - expected)
    return make_fraction_score(int(is_rejected.sum()), len(is_rejected))


def measure_auroc(scores_in: Any, scores_ood: Any) -> Score:
    """Measure the area under the ROC curve, with a 95 % interval from the variance of DeLong et al. 1988.

    It is Wilson's interval of as many images as that variance is worth, at most twice the smaller kind, so that it
    stays in range and keeps a width where the two kinds are told apart without a mistake.

    Args:
        scores_in: (n,), scores of in-distribution images.
        scores_ood: (m,), scores of OOD images.

    Returns:
        The probability, in [0, 1], that an OOD image has the higher score: 0.5 is a coin toss; `n` counts all images.

    Raises:
        ValueError: If either kind has no image.

    Example:
        >>> round(measure_auroc([0.1, 0.2, 0.3], [0.25, 0.9]).value, 3)  # (3,) and (2,); 5 of 6 pairs are in order
        0.833
    """
    from scipy.stats import rankdata

    n, m = len(scores_in), len(scores_ood)
    if not n or not m:
        raise ValueError(f"Got {n} in-distribution and {m} OOD images; expected at least one of each.")
    ranks = rankdata(np.concatenate([scores_in, scores_ood]))
    below = (ranks[n:] - rankdata(scores_ood)) / n  # of each OOD image, the share of the others; ties count half
    above = 1 - (ranks[:n] - rankdata(scores_in)) / m  # of each in-distribution image, likewise
    area = float(below.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (below, above) if len(part) > 1)
    n_effective = min(area * (1 - area) / variance, 2.0 * min(n, m)) if variance > 0 else float(min(n, m))
    return Score(area, *compute_wilson_interval(area * n_effective, n_effective), n + m)
