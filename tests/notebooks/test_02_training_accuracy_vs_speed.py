"""Notebook 02, executed as a user does, and each of its parameters."""

import pytest

from tests.notebooks.running import NOTEBOOKS_DIR, execute, run_in_process
from utils_cv.notebooks import list_parameters

NAME = "02_training_accuracy_vs_speed"
FAST = {
    "BACKBONES": ["efficientnet_lite0"],
    "IM_SIZES": [64],
    "RUNTIMES": ["onnx"],
    "N_REPEATS": 3,
    "BATCH_SIZES": [1],
    "THREADS": [1],
    "EPOCHS": 1,
    "LEARNING_RATES": [0.001],
}
CHANGES = {
    "DATA_DIR": None,
    "BACKBONES": ["efficientnet_lite1"],
    "IM_SIZES": [48],
    "RUNTIMES": ["torch"],
    "N_REPEATS": 4,
    "BATCH_SIZES": [2],
    "THREADS": [2],
    "EPOCHS": 2,
    "LEARNING_RATES": [0.01],
    "MAX_LATENCY_MS": 99.0,
    "SEED": 1,
}  # None: the other folder


@pytest.mark.notebooks
def test_it_runs(base, tmp_path):
    changed = {**base, "IM_SIZES": [128], "RUNTIMES": ["onnx", "int8"], "MAX_LATENCY_MS": 0.001}  # below any time
    results = execute(NAME, changed, tmp_path)
    assert results["best_accuracy"] > 0.25 + 0.15
    assert results["best_accuracy_low"] <= results["best_accuracy"] <= results["best_accuracy_high"]
    assert [row["runtime"] for row in results["rows"]] == ["onnx", "int8"]
    assert results["chosen_name"].endswith("onnx"), "8 bits that are not offered were chosen, or kept from choosing"
    assert len(results["presets"]) == 3


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_results(name, base_results, base, other_data_dir):
    changed = {**base, name: other_data_dir if CHANGES[name] is None else CHANGES[name]}
    assert run_in_process(NAME, changed) != base_results


def test_every_parameter_is_changed_once():
    assert set(CHANGES) == set(list_parameters(NOTEBOOKS_DIR / f"{NAME}.ipynb"))
