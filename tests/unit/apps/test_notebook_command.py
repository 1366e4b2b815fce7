"""The command `run`: every parameter is checked before anything runs, and names may be short."""

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError

from utils_cv.notebooks import NotebookError

from .conftest import read_lines

SHOW = "from utils_cv.notebooks import show_results\nshow_results({'twice': 2 * N})"


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Two notebooks, of which only the second has the parameter NAME."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    cells = {"00_first": ["N = 1", SHOW], "01_second": ["N = 2\nNAME = 'x'", f"print(NAME)\n{SHOW}"]}
    for name, sources in cells.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        notebook.cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(notebook, tmp_path / f"notebooks/{name}.ipynb")
    return tmp_path


def test_notebooks_run_in_order_with_the_parameters_that_they_have(notebooks, run):
    words = ["--parameter", "N=4", "--parameter", "NAME=1", "--output-dir", "out"]
    code, printed, said = run("run", "00", "notebooks/01_second.ipynb", *words, "--json")
    rows = read_lines(printed)
    assert code == 0
    assert [(row["notebook"], row["results"]) for row in rows] == [
        ("00_first", {"twice": 8}),
        ("01_second", {"twice": 8}),
    ]
    assert "00_first has no parameter NAME" in said
    assert (notebooks / rows[1]["copy"]).is_file()


def test_headlines_are_printed_and_parameters_listed(notebooks, run):
    assert "twice: 2" in run("run", "00")[1]
    assert run("run", "01", "--list-parameters")[1] == "01_second\n  N=2\n  NAME='x'\n"
    assert read_lines(run("run", "01", "--list-parameters", "--json")[1]) == [{"01_second": {"N": 2, "NAME": "x"}}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["00", "01", "--parameter", "NAMES=x"], "Did you mean NAME?", id="a near name"),
        pytest.param(["00", "01", "--parameter", "N=x"], "expected int", id="another type"),
        pytest.param(["00", "--parameter", "N"], "expected NAME=VALUE", id="no value"),
        pytest.param(["0"], "2 notebooks fit '0'", id="two fit"),
        pytest.param(["00", "01_secnd"], "Did you mean 01_second?", id="a near notebook"),
        pytest.param(["00", "--output-dir", "notebooks/00_first.ipynb"], "--output-dir", id="no folder for copies"),
    ],
)
def test_wrong_use_is_told_before_any_notebook_runs(notebooks, run, words, message):
    code, printed, said = run("run", *words)
    assert (code, printed) == (2, "") and message in said
    assert not (notebooks / "outputs").exists()


def test_a_failing_notebook_stops_the_others_and_names_its_copy(notebooks, run):
    path = notebooks / "notebooks/00_first.ipynb"
    path.write_text(path.read_text().replace("2 * N", "1 / 0"))
    code, printed, said = run("run", "00", "01")
    assert (code, printed) == (1, "") and "ZeroDivisionError" in said and "outputs/00_first.ipynb" in said


@pytest.mark.parametrize("fails", [False, True], ids=["at once", "and the kernel fails while it is ended"])
def test_an_interruption_is_one_line_that_names_the_copy(notebooks, run, monkeypatch, fails):
    def stop(*_, **__):
        try:
            raise KeyboardInterrupt
        finally:
            if fails:
                raise NotebookError("lost its kernel") from DeadKernelError("Kernel died")

    monkeypatch.setattr("utils_cv.notebooks.run_notebook", stop)
    code, printed, said = run("run", "00")
    assert (code, printed) == (130, "")
    assert said.strip() == "Stopped. The executed part of 00_first.ipynb: outputs/00_first.ipynb"
