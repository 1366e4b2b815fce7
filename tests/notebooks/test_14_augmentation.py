"""Notebook 14, executed as a user does, and each of its parameters."""

import pytest

from tests.notebooks.running import NOTEBOOKS_DIR, execute, run_in_process
from utils_cv.notebooks import list_parameters

NAME = "14_augmentation"
FAST = {
    "IM_SIZE": 64,
    "AUGMENTATIONS": ["mirror", "rotate by any angle"],
    "N_PER_CLASS": 4,
    "N_VIEWS": 1,
    "N_DRAWS": 2,
}
CHANGES = {
    "DATA_DIR": None,
    "BACKBONE": "efficientnet_lite1",
    "IM_SIZE": 48,
    "AUGMENTATIONS": ["mirror", "crop"],
    "N_PER_CLASS": 3,
    "N_VIEWS": 2,
    "N_DRAWS": 3,
    "SEED": 1,
}  # None: the other folder


@pytest.mark.notebooks
def test_it_runs(base, tmp_path):
    results = execute(NAME, {**base, "IM_SIZE": 128, "N_PER_CLASS": 8}, tmp_path)
    assert results["upright_none_accuracy"] > 0.25 + 0.15
    assert results["upright_mirror_low"] <= results["upright_mirror"] <= results["upright_mirror_high"]


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_results(name, base_results, base, other_data_dir):
    changed = {**base, name: other_data_dir if CHANGES[name] is None else CHANGES[name]}
    assert run_in_process(NAME, changed) != base_results


def test_every_parameter_is_changed_once():
    assert set(CHANGES) == set(list_parameters(NOTEBOOKS_DIR / f"{NAME}.ipynb"))
