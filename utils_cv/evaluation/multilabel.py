"""Scores of several labels per image, and the thresholds that turn probabilities into decisions.

`y_true` and `y_pred` are 0 and 1 (n_images, n_classes). `metrics` takes such tables too; its `measure_accuracy` is the
exact match. Select thresholds on validation images: scores on the images that selected them are too high.
"""

import warnings
from typing import Any

import numpy as np

from .intervals import Score, make_score
from .metrics import check_multi_hot, check_probabilities


def measure_hamming_accuracy(y_true: Any, y_pred: Any) -> Score:
    """Measure the fraction of n_images × n_classes decisions that are right; those of an image go wrong together."""
    true, predicted = check_multi_hot(y_true=y_true, y_pred=y_pred)
    right, n = (true == predicted).mean(axis=1), len(true)  # (n_images,)
    return make_score(float(right.mean()), float(right.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0, n)


def select_thresholds(y_true: Any, probabilities: Any) -> np.ndarray:
    """Select the thresholds with the highest F1 on validation images, of equally good ones the nearest to 0.5."""
    (true,), probabilities = check_multi_hot(y_true=y_true), check_probabilities(probabilities)
    if true.shape != probabilities.shape:
        raise ValueError(f"Expected equal shapes, got y_true {true.shape}, probabilities {probabilities.shape}.")
    absent = np.flatnonzero(~true.any(axis=0)).tolist()
    if absent:
        warnings.warn(f"Columns {absent} have no true image; their thresholds stay at 0.5.", stacklevel=2)
    return np.array([_select_threshold(*column) for column in zip(true.T, probabilities.T, strict=True)])


def apply_thresholds(probabilities: Any, thresholds: Any = 0.5) -> np.ndarray:
    """Decide which labels are predicted: those with a probability of at least the threshold, one or one per class."""
    probabilities, thresholds = check_probabilities(probabilities), np.asarray(thresholds, dtype=float)
    if thresholds.ndim and thresholds.shape != probabilities.shape[1:]:
        expected = f"one number or one for each of {probabilities.shape[1]} classes"
        raise ValueError(f"thresholds: expected {expected}, got the shape {thresholds.shape}.")
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise ValueError(f"thresholds: expected fractions in [0, 1], got {thresholds.tolist()}.")
    return probabilities >= thresholds


def _select_threshold(y_true: np.ndarray, probabilities: np.ndarray) -> float:
    """Select the best threshold of one class: 0, or halfway between two neighboring probabilities."""
    if not y_true.any():
        return 0.5
    values, group = np.unique(probabilities, return_inverse=True)  # rising
    candidates = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    # entry i: images and true images at or above the i-th distinct probability
    n_chosen = np.bincount(group)[::-1].cumsum()[::-1]
    n_right = np.bincount(group, weights=y_true)[::-1].cumsum()[::-1]
    f1 = 2 * n_right / (n_chosen + y_true.sum())
    best = candidates[f1 >= f1.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
