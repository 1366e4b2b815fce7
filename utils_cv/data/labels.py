"""Labels of an image table as lists, classes and arrays; several labels of an image are joined by `|`."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from utils_cv.evaluation import label_arrays


def list_class_names(table: pd.DataFrame) -> list[str]:
    """List the classes of an image table, sorted; the labels of a multi-label row count one by one."""
    return sorted({label for labels in table["label"] for label in split_labels(labels)})


def is_multilabel(table: pd.DataFrame) -> bool:
    """Tell whether any image has several labels, or none."""
    return any(len(split_labels(labels)) != 1 for labels in table["label"])


def split_labels(labels: str) -> list[str]:
    """Split `"can|carton"` into its labels; an image without labels gives an empty list."""
    return [label.strip() for label in labels.split(label_arrays.LABEL_SEPARATOR) if label.strip()]


def encode_labels(labels: Iterable[str], class_names: Sequence[str], *, multilabel: bool = False) -> np.ndarray:
    """Turn labels into what a loss takes.

    Args:
        labels: Labels of an image table.
        class_names: Their order.
        multilabel: Whether to give one column a class.

    Returns:
        (n,) int64 class codes, or (n, n_classes) float32 of zeros and ones.

    Raises:
        ValueError: If a label is not a class.
    """
    if multilabel:
        return label_arrays.make_multi_hot(list(labels), class_names).astype(np.float32)
    return label_arrays.encode_labels(list(labels), class_names)
