"""Many trials of one function: run through joblib, kept on disk row by row, taken up again where they stopped.

Studies run their settings through `run_trials`. Whoever has a cluster names its backend around the call:
`with joblib.parallel_config(backend="dask"): ...`.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

Row = dict[str, Any]

_logger = logging.getLogger(__name__)


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
