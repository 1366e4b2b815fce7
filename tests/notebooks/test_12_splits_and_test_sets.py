"""Notebook 12, executed as a user does, and each of its parameters."""

import pytest

from tests.notebooks.running import NOTEBOOKS_DIR, execute, run_in_process
from utils_cv.notebooks import list_parameters

NAME = "12_splits_and_test_sets"
FAST = {"IM_SIZE": 64, "OTHER_IM_SIZE": 48, "N_FOLDS": 2, "N_REPEATS": 1, "EXPECTED": 0.2}
CHANGES = {
    "DATA_DIR": None,
    "VIDEO_DIR": "",
    "SHIFTED_DIR": "",
    "NEGATIVES_DIR": None,
    "BACKBONE": "efficientnet_lite1",
    "IM_SIZE": 48,
    "OTHER_IM_SIZE": 32,
    "WIDTH_RULE": 0.15,
    "N_FOLDS": 3,
    "N_REPEATS": 2,
    "EXPECTED": 0.3,
    "SEED": 1,
}  # None: the other folder


@pytest.fixture(scope="module")
def base(data_dir, other_sets):
    return {
        **FAST,
        "DATA_DIR": data_dir,
        "VIDEO_DIR": other_sets["fridge_objects_video"],
        "SHIFTED_DIR": other_sets["fridge_objects_shifted"],
        "NEGATIVES_DIR": other_sets["fridge_negatives"],
    }


@pytest.mark.notebooks
def test_it_runs(base, tmp_path):
    results = execute(NAME, {**base, "IM_SIZE": 128}, tmp_path)
    assert results["accuracy"] > 0.25 + 0.15
    assert results["n_scenes"] > 0
    assert results["n_shifted"] > 0
    assert 0 <= results["auroc_none_of_the_classes_low"] <= results["auroc_none_of_the_classes_high"] <= 1


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_results(name, base_results, base, other_data_dir):
    changed = {**base, name: other_data_dir if CHANGES[name] is None else CHANGES[name]}
    assert run_in_process(NAME, changed) != base_results


def test_every_parameter_is_changed_once():
    assert set(CHANGES) == set(list_parameters(NOTEBOOKS_DIR / f"{NAME}.ipynb"))
