"""The refresh of committed notebooks: clean, atomic, resumable, and the source of figures and numbers."""

import base64
import json

import nbformat
import pytest

from tests.unit.test_notebooks import SHOW, write
from tools.refresh_notebooks import (
    export_figures,
    fill_document,
    find_recorded,
    is_fresh,
    read_recorded,
    refresh_all,
    refresh_notebook,
)
from utils_cv.notebooks import NotebookError


def read(path):
    return nbformat.read(path, as_version=4)


def test_refresh_keeps_the_notebook_when_a_cell_fails(tmp_path):
    path = write(tmp_path / "a.ipynb", "N = 0", "1 / N")
    before = path.read_bytes()
    with pytest.raises(NotebookError, match="left as it was"):
        refresh_notebook(path)
    assert path.read_bytes() == before


def test_refresh_is_clean_and_recorded(tmp_path):
    bar = "from tqdm.auto import tqdm\nprint(1)\nfor _ in tqdm([1]): pass\nprint(2)"
    path = write(tmp_path / "01_a.ipynb", "N = 0", "N + 1", f"{SHOW}show_results({{'n': N}})", bar)
    notebook = read(path)
    notebook.cells.append(nbformat.v4.new_markdown_cell("Takes <!--this.run_minutes:.0f-->?<!--/--> min."))
    nbformat.write(notebook, path)
    assert not is_fresh(path)
    refresh_notebook(path)
    assert is_fresh(path) and read_recorded(path).items() >= {"n": 0, "run_minutes": 1}.items()
    first = read(path).cells
    assert [cell.execution_count for cell in first[:4]] == [1, 2, 3, 4]
    assert "1<!--/--> min." in first[4].source
    assert first[3].outputs[0].text == "1\n2\n"
    refresh_notebook(path)
    assert read(path).cells == first
    changed = read(path)
    changed.cells[1].source = "N + 2"
    nbformat.write(changed, path)
    assert not is_fresh(path)


def test_documents_get_the_recorded_numbers_and_only_stale_notebooks_run(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="0 notebooks"):
        find_recorded(tmp_path, "01")
    path = write(tmp_path / "01_a.ipynb", "N = 7", f"{SHOW}show_results({{'n': N}})")
    document = tmp_path / "README.md"
    document.write_text("There are <!--01.n-->?<!--/--> images.\n")
    refresh_all([path], [document])
    assert document.read_text() == "There are <!--01.n-->7<!--/--> images.\n"
    refresh_all([path], [document], only_stale=True)
    printed = capsys.readouterr().out
    assert "fresh" in printed and "README.md: unchanged" in printed
    assert not fill_document(document, tmp_path)


@pytest.fixture
def benchmark_dirs(tmp_path):
    """A repository with results of one benchmark; gives its notebooks and its document."""
    results_dir = tmp_path / "benchmarks" / "results"
    results_dir.mkdir(parents=True)
    rows = [{"set": "ants", "recipe": "probe", "accuracy": 0.95}, {"set": "ants", "recipe": "other", "accuracy": 0.9}]
    (results_dir / "peers.json").write_text(json.dumps({"machine": "AMD EPYC", "table": rows}), encoding="utf-8")
    return tmp_path / "notebooks", tmp_path / "README.md"


def test_documents_get_the_numbers_of_benchmarks(benchmark_dirs):
    notebooks_dir, document = benchmark_dirs
    document.write_text("It scores <!--benchmarks/peers.table[set=ants,recipe=probe].accuracy:.2f-->0.94<!--/-->.\n")
    assert fill_document(document, notebooks_dir)
    assert ">0.95<" in document.read_text()
    assert not fill_document(document, notebooks_dir)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        pytest.param("benchmarks/peer.machine", "No file .*peer.json; run the benchmark", id="no file"),
        pytest.param("benchmarks/peers.table[set=bees].accuracy", "fits 0 of 2 rows", id="no row"),
        pytest.param("benchmarks/peers.table[set=ants].accuracy", "fits 2 of 2 rows", id="two rows"),
        pytest.param(
            "benchmarks/peers.tables[0].accuracy", "recorded no 'tables'; it recorded: machine", id="no table"
        ),
    ],
)
def test_a_number_without_a_benchmark_is_an_error_and_the_document_stays(benchmark_dirs, marker, message):
    notebooks_dir, document = benchmark_dirs
    document.write_text(f"It scores <!--{marker}-->0.94<!--/-->.\n")
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        fill_document(document, notebooks_dir)
    assert ">0.94<" in document.read_text()


def test_figures_are_exported_by_their_tag(tmp_path):
    path = write(tmp_path / "02_b.ipynb", "N = 0", "N")
    notebook = read(path)
    notebook.cells[1].metadata["tags"] = ["figure-front"]
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="shows no figure"):
        export_figures(path, tmp_path / "figures")
    png = base64.b64encode(b"png bytes").decode()
    notebook.cells[1].outputs = [nbformat.v4.new_output("display_data", {"image/png": png})]
    nbformat.write(notebook, path)
    assert export_figures(path, tmp_path / "figures") == [tmp_path / "figures" / "02_front.png"]
    assert (tmp_path / "figures" / "02_front.png").read_bytes() == b"png bytes"
