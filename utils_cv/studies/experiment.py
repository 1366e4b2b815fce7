"""What the studies share: a task on features that are computed once, trials that run anywhere, and their summary."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from utils_cv.data.labels import LABEL_SEPARATOR, encode_labels, is_multilabel, list_class_names
from utils_cv.data.splits import count_units, list_groups, take_per_class
from utils_cv.evaluation.calibration import find_right
from utils_cv.evaluation.intervals import Score, compare_means, compare_resamples, measure_mean, measure_resamples
from utils_cv.evaluation.multilabel import resample_average_precision
from utils_cv.models.linear_heads import fit_known_classes

# scikit-learn's C for studies that fix it. On fridge_objects and on a set of photographs, from 5 images per class on,
# it scored within one point of the C that cross-validation chose, as long as all labels were right.
FIXED_C = 0.01
MEASURES = ("accuracy", "mean_average_precision")  # of one label per image, of several
Settings = Sequence[Mapping[str, Any]]  # one mapping per trial, names to values; the seed is a part of it


class Task(NamedTuple):
    """What a study learns and scores: features (n_images, n_features), class codes, and positions of images.

    Codes are (n_images,), and 0 or 1 (n_images, n_classes) where an image has several labels: each label is a class.
    """

    table: pd.DataFrame
    features: np.ndarray
    class_names: list[str]
    codes: np.ndarray
    pool_rows: np.ndarray  # to learn from: all that are not in the test split
    test_rows: np.ndarray
    n_smallest: int  # images to learn from in the class that has fewest
    groups: np.ndarray | None  # of each image: the scene, video or patient that it belongs to

    @property
    def is_multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.codes.ndim == 2

    @property
    def measure(self) -> str:
        """The score of the studies: "accuracy", or "mean_average_precision" of several labels."""
        return MEASURES[self.is_multilabel]

    def get_groups(self, rows: np.ndarray) -> np.ndarray | None:
        """The groups of some images, None where there are none."""
        return None if self.groups is None else self.groups[rows]

    def draw(self, n_per_class: int, *, seed: int) -> np.ndarray:
        """Draw positions to learn from, equally many per class; smaller draws of a seed are part of larger ones.

        Groups are drawn as a whole. Of several labels every one gets at least as many, and images without a label are
        drawn in proportion.
        """
        pool = self.table.drop(columns="split").iloc[self.pool_rows].assign(row=self.pool_rows)
        is_empty = pool["label"] == ""
        drawn = take_per_class(pool[~is_empty], n_per_class, seed=seed, split=None)["row"].to_numpy()
        if n_empty := round(is_empty.sum() * len(drawn) / (~is_empty).sum()):
            empty = take_per_class(pool[is_empty].assign(label="none"), n_empty, seed=seed, split=None)
            drawn = np.sort(np.append(drawn, empty["row"]))
        return drawn

    def predict(
        self, rows: np.ndarray, labels: np.ndarray | None = None, *, on: np.ndarray | None = None, **options: Any
    ) -> np.ndarray:
        """Learn a probe from images, with their own or other labels, and return logits of others: the test images."""
        labels = self.codes[rows] if labels is None else labels
        options = {"C": FIXED_C, "groups": self.get_groups(rows), "n_classes": len(self.class_names)} | options
        weight, bias = fit_known_classes(self.features[rows], labels, **options)
        return self.features[self.test_rows if on is None else on] @ weight.T + bias

    def score(self, logits: np.ndarray) -> dict[str, Any]:
        """What a trial returns for `summarize`, from the logits of the test images, (n_test, n_classes).

        `right`, and the `groups` of the images. Of several labels `right` is the share of right decisions at 0.5, and
        `resampled` the mean average precision of the images, then on resamples of them.
        """
        from scipy.special import expit

        true, groups = self.codes[self.test_rows], self.get_groups(self.test_rows)
        right = find_right(true, logits)
        if not self.is_multilabel:
            return {"right": right, "groups": groups}
        resampled = resample_average_precision(true, expit(logits), groups=groups)
        return {"right": right.mean(axis=1), "groups": groups, "resampled": resampled}


def make_task(table: pd.DataFrame, features: np.ndarray, *, takes_several: bool = False) -> Task:
    """Read classes and splits of an image table; validation images count as training images.

    A class of one image to learn from (or one group) is left out with a warning, and its test images with it. Where an
    image has several labels such a label is left out, and the image stays.

    Args:
        table: An image table whose rows all have a split.
        features: One row per image.
        takes_several: Take a table of several labels per image, too; by default that is an error.

    Raises:
        ValueError: If the rows do not match, an image has several labels, a split is missing, or fewer than two classes
            have two images to learn from.
    """
    if len(table) != len(features):
        raise ValueError(
            f"Got {len(table)} rows and features of {len(features)} images; expected one for each. After skipped "
            "images use the table of the opened ones: load_table_images(table, size).table."
        )
    several = is_multilabel(table)
    if several and not takes_several:
        raise ValueError("These studies take one label per image; this table has images with several labels or none.")
    counts = table["split"].replace("", "(none)").value_counts().to_dict()
    if "test" not in counts or "(none)" in counts or len(counts) < 2:
        raise ValueError(f"Got splits {counts}; expected 'test' and others in every row: data.splits.complete_splits.")
    is_test, groups = (table["split"] == "test").to_numpy(), list_groups(table)
    all_names = list_class_names(table)
    of_class = encode_labels(table["label"], all_names, multilabel=True) > 0
    n_units = count_units(of_class[~is_test], None if groups is None else groups[~is_test])
    n_units.index = pd.Index(all_names)[n_units.index]
    names = [name for name in all_names if n_units.get(name, 0) > 1]
    few = sorted(set(all_names) - set(names))
    if len(names) < 2:
        raise ValueError(f"Got {n_units.to_dict()} images to learn from; expected two classes of at least 2.")
    if few:
        words = (
            f"Left out of the study: {', '.join(few)}, with 1 {'image' if groups is None else 'group'} to learn from."
        )
        warnings.warn(f"{words} Of {len(names)} classes all have 2 or more.", stacklevel=2)
    of_class = of_class[:, np.isin(all_names, names)]
    is_kept, codes = of_class.any(axis=1), np.where(of_class.any(axis=1), of_class.argmax(axis=1), -1)
    if several:
        is_kept, codes = np.full(len(table), True), of_class.astype(int)
        table = table.assign(label=[LABEL_SEPARATOR.join(np.array(names)[row]) for row in of_class])
    pool_rows, test_rows = (np.flatnonzero(is_kept & part) for part in (~is_test, is_test))
    n_smallest = int(of_class[pool_rows].sum(axis=0).min())
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


def tabulate_trials(trial: Callable[..., Any], settings: Settings, **options: Any) -> pd.DataFrame:
    """Run trials; a row for each, or for each result of one that returns several: columns of its setting, then others.

    `options` are those of `run_trials`.
    """
    results = zip(settings, run_trials(trial, settings, **options), strict=True)
    pairs = [(a, part) for a, b in results for part in (b if isinstance(b, list) else [b])]
    return pd.DataFrame([{**setting, **result} for setting, result in pairs])


def _measure_trials(trials: pd.DataFrame) -> Score:
    """Measure the mean score of trials, a row each, over test images and seeds."""
    right, groups = _read_trials(trials)
    if "resampled" not in trials:
        return measure_mean(right, groups=groups)
    return measure_resamples(np.stack(trials["resampled"].tolist()), _count_tested(right, groups))


def compare_trials(a: pd.DataFrame, b: pd.DataFrame) -> Score:
    """Compare two groups of trials of the same seeds, in the same order: A minus B, paired."""
    (right_a, groups), (right_b, _) = _read_trials(a), _read_trials(b)
    if "resampled" not in a:
        return compare_means(right_a, right_b, groups=groups)
    values_a, values_b = (np.stack(trials["resampled"].tolist()) for trials in (a, b))
    return compare_resamples(values_a, values_b, right_a - right_b, _count_tested(right_a, groups))


def _read_trials(trials: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    return np.stack(trials["right"].tolist()), trials["groups"].iloc[0] if "groups" in trials else None


def _count_tested(right: np.ndarray, groups: np.ndarray | None) -> int:
    return right.shape[1] if groups is None else len(np.unique(groups))


def summarize(
    rows: pd.DataFrame, by: Sequence[str], *, baseline: Mapping[str, Any] | None = None, means: Sequence[str] = ()
) -> pd.DataFrame:
    """Mean accuracy of each group of trials, with 95 % intervals over test images and seeds.

    Args:
        rows: One row per trial, with `seed` and `right`: which test images were right, bool (n_test,). `groups`, where
            there is such a column, says of each trial which test images belong together, (n_test,), or None. Several
            labels have `resampled` as well: see `Task.score`.
        by: Columns that name the group.
        baseline: Value of a column of `by`: the group that the others, all else equal, are compared with.
        means: Other columns to average.

    Returns:
        One row per group: `by`, `means`, `accuracy`, `accuracy_low`, `accuracy_high`, `n_test`, `n_trials`, `seed_sd`
        (standard deviation between trials), and the paired `difference` to the baseline with its limits
        `difference_low` and `difference_high`: missing in the baseline itself. Of several labels the score is
        `mean_average_precision` in place of `accuracy`.

    Example:
        >>> rows = pd.DataFrame({"C": [1, 2], "seed": 0, "right": [np.array([True, False]), np.array([True, True])]})
        >>> summarize(rows, ["C"], baseline={"C": 1})[["C", "accuracy", "difference"]].values.tolist()
        [[1.0, 0.5, nan], [2.0, 1.0, 0.5]]
    """
    groups = {key: part.sort_values("seed", kind="stable") for key, part in rows.groupby(list(by), sort=False)}
    measure, summary = MEASURES["resampled" in rows], []
    for key, part in groups.items():
        score = _measure_trials(part)
        values = [row["resampled"][0] if "resampled" in part else row["right"].mean() for _, row in part.iterrows()]
        row = dict(zip(by, key, strict=True)) | part[list(means)].mean().to_dict()
        row |= score.name_limits(measure) | {"n_test": score.n, "n_trials": len(part)}
        row |= {"seed_sd": float(np.std(values, ddof=min(1, len(part) - 1)))}
        other = tuple((baseline or {}).get(name, value) for name, value in zip(by, key, strict=True))
        if other != key:
            row |= compare_trials(part, groups[other]).name_limits("difference")
        summary.append(row)
    return pd.DataFrame(summary)
