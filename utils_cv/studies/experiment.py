"""What the studies share: a task on features that are computed once, trials that run anywhere, and their summary."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from utils_cv.data.labels import encode_labels, is_multilabel, list_class_names
from utils_cv.data.splits import list_groups, take_per_class
from utils_cv.evaluation.intervals import compare_means, measure_mean
from utils_cv.training.linear_probe import count_units, fit_linear_head

# scikit-learn's C for studies that fix it. On fridge_objects and on a set of photographs, from 5 images per class on,
# it scored within one point of the C that cross-validation chose, as long as all labels were right.
FIXED_C = 0.01
Settings = Sequence[Mapping[str, Any]]  # one mapping per trial, names to values; the seed is a part of it


class Task(NamedTuple):
    """What a study learns and scores: features (n_images, n_features), class codes, and positions of images."""

    table: pd.DataFrame
    features: np.ndarray
    class_names: list[str]
    codes: np.ndarray
    pool_rows: np.ndarray  # to learn from: all that are not in the test split
    test_rows: np.ndarray
    n_smallest: int  # images to learn from in the class that has fewest
    groups: np.ndarray | None  # of each image: the scene, video or patient that it belongs to

    def get_groups(self, rows: np.ndarray) -> np.ndarray | None:
        """The groups of some images, None where there are none."""
        return None if self.groups is None else self.groups[rows]

    def draw(self, n_per_class: int, *, seed: int) -> np.ndarray:
        """Draw positions to learn from, equally many per class; smaller draws of a seed are part of larger ones.

        Groups are drawn as a whole.
        """
        pool = self.table.drop(columns="split").iloc[self.pool_rows].assign(row=self.pool_rows)
        return take_per_class(pool, n_per_class, seed=seed, split=None)["row"].to_numpy()

    def predict(
        self, rows: np.ndarray, labels: np.ndarray | None = None, *, on: np.ndarray | None = None, **options: Any
    ) -> np.ndarray:
        """Learn a probe from images, with their own or other labels, and return logits of others: the test images."""
        labels = self.codes[rows] if labels is None else labels
        options = {"C": FIXED_C, "groups": self.get_groups(rows)} | options
        classes, codes = np.unique(labels, return_inverse=True)  # wrong labels may leave nothing of a small class
        features = self.features[self.test_rows if on is None else on]
        own = np.zeros((len(features), 1), features.dtype)  # of one class there is nothing to learn
        if len(classes) > 1:
            weight, bias = fit_linear_head(self.features[rows], codes, n_classes=len(classes), **options)
            own = features @ weight.T + bias
        logits = np.full((len(own), len(self.class_names)), -np.inf, own.dtype)
        logits[:, classes] = own
        return logits

    def score(self, codes: np.ndarray) -> dict[str, Any]:
        """What a trial returns for `summarize`: which answers for the test images are right, and their groups."""
        return {"right": codes == self.codes[self.test_rows], "groups": self.get_groups(self.test_rows)}


def make_task(table: pd.DataFrame, features: np.ndarray) -> Task:
    """Read classes and splits of an image table; validation images count as training images.

    A class of one image to learn from (or one group) is left out with a warning, and its test images with it.

    Args:
        table: An image table whose rows all have a split, one label each.
        features: One row per image.

    Raises:
        ValueError: If the rows do not match, an image has several labels, a split is missing, or fewer than two classes
            have two images to learn from.
    """
    if len(table) != len(features):
        raise ValueError(
            f"Got {len(table)} rows and features of {len(features)} images; expected one for each. After skipped "
            "images use the table of the opened ones: load_table_images(table, size).table."
        )
    if is_multilabel(table):
        raise ValueError("These studies take one label per image; this table has images with several labels or none.")
    counts = table["split"].replace("", "(none)").value_counts().to_dict()
    if "test" not in counts or "(none)" in counts or len(counts) < 2:
        raise ValueError(f"Got splits {counts}; expected 'test' and others in every row: data.splits.complete_splits.")
    is_test, groups, labels = (table["split"] == "test").to_numpy(), list_groups(table), table["label"].to_numpy()
    n_units = count_units(labels[~is_test], None if groups is None else groups[~is_test])
    names = [name for name in list_class_names(table) if n_units.get(name, 0) > 1]
    few = sorted(set(labels) - set(names))
    if len(names) < 2:
        raise ValueError(f"Got {n_units.to_dict()} images to learn from; expected two classes of at least 2.")
    if few:
        words = (
            f"Left out of the study: {', '.join(few)}, with 1 {'image' if groups is None else 'group'} to learn from."
        )
        warnings.warn(f"{words} Of {len(names)} classes all have 2 or more.", stacklevel=2)
    is_kept, codes = np.isin(labels, names), np.full(len(table), -1)
    codes[is_kept] = encode_labels(table["label"][is_kept], names, multilabel=False)
    pool_rows, test_rows = (np.flatnonzero(is_kept & part) for part in (~is_test, is_test))
    n_smallest = int(np.bincount(codes[pool_rows]).min())
    return Task(table, features, names, codes, pool_rows, test_rows, n_smallest, groups)


class TrialError(RuntimeError):
    """A trial failed; the message names its setting, and the original error is its cause."""


def run_trials(
    trial: Callable[..., Any], settings: Settings, *, description: str = "trials", show_progress: bool = True
) -> list[Any]:
    """Call `trial(**setting)` for every setting through joblib, and return the results in the order of the settings.

    One process does all, unless `joblib.parallel_config` around the call says otherwise; then the trial must be
    picklable: a function of a module, or `functools.partial` of one that holds the data. One that fails is a
    TrialError.
    """
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    if not settings:
        raise ValueError("Got no settings; expected at least one mapping of names to values.")
    results = Parallel(return_as="generator")(delayed(_run_one)(trial, dict(setting)) for setting in settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A worker stopped")  # joblib replaces processes that grew large
        return list(tqdm(results, total=len(settings), desc=description, unit="trial", disable=not show_progress))


def _run_one(trial: Callable[..., Any], setting: dict[str, Any]) -> Any:
    try:
        return trial(**setting)
    except Exception as error:
        named = ", ".join(f"{name}={value!r}" for name, value in setting.items())
        raise TrialError(f"The trial with {named} failed: {type(error).__name__}: {error}") from error


def join_results(settings: Settings, results: Sequence[Mapping[str, Any] | list[dict[str, Any]]]) -> pd.DataFrame:
    """One row per trial, or per result of a trial that returns several: the columns of its setting, then the others."""
    pairs = [(a, part) for a, b in zip(settings, results, strict=True) for part in (b if isinstance(b, list) else [b])]
    return pd.DataFrame([{**setting, **result} for setting, result in pairs])


def summarize(
    rows: pd.DataFrame, by: Sequence[str], *, baseline: Mapping[str, Any] | None = None, means: Sequence[str] = ()
) -> pd.DataFrame:
    """Mean accuracy of each group of trials, with 95 % intervals over test images and seeds.

    Args:
        rows: One row per trial, with `seed` and `right`: which test images were right, bool (n_test,). `groups`, where
            there is such a column, says of each trial which test images belong together, (n_test,), or None.
        by: Columns that name the group.
        baseline: Value of a column of `by`: the group that the others, all else equal, are compared with.
        means: Other columns to average.

    Returns:
        One row per group: `by`, `means`, `accuracy`, `accuracy_low`, `accuracy_high`, `n_test`, `n_trials`, `seed_sd`
        (standard deviation between trials), and the paired `difference` to the baseline with its limits
        `difference_low` and `difference_high`: missing in the baseline itself.

    Example:
        >>> rows = pd.DataFrame({"C": [1, 2], "seed": 0, "right": [np.array([True, False]), np.array([True, True])]})
        >>> summarize(rows, ["C"], baseline={"C": 1})[["C", "accuracy", "difference"]].values.tolist()
        [[1.0, 0.5, nan], [2.0, 1.0, 0.5]]
    """
    groups = {key: part.sort_values("seed", kind="stable") for key, part in rows.groupby(list(by), sort=False)}
    right = {key: np.stack(part["right"].tolist()) for key, part in groups.items()}
    summary = []
    for key, part in groups.items():
        test_groups = part["groups"].iloc[0] if "groups" in part else None
        score = measure_mean(right[key], groups=test_groups)
        row = dict(zip(by, key, strict=True)) | part[list(means)].mean().to_dict()
        row |= {"accuracy": score.value, "accuracy_low": score.low, "accuracy_high": score.high, "n_test": score.n}
        row |= {"n_trials": len(part), "seed_sd": float(np.std(right[key].mean(axis=1), ddof=min(1, len(part) - 1)))}
        other = tuple((baseline or {}).get(name, value) for name, value in zip(by, key, strict=True))
        if other != key:
            change = compare_means(right[key], right[other], groups=test_groups)
            row |= {"difference": change.value, "difference_low": change.low, "difference_high": change.high}
        summary.append(row)
    return pd.DataFrame(summary)
