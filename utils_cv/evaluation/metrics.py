"""Scores of decisions from arrays, with 95 % intervals. No torch.

One label an image: names, or integer codes 0 to n_classes - 1. Probabilities never enter here, only decisions;
several labels an image are in `multilabel_metrics`, rankings in `ranking`, probabilities in `calibration`.
"""

import difflib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .intervals import (
    Z_95,
    Score,
    compute_bootstrap_error,
    compute_wilson_interval,
    make_fraction_score,
    make_score,
    resample_in_chunks,
)

LABEL_SEPARATOR = "|"


def encode_labels(labels: Any, class_names: Sequence[str], *, name: str = "labels") -> np.ndarray:
    """Labels as integer codes into `class_names`.

    Args:
        labels: One label an image: names, or codes 0 to n_classes - 1.
        class_names: All class names; their order gives the codes.
        name: What the caller calls the labels, for messages.

    Returns:
        int64 (n_images,).

    Raises:
        ValueError: If a label is not in `class_names`, a code is out of range, or the array is not one label
            an image.

    Example:
        >>> encode_labels(["can", "carton", "can"], ["can", "carton"])
        array([0, 1, 0])
    """
    class_names = check_class_names(class_names)
    labels = check_labels(labels, name=name)
    if labels.dtype.kind == "U":
        code_of = {class_name: code for code, class_name in enumerate(class_names)}
        unknown = sorted(set(labels.tolist()) - set(code_of))
        if unknown:
            close = difflib.get_close_matches(unknown[0], class_names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{name}: {unknown[:5]} not in class_names {class_names[:20]}.{hint}")
        return np.array([code_of[label] for label in labels.tolist()], dtype=np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= len(class_names)):
        raise ValueError(
            f"{name}: expected codes 0 to {len(class_names) - 1} ({len(class_names)} class names), "
            f"got {labels.min()} to {labels.max()}."
        )
    return labels


def check_labels(labels: Any, *, name: str = "labels") -> np.ndarray:
    """One label an image as an array (n_images,) of int64 codes or of str, at least one image."""
    array = np.asarray(labels)
    if array.ndim != 1:
        hint = " Probabilities? Pass probabilities.argmax(axis=1)." if array.ndim == 2 else ""
        raise ValueError(f"{name}: expected one label an image, shape (n_images,), got {array.shape}.{hint}")
    if array.size == 0:
        raise ValueError(f"{name}: got no image; a score needs at least one.")
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    if array.dtype.kind in "OUT" and all(isinstance(label, str) for label in array.tolist()):
        return array.astype(str)
    if array.dtype.kind == "O" and all(isinstance(label, int | np.integer) for label in array.tolist()):
        return array.astype(np.int64)
    example = array.tolist()[0]
    raise ValueError(f"{name}: expected integer codes or label names, got values such as {example!r} ({array.dtype}).")


def check_class_names(class_names: Sequence[str]) -> list[str]:
    """Class names as a list of distinct strings, at least one."""
    if isinstance(class_names, str):
        raise ValueError(f"class_names: expected a list of names, got the string {class_names!r}.")
    names = [str(class_name) for class_name in class_names]
    if not names:
        raise ValueError("class_names: got none; pass every class name in the order of the codes.")
    repeated = sorted({class_name for class_name in names if names.count(class_name) > 1})
    if repeated:
        raise ValueError(f"class_names: expected distinct names, got {repeated[:5]} more than once.")
    return names


def check_same_length(**arrays: Any) -> int:
    """Number of images that all named arrays agree on; ValueError with every length when they do not."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"Expected as many images in each, got {listed}.")
    return next(iter(lengths.values()))


def make_multi_hot(labels: Any, class_names: Sequence[str], *, name: str = "labels") -> np.ndarray:
    """Labels as a table of yes and no, one column a class.

    Args:
        labels: One entry an image: a name, several names joined by `|` (empty for none), or a code.
        class_names: All class names; their order gives the columns.
        name: What the caller calls the labels, for messages.

    Returns:
        bool (n_images, n_classes).

    Example:
        >>> make_multi_hot(["can|carton", "carton", ""], ["can", "carton"]).astype(int).tolist()
        [[1, 1], [0, 1], [0, 0]]
    """
    class_names = check_class_names(class_names)
    entries = check_labels(labels, name=name)
    if entries.dtype.kind != "U":
        return np.eye(len(class_names), dtype=bool)[encode_labels(entries, class_names, name=name)]
    split = [[part.strip() for part in entry.split(LABEL_SEPARATOR) if part.strip()] for entry in entries.tolist()]
    multi_hot = np.zeros((len(split), len(class_names)), dtype=bool)
    rows = np.repeat(np.arange(len(split)), [len(parts) for parts in split])
    flat = [part for parts in split for part in parts]
    if flat:
        multi_hot[rows, encode_labels(flat, class_names, name=name)] = True
    return multi_hot


def check_multi_hot(multi_hot: Any, *, name: str = "y_true") -> np.ndarray:
    """A table of yes and no as bool (n_images, n_classes); only 0 and 1 or False and True are accepted."""
    array = np.asarray(multi_hot)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name}: expected 0 and 1 in the shape (n_images, n_classes), got the shape {array.shape}. "
            "make_multi_hot turns labels into it."
        )
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"{name}: expected only 0 and 1, got values from {array.min()} to {array.max()}. "
            "Probabilities become 0 and 1 by apply_thresholds."
        )
    return array.astype(bool)


def check_probabilities(
    probabilities: Any, *, rows_sum_to_one: bool = False, name: str = "probabilities"
) -> np.ndarray:
    """Probabilities as float64 (n_images, n_classes), each in [0, 1].

    Args:
        probabilities: One row an image, one column a class.
        rows_sum_to_one: Whether each image has exactly one label, so that its probabilities must add up to 1
            (within 0.01, which half precision needs).
        name: What the caller calls them, for messages.

    Raises:
        ValueError: With the range that came, and a hint when it looks like logits or percent.
    """
    array = np.asarray(probabilities, dtype=float)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name}: expected the shape (n_images, n_classes), got {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got {int((~np.isfinite(array)).sum())} values that are not finite (NaN or inf).")
    low, high = array.min(), array.max()
    if low < 0 or high > 1 + 1e-6:
        in_percent = low >= 0 and high <= 100 and np.allclose(array.sum(axis=1), 100, atol=1)
        hint = (
            "percent: divide by 100"
            if in_percent
            else ("logits: apply softmax (one label an image) or the sigmoid (several labels) first")
        )
        raise ValueError(f"{name}: expected fractions in [0, 1], got {low:.4g} to {high:.4g}. These look like {hint}.")
    sums = array.sum(axis=1)
    if rows_sum_to_one and np.abs(sums - 1).max() > 0.01:
        worst = int(np.abs(sums - 1).argmax())
        raise ValueError(
            f"{name}: expected every row to add up to 1, got {sums[worst]:.4g} in row {worst}. Sigmoid outputs of a "
            "multi-label model? Those belong to utils_cv.evaluation.multilabel; else apply softmax to the logits."
        )
    return np.minimum(array, 1.0)


def divide_or_nan(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotients as float, NaN where the denominator is 0: a score that these images do not define."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator != 0)


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
    center = share_a - share_b
    half = Z_95 * math.sqrt((share_a + share_b - center**2) / (n + 2))
    return Score((n_only_a - n_only_b) / n, max(center - half, -1.0), min(center + half, 1.0), n)


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
    y_true, probabilities = _check_pair_of_scores(y_true, probabilities)
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
    y_true, probabilities = _check_pair_of_scores(y_true, probabilities)
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
    y_true, probabilities = _check_pair_of_scores(y_true, probabilities)
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


def _check_pair_of_scores(y_true: Any, probabilities: Any) -> tuple[np.ndarray, np.ndarray]:
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
