"""Every committed notebook keeps the contract: order, parameters, length, clean outputs, links, and a test."""

import ast
import json
import re

import nbformat
import pytest

from tests.conftest import ROOT
from tests.notebooks.table import CASES
from tools.hosted import CELL, TAG
from utils_cv.notebooks import RESULTS_MIME, list_parameters

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 1_500_000
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read_cells(path, kind=None):
    """What a reader sees: the cell for Colab and Kaggle is folded."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if kind in (None, cell.cell_type) and TAG not in cell.metadata.get("tags", [])]


def list_outputs(path):
    return [output for cell in read_cells(path, "code") for output in cell.outputs]


def test_every_notebook_is_in_the_table_of_tests():
    assert set(CASES) == {path.stem for path in NOTEBOOKS}


def test_every_notebook_is_listed_for_readers():
    for document in (ROOT / "README.md", ROOT / "notebooks/README.md"):
        text = document.read_text(encoding="utf-8")
        for path in NOTEBOOKS:
            assert path.name in text, f"{document.name} does not list {path.name}"


@every_notebook
def test_parameters_are_the_second_code_cell_with_a_comment_each(path):
    cells = read_cells(path, "code")
    assert "parameters" in cells[1].metadata.get("tags", [])
    names = list_parameters(path)
    assert all(name == name.upper() for name in names)
    assert "DATA_DIR" in names
    assert all("  # " in line for line in cells[1].source.splitlines()), "a parameter without a comment"


@every_notebook
def test_every_parameter_is_used_later(path):
    later = "\n".join(cell.source for cell in read_cells(path, "code")[2:])
    for name in list_parameters(path):
        assert re.search(rf"\b{name}\b", later), f"{name} is not used"


@every_notebook
def test_size_and_style(path):
    cells, code = read_cells(path), read_cells(path, "code")
    assert 20 <= len(cells) <= 35, f"{len(cells)} cells"
    lines = [line for cell in code for line in cell.source.splitlines()]
    assert len(lines) <= 110, f"{len(lines)} lines of code"
    for cell in code:
        n_lines = len(cell.source.splitlines())
        is_long_list = "show_results(" in cell.source or cell.source.startswith(("from ", "import "))
        assert n_lines <= (25 if is_long_list else 14), f"{n_lines} lines: {cell.source[:60]}"
        assert not re.search(r"^\s*[!%]", cell.source, re.MULTILINE), cell.source[:60]
        assert not re.search(r"""["'](/|[A-Z]:\\|~)\w""", cell.source), cell.source[:60]
        assert not re.search(r"^(def|class) (.*\n){4}", cell.source, re.MULTILINE), cell.source[:60]


@every_notebook
def test_few_names_of_ours_before_the_first_picture(path):
    names = set()
    for cell in read_cells(path, "code"):
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("utils_cv"):
                names |= {alias.name for alias in node.names}
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            break
    assert len(names) <= 10, sorted(names)


@every_notebook
def test_it_opens_and_closes_as_all_do(path):
    cells = read_cells(path)
    assert cells[0].source.startswith(f"# {path.stem[:2]} · ")
    assert "| at a glance |" in cells[1].source
    hosted = nbformat.read(path, as_version=4).cells[2]  # for Colab and Kaggle: `python -m tools.hosted` writes it
    assert (hosted.source, hosted.outputs, hosted.metadata["tags"]) == (CELL, [], [TAG])
    assert "show_results(" in read_cells(path, "code")[-1].source
    closing = "\n".join(cell.source for cell in cells[-3:])
    assert "What you learned" in closing
    assert "Exercises" in closing


@every_notebook
def test_five_to_eight_headline_results(path):
    (content,) = [
        o.data[RESULTS_MIME] for o in read_cells(path, "code")[-1].outputs if RESULTS_MIME in o.get("data", {})
    ]
    shown = [name for name in content["headlines"] if not name.endswith(("_low", "_high", "_n"))]
    assert 5 <= len(shown) <= 8, shown


@every_notebook
def test_previous_and_next_follow_the_reading_order(path):
    last = read_cells(path)[-1].source
    i = NOTEBOOKS.index(path)
    if i > 0:
        assert re.search(rf"Previous: \[[^\]]+\]\({NOTEBOOKS[i - 1].name}\)", last)
    if i + 1 < len(NOTEBOOKS):
        assert re.search(rf"Next: \[[^\]]+\]\({NOTEBOOKS[i + 1].name}\)", last)


@every_notebook
def test_outputs_come_from_one_clean_run(path):
    notebook = nbformat.read(path, as_version=4)
    counts = [cell.execution_count for cell in read_cells(path, "code")]
    assert counts[0] in (1, 2) and counts == list(range(counts[0], counts[0] + len(counts)))
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    outputs = list_outputs(path)
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"], "something was printed to stderr"
    assert RESULTS_MIME in read_cells(path, "code")[-1].outputs[-1].data
    assert "utils_cv" in notebook.metadata, "not refreshed: run make refresh"


@every_notebook
def test_nothing_personal_and_nothing_large(path):
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= MAX_BYTES, f"{path.stat().st_size / 1e6:.1f} MB"
    assert not re.search(r"/(home|Users|root|work|tmp)/\w|[A-Z]:\\\\Users", text)
    assert "widget-view+json" not in text, "a widget is empty for everybody else"


@every_notebook
def test_the_file_is_as_nbformat_writes_it(path):
    text = path.read_text(encoding="utf-8")
    nbformat.validate(nbformat.read(path, as_version=4))
    assert json.loads(text)["nbformat"] == 4
    assert text.endswith("\n")
