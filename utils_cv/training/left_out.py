"""What a score of unknown images finds when a class is unknown: each is left out of linear probes in turn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.out_of_distribution import measure_rejected, space_evenly

from .linear_probe import DEFAULT_C, fit_linear_head

_MAX_TURNS, _MAX_IMAGES = 12, 600  # classes to leave out, images of a fold: more would only take longer


def measure_left_out(
    features: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[tuple[np.ndarray, ...]],
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """Leave each class out in turn: how many of its images a low highest logit rejects, beside 5 % of the others."""
    rows, names = [], ["name", "rejected", "rejected_low", "rejected_high", "rejected_n"]
    classes = np.unique(labels[np.concatenate([held_out for _, held_out in folds])])
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    for left_out in space_evenly(classes, _MAX_TURNS) if len(classes) > 2 else ():
        scores = np.full(len(labels), np.nan)
        for fold in folds:
            learned, held_out = (space_evenly(part, _MAX_IMAGES) for part in fold)
            learned = learned[labels[learned] != left_out]
            found, codes = np.unique(labels[learned], return_inverse=True)
            if len(found) < 2:
                continue
            held_out = held_out[np.isin(labels[held_out], [*found, left_out])]
            weight, bias = fit_linear_head(features[learned], codes, n_classes=len(found), C=DEFAULT_C)
            scores[held_out] = -(features[held_out] @ weight.T + bias).max(axis=1)
        is_own, is_scored = labels == left_out, np.isfinite(scores)
        unknown, known = np.flatnonzero(is_scored & is_own), np.flatnonzero(is_scored & ~is_own)
        if len(unknown) and len(known):
            both: dict[str, Any] = {"groups": units[unknown], "known_groups": units[known]}
            rows.append([left_out, *measure_rejected(scores[unknown], scores[known], **both)])
    return pd.DataFrame(rows, columns=names)
