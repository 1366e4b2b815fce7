"""Logistic regressions for many labels at once: all labels and folds share the products with the features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import logit
from tqdm.auto import tqdm

from utils_cv.data.splits import split_folds

# Labels of one matrix product: few, so that its arrays stay small, and enough, so that it is fast.
LABELS_AT_ONCE = 100
# A fit is done when a step promises less than this share of the penalty, or than rounding does to the loss.
TOLERANCE, FOLD_TOLERANCE, ROUNDING, MAX_STEPS = 1e-6, 1e-4, 1e-10, 1_000
KEPT_SHARE = 0.75  # fits that are done are taken out of the arrays when so few of them are left
BAR_AFTER_S = 3


def fit_label_heads(
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    Cs: Sequence[float],
    default: float,
    n_folds: int,
    groups: np.ndarray | None,
    weights: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weight (n_labels, n_features) and bias (n_labels,) as scikit-learn's LogisticRegression would label by label.

    `inputs` are centered, with orthogonal columns; `targets` and `weights` are (n_images, n_labels). The first rise of
    a label's cross-validated loss ends its search in the ascending `Cs`; `default` where none can tell.
    """
    inputs = np.column_stack([inputs, np.ones(len(inputs), np.float32)]).astype(np.float32, copy=False)
    heads = np.empty((targets.shape[1], inputs.shape[1]), np.float32)
    with tqdm(total=len(heads), desc="labels", delay=BAR_AFTER_S) as bar:
        for first in range(0, len(heads), LABELS_AT_ONCE):
            part = slice(first, first + LABELS_AT_ONCE)
            y, w = (values[:, part].astype(np.float32) for values in (targets, weights))
            C, start = np.full(y.shape[1], Cs[0]), _start(inputs, y, w)
            if len(Cs) > 1:
                C = _choose_c(inputs, y, w, Cs, default, _list_folds(y, groups, n_folds, seed), start)
            heads[part] = _minimize(inputs, y, w, C, start, TOLERANCE).T
            bar.update(y.shape[1])
    return heads[:, :-1], heads[:, -1]


def _list_folds(y: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """List the label of each fold, and which images it learns, (n_images, n_fits); labels have folds of their own."""
    shared = None  # with groups, since to balance each label over them takes a second for every few labels
    if groups is not None and len(np.unique(groups)) >= n_folds:
        shared = split_folds(np.zeros(len(y)), groups, n_folds=n_folds, seed=seed)
    label_of, is_learned = [], []
    for label, codes in enumerate(y.T):
        n_own = int(min(n_folds, codes.sum(), len(codes) - codes.sum()))
        own = split_folds(codes, n_folds=n_own, seed=seed) if groups is None and n_own > 1 else shared or []
        for rows, _ in own:
            if len(np.unique(codes[rows])) == len(np.unique(codes)):  # groups may leave a fold without the label
                label_of.append(label)
                is_learned.append(np.bincount(rows, minlength=len(y)))
    return np.array(label_of, int), np.array(is_learned, np.float32).reshape(-1, len(y)).T


def _choose_c(
    inputs: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
    Cs: Sequence[float],
    default: float,
    folds: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
) -> np.ndarray:
    """Choose the C of each label; each fit starts from the one before. `start` gets the means of the folds' heads."""
    (label_of, is_learned), n_labels = folds, y.shape[1]
    y, w = y[:, label_of], w[:, label_of]
    heads = _start(inputs, y, w * is_learned)
    chosen, best, is_open = np.full(n_labels, default), np.full(n_labels, np.inf), np.isin(range(n_labels), label_of)
    for C in Cs:
        columns = np.flatnonzero(is_open[label_of])
        if not len(columns):
            break
        targets, learned, held_out = (v[:, columns] for v in (y, w * is_learned, w * (1 - is_learned)))
        heads[:, columns] = _minimize(
            inputs, targets, learned, np.full(len(columns), C), heads[:, columns], FOLD_TOLERANCE
        )
        losses = _measure_losses(inputs @ heads[:, columns], targets, held_out) / held_out.sum(axis=0)
        total = np.bincount(label_of[columns], losses, minlength=n_labels)
        is_open &= total < best
        chosen[is_open], best[is_open] = C, total[is_open]
        for label in np.flatnonzero(is_open):
            start[:, label] = heads[:, label_of == label].mean(axis=1)
    return chosen


def _start(inputs: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Heads, (n_features + 1, n_fits), that know how frequent the labels are, and nothing of the features."""
    heads, n = np.zeros((inputs.shape[1], y.shape[1]), np.float32), w.sum(axis=0)
    heads[-1] = logit(np.clip((w * y).sum(axis=0) / n, 0.5 / n, 1 - 0.5 / n))
    return heads


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * z)  # several times as fast as scipy's expit, which is exact near 0


def _measure_losses(logits: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (w * (np.logaddexp(0, logits) - y * logits)).sum(axis=0)


def _minimize(
    inputs: np.ndarray, y: np.ndarray, w: np.ndarray, C: np.ndarray, heads: np.ndarray, tolerance: float
) -> np.ndarray:
    """Minimize all columns' losses by preconditioned conjugate gradients (Polak and Ribiere); inputs are orthogonal."""
    found, column = heads.copy(), np.arange(y.shape[1])
    penalty = (np.arange(len(heads)) < len(heads) - 1).astype(np.float32)[:, None] / C.astype(np.float32)
    z = inputs @ heads
    p, least = _sigmoid(z), ROUNDING * _measure_losses(z, y, w)
    scale = (inputs**2).sum(axis=0)[:, None] * (w * p * (1 - p)).mean(axis=0) + penalty + 1e-12
    direction, last_gradient, last_slope = np.zeros_like(heads), np.zeros_like(heads), np.ones_like(least)
    for _ in range(MAX_STEPS):
        gradient = inputs.T @ (w * (p - y)) + penalty * heads
        slope = (gradient * gradient / scale).sum(axis=0)
        is_open = slope > tolerance * (penalty * heads**2).sum(axis=0) + least
        if is_open.mean() <= KEPT_SHARE:
            found[:, column] = heads
            if not is_open.any():
                break
            state: tuple[Any, ...] = (y, w, z, p, heads, penalty, scale, least)
            state += (gradient, slope, direction, last_gradient, last_slope)
            y, w, z, p, heads, penalty, scale, least, gradient, slope, direction, last_gradient, last_slope = (
                values[..., is_open] for values in state
            )
            column = column[is_open]
        turn = np.maximum(0, (gradient * (gradient - last_gradient) / scale).sum(axis=0) / last_slope)
        direction = turn * direction - gradient / scale
        last_gradient, last_slope, along = gradient, slope, inputs @ direction
        length, change = np.zeros_like(least), (penalty * direction * heads).sum(axis=0)
        curvature = (penalty * direction**2).sum(axis=0)
        for q in (p, None):
            q = _sigmoid(z + length * along) if q is None else q
            first = (w * (q - y) * along).sum(axis=0) + change + length * curvature
            length -= first / ((w * q * (1 - q) * along**2).sum(axis=0) + curvature + 1e-12)
        heads, z = heads + length * direction, z + length * along
        p = _sigmoid(z)
    else:
        found[:, column] = heads
    return found
