"""Labels of an image table as lists, classes and arrays; several labels of an image are joined by `|`."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

LABEL_SEPARATOR = "|"


def list_class_names(table: pd.DataFrame) -> list[str]:
    """List the classes of an image table, sorted; the labels of a multi-label row count one by one."""
    return sorted({label for labels in table["label"] for label in split_labels(labels)})


def is_multilabel(table: pd.DataFrame) -> bool:
    """Tell whether any image has several labels, or none."""
    return any(len(split_labels(labels)) != 1 for labels in table["label"])


def split_labels(labels: str) -> list[str]:
    """Split `"can|carton"` into its labels; an image without labels gives an empty list."""
    return [label.strip() for label in labels.split(LABEL_SEPARATOR) if label.strip()]


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
    code = {name: i for i, name in enumerate(class_names)}
    rows = [split_labels(label) for label in labels]
    unknown = sorted({name for row in rows for name in row} - set(code))
    if unknown:
        raise ValueError(f"Got labels {unknown}, expected only {list(class_names)}.")
    if not multilabel:
        return np.array([code[row[0]] for row in rows], dtype=np.int64)
    encoded = np.zeros((len(rows), len(code)), dtype=np.float32)
    for i, row in enumerate(rows):
        encoded[i, [code[name] for name in row]] = 1
    return encoded
