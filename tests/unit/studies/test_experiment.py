"""What studies share: results in the order of the settings wherever trials run, failures that name their setting."""

import functools
import os
import subprocess
import sys

import joblib
import numpy as np
import pytest

from utils_cv.studies.experiment import TrialError, join_results, run_trials

SETTINGS = [{"x": x, "name": name, "seed": 0} for x in (3, 1, 2) for name in ("plain", "weighted")]


def power(x, name, seed, *, exponent=2):
    return {"y": x**exponent, "right": np.arange(4) < x, "process": os.getpid()}


def fail_at(x, name, seed, *, bad):
    if x == bad:
        raise ZeroDivisionError("nothing to divide by")
    return power(x, name, seed)


def run(trial, settings=SETTINGS):
    return run_trials(trial, settings, show_progress=False)


def test_rows_hold_setting_and_result_in_the_order_of_the_settings():
    rows = join_results(SETTINGS, run(functools.partial(power, exponent=3)))
    assert list(rows.columns) == ["x", "name", "seed", "y", "right", "process"]
    assert rows["x"].tolist() == [3, 3, 1, 1, 2, 2] and rows["y"].tolist() == [27, 27, 1, 1, 8, 8]
    assert np.stack(rows["right"]).sum(axis=1).tolist() == rows["x"].tolist()
    assert set(rows["process"]) == {os.getpid()}


def test_processes_are_those_of_the_surrounding_joblib_configuration():
    with joblib.parallel_config(n_jobs=2):
        results = run(power)
    assert [result["y"] for result in results] == [9, 9, 1, 1, 4, 4]
    assert os.getpid() not in {result["process"] for result in results}


def test_dask_cluster_gives_the_same_results():
    from dask.distributed import Client

    with (
        Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None),
        joblib.parallel_config(backend="dask"),
    ):
        results = run(power)
    assert [result["y"] for result in results] == [9, 9, 1, 1, 4, 4]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_failing_trial_names_its_setting(n_jobs):
    with (
        joblib.parallel_config(n_jobs=n_jobs),
        pytest.raises(TrialError, match=r"x=2, name='\w+', seed=0 failed: ZeroDivisionError: nothing to") as raised,
    ):
        run(functools.partial(fail_at, bad=2))
    assert raised.value.__cause__ is not None


def test_progress_has_a_name_and_a_total():
    code = "from utils_cv.studies.experiment import *; run_trials(dict, [{'x': 1}] * 3, description='study')"
    environment = os.environ | {"TQDM_DISABLE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "study:" in done.stderr and "3/3" in done.stderr


def test_no_setting_is_refused():
    with pytest.raises(ValueError, match="no settings"):
        run(power, [])
