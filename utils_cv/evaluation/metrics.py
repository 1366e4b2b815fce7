"""Accuracy, precision, recall, F1 and confusion from arrays, with 95 % intervals.

Labels are class names, or integer codes 0 to n_classes - 1; several labels per image are 0 and 1 (n_images, n_classes).
"""

import difflib
import numbers
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .intervals import Score, compare_means, compute_wilson_interval, find_variance, make_fraction_score, measure_mean


def measure_accuracy(y_true: Any, y_pred: Any, *, groups: Any = None) -> Score:
    """Measure the fraction of images whose predicted label is the true one, with Wilson's interval.

    Args:
        y_true: True labels (n_images,), names or codes; or 0 and 1 (n_images, n_classes), where all must be right.
        y_pred: Predicted labels, of the same kind.
        groups: (n_images,), images of one group, such as a scene, do not count as independent. Default: all do.

    Returns:
        The accuracy, in [0, 1]; `n` counts images, or groups where there are some.

    Raises:
        ValueError: If there is no image, the lengths differ, or one holds names and the other codes.

    Example:
        >>> print(measure_accuracy(["can", "can", "carton"], ["can", "carton", "carton"]))  # two lists of (3,)
        0.667 (0.208 to 0.939, n = 3)
    """
    is_right = _find_right(y_true, y_pred)
    if groups is None:
        return make_fraction_score(int(is_right.sum()), len(is_right))
    return measure_mean(is_right, groups=groups)


def compare_accuracy(y_true: Any, y_pred_a: Any, y_pred_b: Any, *, groups: Any = None) -> Score:
    """Compare two models on the same images: accuracy of A minus accuracy of B, with a paired 95 % interval.

    Only the images on which exactly one of the two is right tell them apart, so the interval is much narrower
    than the two separate intervals suggest. A is better when `low` is above 0, worse when `high` is below 0;
    otherwise these images cannot tell. Source: Bonett and Price 2012, see `intervals.compare_means`.

    Args:
        y_true: True labels, in either form of `measure_accuracy`.
        y_pred_a: Labels predicted by model A.
        y_pred_b: Labels predicted by model B, the same images in the same order.
        groups: As in `measure_accuracy`.

    Returns:
        The difference, in [-1, 1]; its `value` is the plain difference of the two accuracies.

    Raises:
        ValueError: As `measure_accuracy`.

    Example:
        >>> print(compare_accuracy([0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]))  # three lists of (4,)
        0.250 (-0.383 to 0.717, n = 4)
    """
    right_a, right_b = _find_right(y_true, y_pred_a, "y_pred_a"), _find_right(y_true, y_pred_b, "y_pred_b")
    return compare_means(right_a, right_b, groups=groups)


def measure_kappa(labels_a: Any, labels_b: Any, *, groups: Any = None) -> Score:
    """Measure how far two people agree about the same images, beyond chance: Cohen's kappa (1960), with its interval.

    Kappa is 1 where they always agree, and 0 where they agree as often as by chance. The standard error is that of
    Fleiss, Cohen and Everitt 1969. The interval is Wilson's of the share of agreement, for as many images as that error
    is worth: it keeps a width where all labels agree.

    Args:
        labels_a: One label per image, (n_images,), names or codes.
        labels_b: Those of the other person, the same images in the same order.
        groups: (n_images,), images of one group, such as a scene, do not count as independent. Default: all do.

    Returns:
        Kappa, in [-1, 1]; `n` counts images, or groups where there are some.

    Raises:
        ValueError: As `measure_accuracy`, or if both gave the same label to all images: then kappa is not defined.

    Example:
        >>> print(measure_kappa(["can", "can", "jar", "jar"], ["can", "can", "jar", "can"]))  # two lists of (4,)
        0.500 (-0.399 to 0.909, n = 4)
    """
    a, b = _read_pair(labels_a, labels_b, name="labels_b")
    codes = np.unique(np.concatenate([a, b]), return_inverse=True)[1].reshape(2, -1)
    share_a, share_b = (np.bincount(row, minlength=codes.max() + 1) / len(a) for row in codes)
    agreed, by_chance = float((a == b).mean()), float(share_a @ share_b)
    if by_chance > 1 - 1e-12:
        raise ValueError(f"All labels are {a[0]!r}, so chance agrees as well and kappa is not defined.")
    kappa = (agreed - by_chance) / (1 - by_chance)
    change = (a == b) - agreed - (1 - kappa) * (share_a[codes[1]] + share_b[codes[0]] - 2 * by_chance)
    variance, n = find_variance(change, groups)
    n_effective = min(agreed * (1 - agreed) / variance, len(a)) if variance > 1e-15 and 0 < agreed < 1 else n
    low, high = compute_wilson_interval(agreed * n_effective, n_effective)
    return Score(kappa, (low - by_chance) / (1 - by_chance), (high - by_chance) / (1 - by_chance), n)


def compute_class_table(y_true: Any, y_pred: Any, class_names: Sequence[str], *, groups: Any = None) -> pd.DataFrame:
    """Compute precision, recall and F1 of every class, for one or several labels per image.

    Args:
        y_true: True labels (n_images,), names or codes into `class_names`; or 0 and 1 (n_images, n_classes).
        y_pred: Predicted labels, of the same kind.
        class_names: All class names, in the order of the rows.
        groups: As in `measure_accuracy`.

    Returns:
        One row per class: `label`, `n` (images that truly have it), `precision`, `recall`, `recall_low`,
        `recall_high` (95 % interval) and `f1`, fractions. NaN where there is nothing to divide by: recall
        of a class without images, precision of a class that was never predicted, F1 of a class with neither.

    Raises:
        ValueError: If a label is not in `class_names`, or the two do not fit each other.

    Example:
        >>> table = compute_class_table([0, 0, 1], [0, 1, 1], ["can", "carton"])
        >>> table.shape, table["recall"].tolist()
        ((2, 7), [0.5, 1.0])
    """
    from sklearn.metrics import precision_recall_fscore_support

    names = _check_names(class_names)
    true, predicted = _read_pair(y_true, y_pred, names)
    # scikit-learn reads a table of one column as the classes 0 and 1
    codes = [1] if true.shape[1:] == (1,) else list(range(len(names)))
    precision, recall, f1, n = precision_recall_fscore_support(true, predicted, labels=codes, zero_division=np.nan)
    low, high = compute_wilson_interval(np.nan_to_num(recall * n).round(), n)
    if groups is not None:
        is_own, is_found = (v > 0 if v.ndim == 2 else v[:, None] == np.arange(len(names)) for v in (true, predicted))
        for i in np.flatnonzero(n):
            rows = is_own[:, i]
            low[i], high[i] = measure_mean(is_found[rows, i], groups=np.asarray(groups)[rows])[1:3]
    columns = {"label": names, "n": n.astype(int), "precision": precision, "recall": recall}
    return pd.DataFrame(columns | {"recall_low": low, "recall_high": high, "f1": f1})


def compute_confusion(y_true: Any, y_pred: Any, class_names: Sequence[str]) -> pd.DataFrame:
    """Count how many images of each true class were predicted as each class.

    Args:
        y_true: True labels (n_images,), names or codes into `class_names`.
        y_pred: Predicted labels (n_images,), likewise.
        class_names: All class names, in the order of rows and columns.

    Returns:
        Counts (n_classes, n_classes), rows true, columns predicted, both named by `class_names`.

    Raises:
        ValueError: If a label is not in `class_names`, or the two do not fit each other.

    Example:
        >>> compute_confusion([0, 0, 1], [0, 1, 1], ["can", "carton"]).to_numpy().tolist()
        [[1, 1], [0, 1]]
    """
    from sklearn.metrics import confusion_matrix

    names = _check_names(class_names)
    counts = confusion_matrix(*_read_pair(y_true, y_pred, names), labels=range(len(names)))
    return pd.DataFrame(counts, index=pd.Index(names, name="true"), columns=pd.Index(names, name="predicted"))


def read_labels(labels: Any, classes: Sequence[Any] | None = None, *, name: str = "labels") -> np.ndarray:
    """Return one label per image as codes into `classes`, int64 (n_images,); without classes names stay names."""
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0:
        hint = " Probabilities? Pass probabilities.argmax(axis=1)." if array.ndim == 2 else ""
        raise ValueError(f"{name}: expected at least one image, one label each, got the shape {array.shape}.{hint}")
    kind = str if isinstance(array[0], str) else numbers.Integral
    if not all(isinstance(label, kind) for label in array.tolist()):
        raise ValueError(f"{name}: expected integer codes or label names, got values such as {array[0]!r}.")
    array = array.astype(str if kind is str else np.int64)
    if classes is None:
        return array
    known = list(classes) if kind is str else range(len(classes))
    codes = pd.Index(known).get_indexer(array)
    if (codes < 0).any():
        unknown = np.unique(array[codes < 0]).tolist()
        expected = known[:20] if kind is str else f"codes 0 to {len(known) - 1}"
        close = difflib.get_close_matches(unknown[0], known, n=1) if kind is str else []
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{name}: expected {expected}, got {unknown[:5]}.{hint}")
    return codes


def _find_right(y_true: Any, y_pred: Any, name: str = "y_pred") -> np.ndarray:
    """Find the images whose labels are all right, bool (n_images,)."""
    true, predicted = _read_pair(y_true, y_pred, name=name)
    return (true == predicted).reshape(len(true), -1).all(axis=1)


def _read_pair(y_true: Any, y_pred: Any, class_names: Any = None, name: str = "y_pred") -> list[np.ndarray]:
    """Return true and predicted labels, both tables of 0 and 1, both names or both codes; codes with class names."""
    if np.ndim(y_true) == 2:
        if class_names is not None:
            _check_names(class_names, n_columns=np.shape(y_true)[1])
        return _check_multi_hot(**{"y_true": y_true, name: y_pred})
    true, predicted = read_labels(y_true, class_names, name="y_true"), read_labels(y_pred, class_names, name=name)
    check_same_length(**{"y_true": true, name: predicted})
    if true.dtype.kind != predicted.dtype.kind:
        got = f"y_true such as {true[0]!r}, {name} such as {predicted[0]!r}"
        raise ValueError(f"Expected names in both or codes in both, got {got}. class_names[code] is a name.")
    return [true, predicted]


def _check_names(class_names: Sequence[Any], *, n_columns: int | None = None) -> list[str]:
    names = [str(name) for name in class_names]
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if isinstance(class_names, str) or not names or repeated:
        raise ValueError(f"class_names: expected a list of distinct names, got {repeated[:5] or class_names!r}.")
    if n_columns not in (None, len(names)):
        raise ValueError(f"class_names: expected a name for each of {n_columns} columns, got {len(names)}.")
    return names


def check_same_length(**arrays: Any) -> int:
    """Return the number of images that all named arrays have; ValueError with every length when they differ."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"Expected as many images in each, got {listed}.")
    return next(iter(lengths.values()))


def check_label_answers(y_true: Any, probabilities: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return 0 and 1 of several labels as bool, and probabilities of the same shape (n_images, n_classes)."""
    (true,), probabilities = _check_multi_hot(y_true=y_true), check_probabilities(probabilities)
    if true.shape != probabilities.shape:
        raise ValueError(f"Expected equal shapes, got y_true {true.shape}, probabilities {probabilities.shape}.")
    return true, probabilities


def _check_multi_hot(**tables: Any) -> list[np.ndarray]:
    """Return named tables of 0 and 1 as bool (n_images, n_classes), all of one shape."""
    arrays = {name: np.asarray(table) for name, table in tables.items()}
    for name, array in arrays.items():
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"{name}: expected 0 and 1 in the shape (n_images, n_classes), got {array.shape}.")
        if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
            limits = f"{array.min()} to {array.max()}. Probabilities become 0 and 1 by multilabel.apply_thresholds"
            raise ValueError(f"{name}: expected only 0 and 1, got values from {limits}.")
    if len({array.shape for array in arrays.values()}) != 1:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"Expected equal shapes (n_images, n_classes), got {listed}.")
    return [array.astype(bool) for array in arrays.values()]


def check_probabilities(probabilities: Any, *, rows_sum_to_one: bool = False) -> np.ndarray:
    """Return probabilities as float64 (n_images, n_classes), each in [0, 1]; with hints for logits and percent."""
    array = np.asarray(probabilities, dtype=float)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"probabilities: expected the shape (n_images, n_classes), got {array.shape}.")
    low, high, sums = array.min(), array.max(), array.sum(axis=1)
    if not 0 <= low <= high <= 1 + 1e-6:  # also if NaN
        hint = "Of logits take the softmax (one label per image) or the sigmoid, divide percent by 100"
        raise ValueError(f"probabilities: expected fractions in [0, 1], got {low:.4g} to {high:.4g}. {hint}.")
    worst = int(np.abs(sums - 1).argmax())
    if rows_sum_to_one and abs(sums[worst] - 1) > 0.01:  # half precision needs such a margin
        raise ValueError(f"probabilities: expected every row to add up to 1, got {sums[worst]:.4g} in row {worst}.")
    return np.minimum(array, 1.0)
