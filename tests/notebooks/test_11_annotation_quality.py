"""Notebook 11, executed as a user does, and each of its parameters."""

import pytest

from tests.notebooks.running import NOTEBOOKS_DIR, execute, run_in_process
from utils_cv.notebooks import list_parameters

NAME = "11_annotation_quality"
FAST = {"IM_SIZE": 64, "WRONG_RATES": [0.3], "N_SEEDS": 1, "N_ROUNDS": 2}
CHANGES = {
    "DATA_DIR": None,
    "BACKBONE": "efficientnet_lite1",
    "IM_SIZE": 48,
    "WRONG_RATES": [0.4],
    "N_SEEDS": 2,
    "TEST_WRONG": 0.1,
    "PLANTED": 0.3,
    "ROUND_SHARE": 0.2,
    "N_ROUNDS": 3,
    "FEWER": 0.1,
    "DIFFERENCE": 0.05,
    "SEED": 1,
}  # None: the other folder


@pytest.mark.notebooks
def test_it_runs(base, tmp_path):
    results = execute(NAME, {**base, "IM_SIZE": 128}, tmp_path)
    assert results["accuracy"] > 1 / results["n_classes"] + 0.15
    assert 0 <= results["find_recall_low"] <= results["find_recall"] <= results["find_recall_high"] <= 1
    assert results["n_for_width"] > 0


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_results(name, base_results, base, other_data_dir):
    changed = {**base, name: other_data_dir if CHANGES[name] is None else CHANGES[name]}
    assert run_in_process(NAME, changed) != base_results


def test_every_parameter_is_changed_once():
    assert set(CHANGES) == set(list_parameters(NOTEBOOKS_DIR / f"{NAME}.ipynb"))
