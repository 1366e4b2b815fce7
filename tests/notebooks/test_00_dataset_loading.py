"""Notebook 00, executed as a user does, and each of its parameters."""

import pytest

from tests.notebooks.running import NOTEBOOKS_DIR, execute, run_in_process
from utils_cv.notebooks import list_parameters

NAME = "00_dataset_loading"
FAST = {"IM_SIZE": 64, "N_PER_CLASS": 2}
CHANGES = {"DATA_DIR": None, "IM_SIZE": 48, "N_PER_CLASS": 3, "SEED": 1}  # None: the other folder


@pytest.mark.notebooks
def test_it_runs(base, tmp_path):
    results = execute(NAME, base, tmp_path)
    assert results["n_images"] == results["n_train"] + results["n_valid"] + results["n_test"]
    assert results["n_skipped"] == 0
    assert results["n_found"] == results["n_planted"] == 10


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_results(name, base_results, base, other_data_dir):
    changed = {**base, name: other_data_dir if CHANGES[name] is None else CHANGES[name]}
    assert run_in_process(NAME, changed) != base_results


def test_every_parameter_is_changed_once():
    assert set(CHANGES) == set(list_parameters(NOTEBOOKS_DIR / f"{NAME}.ipynb"))
