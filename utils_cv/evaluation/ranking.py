"""Precision-recall curves and average precision from probabilities; for one or several labels an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .intervals import Score, compute_bootstrap_error, make_score
from .label_arrays import check_class_names, check_multi_hot, check_probabilities, check_same_length, divide_or_nan


def compute_precision_recall(y_true: Any, probabilities: Any, class_names: Sequence[str]) -> pd.DataFrame:
    """Precision and recall of every class at every threshold that changes them.

    Args:
        y_true: 0 and 1, or False and True (n_images, n_classes); `label_arrays.make_multi_hot` makes it from labels.
        probabilities: (n_images, n_classes), each in [0, 1]; rows need not add up to 1.
        class_names: Names of the columns.

    Returns:
        `label`, `threshold` (predicted where probability >= threshold, falling), `precision`, `recall`,
        `average_precision` (of the class, the same in all its rows). A class without a true image has one row
        of NaN.

    Raises:
        ValueError: If the arrays do not fit each other or the probabilities look like logits.

    Example:
        >>> curves = compute_precision_recall([[1], [0], [1]], [[0.9], [0.6], [0.4]], ["can"])
        >>> curves["recall"].tolist()
        [0.5, 0.5, 1.0]
    """
    y_true, probabilities = _check_pair(y_true, probabilities)
    class_names = check_class_names(class_names)
    if len(class_names) != y_true.shape[1]:
        raise ValueError(f"Expected a name for each of {y_true.shape[1]} columns, got {len(class_names)} class_names.")
    parts = []
    for column, class_name in enumerate(class_names):
        thresholds, precision, recall = _compute_curve(y_true[:, column], probabilities[:, column])
        average = float(np.sum(np.diff(recall, prepend=0.0) * precision))
        curve = {"threshold": thresholds, "precision": precision, "recall": recall, "average_precision": average}
        parts.append(pd.DataFrame({"label": class_name, **curve}))
    return pd.concat(parts, ignore_index=True)


def compute_average_precision(y_true: Any, probabilities: Any) -> np.ndarray:
    """Average precision of every class: the area under its precision-recall curve, without interpolation.

    Images with equal probability enter together, so their order does not matter. The same definition as
    scikit-learn's `average_precision_score`.

    Args:
        y_true: 0 and 1 (n_images, n_classes).
        probabilities: (n_images, n_classes), each in [0, 1].

    Returns:
        float (n_classes,), in [0, 1]; NaN for a class without a true image.

    Example:
        >>> compute_average_precision([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]]).tolist()
        [1.0, 1.0]
    """
    y_true, probabilities = _check_pair(y_true, probabilities)
    ones = np.ones((len(y_true), 1))
    return np.array(
        [_resample_average_precision(*pair, ones)[0] for pair in zip(y_true.T, probabilities.T, strict=True)]
    )


def measure_average_precision(y_true: Any, probabilities: Any, *, n_bootstrap: int = 1000, seed: int = 0) -> Score:
    """Mean over the classes of the average precision (mAP), with an interval; classes without an image are left out.

    Args:
        y_true: 0 and 1 (n_images, n_classes).
        probabilities: (n_images, n_classes), each in [0, 1].
        n_bootstrap: Resamples of the images behind the interval.
        seed: Seed of the resamples.

    Raises:
        ValueError: If no class has a true image, or as `compute_precision_recall`.

    Example:
        >>> measure_average_precision([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]]).value
        1.0
    """
    y_true, probabilities = _check_pair(y_true, probabilities)
    occurring = y_true.any(axis=0)
    if not occurring.any():
        raise ValueError(f"y_true: none of the {y_true.shape[1]} classes has a true image, so nothing can be ranked.")
    columns = list(zip(y_true.T[occurring], probabilities.T[occurring], strict=True))

    def resample(counts: np.ndarray) -> np.ndarray:
        images_first = np.ascontiguousarray(counts.T, dtype=np.int32)
        return _mean_of_finite([_resample_average_precision(*column, images_first) for column in columns])

    value = resample(np.ones((1, len(y_true))))[0]
    standard_error = compute_bootstrap_error(resample, len(y_true), n_bootstrap=n_bootstrap, seed=seed)
    return make_score(float(value), standard_error, len(y_true))


def _check_pair(y_true: Any, probabilities: Any) -> tuple[np.ndarray, np.ndarray]:
    y_true, probabilities = check_multi_hot(y_true), check_probabilities(probabilities)
    check_same_length(y_true=y_true, probabilities=probabilities)
    if y_true.shape != probabilities.shape:
        raise ValueError(f"Expected equal shapes, got y_true {y_true.shape}, probabilities {probabilities.shape}.")
    return y_true, probabilities


def _mean_of_finite(values: list[np.ndarray]) -> np.ndarray:
    """Mean over the classes (n_resamples,), of those that a resample defines; NaN where it defines none."""
    stacked = np.stack(values)
    n_defined = np.isfinite(stacked).sum(axis=0)
    return divide_or_nan(np.nansum(stacked, axis=0), n_defined)


def _compute_curve(y_true: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds (falling), precision and recall of one class, one entry a distinct probability."""
    if not y_true.any():
        return (np.array([np.nan]),) * 3
    order, is_last = _sort_falling(probabilities)
    n_right = np.cumsum(y_true[order])[is_last]
    return probabilities[order][is_last], n_right / (np.flatnonzero(is_last) + 1), n_right / n_right[-1]


def _resample_average_precision(y_true: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average precision of one class (n_resamples,); NaN where the resample holds no true image.

    Args:
        y_true: bool (n_images,).
        probabilities: (n_images,).
        counts: (n_images, n_resamples), how often each image occurs; images first, so that sums run along memory.
    """
    order, is_last = _sort_falling(probabilities)
    is_true = y_true[order]
    group = (np.cumsum(is_last) - is_last)[is_true]  # of equal probabilities; one entry a true image
    # Recall grows, and so the area, only where a group with true images ends.
    last_of_group = np.append(np.diff(group) != 0, True)[: len(group)]
    sorted_counts = counts[order]
    n_right = np.cumsum(sorted_counts[is_true], axis=0)[last_of_group]  # (n_groups, n_resamples)
    n_chosen = np.cumsum(sorted_counts, axis=0)[np.flatnonzero(is_last)[group[last_of_group]]]
    precision = n_right / np.maximum(n_chosen, 1)
    area = (np.diff(n_right, axis=0, prepend=0) * precision).sum(axis=0)
    return divide_or_nan(area, counts[y_true].sum(axis=0))


def _sort_falling(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of falling probability, and whether an entry is the last of its group of equal ones."""
    order = np.argsort(-probabilities, kind="stable")
    return order, np.append(np.diff(probabilities[order]) != 0, True)
