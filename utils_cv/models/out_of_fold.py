"""What models say of images that they did not learn: each fold is predicted by linear heads of the others."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from utils_cv.data.splits import count_units, split_folds
from utils_cv.evaluation.calibration import compute_losses
from utils_cv.evaluation.metrics import check_same_length
from utils_cv.evaluation.out_of_distribution import measure_rejected, space_evenly

from .linear_heads import C_GRID, DEFAULT_C, N_FOLDS, fit_known_classes, fit_linear_head

_MAX_TURNS, _MAX_IMAGES = 12, 600  # classes to leave out, images of a fold: more would only take longer


def predict_out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    n_classes: int,
    groups: np.ndarray | None = None,
    Cs: Sequence[float] = C_GRID,
    n_folds: int = N_FOLDS,
    seed: int = 0,
) -> np.ndarray:
    """Predict each image by a linear probe that learned the other folds.

    Wrong labels ask for stronger regularization, so C is chosen here, by the log loss of these very predictions: one
    number of a few, which the labels of single images hardly move.

    Args:
        features: (n_images, n_features).
        labels: Class codes as they are, right or wrong, (n_images,); of several labels 0 and 1 (n_images, n_classes).
        n_classes: Number of classes.
        groups: Group of each image (scene, video, patient): near-duplicates, which share their wrong label, must
            not vouch for each other. None where there are none.
        Cs: Values of C to choose from.
        n_folds: Parts; fewer where a class has fewer images.
        seed: Seed of the folds.

    Returns:
        Probabilities (n_images, n_classes): rows sum to 1, of several labels each is one of its own. An image alone in
        its class was learned all the same.

    Raises:
        ValueError: If fewer than two classes have two images (or groups), or the lengths differ.
    """
    check_same_length(features=features, labels=labels)
    folds, turn = split_judged(labels, groups, n_folds, seed), expit if labels.ndim == 2 else partial(softmax, axis=1)
    is_judged = np.isin(np.arange(len(labels)), np.concatenate([held_out for _, held_out in folds]))
    alone = np.flatnonzero(~is_judged)
    found, losses = [], []
    for C in Cs:
        logits = np.zeros((len(labels), n_classes))
        for learned, held_out in folds:
            weight, bias = fit_known_classes(features[learned], labels[learned], n_classes=n_classes, C=C, seed=seed)
            own, is_known = features[np.append(held_out, alone)] @ weight.T + bias, np.isfinite(bias)
            # Groups of several classes, and wrong labels, may leave a fold without a class: it is the least likely one.
            own[:, ~is_known] = own[:, is_known].min(axis=1, keepdims=True)
            logits[held_out] = own[: len(held_out)]
            logits[alone] += own[len(held_out) :] / len(folds)
        found.append(turn(logits))
        losses.append(compute_losses(labels, logits)[is_judged].mean())
    return found[int(np.argmin(losses))]


def predict_to_check_labels(
    features: np.ndarray, labels: np.ndarray, *, n_classes: int, groups: np.ndarray | None = None, **options: Any
) -> np.ndarray:
    """Predict each image by models that did not learn it, so that a wrong label contradicts them.

    Where images come in groups, a label may be wrong for one image or for the whole group. So two models answer, one
    that knows the rest of the group and one that knows none of it, and their probabilities are averaged. On 605 images
    of tiles, each tile under several exposures, 94 % of wrong labels were then among the first 20 % suspects, with
    whole groups held out alone 74 %; of labels wrong for whole tiles 60 % and 64 %.

    Args and errors are those of `predict_out_of_fold`.

    Returns:
        Probabilities (n_images, n_classes), for `utils_cv.evaluation.label_errors.rank_suspects`.
    """
    ways = [None] if groups is None else [groups, None]
    found = [predict_out_of_fold(features, labels, n_classes=n_classes, groups=way, **options) for way in ways]
    return np.asarray(np.mean(found, axis=0))


def split_judged(labels: np.ndarray, groups: Any, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split into folds; every one learns the images of classes that have one image (or group), and holds out none."""
    if labels.ndim == 2:
        return split_folds(labels, groups, n_folds=n_folds, seed=seed)
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    is_free, alone = np.full(len(labels), True), []
    what = "image" if groups is None else "group"
    while (counts := count_units(labels[is_free], units[is_free])).min() < 2:
        alone += sorted(counts.index[counts < 2])
        is_free &= ~np.isin(units, units[is_free & np.isin(labels, alone)])
        if len(set(labels[is_free])) < 2:
            raise ValueError(
                f"Got {count_units(labels, groups).to_dict()} {what}s of the classes; expected at least 2 of two of "
                "them, so that each image can be predicted by a model that learned another one."
            )
    if alone:
        words = f"{len(alone)} of {len(set(labels))} classes have one {what} to learn from: "
        words += f"{', '.join(map(str, alone))}."
        warnings.warn(f"{words} Every model learns it, so nothing tells how well it is recognized.", stacklevel=4)
    free, fixed = np.flatnonzero(is_free), np.flatnonzero(~is_free)
    free_groups, n_folds = None if groups is None else units[free], min(n_folds, counts.min())
    folds = split_folds(labels[free], free_groups, n_folds=n_folds, seed=seed)
    return [(np.sort(np.append(free[learned], fixed)), free[held_out]) for learned, held_out in folds]


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
