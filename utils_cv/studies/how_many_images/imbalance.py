"""Imbalance: one class with few images beside full ones, and what helps to find it.

Each class in turn is the rare one. Everything is scored on the whole test split, which stays as it is.
"""

import functools
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.calibration import adjust_logits

from ..experiment import Task, join_results, run_trials, summarize

# What is done about the rare class. "balanced" shares as many images equally, for comparison.
METHODS = ("plain", "logit adjustment", "class weights", "oversampling", "undersampling", "balanced")


def measure_imbalance(
    task: Task, *, ratio: int = 10, n_seeds: int = 3, seed: int = 0, show_progress: bool = True
) -> pd.DataFrame:
    """Train with one rare class, by every method of `METHODS`, for every class and seed.

    Logit adjustment subtracts the log of each class's share from its logit (Menon et al. 2021). Class weights let every
    class count alike in the loss. Oversampling repeats images of the rare class, undersampling drops images of the
    others, until the classes are equal.

    Args:
        task: From `make_task`.
        ratio: How many images each other class has for one of the rare class.
        n_seeds: Draws of the images.
        seed: The first seed.
        show_progress: Show a bar with the time left.

    Returns:
        One row per trial: `method`, `rare` (class name), `seed`, `n_rare` and `n_other` (images learned from, of the
        rare class and of each other), `false_rare` (share of the test images of other classes that are called rare),
        `right`, bool (n_test,), and `right_rare`, the same for the test images of the rare class only.

    Raises:
        ValueError: If the ratio leaves the rare class without an image.

    Example:
        >>> rows = measure_imbalance(task, ratio=10)  # doctest: +SKIP
        >>> summarize_imbalance(rows)  # doctest: +SKIP
    """
    n_other = task.n_smallest
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
    trial = functools.partial(_score_method, task, n_other // ratio)
    results = run_trials(trial, settings, description="imbalance", show_progress=show_progress)
    return join_results(settings, results)


def summarize_imbalance(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per method: recall of the rare class, its price, and accuracy; means over classes and seeds.

    Every test image counts once as one of the rare class for each seed, so `rare_recall` rests on all of them.

    Args:
        rows: From `measure_imbalance`.

    Returns:
        `method`, `rare_recall`, `false_rare`, `accuracy`, `n_test`, `n_trials`. Recall and accuracy have their 95 %
        limits in `_low` and `_high`, and their paired difference to "plain" in `_change`, `_change_low`,
        `_change_high`.
    """
    found = rows.sort_values("rare", kind="stable").groupby(["method", "seed"], sort=False)["right_rare"]
    recall_rows = found.agg(lambda parts: np.concatenate(parts.tolist())).rename("right").reset_index()
    plain = {"method": "plain"}
    recall = _rename(summarize(recall_rows, ["method"], baseline=plain), "rare_recall")
    accuracy = _rename(summarize(rows, ["method"], baseline=plain, means=["false_rare"]), "accuracy")
    return recall.drop(columns=["n_test", "n_trials"]).merge(accuracy, on="method")


def _rename(summary: pd.DataFrame, name: str) -> pd.DataFrame:
    columns = [column.replace("accuracy", name).replace("difference", f"{name}_change") for column in summary]
    return summary.set_axis(columns, axis=1).drop(columns="seed_sd")


def _score_method(task: Task, n_rare: int, method: str, rare: str, seed: int) -> dict[str, Any]:
    rare_code = task.class_names.index(rare)
    rows = _draw_rows(task, rare_code, n_rare, method, seed)
    counts = np.bincount(task.codes[np.unique(rows)], minlength=len(task.class_names))
    logits = task.predict(rows, balanced=method == "class weights")
    if method == "logit adjustment":
        logits = adjust_logits(logits, counts)
    y_true, y_pred = task.codes[task.test_rows], logits.argmax(axis=1)
    is_rare = y_true == rare_code
    return {
        "n_rare": int(counts[rare_code]),
        "n_other": int(np.delete(counts, rare_code).max()),
        "false_rare": float((y_pred[~is_rare] == rare_code).mean()),
        "right": y_true == y_pred,
        "right_rare": y_pred[is_rare] == rare_code,
    }


def _draw_rows(task: Task, rare_code: int, n_rare: int, method: str, seed: int) -> np.ndarray:
    """Positions to learn from, perhaps with repetitions."""
    n_other, n_classes = task.n_smallest, len(task.class_names)
    if method == "balanced":
        return task.draw((n_rare + n_other * (n_classes - 1)) // n_classes, seed=seed)
    if method == "undersampling":
        return task.draw(n_rare, seed=seed)
    common, few = task.draw(n_other, seed=seed), task.draw(n_rare, seed=seed)
    rare_rows = few[task.codes[few] == rare_code]
    if method == "oversampling":
        rare_rows = np.resize(rare_rows, n_other)
    return np.concatenate([common[task.codes[common] != rare_code], rare_rows])
