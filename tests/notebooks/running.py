"""Run a notebook in this process: without a kernel and new imports it takes a second."""

import contextlib
import copy
import functools
import io
import subprocess
from unittest import mock

import IPython.display
import matplotlib.pyplot as plt
import nbformat

from tests.conftest import ROOT
from utils_cv.__main__ import main
from utils_cv.notebooks import RESULTS_MIME, list_parameters

NOTEBOOKS_DIR = ROOT / "notebooks"
# Keys that differ from run to run whatever the parameters are.
TIME_WORDS = ("seconds", "_ms", "per_second", "speedup", "busy", "memory", "ratio", "fastest", "_mb_s", "peak_mb")
TIME_WORDS += ("plans",)  # how long, and what is free here


@functools.cache
def list_savings():
    """What to replace for less work: the commands of a notebook run here, on small images; all else is done less often.

    Papermill runs every notebook once as it is.
    """
    from utils_cv.models import backbones, linear_heads, quantization

    run, build, networks = subprocess.run, backbones._build_from_file, {}

    def run_here(words, *others, **options):
        if words[1:3] != ["-m", "utils_cv"]:
            return run(words, *others, **options)
        size, shown = ["--size", "64"] * (words[3] in ("train", "report")), (io.StringIO(), io.StringIO())
        with contextlib.redirect_stdout(shown[0]), contextlib.redirect_stderr(shown[1]), contextlib.chdir(ROOT):
            code = main([*words[3:], *size])
        return subprocess.CompletedProcess(words, code, *(stream.getvalue() for stream in shown))

    def build_once(name, config, im_size_px, given):
        key = name, im_size_px, given
        networks[key] = networks.get(key) or build(name, config, im_size_px, given)
        return copy.deepcopy(networks[key])

    return [
        (subprocess, "run", run_here),
        (backbones, "_build_from_file", build_once),
        (quantization, "measure_in_turn", functools.partial(quantization.measure_in_turn, n_repeats=3, settle_ms=0)),
        (linear_heads, "C_GRID", (0.01, 0.1)),
        (linear_heads, "N_FOLDS", 2),
    ]


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

    with contextlib.ExitStack() as stack, contextlib.redirect_stdout(io.StringIO()):
        for place, what, replacement in [(IPython.display, "display", keep_results), *list_savings()]:
            stack.enter_context(mock.patch.object(place, what, replacement))
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
