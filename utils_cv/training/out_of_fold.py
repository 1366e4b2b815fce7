"""Moved."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from utils_cv.data.splits import split_folds
from utils_cv.evaluation.metrics import check_same_length

from .linear_probe import STRENGTHS, fit_linear_head


class OutOfFold(NamedTuple):
    """Predictions for every image by a model that did not learn it.

    Attributes:
        probabilities: (n_images, n_classes), rows sum to 1.
        strength: The regularization with the lowest log loss, scikit-learn's C.
    """

    probabilities: np.ndarray
    strength: float


def predict_out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    n_classes: int,
    groups: np.ndarray | None = None,
    strengths: tuple[float, ...] = STRENGTHS,
    n_folds: int = 5,
    seed: int = 0,
) -> OutOfFold:
    """Predict each image by a linear probe that learned the other folds.

    Wrong labels ask for stronger regularization, so the strength is chosen here, by the log loss of these very
    predictions: one number of five, which the labels of single images hardly move.

    Args:
        features: (n_images, n_features).
        labels: Class codes as they are, right or wrong, (n_images,).
        n_classes: Number of classes.
        groups: Group of each image (scene, video, patient): near-duplicates, which share their wrong label, must
            not vouch for each other. None where there are none.
        strengths: To choose from.
        n_folds: Parts; fewer where a class has fewer images.
        seed: Seed of the folds.

    Raises:
        ValueError: If a class has fewer than two images, or the lengths differ.

    Example:
        >>> found = predict_out_of_fold(features, labels, n_classes=4)  # doctest: +SKIP
    """
    check_same_length(features=features, labels=labels)
    folds = _make_folds(labels, groups, n_classes, n_folds, seed)
    best = OutOfFold(np.zeros((0, n_classes)), strengths[0])
    lowest = np.inf
    for strength in strengths:
        logits = np.empty((len(labels), n_classes))
        for learned, held_out in folds:
            weight, bias = fit_linear_head(
                features[learned], labels[learned], n_classes=n_classes, strength=strength, seed=seed
            )
            logits[held_out] = features[held_out] @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
        if loss < lowest:
            best, lowest = OutOfFold(probabilities, strength), loss
    return best


def _make_folds(
    labels: np.ndarray, groups: np.ndarray | None, n_classes: int, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    units = np.arange(len(labels)) if groups is None else pd.factorize(np.asarray(groups))[0]
    n_units = [len(np.unique(units[labels == code])) for code in range(n_classes)]
    if min(n_units) < 2:
        what = "images" if groups is None else "groups"
        raise ValueError(
            f"Class {int(np.argmin(n_units))} has {min(n_units)} {what}; expected at least 2 of every class, so that "
            "each can be predicted by a model that learned another one."
        )
    return split_folds(labels, None if groups is None else units, n_folds=min(n_folds, *n_units), seed=seed)
