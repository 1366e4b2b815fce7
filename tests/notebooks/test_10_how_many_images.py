"""Notebook 10, executed as a user does, and each of its parameters."""

import pytest

from tests.notebooks.running import NOTEBOOKS_DIR, execute, run_in_process
from utils_cv.notebooks import list_parameters

NAME = "10_how_many_images"
FAST = {"IM_SIZE": 64, "SMALLEST": 2, "N_SEEDS": 2, "RARE_RATIO": 5, "TUNED_SIZES": []}
CHANGES = {
    "DATA_DIR": None,
    "BACKBONE": "efficientnet_lite1",
    "IM_SIZE": 48,
    "SMALLEST": 4,
    "N_SEEDS": 3,
    "STOP_GAIN": 0.05,
    "RARE_RATIO": 3,
    "TUNED_SIZES": [4],
    "SEED": 1,
}  # None: the other folder


@pytest.mark.notebooks
def test_it_runs(base, tmp_path):
    results = execute(NAME, {**base, "IM_SIZE": 128}, tmp_path)
    chance = 1 / results["n_classes"]
    assert max(row["accuracy"] for row in results["curve"]) > chance + 0.15
    assert results["doubling_gain_low"] <= results["doubling_gain"] <= results["doubling_gain_high"]


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_results(name, base_results, base, other_data_dir):
    changed = {**base, name: other_data_dir if CHANGES[name] is None else CHANGES[name]}
    assert run_in_process(NAME, changed) != base_results


def test_every_parameter_is_changed_once():
    assert set(CHANGES) == set(list_parameters(NOTEBOOKS_DIR / f"{NAME}.ipynb"))
