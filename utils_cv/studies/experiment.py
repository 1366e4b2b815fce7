"""What studies of labels and test sets share: which rows learn, which are scored, and a probe on given features.

Features are computed once for all images (`utils_cv.models.features.compute_features`), so that a trial is only a
logistic regression of some hundredths of a second.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from utils_cv.data.image_table import encode_labels, is_multilabel, list_class_names
from utils_cv.data.splits import take_per_class
from utils_cv.training.linear_probe import fit_linear_head

# scikit-learn's C for studies that fix it. On fridge_objects and on a set of photographs, from 5 images a class on,
# it scored within one point of the C that cross-validation chose, as long as all labels were right.
FIXED_C = 0.01


class Task(NamedTuple):
    """What a study learns and scores.

    Attributes:
        codes: Class code of every image, (n_images,).
        class_names: The classes, in the order of the codes.
        pool_rows: Positions of the images to learn from: all that are not in the test split.
        test_rows: Positions of the test images.
    """

    codes: np.ndarray
    class_names: list[str]
    pool_rows: np.ndarray
    test_rows: np.ndarray


def make_task(table: pd.DataFrame, inputs: np.ndarray) -> Task:
    """Read classes and splits of an image table; validation images count as training images.

    Args:
        table: An image table whose rows all have a split, one label each.
        inputs: What is learned from, features or pixels, a row for each image.

    Raises:
        ValueError: If the rows do not match, an image has several labels, or a split is missing.
    """
    if len(table) != len(inputs):
        raise ValueError(
            f"Got {len(table)} rows and inputs of {len(inputs)} images; expected one for each. After skipped images "
            "use the table of the opened ones: load_table_images(table, size).table."
        )
    if is_multilabel(table):
        raise ValueError("These studies take one label an image; this table has images with several labels or none.")
    class_names = list_class_names(table)
    is_test = (table["split"] == "test").to_numpy()
    if is_test.all() or not is_test.any() or (table["split"] == "").any():
        counts = table["split"].replace("", "(none)").value_counts().to_dict()
        raise ValueError(
            f"Got splits {counts}; expected 'test' and others in every row: utils_cv.data.splits.complete_splits."
        )
    codes = encode_labels(table["label"], class_names, multilabel=False)
    return Task(codes, class_names, np.flatnonzero(~is_test), np.flatnonzero(is_test))


def draw_pool_rows(table: pd.DataFrame, n_per_class: int, *, seed: int) -> np.ndarray:
    """Positions of `n_per_class` images of each class that are not test images; nested: smaller draws are part of it.

    Raises:
        ValueError: If a class has fewer.
    """
    pool = table[["path", "label"]].assign(row=range(len(table)))[table["split"] != "test"]
    return take_per_class(pool, n_per_class, seed=seed, split=None)["row"].to_numpy()


def count_smallest_class(task: Task) -> int:
    """Images to learn from in the class that has fewest."""
    return int(np.bincount(task.codes[task.pool_rows], minlength=len(task.class_names)).min())


def predict_with_probe(
    features: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    predicted_rows: np.ndarray,
    *,
    n_classes: int,
    strength: float | None = FIXED_C,
    class_weights: str = "none",
    seed: int = 0,
) -> np.ndarray:
    """Fit a linear head on some rows and give the logits of others.

    Args:
        features: Of all images, (n_images, n_features).
        rows: Positions to learn from; a position may occur more than once.
        labels: Their class codes, which need not be the true ones.
        predicted_rows: Positions to predict.
        n_classes: Number of classes.
        strength: As in `fit_linear_head`; None lets cross-validation choose.
        class_weights: As in `fit_linear_head`.
        seed: Seed of the folds.

    Returns:
        Logits (n_predicted, n_classes).
    """
    weight, bias = fit_linear_head(
        features[rows], labels, n_classes=n_classes, seed=seed, strength=strength, class_weights=class_weights
    )
    return features[predicted_rows] @ weight.T + bias


class TrialError(RuntimeError):
    """A trial failed; the message names its setting, and the original error is its cause."""


def run_trials(
    trial: Callable[..., Any],
    settings: Sequence[Mapping[str, Any]],
    *,
    description: str = "trials",
    show_progress: bool = True,
) -> list[Any]:
    """Call `trial(**setting)` for every setting through joblib, and return the results in the order of the settings.

    One process does all of it, unless `joblib.parallel_config` around the call says otherwise: several processes, or
    a Dask cluster.

    Args:
        trial: Takes the names of a setting as keywords and returns anything that can be pickled. For other processes
            it must be picklable itself: a function of a module, or `functools.partial` of one that holds the data.
        settings: One mapping per trial; the seed is a part of it.
        description: Name of the progress bar.
        show_progress: Show a bar that counts trials and estimates the time left.

    Raises:
        ValueError: If there is no setting.
        TrialError: If a trial fails.

    Example:
        >>> run_trials(pow, [{"base": 2, "exp": 3}, {"base": 3, "exp": 2}], show_progress=False)
        [8, 9]
    """
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    if not settings:
        raise ValueError("Got no settings; expected at least one mapping of names to values.")
    results = Parallel(return_as="generator")(delayed(_run_one)(trial, dict(setting)) for setting in settings)
    return list(tqdm(results, total=len(settings), desc=description, unit="trial", disable=not show_progress))


def _run_one(trial: Callable[..., Any], setting: dict[str, Any]) -> Any:
    try:
        return trial(**setting)
    except Exception as error:
        named = ", ".join(f"{name}={value!r}" for name, value in setting.items())
        raise TrialError(f"The trial with {named} failed: {type(error).__name__}: {error}") from error


def join_results(settings: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per trial: the columns of its setting, then those of its result."""
    return pd.DataFrame([{**setting, **result} for setting, result in zip(settings, results, strict=True)])
