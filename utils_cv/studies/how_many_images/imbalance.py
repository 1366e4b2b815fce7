"""Imbalance: one class with few images beside full ones, and what helps to find it.

Each class in turn is the rare one. Everything is scored on the whole test split, which stays as it is.
"""

import functools
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.calibration import adjust_logits
from utils_cv.evaluation.intervals import Z_95, Score, compare_means, make_score, measure_mean, resample_means

from ..experiment import Task, tabulate_trials

# What is done about the rare class. "balanced" shares as many images equally, for comparison.
METHODS = ("plain", "class weights", "logit adjustment", "undersampling", "balanced")
MAX_TURNS = 12  # classes that take their turn as the rare one; of more than these, evenly spaced ones


def measure_imbalance(task: Task, *, ratio: int = 10, n_seeds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Train a probe with one rare class, by every method of `METHODS`, for every class (of many, 12) and seed.

    Class weights let every class count alike in the loss; for a probe that is the same as repeating images of the rare
    class. Logit adjustment subtracts the log of each class's share from its logit (Menon et al. 2021). Undersampling
    leaves out images of the other classes until all are equal.

    Args:
        task: From `make_task`.
        ratio: How many images each other class has for one of the rare class.
        n_seeds: Draws of the images.
        seed: The first seed.

    Returns:
        One row per trial: `method`, `rare` (class name), `seed`, `n_rare` and `n_other` (images learned from, of the
        rare class and of each other); of the test images `right`, `is_rare` (the true class is the rare one) and
        `is_called` (the predicted one is), bool (n_test,), and their `groups`, or None.

    Raises:
        ValueError: If the ratio leaves the rare class without an image, or an image has several labels.
    """
    n_other = task.n_smallest
    if task.is_multilabel:
        raise ValueError("Got several labels per image; expected one. A rare label needs thresholds: see notebook 03.")
    if not 1 < ratio <= n_other:
        raise ValueError(
            f"Got ratio={ratio}; the smallest class has {n_other} images to learn from, so that a ratio from 2 to "
            f"{n_other} leaves the rare class at least one."
        )
    turns = np.linspace(0, len(task.class_names) - 1, min(len(task.class_names), MAX_TURNS)).astype(int)
    names = [task.class_names[i] for i in turns]
    settings = [
        {"method": method, "rare": name, "seed": seed + i}
        for name in names
        for i in range(n_seeds)
        for method in METHODS
    ]
    trial = functools.partial(_score_method, task, n_other // ratio)
    return tabulate_trials(trial, settings, description="imbalance")


def summarize_imbalance(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per method: recall and precision of the rare class, and accuracy, over classes and seeds.

    `rare_recall` rests on the test images of all classes that were the rare one in turn. `accuracy` is that on the test
    split as it is. Where the class is as rare in use as among the train images there are as many other images, but
    fewer rare ones to find: `rare_precision` and `accuracy_if_rare` count the rare test images with that weight.

    Args:
        rows: From `measure_imbalance`.

    Returns:
        `method`, `n_test` images or groups, `n_trials`, `false_rare` (share of the test images of other classes that
        are called rare); each of the four scores with its 95 % limits in `_low` and `_high`, and its paired difference
        to "plain" in `_change`, `_change_low` and `_change_high`. Limits of the precision are by bootstrap.
    """
    rows = rows.sort_values(["rare", "seed"], kind="stable")
    plain, groups = rows[rows["method"] == "plain"].iloc[0], rows["groups"].iloc[0]
    weight, n_classes = plain["n_rare"] / plain["n_other"], rows["rare"].nunique()
    parts = {}
    for name, part in rows.groupby("method", sort=False):  # bool (n_classes, n_seeds, n_test) of each method
        arrays = [np.stack(part[column].tolist()) for column in ("right", "is_rare", "is_called")]
        parts[name] = [array.reshape(n_classes, -1, array.shape[1]) for array in arrays]
    values = {name: _compute_values(part, weight) for name, part in parts.items()}
    precision = _measure_precision(parts, weight, groups)
    summary: list[dict[str, Any]] = []
    for name, (right, is_rare, is_called) in parts.items():
        false_rare = float(is_called[~is_rare].mean())
        row = {"method": name, "n_test": 0, "n_trials": right.shape[0] * right.shape[1], "false_rare": false_rare}
        for score_name, value in values[name].items():
            is_scored = is_rare.any(axis=(0, 1)) if score_name == "rare_recall" else np.ones(value.shape[1], bool)
            of = {"groups": None if groups is None else groups[is_scored]}
            score = measure_mean(value[:, is_scored], **of)
            row |= {"n_test": score.n} | score.name_limits(score_name)
            if name != "plain":
                change = compare_means(value[:, is_scored], values["plain"][score_name][:, is_scored], **of)
                row |= change.name_limits(f"{score_name}_change")
        summary.append(row | precision[name])
    return pd.DataFrame(summary)


def _compute_values(part: list[np.ndarray], weight: float) -> dict[str, np.ndarray]:
    """What each test image adds to the scores that are means over images, in [0, 1], (n_seeds, n_test)."""
    right, is_rare, is_called = part
    weights = np.where(is_rare, weight, 1.0)
    if_rare = (weights * right).sum(axis=0) / weights.sum(axis=0)
    found = (is_rare & is_called).any(axis=0)
    return {"rare_recall": found, "accuracy": right.mean(axis=0), "accuracy_if_rare": if_rare}


def _measure_precision(
    parts: dict[str, list[np.ndarray]], weight: float, groups: np.ndarray | None
) -> dict[str, dict[str, float]]:
    """Share of the images called rare that are, rare ones with a weight, by method; NaN where none is called rare."""
    called = np.stack([[is_called & is_rare, is_called & ~is_rare] for _, is_rare, is_called in parts.values()])
    as_they_are = called.mean(axis=(-2, -1)).reshape(1, -1)
    drawn = resample_means(called.reshape(-1, *called.shape[-2:]), groups=groups)
    found, wrong = np.vstack([as_they_are, drawn]).reshape(-1, *called.shape[:3]).sum(axis=3).transpose(2, 0, 1)
    with np.errstate(invalid="ignore"):
        values = weight * found / (weight * found + wrong)  # (1 + n_resamples, n_methods)
    changes = values - values[:, [list(parts).index("plain")]]
    n_called = called.sum(axis=(1, 2, 4)).mean(axis=1)
    limits = {}
    for i, name in enumerate(parts):
        score = make_score(values[0, i], _find_spread(values[1:, i]), max(round(n_called[i]), 1))
        half, change = Z_95 * _find_spread(changes[1:, i]), changes[0, i]
        limits[name] = score.name_limits("rare_precision")
        if name != "plain":
            change = Score(change, max(change - half, -1.0), min(change + half, 1.0), score.n)
            limits[name] |= change.name_limits("rare_precision_change")
    return limits


def _find_spread(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _score_method(task: Task, n_rare: int, method: str, rare: str, seed: int) -> dict[str, Any]:
    rare_code = task.class_names.index(rare)
    rows = _draw_rows(task, rare_code, n_rare, method, seed)
    counts = np.bincount(task.codes[rows], minlength=len(task.class_names))
    logits = task.predict(rows, balanced=method == "class weights")
    if method == "logit adjustment":
        logits = adjust_logits(logits, counts)
    predicted = logits.argmax(axis=1)
    return task.score(logits) | {
        "n_rare": int(counts[rare_code]),
        "n_other": int(np.delete(counts, rare_code).max()),
        "is_rare": task.codes[task.test_rows] == rare_code,
        "is_called": predicted == rare_code,
    }


def _draw_rows(task: Task, rare_code: int, n_rare: int, method: str, seed: int) -> np.ndarray:
    """Positions to learn from."""
    n_other, n_classes = task.n_smallest, len(task.class_names)
    if method == "balanced":
        return task.draw((n_rare + n_other * (n_classes - 1)) // n_classes, seed=seed)
    few = task.draw(n_rare, seed=seed)
    if method == "undersampling":
        return few
    common = task.draw(n_other, seed=seed)
    return np.concatenate([common[task.codes[common] != rare_code], few[task.codes[few] == rare_code]])
