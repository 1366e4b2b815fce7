"""Scores of several labels per image, and the thresholds that turn probabilities into decisions.

`y_true` and `y_pred` are 0 and 1 (n_images, n_classes). Select thresholds on images that neither trained the model nor
score it, such as `Selection.held_out` of `select_recipe`: scores on the images that selected them are too high.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .intervals import (
    Score,
    Statistic,
    compare_resamples,
    compute_wilson_interval,
    measure_resamples,
    resample_statistic,
)
from .metrics import check_label_answers, check_probabilities, compare_accuracy, measure_accuracy

N_ENOUGH = 8  # true images of a label, from which on the interval of macro-F1 holds what it says
# A label of 10 true images gets a threshold halfway between its own and the shared one. In simulations of 4 to 20
# labels and 50 to 500 images, F1 was within half a point of the best of 0 (all its own), 3, 10, 30, 100 and no limit.
N_HALFWAY = 10
THRESHOLD_KINDS = ("shared", "per_label", "shrunk")


def measure_multilabel(
    y_true: Any, probabilities: Any, thresholds: Any = 0.5, *, groups: Any = None
) -> dict[str, Score]:
    """Measure what is usually said of several labels per image, with 95 % intervals.

    `exact_match` is the share of images with all labels right, `hamming_accuracy` the share of right decisions, one per
    image and label. F1 balances missed labels against wrongly added ones: `macro_f1` is its mean over the labels,
    `micro_f1` pools all decisions. `mean_average_precision` (mAP) needs no threshold: it is the mean over the labels of
    scikit-learn's `average_precision_score`; labels without a true image do not count in it.

    Args:
        y_true: 0 and 1, (n_images, n_classes).
        probabilities: (n_images, n_classes), each in [0, 1].
        thresholds: One for all, or one for each label, (n_classes,).
        groups: (n_images,), images of one group, such as a scene, do not count as independent. Default: all do.

    Returns:
        The five scores, in [0, 1]; `n` counts images or groups. A label of fewer than 8 true images makes the intervals
        of means over labels too narrow, which a warning says. An image set without a label is a ValueError.

    Example:
        >>> scores = measure_multilabel([[1, 0], [0, 1]] * 8, [[0.9, 0.2], [0.6, 0.8]] * 8)  # two of (16, 2)
        >>> [round(score.value, 2) for score in scores.values()]
        [0.5, 0.75, 0.83, 0.8, 1.0]
    """
    true, probabilities, codes = _check_answers(y_true, probabilities, groups)
    predicted, n_fewest = apply_thresholds(probabilities, thresholds), true.sum(axis=0)[true.any(axis=0)].min()
    if n_fewest < N_ENOUGH:
        what = f"a label has {n_fewest} true images, fewer than {N_ENOUGH}"
        warnings.warn(f"The intervals of means over labels are too narrow: {what}.", stacklevel=2)
    scores = {"exact_match": measure_accuracy(true, predicted, groups=groups)}
    for name, statistic in _list_statistics(true, probabilities, predicted).items():
        scores[name] = measure_resamples(_resample(statistic, codes), int(codes.max()) + 1)
    return scores


def compare_multilabel(y_true: Any, a: tuple[Any, Any], b: tuple[Any, Any], *, groups: Any = None) -> dict[str, Score]:
    """Compare two models, or two choices of thresholds, on the same images: A minus B, with paired 95 % intervals.

    They come from resamples of the images, the same for A and B; that of the exact match is `compare_accuracy`'s. As
    there, two more images that differ as much as others do, in opposite directions, keep a width where none differs.

    Both `a` and `b` are probabilities and thresholds, of the same images in the same order; all else is as in
    `measure_multilabel`. Differences are in [-1, 1].

    Example:
        >>> a, b = ([[0.9, 0.1], [0.2, 0.8]], 0.5), ([[0.9, 0.1], [0.6, 0.8]], 0.5)
        >>> print(compare_multilabel([[1, 0], [0, 1]], a, b)["exact_match"])
        0.500 (-0.563 to 1.000, n = 2)
    """
    (true, of_a, codes), (_, of_b, _) = (_check_answers(y_true, answers[0], groups) for answers in (a, b))
    y_a, y_b, n = apply_thresholds(*a), apply_thresholds(*b), int(codes.max()) + 1
    scores = {"exact_match": compare_accuracy(true, y_a, y_b, groups=groups)}
    change = (true == y_a).mean(axis=1) - (true == y_b).mean(axis=1)
    pairs = zip(_list_statistics(true, of_a, y_a).items(), _list_statistics(true, of_b, y_b).values(), strict=True)
    for (name, first), second in pairs:
        scores[name] = compare_resamples(_resample(first, codes), _resample(second, codes), change, n)
    return scores


def resample_average_precision(y_true: Any, probabilities: Any, *, groups: Any = None) -> np.ndarray:
    """Mean average precision of the images, then of resamples of them, (1001,), for `intervals.measure_resamples`."""
    true, probabilities, codes = _check_answers(y_true, probabilities, groups)
    return _resample(_list_statistics(true, probabilities, true)["mean_average_precision"], codes)


def compute_average_precision(
    y_true: Any, probabilities: Any, class_names: Sequence[str], *, groups: Any = None
) -> pd.DataFrame:
    """Compute scikit-learn's `average_precision_score` of every label: how well its images are ranked above the others.

    Arguments are those of `measure_multilabel` and a name for each column. Returns one row per label: `label`, `n` true
    images (or groups that hold some), `share` of the images that have it, which is what guessing reaches, and
    `average_precision`, NaN without a true image. The limits, `average_precision_low` and `average_precision_high`, are
    Wilson's for `n` trials: of few, a bootstrap's are far too narrow (Boyd et al. 2013).

    Example:
        >>> compute_average_precision([[1], [0], [1]], [[0.9], [0.6], [0.4]], ["can"])["average_precision"].round(3)[0]
        np.float64(0.833)
    """
    from sklearn.metrics import average_precision_score

    true, probabilities, codes = _check_answers(y_true, probabilities, groups)
    pairs = zip(true.T, probabilities.T, strict=True)
    values = np.array([min(average_precision_score(y, p), 1.0) if y.any() else np.nan for y, p in pairs])  # 1 + 2e-16
    n = np.array([len(np.unique(codes[y])) for y in true.T])
    low, high = compute_wilson_interval(np.nan_to_num(values) * n, n)
    columns = {"label": list(class_names), "n": n, "share": true.mean(axis=0), "average_precision": values}
    return pd.DataFrame(columns | {"average_precision_low": low, "average_precision_high": high})


def select_thresholds(y_true: Any, probabilities: Any, *, kind: str = "shrunk") -> np.ndarray:
    """Select the thresholds with the highest F1, of equally good ones the nearest to 0.5.

    Args:
        y_true: As in `measure_multilabel`, of images that neither trained the model nor will score it.
        probabilities: Of the same images.
        kind: "per_label" gives each label the threshold of its own highest F1, which few images choose badly. "shared"
            gives all labels one, with the highest F1 when they count alike. "shrunk" lies between the two, in logits: a
            label of 10 true images is halfway, one of more is nearer to its own.

    Returns:
        Thresholds in [0, 1], (n_classes,), for `apply_thresholds` and `save_classifier`.

    Example:
        >>> select_thresholds([[1, 0], [1, 1], [0, 0]], [[0.4, 0.2], [0.3, 0.9], [0.1, 0.1]], kind="per_label").round(2)
        array([0.2 , 0.55])
    """
    from scipy.special import expit, logit

    true, probabilities, _ = _check_answers(y_true, probabilities)
    n, weights = true.sum(axis=0), np.broadcast_to(1 / np.maximum(true.sum(axis=0), 1), true.shape)
    if kind not in THRESHOLD_KINDS:
        raise ValueError(f"kind: expected one of {', '.join(THRESHOLD_KINDS)}, got {kind!r}.")
    if kind == "per_label" and not n.all():
        absent = np.flatnonzero(n == 0).tolist()
        warnings.warn(f"Columns {absent} have no true image; their thresholds stay at 0.5.", stacklevel=2)
    own = np.array([_select_threshold(*column) for column in zip(true.T, probabilities.T, weights.T, strict=True)])
    shared = np.full(len(n), _select_threshold(*(part[:, n > 0].ravel() for part in (true, probabilities, weights))))
    if kind != "shrunk":
        return own if kind == "per_label" else shared
    own_logits, shared_logits = (logit(np.clip(part, 1e-6, 1 - 1e-6)) for part in (own, shared))
    return np.asarray(expit((n * own_logits + N_HALFWAY * shared_logits) / (n + N_HALFWAY)))


def apply_thresholds(probabilities: Any, thresholds: Any = 0.5) -> np.ndarray:
    """Decide which labels are predicted: those with a probability of at least the threshold, one or one per class."""
    probabilities, thresholds = check_probabilities(probabilities), np.asarray(thresholds, dtype=float)
    if thresholds.ndim and thresholds.shape != probabilities.shape[1:]:
        expected = f"one number or one for each of {probabilities.shape[1]} classes"
        raise ValueError(f"thresholds: expected {expected}, got the shape {thresholds.shape}.")
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise ValueError(f"thresholds: expected fractions in [0, 1], got {thresholds.tolist()}.")
    return probabilities >= thresholds


def _check_answers(y_true: Any, probabilities: Any, groups: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both tables, and the group of each image as a code; without groups each image is one."""
    true, probabilities = check_label_answers(y_true, probabilities)
    if not true.any():
        raise ValueError(f"None of {len(true)} images has a label; expected some in y_true.")
    codes = np.arange(len(true)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    return true, probabilities, codes


def _list_statistics(true: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray) -> dict[str, Statistic]:
    """Statistics of resamples, by hand because scikit-learn takes one resample at a time."""
    right, marked, is_right = (true & predicted).astype(float), true.astype(float) + predicted, true == predicted

    def average(counts: np.ndarray) -> np.ndarray:
        columns = zip(true.T, probabilities.T, strict=True)
        return _average_finite(np.stack([_resample_precision(*column, counts) for column in columns], axis=1))

    return {
        "hamming_accuracy": lambda counts: _divide(counts @ is_right.mean(axis=1), counts.sum(axis=1)),
        "macro_f1": lambda counts: _average_finite(_divide(2 * counts @ right, counts @ marked)),
        "micro_f1": lambda counts: _divide(2 * counts @ right.sum(axis=1), counts @ marked.sum(axis=1)),
        "mean_average_precision": average,
    }


def _resample(statistic: Statistic, codes: np.ndarray) -> np.ndarray:
    """The statistic of all images, then on resamples of whole groups, (1001,)."""
    of_all = statistic(np.ones((1, len(codes))))
    return np.append(of_all, resample_statistic(lambda counts: statistic(counts[:, codes]), int(codes.max()) + 1))


def _resample_precision(y_true: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average precision of one label (n_resamples,); images of equal probability enter together."""
    order = np.argsort(-probabilities, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(probabilities[order]) != 0, True)) + 1
    true = np.flatnonzero(y_true[order])
    ends = np.unique(ends[np.searchsorted(ends, true, side="right")])  # only where true images enter it rises
    if not len(ends):
        return np.full(len(counts), np.nan)
    starts = np.append(0, ends[:-1])
    n_all = np.add.reduceat(counts[:, order[: ends[-1]]], starts, axis=1).cumsum(axis=1)
    n_new = np.add.reduceat(counts[:, order[true]], np.searchsorted(true, starts), axis=1)
    n_right = n_new.cumsum(axis=1)
    return _divide((n_new * np.nan_to_num(_divide(n_right, n_all))).sum(axis=1), n_right[:, -1])


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(b), np.nan), where=b > 0)


def _average_finite(values: np.ndarray) -> np.ndarray:
    return _divide(np.nansum(values, axis=1), np.isfinite(values).sum(axis=1))


def _select_threshold(y_true: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """Select the threshold with the highest F1: 0, or halfway between two neighboring probabilities."""
    if not y_true.any():
        return 0.5
    values, group = np.unique(probabilities, return_inverse=True)  # rising
    candidates = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    # entry i: images and true images at or above the i-th distinct probability
    n_chosen = np.bincount(group, weights=weights)[::-1].cumsum()[::-1]
    n_right = np.bincount(group, weights=weights * y_true)[::-1].cumsum()[::-1]
    f1 = 2 * n_right / (n_chosen + (weights * y_true).sum())
    best = candidates[f1 >= f1.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
