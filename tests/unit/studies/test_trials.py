"""Trials: rows in order, kept on disk, taken up again after a stop, the same rows wherever they run."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

from utils_cv.studies.experiment import TrialError, run_trials

SETTINGS = [{"x": x, "name": name, "seed": 0} for x in (3, 1, 2) for name in ("plain", "weighted")]


def power(x, name, seed, *, exponent=2):
    return {"y": np.float32(x) ** exponent, "is_plain": np.bool_(name == "plain"), "nothing": None}


def power_and_count(x, name, seed, *, calls_dir):
    """Leave a file for each call, so that calls in other processes count too."""
    path = Path(calls_dir) / f"{x} {name}"
    path.write_text(path.read_text() + "." if path.exists() else ".")
    return power(x, name, seed)


def fail_at(x, name, seed, *, bad):
    if x == bad:
        raise ZeroDivisionError("nothing to divide by")
    return power(x, name, seed)


def run(trial, settings=SETTINGS, **options):
    return run_trials(trial, settings, show_progress=False, **options)


def test_rows_hold_setting_and_result_in_the_order_of_the_settings():
    rows = run(power)
    assert list(rows.columns) == ["x", "name", "seed", "y", "is_plain", "nothing"]
    assert rows["x"].tolist() == [3, 3, 1, 1, 2, 2]
    assert rows["y"].tolist() == [9, 9, 1, 1, 4, 4]
    assert rows["is_plain"].tolist() == [True, False] * 3


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_rows_on_disk_equal_fresh_rows(tmp_path, n_jobs):
    rows_path = tmp_path / "new folder" / "rows.jsonl"
    fresh = run(power, rows_path=rows_path, n_jobs=n_jobs)
    pd.testing.assert_frame_equal(run(power, rows_path=rows_path), fresh)
    pd.testing.assert_frame_equal(run(power), fresh)


def test_second_call_computes_only_what_is_missing(tmp_path):
    calls_dir = tmp_path / "calls"
    calls_dir.mkdir()
    trial = functools.partial(power_and_count, calls_dir=str(calls_dir))
    run(trial, SETTINGS[:2], rows_path=tmp_path / "rows.jsonl")
    rows = run(trial, SETTINGS[::-1], rows_path=tmp_path / "rows.jsonl")
    assert rows["x"].tolist() == [2, 2, 1, 1, 3, 3]
    assert sorted(path.read_text() for path in calls_dir.iterdir()) == ["."] * len(SETTINGS)


@pytest.mark.parametrize(
    ("trial", "fingerprint"), [(power, "other data"), (functools.partial(fail_at, bad=9), "data")], ids=["data", "code"]
)
def test_rows_of_other_data_or_another_trial_are_kept_but_not_used(tmp_path, trial, fingerprint):
    rows_path = tmp_path / "rows.jsonl"
    run(power, SETTINGS[:1], rows_path=rows_path, fingerprint="data")
    run(trial, SETTINGS[:1], rows_path=rows_path, fingerprint=fingerprint)
    assert len(rows_path.read_text().splitlines()) == 2


def test_failing_trial_names_its_setting_and_leaves_the_rows_before_it(tmp_path):
    rows_path = tmp_path / "rows.jsonl"
    with pytest.raises(TrialError, match=r"x=2, name='plain', seed=0 failed: ZeroDivisionError: nothing to") as raised:
        run(functools.partial(fail_at, bad=2), rows_path=rows_path)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert len(rows_path.read_text().splitlines()) == 4


def test_failing_trial_in_another_process_names_its_setting():
    with pytest.raises(TrialError, match="x=2"):
        run(functools.partial(fail_at, bad=2), n_jobs=2)


@pytest.mark.parametrize("n_cut", [1, 2, 20, 60], ids=lambda n: f"{n} bytes lost")
def test_cut_last_line_costs_at_most_that_row(tmp_path, n_cut):
    rows_path, calls_dir = tmp_path / "rows.jsonl", tmp_path / "calls"
    fresh = run(power_and_count_into(calls_dir), rows_path=rows_path)
    rows_path.write_bytes(rows_path.read_bytes()[:-n_cut])
    for _ in range(2):  # twice: the mended file must be readable as well
        pd.testing.assert_frame_equal(run(power_and_count_into(calls_dir), rows_path=rows_path), fresh)
    counts = sorted(path.read_text() for path in calls_dir.iterdir())
    assert counts[:-1] == ["."] * (len(SETTINGS) - 1) and len(counts[-1]) == (1 if n_cut == 1 else 2)


def power_and_count_into(calls_dir):
    calls_dir.mkdir(exist_ok=True)
    return functools.partial(power_and_count, calls_dir=str(calls_dir))


KILLED = """
import functools, os, signal, sys
sys.path.insert(0, sys.argv[1])
import tests.unit.test_trials as trials

def die_at_two(x, name, seed):
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return trials.power_and_count(x, name, seed, calls_dir=sys.argv[3])

die_at_two.__module__, die_at_two.__qualname__ = "tests.unit.test_trials", "power_and_count"
trials.run(die_at_two, rows_path=sys.argv[2])
"""


def test_killed_in_the_middle_and_resumed(tmp_path):
    rows_path, calls_dir = tmp_path / "rows.jsonl", tmp_path / "calls"
    trial = power_and_count_into(calls_dir)
    repository = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", KILLED, repository, str(rows_path), str(calls_dir)]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": repository}, check=False).returncode == -9
    assert len(rows_path.read_text().splitlines()) == 4
    pd.testing.assert_frame_equal(run(trial, rows_path=rows_path), run(power))
    assert [path.read_text() for path in calls_dir.iterdir()] == ["."] * len(SETTINGS)


def test_dask_cluster_gives_the_same_rows(tmp_path):
    from dask.distributed import Client

    with (
        Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None),
        joblib.parallel_config(backend="dask"),
    ):
        rows = run(power, rows_path=tmp_path / "rows.jsonl")
    pd.testing.assert_frame_equal(rows, run(power))
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(SETTINGS)


def test_progress_counts_what_was_done_before(tmp_path, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    run(power, SETTINGS[:4], rows_path=tmp_path / "rows.jsonl")
    code = (
        "from tests.unit.test_trials import *; "
        f"run_trials(power, SETTINGS, rows_path={str(tmp_path / 'rows.jsonl')!r}, description='study')"
    )
    repository = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert "study:" in done.stderr and "4/6" in done.stderr and "6/6" in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "no settings"),
        ([{"x": 1, "name": "a", "seed": 0}] * 2, "Settings 0 and 1 are the same"),
    ],
    ids=["no setting", "the same setting twice"],
)
def test_settings_that_cannot_be_run(settings, message):
    with pytest.raises(ValueError, match=message):
        run(power, settings)


def test_result_that_repeats_a_name_of_the_setting():
    with pytest.raises(ValueError, match=r"returned \['x'\]"):
        run(lambda x: {"x": 2 * x}, [{"x": 1}])


@pytest.mark.parametrize("value", [[1], np.zeros(2), {"a": 1}, Path("x")], ids=lambda value: type(value).__name__)
def test_values_that_are_not_flat(value):
    with pytest.raises(TypeError, match="expected a number"):
        run(lambda x: {}, [{"x": value}])
    with pytest.raises(TypeError, match="result of the trial with x=1"):
        run(lambda x: {"y": value}, [{"x": 1}])


def test_file_of_another_kind_is_left_alone(tmp_path):
    other = tmp_path / "labels.csv"
    other.write_text("image,label\na.jpg,can\n")
    with pytest.raises(ValueError, match="none of them a row"):
        run(power, rows_path=other)
    assert other.read_text() == "image,label\na.jpg,can\n"
