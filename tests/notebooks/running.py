"""Two ways to run a notebook in a test: as a user does, with papermill; and in this process, many times in seconds."""

import contextlib
import io
from unittest import mock

import nbformat

import utils_cv.notebooks
from utils_cv.data.image_table import find_repository
from utils_cv.notebooks import list_parameters, run_notebook

NOTEBOOKS_DIR = find_repository() / "notebooks"
# Keys that differ from run to run whatever the parameters are.
TIME_WORDS = ("seconds", "_ms", "per_second", "speedup", "busy", "memory", "ratio", "fastest", "_mb_s")


def execute(name, parameters, tmp_path, *, timeout_s=600):
    """Execute a notebook with papermill and return its results."""
    return run_notebook(
        NOTEBOOKS_DIR / f"{name}.ipynb",
        tmp_path / f"{name}.ipynb",
        parameters,
        timeout_s=timeout_s,
        show_progress=False,
    )


def run_in_process(name, parameters):
    """Run the code cells one after another in this process: without a kernel and new imports it takes a second."""
    unknown = set(parameters) - set(list_parameters(NOTEBOOKS_DIR / f"{name}.ipynb"))
    assert not unknown, f"{name} has no parameters {unknown}"
    recorded, namespace = {}, {"__name__": "__main__", "display": lambda *_, **__: None}
    cells = nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", as_version=4).cells
    with mock.patch.object(utils_cv.notebooks, "show_results", lambda results, **_: recorded.update(results)):
        for i, cell in enumerate(cells):
            if cell.cell_type != "code":
                continue
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(cell.source, f"{name}, cell {i}", "exec"), namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace.update(parameters)
    _close_figures()
    return drop_times(recorded)


def drop_times(results):
    """Leave out what differs from run to run."""
    kept = {key: value for key, value in results.items() if not any(word in key for word in TIME_WORDS)}
    return {
        key: [drop_times(dict(row)) for row in value] if isinstance(value, list) else str(value)
        for key, value in kept.items()
    }


def _close_figures():
    import matplotlib.pyplot as plt

    plt.close("all")
