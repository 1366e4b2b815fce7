"""Imbalance: one class with few images beside full ones, and what weights or resampling do about it.

Each class in turn is the rare one. Everything is scored on the whole test split, which stays as it is.
"""

import functools
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.intervals import Score, compare_repeated, measure_repeated

from .experiment import (
    FIXED_C,
    Task,
    count_smallest_class,
    draw_pool_rows,
    join_results,
    make_task,
    predict_with_probe,
    run_trials,
)

# What is done about the rare class: what each does, in words.
METHODS = {
    "plain": "nothing",
    "weights": "every class counts alike in the loss",
    "repeat": "images of the rare class are repeated until the classes are equal",
    "drop": "images of the other classes are dropped until the classes are equal",
    "balanced": "for comparison: as many images in all, shared equally among the classes",
}


def measure_imbalance(
    table: pd.DataFrame,
    features: np.ndarray,
    *,
    ratio: int = 10,
    n_seeds: int = 3,
    seed: int = 0,
    strength: float | None = FIXED_C,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train with one rare class, by every method of `METHODS`, for every class and seed.

    Args:
        table: An image table with splits.
        features: A row for each image.
        ratio: How many images each other class has for one of the rare class.
        n_seeds: Draws of the images.
        seed: The first seed.
        strength: Of the regularization; None lets cross-validation choose, which duplicates of "repeat" mislead.
        show_progress: Show a bar with the time left.

    Returns:
        One row a trial: `method`, `rare` (class name), `seed`, `n_rare` and `n_other` (images learned from, of the
        rare class and of each other), `n_train`, `accuracy`, `rare_recall`, `false_rare` (share of the test images of
        other classes that are called rare), `right` (bool (n_test,)), and `right_rare`
        (the same for the test images of the rare class only).

    Raises:
        ValueError: If the ratio leaves the rare class without an image.

    Example:
        >>> rows = measure_imbalance(table, features, ratio=10)  # doctest: +SKIP
    """
    task = make_task(table, features)
    n_other = count_smallest_class(task)
    if not 1 < ratio <= n_other:
        raise ValueError(
            f"Got ratio={ratio}; the smallest class has {n_other} images to learn from, so that a ratio from 2 to "
            f"{n_other} leaves the rare class at least one."
        )
    settings = [
        {"method": method, "rare": name, "seed": seed + i}
        for name in task.class_names
        for i in range(n_seeds)
        for method in METHODS
    ]
    results = run_trials(
        functools.partial(_run_trial, table[["path", "label", "split"]], features, n_other // ratio, strength),
        settings,
        description="imbalance",
        show_progress=show_progress,
    )
    return join_results(settings, results)


def summarize_imbalance(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a method: recall of the rare class and accuracy, means over classes and seeds.

    Every test image is judged once as one of the rare class for each seed, so that `rare_recall` rests on all of
    them.

    Args:
        rows: From `measure_imbalance`.

    Returns:
        `method`, `rare_recall`, `rare_recall_low`, `rare_recall_high`, `accuracy`, `accuracy_low`, `accuracy_high`,
        `false_rare`, `n_test`, `n_trials`.
    """
    summary = []
    for method, group in rows.groupby("method", sort=False):
        recall = measure_repeated(_join_classes(group))
        accuracy = measure_repeated(np.stack(group["right"]))
        summary.append(
            {
                "method": method,
                "rare_recall": recall.value,
                "rare_recall_low": recall.low,
                "rare_recall_high": recall.high,
                "accuracy": accuracy.value,
                "accuracy_low": accuracy.low,
                "accuracy_high": accuracy.high,
                "false_rare": float(group["false_rare"].mean()),
                "n_test": accuracy.n,
                "n_trials": len(group),
            }
        )
    return pd.DataFrame(summary)


def compare_methods(rows: pd.DataFrame, method: str, other: str = "plain", *, score: str = "rare_recall") -> Score:
    """A score with one method minus that with another, on the same images and seeds, with a paired interval.

    Args:
        rows: From `measure_imbalance`.
        method: One of `METHODS`.
        other: What it is compared with.
        score: "rare_recall" or "accuracy".
    """
    groups = [rows[rows["method"] == name].sort_values(["rare", "seed"]) for name in (method, other)]
    if score == "rare_recall":
        return compare_repeated(*(_join_classes(group) for group in groups))
    return compare_repeated(*(np.stack(group["right"]) for group in groups))


def _join_classes(rows: pd.DataFrame) -> np.ndarray:
    """Whether each test image was found while its class was the rare one, (n_seeds, n_test)."""
    parts = [np.stack(group.sort_values("seed")["right_rare"]) for _, group in rows.groupby("rare")]
    return np.concatenate(parts, axis=1)


def _run_trial(
    table: pd.DataFrame, features: np.ndarray, n_rare: int, strength: float | None, method: str, rare: str, seed: int
) -> dict[str, Any]:
    task = make_task(table, features)
    rare_code = task.class_names.index(rare)
    rows = _draw_rows(table, task, rare_code, n_rare, method, seed)
    logits = predict_with_probe(
        features,
        rows,
        task.codes[rows],
        task.test_rows,
        n_classes=len(task.class_names),
        strength=strength,
        class_weights="balanced" if method == "weights" else "none",
        seed=seed,
    )
    y_true, y_pred = task.codes[task.test_rows], logits.argmax(axis=1)
    is_rare = y_true == rare_code
    counts = np.bincount(task.codes[np.unique(rows)], minlength=len(task.class_names))
    return {
        "n_rare": int(counts[rare_code]),
        "n_other": int(np.delete(counts, rare_code).max()),
        "n_train": int(counts.sum()),
        "accuracy": float((y_true == y_pred).mean()),
        "rare_recall": float((y_pred[is_rare] == rare_code).mean()),
        "false_rare": float((y_pred[~is_rare] == rare_code).mean()),
        "right": y_true == y_pred,
        "right_rare": y_pred[is_rare] == rare_code,
    }


def _draw_rows(table: pd.DataFrame, task: Task, rare_code: int, n_rare: int, method: str, seed: int) -> np.ndarray:
    """Positions to learn from, perhaps with repetitions."""
    n_other, n_classes = count_smallest_class(task), len(task.class_names)
    if method == "balanced":
        return draw_pool_rows(table, (n_rare + n_other * (n_classes - 1)) // n_classes, seed=seed)
    if method == "drop":
        return draw_pool_rows(table, n_rare, seed=seed)
    common = draw_pool_rows(table, n_other, seed=seed)
    few = draw_pool_rows(table, n_rare, seed=seed)
    rare_rows = few[task.codes[few] == rare_code]
    if method == "repeat":
        rare_rows = np.resize(rare_rows, n_other)
    return np.concatenate([common[task.codes[common] != rare_code], rare_rows])
