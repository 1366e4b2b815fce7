"""Wrong labels: planting them for experiments, and finding them by a model that did not learn the image. No torch.

Source of the idea: confident learning (Northcutt, Jiang and Chuang 2021); the same authors with Athalye found 3.3 %
wrong labels on average in the test sets of ten well-known data sets.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .intervals import Score, make_fraction_score
from .metrics import check_same_length


def rank_suspects(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Order images by how much their predictions doubt their labels, the most doubted first.

    Args:
        probabilities: Of a model that did not learn the images, (n_images, n_classes).
        labels: Class codes as they are, (n_images,).

    Returns:
        One row an image: `row` (its position), `label` and `suggested` (class codes; the suggested one is the most
        probable other class), and `margin`, the probability of the label minus that of the suggested class, in
        [-1, 1]. Below 0 the model contradicts the label.

    Example:
        >>> rank_suspects(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))["row"].tolist()
        [1, 0]
    """
    check_same_length(probabilities=probabilities, labels=labels)
    rows = np.arange(len(labels))
    of_label = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1.0
    suggested = others.argmax(axis=1)
    margin = of_label - others[rows, suggested]
    table = pd.DataFrame({"row": rows, "label": labels, "suggested": suggested, "margin": margin})
    return table.sort_values("margin", kind="stable").reset_index(drop=True)


class Found(NamedTuple):
    """How well a ranking finds wrong labels that are known.

    Attributes:
        precision: Of the images that were looked at, the share whose label is wrong.
        recall: Of the wrong labels, the share that was looked at.
    """

    precision: Score
    recall: Score


def score_suspects(suspects: pd.DataFrame, is_wrong: Any, n_inspected: int | None = None) -> Found:
    """Precision and recall of looking at the first suspects, where it is known which labels are wrong.

    Args:
        suspects: From `rank_suspects`.
        is_wrong: Whether the label of each image is wrong, bool (n_images,), in the order of the images.
        n_inspected: How many suspects are looked at; None: all whose label the model contradicts.

    Raises:
        ValueError: If nothing is looked at, or no label is wrong.

    Example:
        >>> suspects = rank_suspects(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
        >>> score_suspects(suspects, [False, True]).precision.value
        1.0
    """
    is_wrong = np.asarray(is_wrong, dtype=bool)
    check_same_length(suspects=suspects, is_wrong=is_wrong)
    n_inspected = int((suspects["margin"] < 0).sum()) if n_inspected is None else n_inspected
    if not 1 <= n_inspected <= len(suspects) or not is_wrong.any():
        raise ValueError(
            f"Got {n_inspected} of {len(suspects)} images to look at and {int(is_wrong.sum())} wrong labels; expected "
            "at least one of each, or there is no precision or recall."
        )
    n_found = int(is_wrong[suspects["row"].to_numpy()[:n_inspected]].sum())
    return Found(make_fraction_score(n_found, n_inspected), make_fraction_score(n_found, int(is_wrong.sum())))


def trace_suspects(suspects: pd.DataFrame, is_wrong: Any) -> pd.DataFrame:
    """Precision and recall after every image, in the order of suspicion.

    Returns:
        One row an image: `n_inspected`, `inspected_fraction`, `precision`, `recall`.
    """
    hits = np.asarray(is_wrong, dtype=bool)[suspects["row"].to_numpy()]
    if not hits.any():
        raise ValueError("No label is wrong, so there is nothing to find.")
    n_inspected = np.arange(1, len(hits) + 1)
    columns = {
        "n_inspected": n_inspected,
        "inspected_fraction": n_inspected / len(hits),
        "precision": hits.cumsum() / n_inspected,
        "recall": hits.cumsum() / hits.sum(),
    }
    return pd.DataFrame(columns)
