"""Labels and probabilities as arrays that the metrics can trust: coded, multi-hot, checked."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

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
