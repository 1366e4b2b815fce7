"""Learning curve: accuracy on a fixed test set against the number of training images, over several seeds."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.splits import hold_out_valid
from utils_cv.evaluation.intervals import Score, compare_repeated, measure_repeated
from utils_cv.evaluation.metrics import measure_accuracy

from .experiment import (
    FIXED_C,
    count_smallest_class,
    draw_pool_rows,
    join_results,
    make_task,
    predict_with_probe,
    run_trials,
)


def list_sizes(table: pd.DataFrame, *, smallest: int = 5) -> list[int]:
    """Training set sizes, images a class: all of the smallest class, half of that, and so on down to `smallest`.

    Args:
        table: An image table with splits; everything but the test split is there to learn from.
        smallest: No size is below it.

    Returns:
        Ascending; each is twice the one before, or one less.

    Raises:
        ValueError: If a class has fewer images than `smallest`.

    Example:
        >>> table = pd.DataFrame({"label": ["can", "carton"] * 21, "split": ["train"] * 40 + ["test"] * 2})
        >>> list_sizes(table)
        [5, 10, 20]
    """
    largest = count_smallest_class(make_task(table, table.to_numpy()))
    if not 1 <= smallest <= largest:
        raise ValueError(f"Got smallest={smallest}; the smallest class has {largest} images: expected 1 to {largest}.")
    sizes = [largest]
    while sizes[0] // 2 >= smallest:
        sizes.insert(0, sizes[0] // 2)
    return sizes


def measure_learning_curve(
    table: pd.DataFrame,
    inputs: np.ndarray,
    sizes: Sequence[int],
    *,
    recipe: str = "probe",
    n_seeds: int = 5,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train on some images of each class, score on the whole test split, for every size and seed.

    A seed decides which images are taken; for one seed smaller sets lie within larger ones. At the largest size
    little or nothing is left to choose, so that the seeds agree there.

    Args:
        table: An image table with splits. Test images are never learned from, all others may be.
        inputs: A row for each image: features for the recipe "probe", uint8 pixels for "top".
        sizes: Images of each class.
        recipe: One of `RECIPES`: "probe" is a linear probe; "top" fine-tunes the upper blocks of the backbone, and
            holds a fifth of the images back to choose the epoch by.
        n_seeds: Draws of each size.
        seed: The first seed.
        options: Arguments for the recipe: `strength` for "probe", those of `fine_tune` for "top".
        show_progress: Show a bar with the time left.

    Returns:
        One row a trial: `recipe`, `n_per_class`, `seed`, `n_train`, `accuracy` with its 95 % interval over test images
        `accuracy_low` and `accuracy_high`, `n_test`, and `right`, bool (n_test,).

    Raises:
        ValueError: If the recipe is unknown, a class has too few images, or table and inputs do not match.

    Example:
        >>> rows = measure_learning_curve(table, features, [5, 10, 20])  # doctest: +SKIP
    """
    if recipe not in RECIPES:
        raise ValueError(f"Got recipe {recipe!r}; expected one of {', '.join(RECIPES)}.")
    make_task(table, inputs)
    settings = [
        {"recipe": recipe, "n_per_class": int(n), "seed": seed + i} for n in sorted(sizes) for i in range(n_seeds)
    ]
    columns = table[[name for name in ("image", "path", "label", "split") if name in table]]
    results = run_trials(
        functools.partial(_run_trial, columns, inputs, options or {}),
        settings,
        description=f"learning curve, {recipe}",
        show_progress=show_progress,
    )
    return join_results(settings, results)


def summarize_curve(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a recipe and size: mean accuracy over the seeds, with a 95 % interval over test images and seeds.

    Args:
        rows: From `measure_learning_curve`; those of several recipes may be joined.

    Returns:
        `name` (the recipe), `n_per_class`, `n_train`, `accuracy`, `accuracy_low`, `accuracy_high`, `n_test`,
        `n_seeds`, and `seed_sd`, the standard deviation between seeds.
    """
    summary = []
    for (recipe, n_per_class), group in rows.groupby(["recipe", "n_per_class"], sort=False):
        score = measure_repeated(np.stack(group["right"]))
        summary.append(
            {
                "name": recipe,
                "n_per_class": int(n_per_class),
                "n_train": int(group["n_train"].iloc[0]),
                "accuracy": score.value,
                "accuracy_low": score.low,
                "accuracy_high": score.high,
                "n_test": score.n,
                "n_seeds": len(group),
                "seed_sd": float(group["accuracy"].std(ddof=1)) if len(group) > 1 else 0.0,
            }
        )
    return pd.DataFrame(summary)


def compare_recipes(rows: pd.DataFrame, recipe: str, other: str = "probe") -> pd.DataFrame:
    """Accuracy of one recipe minus that of another on the same draws and test images, at every size of both.

    Args:
        rows: From `measure_learning_curve`, those of both recipes joined.
        recipe: One of `RECIPES`.
        other: What it is compared with.

    Returns:
        One row a size: `name` (the recipe), `n_per_class`, the difference `value` with its paired 95 % interval
        `low` to `high`, `n` (test images). No row where the sizes have none in common.
    """
    differences = []
    both = [rows[rows["recipe"] == name].sort_values("seed") for name in (recipe, other)]
    for n_per_class in sorted(set(both[0]["n_per_class"]) & set(both[1]["n_per_class"])):
        right = [np.stack(part.loc[part["n_per_class"] == n_per_class, "right"]) for part in both]
        difference = compare_repeated(*right)
        differences.append({"name": recipe, "n_per_class": int(n_per_class), **difference._asdict()})
    return pd.DataFrame(differences, columns=["name", "n_per_class", *Score._fields])


def _run_trial(
    table: pd.DataFrame, inputs: np.ndarray, options: dict[str, Any], recipe: str, n_per_class: int, seed: int
) -> dict[str, Any]:
    task = make_task(table, inputs)
    rows = draw_pool_rows(table, n_per_class, seed=seed)
    y_true = task.codes[task.test_rows]
    y_pred = RECIPES[recipe](table, inputs, rows, seed, options)
    score = measure_accuracy(y_true, y_pred)
    return {
        "n_train": len(rows),
        "accuracy": score.value,
        "accuracy_low": score.low,
        "accuracy_high": score.high,
        "n_test": score.n,
        "right": y_true == y_pred,
    }


def _learn_probe(
    table: pd.DataFrame, inputs: np.ndarray, rows: np.ndarray, seed: int, options: dict[str, Any]
) -> np.ndarray:
    task = make_task(table, inputs)
    labels, n_classes = task.codes[rows], len(task.class_names)
    strength = options.get("strength", FIXED_C)
    logits = predict_with_probe(inputs, rows, labels, task.test_rows, n_classes=n_classes, strength=strength, seed=seed)
    return logits.argmax(axis=1)


def _learn_top(
    table: pd.DataFrame, inputs: np.ndarray, rows: np.ndarray, seed: int, options: dict[str, Any]
) -> np.ndarray:
    from utils_cv.data.image_table import TableImages
    from utils_cv.training.training import fine_tune, predict_images

    task = make_task(table, inputs)
    kept = np.sort(np.concatenate([rows, task.test_rows]))
    drawn = table.iloc[kept].assign(split=np.where(np.isin(kept, rows), "train", "test")).reset_index(drop=True)
    completed = hold_out_valid(drawn, fraction=0.2, seed=seed)
    none_skipped = pd.DataFrame({"image": [], "cause": []})
    images = TableImages(completed, inputs[kept], task.class_names, False, "squash", none_skipped)
    tuned = fine_tune(images, depth="top", seed=seed, show_progress=False, **options)
    return predict_images(tuned, images, split="test").y_pred


RECIPES: dict[str, Callable[..., np.ndarray]] = {"probe": _learn_probe, "top": _learn_top}
