"""Run a notebook in this process: without a kernel and new imports it takes a second."""

import contextlib
import io
from unittest import mock

import matplotlib.pyplot as plt
import nbformat

from tests.conftest import ROOT
from utils_cv.notebooks import RESULTS_MIME, list_parameters

NOTEBOOKS_DIR = ROOT / "notebooks"
# Keys that differ from run to run whatever the parameters are.
TIME_WORDS = ("seconds", "_ms", "per_second", "speedup", "busy", "memory", "ratio", "fastest", "_mb_s", "peak_mb")
TIME_WORDS += ("plans",)  # how long, and what is free here


def run_in_process(name, parameters, *, again=False):
    """Run the code cells one after another, and perhaps again from the last to the first; give what was recorded.

    Times are left out, and so is what the second pass records.
    """
    unknown = set(parameters) - set(list_parameters(NOTEBOOKS_DIR / f"{name}.ipynb"))
    assert not unknown, f"{name} has no parameters {unknown}"
    found, namespace = {}, {"__name__": "__main__", "display": lambda *_, **__: None}

    def keep_results(content, **_):
        for part in content.get(RESULTS_MIME, {}).values():  # other tables are shown, but not recorded
            found.update(part)

    cells = nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", as_version=4).cells

    def run(numbers):
        for i in numbers:
            cell = cells[i]
            if cell.cell_type == "code":
                exec(compile(cell.source, f"{name}, cell {i}", "exec"), namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace.update(parameters)

    with mock.patch("IPython.display.display", keep_results), contextlib.redirect_stdout(io.StringIO()):
        run(range(len(cells)))
        results = drop_times(found)
        if again:
            run(reversed(range(len(cells))))
    plt.close("all")
    return results


def drop_times(results):
    """Leave out what differs from run to run."""
    kept = {key: value for key, value in results.items() if not any(word in key for word in TIME_WORDS)}
    return {
        key: [drop_times(dict(row)) for row in value] if isinstance(value, list) else str(value)
        for key, value in kept.items()
    }
