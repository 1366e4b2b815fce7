"""Wrong labels, found by the predictions of a model that did not learn the image.

Source of the idea: confident learning (Northcutt, Jiang and Chuang 2021).
"""

from typing import Any

import numpy as np
import pandas as pd

from .metrics import check_same_length


def rank_suspects(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Rank images by how strongly their predictions contradict their labels, the strongest first.

    The order is that of cleanlab's score "normalized_margin", which is no dependency for these few lines.

    Args:
        probabilities: Of a model that did not learn the images, (n_images, n_classes).
        labels: Class codes as they are, (n_images,); of several labels 0 and 1 (n_images, n_classes).

    Returns:
        One row per image: `row` (its position), `label` and `suggested` (class codes; the suggested one is the most
        probable other class), and `margin`, the probability of the label minus that of the suggested class, in
        [-1, 1]. Below 0 the model contradicts the label. Of several labels each is a question of its own: `label`
        is the one whose answer is believed least, and `suggested` the other answer, 1 where the image lacks the label.

    Raises:
        ValueError: If the lengths differ.

    Example:
        >>> suspects = rank_suspects(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
        >>> suspects.shape, suspects["row"].tolist()
        ((2, 4), [1, 0])
    """
    check_same_length(probabilities=probabilities, labels=labels)
    rows = np.arange(len(labels))
    if labels.ndim == 2:
        margins = (2 * probabilities - 1) * np.where(labels > 0, 1, -1)
        codes = margins.argmin(axis=1)
        margin, suggested = margins[rows, codes], np.where(labels[rows, codes] > 0, 0, 1)
    else:
        codes, others = labels, probabilities.copy()
        others[rows, labels] = -1.0
        suggested = others.argmax(axis=1)
        margin = probabilities[rows, labels] - others[rows, suggested]
    table = pd.DataFrame({"row": rows, "label": codes, "suggested": suggested, "margin": margin})
    return table.sort_values("margin", kind="stable").reset_index(drop=True)


def trace_suspects(suspects: pd.DataFrame, is_wrong: Any) -> pd.DataFrame:
    """Trace precision and recall while one suspect after the other is checked, where the wrong labels are known.

    Args:
        suspects: From `rank_suspects`.
        is_wrong: Whether the label of each image is wrong, bool (n_images,), in the order of the images.

    Returns:
        One row per suspect: `n_inspected` (this one and those before it), `n_found` (wrong labels among them),
        `inspected_fraction`, `precision` (found among the inspected), `recall` (found among all wrong labels).

    Raises:
        ValueError: If the lengths differ, or no label is wrong.

    Example:
        >>> suspects = rank_suspects(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
        >>> trace = trace_suspects(suspects, [False, True])
        >>> trace.shape, trace["precision"].tolist(), trace["recall"].tolist()
        ((2, 5), [1.0, 0.5], [1.0, 1.0])
    """
    n = check_same_length(suspects=suspects, is_wrong=is_wrong)
    found = np.asarray(is_wrong, dtype=bool)[suspects["row"].to_numpy()].cumsum()
    if not found[-1]:
        raise ValueError("No label is wrong, so there is nothing to find.")
    inspected = np.arange(1, n + 1)
    columns = {"n_inspected": inspected, "n_found": found, "inspected_fraction": inspected / n}
    return pd.DataFrame(columns | {"precision": found / inspected, "recall": found / found[-1]})
