"""Notebook 01, executed as a user does, and each of its parameters."""

import pytest

from tests.notebooks.running import NOTEBOOKS_DIR, execute, run_in_process
from utils_cv.notebooks import list_parameters

NAME = "01_training_introduction"
FAST = {"IM_SIZE": 64, "EPOCHS": 1, "EPOCHS_ALL": 1, "BATCH_SIZE": 8, "N_PER_CLASS": 2}
CHANGES = {
    "DATA_DIR": None,
    "BACKBONE": "efficientnet_lite1",
    "IM_SIZE": 48,
    "EPOCHS": 2,
    "EPOCHS_ALL": 2,
    "BATCH_SIZE": 4,
    "LEARNING_RATE": 0.01,
    "AUGMENT": "none",
    "N_PER_CLASS": 3,
    "SEED": 1,
}  # None: the other folder


@pytest.mark.notebooks
def test_it_runs(base, tmp_path):
    results = execute(NAME, {**base, "IM_SIZE": 128}, tmp_path)
    required = {
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "n_train",
        "n_test",
        "n_classes",
        "train_seconds",
        "backbone",
    }
    assert required <= set(results)
    assert results["probe_accuracy"] > 1 / results["n_classes"] + 0.15
    assert results["accuracy_low"] <= results["accuracy"] <= results["accuracy_high"]


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_results(name, base_results, base, other_data_dir):
    changed = {**base, name: other_data_dir if CHANGES[name] is None else CHANGES[name]}
    assert run_in_process(NAME, changed) != base_results


def test_every_parameter_is_changed_once():
    assert set(CHANGES) == set(list_parameters(NOTEBOOKS_DIR / f"{NAME}.ipynb"))
