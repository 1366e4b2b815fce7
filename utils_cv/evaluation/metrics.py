"""Scores of decisions from arrays, with 95 % intervals. No torch.

One label an image: names, or integer codes 0 to n_classes - 1. Probabilities never enter here, only decisions;
several labels an image are in `multilabel_metrics`, rankings in `ranking`, probabilities in `calibration`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .intervals import Z_95, Score, compute_wilson_interval, make_fraction_score, make_score, resample_in_chunks
from .label_arrays import (
    check_class_names,
    check_labels,
    check_multi_hot,
    check_same_length,
    divide_or_nan,
    encode_labels,
    make_multi_hot,
)


def measure_accuracy(y_true: Any, y_pred: Any) -> Score:
    """Fraction of images whose predicted label is the true one, with Wilson's interval.

    Args:
        y_true: True labels (n_images,), names or codes.
        y_pred: Predicted labels (n_images,), of the same kind.

    Raises:
        ValueError: If there is no image, the lengths differ, or one holds names and the other codes.

    Example:
        >>> print(measure_accuracy(["can", "can", "carton"], ["can", "carton", "carton"]))
        0.667 (0.208 to 0.939, n = 3)
    """
    y_true, y_pred = _check_pair(y_true, y_pred)
    return make_fraction_score(int((y_true == y_pred).sum()), len(y_true))


def measure_macro_f1(
    y_true: Any, y_pred: Any, class_names: Sequence[str] | None = None, *, n_bootstrap: int = 1000, seed: int = 0
) -> Score:
    """Mean of the classes' F1 scores: every class counts alike, however few images it has.

    A class that occurs neither among the true nor among the predicted labels is left out of the mean.

    Args:
        y_true: True labels (n_images,), names or codes.
        y_pred: Predicted labels (n_images,), of the same kind.
        class_names: All class names; only checks the labels, since absent classes are left out.
        n_bootstrap: Resamples behind the interval.
        seed: Seed of the resamples; the same seed gives the same interval.

    Returns:
        The score with the interval of `intervals.make_score`.

    Raises:
        ValueError: As `measure_accuracy`, or for a label that is not in `class_names`.

    Example:
        >>> measure_macro_f1([0, 0, 1, 1], [0, 0, 1, 0]).value  # (0.8 + 0.667) / 2
        0.7333333333333334
    """
    y_true, y_pred = _check_pair(y_true, y_pred)
    if class_names is None:
        codes = np.unique(np.concatenate([y_true, y_pred]), return_inverse=True)[1]
        y_true, y_pred = codes[: len(y_true)], codes[len(y_true) :]
        n_classes = int(codes.max()) + 1
    else:
        y_true, y_pred = (encode_labels(labels, class_names) for labels in (y_true, y_pred))
        n_classes = len(class_names)
    # Resampling images is the same as drawing the counts of (true, predicted) pairs: few pairs, hence fast.
    pairs, counts = np.unique(y_true * n_classes + y_pred, return_counts=True)
    n, rng = len(y_true), np.random.default_rng(seed)

    def resample(size: int) -> np.ndarray:
        return _compute_macro_f1(rng.multinomial(n, counts / n, size=size), pairs, n_classes)

    value = float(_compute_macro_f1(counts[None], pairs, n_classes)[0])
    standard_error = float(resample_in_chunks(resample, len(pairs), n_bootstrap).std(ddof=1))
    return make_score(value, standard_error, n)


def compute_class_table(y_true: Any, y_pred: Any, class_names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall and F1 of every class, for one or several labels an image.

    Args:
        y_true: True labels (n_images,), names or codes into `class_names`; or 0 and 1 (n_images, n_classes).
        y_pred: Predicted labels, in either form.
        class_names: All class names, in the order of the rows.

    Returns:
        One row a class: `label`, `n` (images that truly have it), `precision`, `recall`, `recall_low`,
        `recall_high` (Wilson's 95 % interval) and `f1`, fractions. NaN where there is nothing to divide by: recall
        of a class without images, precision of a class that was never predicted, F1 of a class with neither.

    Example:
        >>> compute_class_table([0, 0, 1], [0, 1, 1], ["can", "carton"])["recall"].tolist()
        [0.5, 1.0]
    """
    true, predicted = _mark(y_true, class_names, name="y_true"), _mark(y_pred, class_names, name="y_pred")
    check_same_length(y_true=true, y_pred=predicted)
    n_right, n_true, n_predicted = (true & predicted).sum(axis=0), true.sum(axis=0), predicted.sum(axis=0)
    low, high = compute_wilson_interval(n_right, n_true)
    columns = {
        "label": check_class_names(class_names),
        "n": n_true,
        "precision": divide_or_nan(n_right, n_predicted),
        "recall": divide_or_nan(n_right, n_true),
        "recall_low": low,
        "recall_high": high,
        "f1": divide_or_nan(2 * n_right, n_true + n_predicted),
    }
    return pd.DataFrame(columns)


def compute_confusion(y_true: Any, y_pred: Any, class_names: Sequence[str]) -> pd.DataFrame:
    """How many images of each true class were predicted as each class.

    Args:
        y_true: True labels (n_images,), names or codes into `class_names`.
        y_pred: Predicted labels (n_images,), likewise.
        class_names: All class names, in the order of rows and columns.

    Returns:
        Counts, rows true, columns predicted, both named by `class_names`.

    Example:
        >>> compute_confusion([0, 0, 1], [0, 1, 1], ["can", "carton"]).to_numpy().tolist()
        [[1, 1], [0, 1]]
    """
    class_names = check_class_names(class_names)
    y_true, y_pred = _check_pair(y_true, y_pred)
    true, predicted = (encode_labels(y, class_names, name=n) for y, n in ((y_true, "y_true"), (y_pred, "y_pred")))
    counts = np.bincount(true * len(class_names) + predicted, minlength=len(class_names) ** 2)
    return pd.DataFrame(
        counts.reshape(len(class_names), len(class_names)),
        index=pd.Index(class_names, name="true"),
        columns=pd.Index(class_names, name="predicted"),
    )


def compare_accuracy(y_true: Any, y_pred_a: Any, y_pred_b: Any) -> Score:
    """Accuracy of model A minus accuracy of model B on the same images, with a paired 95 % interval.

    Only the images on which exactly one of the two is right tell them apart, so the interval is much narrower
    than the two separate intervals suggest. A is better when `low` is above 0, worse when `high` is below 0;
    otherwise these images cannot tell. Source: Bonett and Price 2012 (adjusted Wald interval), one of the methods
    Fagerland, Lydersen and Laake 2014 recommend; it keeps a width when the two models agree on every image.

    Args:
        y_true: True labels (n_images,), names or codes.
        y_pred_a: Labels predicted by model A (n_images,).
        y_pred_b: Labels predicted by model B (n_images,), the same images in the same order.

    Returns:
        The difference, in [-1, 1]; its `value` is the plain difference of the two accuracies.

    Example:
        >>> compare_accuracy([0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]).value
        0.25
    """
    n_only_a, n_only_b, n = _count_discordant(y_true, y_pred_a, y_pred_b)
    share_a, share_b = (n_only_a + 1) / (n + 2), (n_only_b + 1) / (n + 2)
    centre = share_a - share_b
    half = Z_95 * math.sqrt((share_a + share_b - centre**2) / (n + 2))
    return Score((n_only_a - n_only_b) / n, max(centre - half, -1.0), min(centre + half, 1.0), n)


def measure_mcnemar_p(y_true: Any, y_pred_a: Any, y_pred_b: Any) -> float:
    """Exact two-sided p-value that two models which are equally good differ at least as much as these two.

    Source: McNemar 1947, with the binomial distribution in place of its approximation.

    Args:
        y_true: True labels (n_images,), names or codes.
        y_pred_a: Labels predicted by model A (n_images,).
        y_pred_b: Labels predicted by model B (n_images,).

    Returns:
        A probability in (0, 1]; 1 when the models are right on the same images.

    Example:
        >>> measure_mcnemar_p([0] * 6, [0] * 6, [1] * 6)  # 2 / 2**6
        0.03125
    """
    n_only_a, n_only_b, _ = _count_discordant(y_true, y_pred_a, y_pred_b)
    n_discordant = n_only_a + n_only_b
    n_outcomes = sum(math.comb(n_discordant, k) for k in range(min(n_only_a, n_only_b) + 1))
    return min(1.0, 2 * n_outcomes / 2**n_discordant)  # whole numbers: no rounding, no overflow


def _check_pair(y_true: Any, y_pred: Any, *, name: str = "y_pred") -> tuple[np.ndarray, np.ndarray]:
    true, predicted = check_labels(y_true, name="y_true"), check_labels(y_pred, name=name)
    check_same_length(**{"y_true": true, name: predicted})
    if (true.dtype.kind == "U") != (predicted.dtype.kind == "U"):
        raise ValueError(
            f"Expected names in both or codes in both, got y_true such as {true[0]!r} and {name} such as "
            f"{predicted[0]!r}. np.array(class_names)[codes] turns codes into names."
        )
    return true, predicted


def _mark(labels: Any, class_names: Sequence[str], *, name: str) -> np.ndarray:
    """Labels in either form as bool (n_images, n_classes)."""
    if np.ndim(labels) < 2:
        return make_multi_hot(labels, class_names, name=name)
    marked = check_multi_hot(labels, name=name)
    if marked.shape[1] != len(class_names):
        raise ValueError(
            f"{name}: expected a column for each of {len(class_names)} class_names, got {marked.shape[1]}."
        )
    return marked


def _count_discordant(y_true: Any, y_pred_a: Any, y_pred_b: Any) -> tuple[int, int, int]:
    true, predicted_a = _check_pair(y_true, y_pred_a, name="y_pred_a")
    _, predicted_b = _check_pair(y_true, y_pred_b, name="y_pred_b")
    a_right, b_right = predicted_a == true, predicted_b == true
    return int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum()), len(true)


def _compute_macro_f1(counts: np.ndarray, pairs: np.ndarray, n_classes: int) -> np.ndarray:
    """Macro-F1 (n_resamples,) from counts (n_resamples, n_pairs) of pairs true * n_classes + predicted."""
    true_hot, predicted_hot = np.eye(n_classes)[pairs // n_classes], np.eye(n_classes)[pairs % n_classes]
    n_right = counts @ (true_hot * predicted_hot)  # (n_resamples, n_classes)
    return np.nanmean(divide_or_nan(2 * n_right, counts @ (true_hot + predicted_hot)), axis=1)
