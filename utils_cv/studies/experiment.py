"""What studies of labels and test sets share: which rows learn, which are scored, and a probe on given features.

Features are computed once for all images (`utils_cv.models.features.compute_features`), so that a trial is only a
logistic regression of some hundredths of a second.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from utils_cv.data.image_table import encode_labels, is_multilabel, list_class_names
from utils_cv.data.splits import take_per_class
from utils_cv.training.linear_probe import fit_linear_head

# scikit-learn's C for studies that fix it. On fridge_objects and on a set of photographs, from 5 images a class on,
# it scored within one point of the strength that cross-validation chose, as long as all labels were right.
FIXED_STRENGTH = 0.01
Row = dict[str, Any]
_logger = logging.getLogger(__name__)


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
            f"Got splits {counts}; expected 'test' and others in every row: utils_cv.data.image_table.complete_splits."
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
    strength: float | None = FIXED_STRENGTH,
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
    trial: Callable[..., Mapping[str, Any]],
    settings: Sequence[Mapping[str, Any]],
    *,
    rows_path: str | Path | None = None,
    fingerprint: str = "",
    n_jobs: int | None = None,
    description: str = "trials",
    show_progress: bool = True,
) -> pd.DataFrame:
    """Call `trial(**setting)` for every setting and return one row each, in the order of the settings.

    Args:
        trial: Takes the names of a setting as keywords and returns a flat mapping of numbers, strings, bools or
            None. For other processes it must be picklable: a function of a module, or `functools.partial` of one
            that holds the data.
        settings: Flat mappings of the same kinds of values, each one different; put the seed into them.
        rows_path: File of JSON lines that keeps every finished row at once; a later call computes only what is
            missing. None keeps nothing.
        fingerprint: What else decides the results, such as `joblib.hash((features, labels))`. Rows that were kept
            under another fingerprint, or by another trial function, stay in the file but are not used.
        n_jobs: Processes. None: one, or whatever `joblib.parallel_config` around the call says.
        description: Name of the progress bar.
        show_progress: Show a bar that counts trials and estimates the time left.

    Returns:
        One row a setting: the columns of the setting, then those of the result.

    Raises:
        ValueError: If there is no setting, two are equal, a result repeats a name of its setting, or `rows_path`
            is a file of another kind.
        TypeError: If a value is not flat.
        TrialError: If a trial fails; rows that were finished before are kept.

    Example:
        >>> def square(x, seed):
        ...     return {"y": x * x}
        >>> run_trials(square, [{"x": 2, "seed": 0}, {"x": 3, "seed": 0}], show_progress=False)["y"].tolist()
        [4, 9]
    """
    plain = [_to_plain(setting, what=f"setting {i}") for i, setting in enumerate(settings)]
    keys = [_make_key(trial, fingerprint, setting) for setting in plain]
    _check_settings(plain, keys)
    path = None if rows_path is None else Path(rows_path)
    rows = _read_rows(path)
    missing = [i for i, key in enumerate(keys) if key not in rows]
    todo = [(keys[i], settings[i], plain[i]) for i in missing]
    for key, row in _run(trial, todo, n_jobs, description, len(settings), show_progress):
        rows[key] = row
        if path is not None:
            _append_row(path, key, row)
    return pd.DataFrame([rows[key] for key in keys])


def _run(
    trial: Callable[..., Mapping[str, Any]],
    todo: Sequence[tuple[str, Mapping[str, Any], Row]],
    n_jobs: int | None,
    description: str,
    n_total: int,
    show_progress: bool,
) -> Iterable[tuple[str, Row]]:
    """Yield key and row of each trial as soon as it is finished, in any order."""
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    bar: dict[str, Any] = {"total": n_total, "initial": n_total - len(todo), "desc": description, "unit": "trial"}
    with tqdm(**bar, disable=not show_progress) as progress:
        for finished in parallel(delayed(_run_one)(trial, *task) for task in todo):
            yield finished
            progress.update()


def _run_one(
    trial: Callable[..., Mapping[str, Any]], key: str, setting: Mapping[str, Any], plain: Row
) -> tuple[str, Row]:
    try:
        result = trial(**setting)
    except Exception as error:
        raise TrialError(f"The trial with {_list(plain)} failed: {type(error).__name__}: {error}") from error
    row = _to_plain(result, what=f"result of the trial with {_list(plain)}")
    repeated = sorted(set(row) & set(plain))
    if repeated:
        raise ValueError(f"The trial with {_list(plain)} returned {repeated}, names of its setting; rename them.")
    return key, {**plain, **row}


def _to_plain(values: Mapping[str, Any], *, what: str) -> Row:
    """The values as JSON has them, so that a fresh row equals one that was read back."""
    plain: Row = {}
    for name, value in values.items():
        plain[name] = value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
        if not isinstance(plain[name], bool | int | float | str | None):
            raise TypeError(
                f"{what}: {name} is {value!r} ({type(value).__name__}); expected a number, a string, a bool or None. "
                "Data belongs into the trial: functools.partial(trial, features)."
            )
    return plain


def _make_key(trial: Callable[..., Any], fingerprint: str, setting: Row) -> str:
    while isinstance(trial, functools.partial):
        trial = trial.func
    name = f"{trial.__module__}.{getattr(trial, '__qualname__', type(trial).__qualname__)}"
    text = json.dumps([name, fingerprint, setting], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _check_settings(settings: Sequence[Row], keys: Sequence[str]) -> None:
    if not settings:
        raise ValueError("Got no settings; expected at least one mapping of names to values.")
    for i, key in enumerate(keys):
        if key in keys[:i]:
            raise ValueError(
                f"Settings {keys.index(key)} and {i} are the same: {_list(settings[i])}. "
                "To repeat a trial, give each setting a seed of its own."
            )


def _read_rows(path: Path | None) -> dict[str, Row]:
    """Key to row of every whole line; a line that a stop cut short, or anything else, is passed over and counted."""
    if path is None or not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    entries = [_parse_line(line) for line in lines]
    rows = {entry["key"]: entry["row"] for entry in entries if entry}
    n_unread = len(entries) - sum(map(bool, entries))
    if n_unread and not rows and len(lines) > 1:
        raise ValueError(f"{path} holds {len(lines)} lines, none of them a row of trials. Name another rows_path.")
    if n_unread:
        _logger.info("%s: %d of %d lines were cut short; their trials run again", path, n_unread, len(lines))
    return rows


def _parse_line(line: str) -> Row | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and {"key", "row"} <= set(entry) else None


def _append_row(path: Path, key: str, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":  # the last line was cut short: leave it, and begin a new one
                file.write(b"\n")
        file.write(json.dumps({"key": key, "row": row}).encode() + b"\n")


def _list(setting: Row) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in setting.items())
