"""Every notebook, executed as a user does; and every parameter of each, which must change what is recorded."""

import pytest

from tests.conftest import make_broken_dir
from tests.notebooks.running import NOTEBOOKS_DIR, run_in_process
from tests.notebooks.table import CASES, OTHER_SET
from utils_cv.notebooks import list_parameters, run_notebook


def param(name, *values):
    """A case whose id begins with the notebook's number: the tests of a number share one process and its results."""
    return pytest.param(name, *values, id="-".join([name[:2], *values]))


@pytest.mark.notebooks
@pytest.mark.parametrize("name", [param(name) for name in CASES])
def test_it_runs_as_papermill_runs_it(name, fast_parameters, tmp_path):
    parameters = {**fast_parameters(name), **CASES[name].run}
    in_path, out_path = NOTEBOOKS_DIR / f"{name}.ipynb", tmp_path / f"{name}.ipynb"
    results = run_notebook(in_path, out_path, parameters, timeout_s=600, show_progress=False)
    assert CASES[name].check(results), results


@pytest.mark.notebooks
@pytest.mark.parametrize("name", [param("00_dataset_loading"), param("02_training_accuracy_vs_speed")])
def test_broken_files_in_every_split_stop_nothing(name, tmp_path):
    in_path, out_path = NOTEBOOKS_DIR / f"{name}.ipynb", tmp_path / f"{name}.ipynb"
    parameters = {**CASES[name].fast, "DATA_DIR": str(make_broken_dir(tmp_path / "data"))}
    results = run_notebook(in_path, out_path, parameters, timeout_s=600, show_progress=False)
    if name.startswith("00"):
        assert (results["n_images"], results["n_unreadable"]) == (59, 18)
    else:
        assert results["settings"][0]["n_valid"] == results["test_accuracy_n"] == 9  # 4 + 4 + 1 in each of the two


@pytest.mark.parametrize("name", [param(f) for f in ("11_annotation_quality", "20_annotation", "31_large_datasets")])
def test_images_of_several_labels_are_taken(name, fast_parameters):
    assert run_in_process(name, {**fast_parameters(name), "DATA_DIR": fast_parameters("03_multilabel")["DATA_DIR"]})


@pytest.mark.parametrize("name", [param(name) for name in CASES])
def test_cells_run_again_from_the_last_to_the_first(name, base_results):
    assert base_results(name)


@pytest.mark.parametrize(("name", "parameter"), [param(name, key) for name in CASES for key in CASES[name].changes])
def test_each_parameter_changes_the_results(name, parameter, fast_parameters, base_results, other_data_dir):
    value = CASES[name].changes[parameter]
    changed = {**fast_parameters(name), parameter: other_data_dir if value == OTHER_SET else value}
    assert run_in_process(name, changed) != base_results(name)


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_is_changed_once(name):
    assert set(CASES[name].changes) == set(list_parameters(NOTEBOOKS_DIR / f"{name}.ipynb"))
