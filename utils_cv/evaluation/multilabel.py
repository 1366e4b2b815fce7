"""Scores of multi-label classification, and the thresholds that turn probabilities into decisions.

`y_true` and `y_pred` are 0 and 1 (n_images, n_classes); probabilities must pass through `apply_thresholds` first.
`metrics.compute_class_table` takes these arrays too; average precision is in `ranking`.
Choose thresholds on validation images and score on test images: scores on the images that chose them are too high.
"""

import warnings
from typing import Any

import numpy as np

from .intervals import Score, compute_bootstrap_error, make_fraction_score, make_score
from .metrics import check_multi_hot, check_probabilities, divide_or_nan


def measure_exact_match(y_true: Any, y_pred: Any) -> Score:
    """Fraction of images with every label right, with Wilson's interval. Strict: one wrong label fails the image.

    Args:
        y_true: 0 and 1 (n_images, n_classes).
        y_pred: 0 and 1 (n_images, n_classes).

    Example:
        >>> measure_exact_match([[1, 0], [1, 1]], [[1, 0], [0, 1]]).value
        0.5
    """
    y_true, y_pred = _check_pair(y_true, y_pred)
    return make_fraction_score(int((y_true == y_pred).all(axis=1).sum()), len(y_true))


def measure_hamming_accuracy(y_true: Any, y_pred: Any) -> Score:
    """Fraction of the n_images × n_classes decisions that are right. Mild: saying no to everything scores high.

    The decisions of one image go wrong together, so the interval comes from the spread between images.

    Args:
        y_true: 0 and 1 (n_images, n_classes).
        y_pred: 0 and 1 (n_images, n_classes).

    Example:
        >>> measure_hamming_accuracy([[1, 0], [1, 1]], [[1, 0], [0, 1]]).value
        0.75
    """
    y_true, y_pred = _check_pair(y_true, y_pred)
    right_fraction = (y_true == y_pred).mean(axis=1)  # (n_images,)
    n = len(right_fraction)
    standard_error = float(right_fraction.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return make_score(float(right_fraction.mean()), standard_error, n)


def measure_multilabel_f1(
    y_true: Any, y_pred: Any, *, average: str = "macro", n_bootstrap: int = 1000, seed: int = 0
) -> Score:
    """F1 over the classes: balances missed labels against wrongly added ones.

    Args:
        y_true: 0 and 1 (n_images, n_classes).
        y_pred: 0 and 1 (n_images, n_classes).
        average: "macro" (mean of the classes' F1, rare classes count as much as common ones; a class that is
            neither true nor predicted anywhere is left out) or "micro" (all decisions pooled).
        n_bootstrap: Resamples of the images behind the interval.
        seed: Seed of the resamples.

    Raises:
        ValueError: If no label is true or predicted anywhere, or `average` is another word.

    Example:
        >>> measure_multilabel_f1([[1, 0], [1, 1]], [[1, 0], [0, 1]], average="micro").value
        0.8
    """
    y_true, y_pred = _check_pair(y_true, y_pred)
    if average not in ("macro", "micro"):
        raise ValueError(f"average: expected 'macro' or 'micro', got {average!r}.")
    if not (y_true.any() or y_pred.any()):
        raise ValueError("F1 is undefined: no label is true and none is predicted in these images.")
    right, marked = (y_true & y_pred).astype(float), y_true.astype(float) + y_pred  # (n_images, n_classes)

    def resample(counts: np.ndarray) -> np.ndarray:
        n_right, n_marked = counts @ right, counts @ marked  # (n_resamples, n_classes)
        if average == "micro":
            n_right, n_marked = n_right.sum(axis=1, keepdims=True), n_marked.sum(axis=1, keepdims=True)
        f1 = divide_or_nan(2 * n_right, n_marked)
        return divide_or_nan(np.nansum(f1, axis=1), np.isfinite(f1).sum(axis=1))

    value = float(resample(np.ones((1, len(y_true))))[0])
    standard_error = compute_bootstrap_error(resample, len(y_true), n_bootstrap=n_bootstrap, seed=seed)
    return make_score(value, standard_error, len(y_true))


def choose_thresholds(y_true: Any, probabilities: Any, *, shared: bool = False) -> np.ndarray:
    """Thresholds with the highest F1 on validation images; among equally good ones the nearest to 0.5.

    Args:
        y_true: 0 and 1 (n_images, n_classes), of validation images, never of the test part.
        probabilities: (n_images, n_classes), each in [0, 1], of the same images.
        shared: Whether all classes get the same threshold (the best micro-F1), which needs far fewer images to be
            chosen well; else every class gets its own.

    Returns:
        float (n_classes,), in [0, 1]. A class without a true image keeps 0.5, with a warning.

    Example:
        >>> choose_thresholds([[1], [1], [0]], [[0.4], [0.3], [0.1]]).round(2).tolist()
        [0.2]
    """
    y_true, probabilities = check_multi_hot(y_true), check_probabilities(probabilities)
    _check_shapes(y_true=y_true, probabilities=probabilities)
    if shared:
        return np.full(y_true.shape[1], _choose_threshold(y_true.ravel(), probabilities.ravel()))
    absent = np.flatnonzero(~y_true.any(axis=0)).tolist()
    if absent:
        warnings.warn(f"Columns {absent} have no true image; their thresholds stay at 0.5.", stacklevel=2)
    return np.array([_choose_threshold(*pair) for pair in zip(y_true.T, probabilities.T, strict=True)])


def apply_thresholds(probabilities: Any, thresholds: Any = 0.5) -> np.ndarray:
    """Decisions: a label is predicted where its probability is at least its threshold.

    Args:
        probabilities: (n_images, n_classes), each in [0, 1]; logits are refused.
        thresholds: One number, or one for each class (n_classes,), in [0, 1]; 0.0 predicts every label.

    Returns:
        bool (n_images, n_classes).

    Example:
        >>> apply_thresholds([[0.9, 0.2]], [0.5, 0.1]).tolist()
        [[True, True]]
    """
    probabilities, thresholds = check_probabilities(probabilities), np.asarray(thresholds, dtype=float)
    if thresholds.ndim and thresholds.shape != probabilities.shape[1:]:
        raise ValueError(
            f"thresholds: expected one number or one for each of {probabilities.shape[1]} classes, "
            f"got the shape {thresholds.shape}."
        )
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise ValueError(f"thresholds: expected fractions in [0, 1], got {thresholds.tolist()}.")
    return probabilities >= thresholds


def _check_pair(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    y_true, y_pred = check_multi_hot(y_true), check_multi_hot(y_pred, name="y_pred")
    _check_shapes(y_true=y_true, y_pred=y_pred)
    return y_true, y_pred


def _check_shapes(**arrays: np.ndarray) -> None:
    if len({array.shape for array in arrays.values()}) != 1:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"Expected equal shapes (n_images, n_classes), got {listed}.")


def _choose_threshold(y_true: np.ndarray, probabilities: np.ndarray) -> float:
    """Best threshold of one class: 0, or halfway between two neighboring probabilities."""
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
