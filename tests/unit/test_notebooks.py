"""The strict notebook runner: what is refused before it runs, and what is left when a cell fails."""

import nbformat
import numpy as np
import pandas as pd
import pytest

from utils_cv.evaluation.intervals import Score
from utils_cv.notebooks import (
    RESULTS_MIME,
    NotebookError,
    list_parameters,
    read_headlines,
    read_results,
    run_notebook,
    show_results,
    show_table,
)

SHOW = "from utils_cv.notebooks import show_results\n"


def write(path, *cells, tag="parameters"):
    notebook = nbformat.v4.new_notebook()
    for i, source in enumerate(cells):
        cell = nbformat.v4.new_code_cell(source)
        if i == 0:
            cell.metadata["tags"] = [tag]
        notebook.cells.append(cell)
    nbformat.write(notebook, path)
    return path


CELL = "EPOCHS = 3\nNAME = 'x'"


@pytest.mark.parametrize(
    ("source", "tag", "parameters", "message"),
    [
        pytest.param(CELL, "parameters", {"EPOCH": 1}, "no parameter EPOCH. It has: EPOCHS, NAME", id="misspelled"),
        pytest.param(CELL, "parameters", {"EPOCHS": "1"}, "type str, expected int", id="text for a number"),
        pytest.param(CELL, "parameters", {"EPOCHS": True}, "type bool, expected int", id="flag for a number"),
        pytest.param(CELL, "parameters", {"EPOCHS": 0.5}, "type float, expected int", id="fraction for a count"),
        pytest.param("A = 1", "other", {}, "has 0 cells tagged", id="no tag"),
        pytest.param("A = int('1')", "parameters", {}, "expected a literal", id="computed"),
        pytest.param("import os", "parameters", {}, "expected NAME = literal", id="statement"),
    ],
)
def test_wrong_parameters_and_their_cells_are_refused(tmp_path, source, tag, parameters, message):
    path = write(tmp_path / "a.ipynb", source, tag=tag)
    with pytest.raises(ValueError, match=message):
        run_notebook(path, tmp_path / "out.ipynb", parameters)
    assert not (tmp_path / "out.ipynb").exists()


def test_results_come_back_with_the_parameters(tmp_path):
    recorded = "pd.DataFrame({'name': ['a'], 'value': np.float32([0.5]), 'gap': [np.nan]})"
    call = f"show_results({{'who': WHO, 'n': np.int64(N + 1)}}, recorded={{'rows': {recorded}}})"
    cell = f"{SHOW}import numpy as np, pandas as pd\n{call}"
    path = write(tmp_path / "a.ipynb", "N = 1\nWHO = 'x'", cell)
    results = run_notebook(path, tmp_path / "out.ipynb", {"N": 4, "WHO": "a=b"}, show_progress=False)
    assert results == {"n": 5, "who": "a=b", "rows": [{"name": "a", "value": 0.5, "gap": None}]}
    assert read_results(tmp_path / "out.ipynb") == results
    assert read_headlines(tmp_path / "out.ipynb") == "Results\n  who: a=b\n  n: 5"
    assert list_parameters(path) == {"N": 1, "WHO": "x"}


@pytest.fixture
def displayed(monkeypatch):
    """What `show_results` hands to Jupyter."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda content, raw: shown.append(content))
    return shown


def test_a_score_is_shown_with_its_interval_and_recorded_by_its_parts(displayed):
    rows = [{"size": 5, "accuracy": Score(0.5, 0.25, 0.75, 8)}]
    show_results({"accuracy": Score(0.9, 0.8, 0.95, 160)}, recorded={"curve": rows})
    content = displayed[0][RESULTS_MIME]
    assert "0.900 (0.800 to 0.950, n = 160)" in displayed[0]["text/html"]
    assert content["headlines"] == {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95, "accuracy_n": 160}
    row = {"size": 5, "accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75, "accuracy_n": 8}
    assert content["recorded"] == {"curve": [row]}
    assert "curve" not in displayed[0]["text/html"]


def test_a_table_is_shown_with_scores_whole_texts_and_no_gaps(displayed):
    scores = {"accuracy": [0.5, np.nan], "accuracy_low": [0.25, np.nan], "accuracy_high": [0.75, np.nan]}
    scores |= {"ms": [1.25, 10.5], "rate": [5.8e-5, np.nan]}
    table = pd.DataFrame({"<name>": ["a" * 80, "b"], **scores, "n": [3.0, np.nan], "ok": [True, False]})
    show_table(pd.concat([table] * 3), n_rows=2)
    lines = displayed[0]["text/plain"].splitlines()
    assert [line.split() for line in lines] == [
        ["<name>", "accuracy", "ms", "rate", "n", "ok"],
        ["a" * 80, "0.500", "(0.250", "to", "0.750)", "1.2", "5.8e-05", "3", "True"],
        ["b", "10.5", "False"],
        ["and", "4", "more", "rows"],
    ]
    html = displayed[0]["text/html"]
    assert '<th style="text-align: left">&lt;name&gt;</th>' in html and "a" * 80 in html and "<td>" not in html


def test_an_index_and_levels_of_columns_are_shown(displayed):
    table = pd.DataFrame({"name": ["a", "a", "b"], "k": [1, 2, 1], "x": [0.5, 0.25, 1.0], "y": ["u", "v", "w"]})
    show_table(table.pivot(index="name", columns="k", values=["x", "y"]))
    assert [line.split() for line in displayed[0]["text/plain"].splitlines()] == [
        ["name", "x", "1", "x", "2", "y", "1", "y", "2"],
        ["a", "0.500", "0.250", "u", "v"],
        ["b", "1.000", "w"],
    ]
    show_table(table[:0])
    assert displayed[1]["text/plain"] == "no rows"
    show_table(pd.DataFrame({"labels": [137.0, 9.0], "labels_low": [77.04, 8.0], "labels_high": [181.0, 9.5]}))
    assert " ".join(displayed[2]["text/plain"].split()) == "labels 137.0 (77.0 to 181.0) 9.0 (8.0 to 9.5)"


def test_names_and_values_are_escaped(displayed):
    show_results({"<b>class</b>": "<script>alert(1)</script>"})
    html = displayed[0]["text/html"]
    assert "&lt;script&gt;" in html and "<script>" not in html and "<b>class" not in html


@pytest.mark.parametrize(
    ("headlines", "recorded", "message"),
    [
        pytest.param({"loss": float("nan")}, {}, "'loss' is nan", id="NaN"),
        pytest.param({"loss": float("inf")}, {}, "'loss' is inf", id="infinite"),
        pytest.param({"accuracy": Score(0.9, float("nan"), 1.0, 2)}, {}, "'accuracy_low' is nan", id="score"),
        pytest.param({"sizes": [1, 2]}, {}, "expected a table", id="list of numbers"),
        pytest.param({}, {"curve": [{"loss": float("inf")}]}, r"curve\[0\].loss", id="infinite in a table"),
        pytest.param({"a": 1}, {"a": 2}, "each name once", id="same name"),
    ],
)
def test_what_cannot_be_recorded_is_refused(displayed, headlines, recorded, message):
    with pytest.raises(ValueError, match=message):
        show_results(headlines, recorded=recorded)
    assert not displayed


@pytest.mark.parametrize(
    ("source", "timeout_s", "message"),
    [
        pytest.param("x = 1 / N", 60, r"(?s)cell 3 \('x = 1 / N'\).*ZeroDivisionError", id="a cell fails"),
        pytest.param("import time; time.sleep(60)", 2, "limit of 2 s was up", id="the time is up"),
        pytest.param("N + 1", 60, "holds no recorded results", id="no results"),
    ],
)
def test_what_goes_wrong_is_named_and_the_copy_is_kept(tmp_path, source, timeout_s, message):
    path, error = write(tmp_path / "a.ipynb", "N = 1", source), ValueError if "recorded" in message else NotebookError
    with pytest.raises(error, match=message):
        run_notebook(path, tmp_path / "out.ipynb", {"N": 0}, timeout_s=timeout_s, show_progress=False)
    assert (tmp_path / "out.ipynb").exists()


def test_a_missing_notebook_names_its_neighbors(tmp_path):
    write(tmp_path / "a.ipynb", "N = 0")
    with pytest.raises(FileNotFoundError, match=r"There are: a\.ipynb"):
        run_notebook(tmp_path / "b.ipynb", tmp_path / "out.ipynb")
