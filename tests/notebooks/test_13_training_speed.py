"""Notebook 13, executed as a user does, and each of its parameters."""

import pytest

from tests.notebooks.running import NOTEBOOKS_DIR, execute, run_in_process
from utils_cv.notebooks import list_parameters

NAME = "13_training_speed"
FAST = {
    "IM_SIZE": 64,
    "MEGAPIXELS": [0.2, 1],
    "LARGE_MEGAPIXELS": 1,
    "N_FILES": 1,
    "N_ROUNDS": 1,
    "BATCH_SIZES": [16, 32],
    "EPOCHS": 1,
}
CHANGES = {
    "DATA_DIR": None,
    "BACKBONE": "efficientnet_lite1",
    "IM_SIZE": 48,
    "MEGAPIXELS": [0.2, 2],
    "LARGE_MEGAPIXELS": 2,
    "N_FILES": 2,
    "N_ROUNDS": 2,
    "BATCH_SIZES": [8, 32],
    "EPOCHS": 0,
    "SEED": 1,
}  # None: the other folder


@pytest.mark.notebooks
def test_it_runs(base, tmp_path):
    results = execute(NAME, base, tmp_path)
    assert results["probe_seconds"] > 0
    assert len(results["opening"]) > 0
    assert {row["stage"] for row in results["stages"]} >= {"decode", "forward", "backward"}


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_results(name, base_results, base, other_data_dir):
    changed = {**base, name: other_data_dir if CHANGES[name] is None else CHANGES[name]}
    assert run_in_process(NAME, changed) != base_results


def test_every_parameter_is_changed_once():
    assert set(CHANGES) == set(list_parameters(NOTEBOOKS_DIR / f"{NAME}.ipynb"))
