"""A search keeps what it has through kills, full disks and diverged trainings; choices never see the test images."""

import itertools
import subprocess
import sys
import time

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from tests.unit.studies.test_experiment import make_data
from utils_cv.models.features import compute_features
from utils_cv.studies import hyperparameters
from utils_cv.studies.experiment import make_task
from utils_cv.studies.hyperparameters import compute_budget_curve, score_setting, search_settings

DEFAULT = {"recipe": "probe", "backbone": "efficientnet_lite0", "im_size": 64, "C": 0.01}
TUNED = DEFAULT | {"recipe": "last_stage", "learning_rate": 5e-4, "epochs": 2, "augment": "none"}
KEY = ("efficientnet_lite0", 64)


def search(journal, n_probes, n_tuned=0, **options):
    task = make_task(*make_data(distance=0.6))
    features = {KEY: task.features, ("other", 64): np.round(task.features)}
    spaces = {"probe": {"C": FloatDistribution(1e-4, 10, log=True)}, "last_stage": {"epochs": IntDistribution(2, 8)}}
    options = {"default": DEFAULT, "n_trials": {"probe": n_probes, "last_stage": n_tuned}, "spaces": spaces} | options
    return search_settings(task, features, journal, **options).trials


def list_found(*args, **options):
    return [(trial.user_attrs["place"], trial.params, trial.value) for trial in search(*args, **options)]


def test_a_killed_search_loses_nothing_and_ends_as_if_it_had_not_been_killed(tmp_path):
    path = tmp_path / "killed/journal.log"
    code = f"from tests.unit.studies.test_hyperparameters import search; search({str(path)!r}, 400)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not path.exists() or path.read_bytes().count(b'"place"') < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()  # by SIGKILL
    process.wait()
    n_kept = (kept := path.read_bytes()).count(b'"place"')
    path.write_bytes(kept + b'{"op_code":4,"wor')  # as a full disk leaves it
    found = list_found(path, n_kept + 2)
    assert path.read_bytes().startswith(kept) and path.read_bytes().count(b'"place"') == n_kept + 3
    assert found == list_found(tmp_path / "other.log", n_kept + 2) and 4 <= n_kept < 400
    assert list_found(path, 2) == found[:3]  # not what was asked for before


def test_each_range_and_seed_has_a_study_of_its_own(tmp_path):
    changes = [{}, {"seed": 1}, {"default": DEFAULT | {"C": 1.0}}, {"sampler": optuna.samplers.TPESampler}]
    found = [list_found(tmp_path / "j.log", 12, **change) for change in changes]
    assert len({str(each) for each in found}) == 4 and {len(each) for each in found} == {13}


def test_a_training_that_diverged_fails_alone_and_says_why(tmp_path, monkeypatch):
    def score(task, features, setting, **_):
        if setting.get("epochs", 0) > 4:
            raise ValueError("The training diverged")
        return {"cv_accuracy": 0.5}

    monkeypatch.setattr(hyperparameters, "score_setting", score)
    trials = search(tmp_path / "j.log", 2, 8)
    failed = [trial for trial in trials if trial.state == optuna.trial.TrialState.FAIL]
    assert failed == [trial for trial in trials if trial.params.get("epochs", 0) > 4] != []
    assert {trial.user_attrs["problem"] for trial in failed} == {"The training diverged"}
    assert all(("C" in trial.params) != ("epochs" in trial.params) for trial in trials) and len(trials) == 11


@pytest.mark.parametrize("setting", [DEFAULT, TUNED], ids=["probe", "last_stage"])
def test_a_search_never_sees_the_test_images(small_images, setting):
    table, features = small_images.table, compute_features(small_images.pixels)
    is_test, task = (table["split"] == "test").to_numpy(), make_task(table, features)
    found = score_setting(task, {KEY: features}, setting, seed=1, on_test=True)
    assert found["cv_accuracy"] > 0.7 and found["right"].mean() > 0.7 and found["right"].shape == (is_test.sum(),)
    paths = table["path"].to_numpy(copy=True)
    paths[is_test] = paths[is_test][::-1]
    blind = task._replace(table=table.assign(path=paths))
    features = np.where(is_test[:, None], np.nan, features)
    assert score_setting(blind, {KEY: features}, setting, seed=1) == {"cv_accuracy": found["cv_accuracy"]}


def test_the_budget_curve_is_that_of_all_orders():
    values = [0.5, 0.9, 0.9, 0.3, 0.7]
    best, curve = np.maximum.accumulate(list(itertools.permutations(values)), axis=1), compute_budget_curve(values)
    np.testing.assert_allclose(curve["best"], best.mean(axis=0))
    for name, share in (("best_low", 0.025), ("best_high", 0.975)):
        np.testing.assert_allclose(curve[name], np.quantile(best, share, axis=0, method="inverted_cdf"))
