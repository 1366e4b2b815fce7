"""The strict notebook runner: what is refused before it runs, and what is left when a cell fails."""

import nbformat
import pytest

from utils_cv.notebooks import NotebookError, list_parameters, read_results, run_notebook

SHOW = "from utils_cv.notebooks import show_results\n"


def write(path, *cells, tag="parameters"):
    notebook = nbformat.v4.new_notebook()
    for i, source in enumerate(cells):
        cell = nbformat.v4.new_code_cell(source)
        if i == 0 and tag:
            cell.metadata["tags"] = [tag]
        notebook.cells.append(cell)
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        pytest.param({"EPOCH": 1}, "no parameter EPOCH. It has: EPOCHS, NAME", id="misspelled"),
        pytest.param({"EPOCHS": "1"}, "type str, expected int", id="text for a number"),
        pytest.param({"EPOCHS": True}, "type bool, expected int", id="flag for a number"),
        pytest.param({"EPOCHS": 0.5}, "type float, expected int", id="fraction for a count"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path, parameters, message):
    path = write(tmp_path / "a.ipynb", "EPOCHS = 3\nNAME = 'x'")
    with pytest.raises(ValueError, match=message):
        run_notebook(path, tmp_path / "out.ipynb", parameters)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(
    ("source", "tag", "message"),
    [
        pytest.param("A = 1", None, "has 0 cells tagged", id="no tag"),
        pytest.param("A = int('1')", "parameters", "expected a literal", id="computed"),
        pytest.param("import os", "parameters", "expected NAME = literal", id="statement"),
    ],
)
def test_wrong_parameter_cells_are_refused(tmp_path, source, tag, message):
    with pytest.raises(ValueError, match=message):
        list_parameters(write(tmp_path / "a.ipynb", source, tag=tag))


def test_results_come_back_with_the_parameters(tmp_path):
    table = "[{'name': 'a', 'value': np.float32(0.5)}]"
    cell = f"{SHOW}import numpy as np\nshow_results({{'n': np.int64(N + 1), 'who': WHO, 'rows': {table}}})"
    path = write(tmp_path / "a.ipynb", "N = 1\nWHO = 'x'", cell)
    results = run_notebook(path, tmp_path / "out.ipynb", {"N": 4, "WHO": "a=b"}, show_progress=False)
    assert results == {"n": 5, "who": "a=b", "rows": [{"name": "a", "value": 0.5}]}
    assert read_results(tmp_path / "out.ipynb") == results
    assert list_parameters(path) == {"N": 1, "WHO": "x"}


def test_a_failing_cell_is_named_and_the_copy_is_kept(tmp_path):
    path = write(tmp_path / "a.ipynb", "N = 0", "x = 1 / N")
    with pytest.raises(NotebookError, match=r"(?s)cell 3 \('x = 1 / N'\).*ZeroDivisionError"):
        run_notebook(path, tmp_path / "out.ipynb", {"N": 0}, show_progress=False)
    assert (tmp_path / "out.ipynb").exists()


def test_the_time_limit_stops_a_notebook(tmp_path):
    path = write(tmp_path / "a.ipynb", "N = 0", "import time; time.sleep(60)")
    with pytest.raises(NotebookError, match="limit of 2 s was up"):
        run_notebook(path, tmp_path / "out.ipynb", timeout_s=2, show_progress=False)


def test_a_notebook_without_results_says_so(tmp_path):
    path = write(tmp_path / "a.ipynb", "N = 0")
    with pytest.raises(ValueError, match="holds no recorded results"):
        run_notebook(path, tmp_path / "out.ipynb", show_progress=False)


def test_a_missing_notebook_names_its_neighbors(tmp_path):
    write(tmp_path / "a.ipynb", "N = 0")
    with pytest.raises(FileNotFoundError, match=r"There are: a\.ipynb"):
        run_notebook(tmp_path / "b.ipynb", tmp_path / "out.ipynb")
