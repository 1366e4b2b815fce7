"""What `make refresh` does: executes the committed notebooks, exports their figures, fills numbers into documents."""

import argparse
import base64
import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

import utils_cv
from tools.sourced_numbers import fill_numbers, list_numbers
from utils_cv.notebooks import QUIET_KERNEL, NotebookError, Results, read_results
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

# Where the facts of a run stand in a notebook's metadata.
RUN_METADATA = "utils_cv"
FIGURE_TAG = "figure-"
# As JupyterLab completes them: with less, opening a notebook would mark it as changed.
KERNEL_SPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
    "version": platform.python_version(),
}


def refresh_notebook(path: str | Path, *, timeout_s: float = 3600.0) -> None:
    """Execute a notebook from a fresh kernel and replace it by the executed copy, only if every cell ran.

    Time stamps of the cells are left out, so that a second refresh changes nothing but the results. Numbers in the
    notebook's own text, such as `<!--this.run_minutes:.0f-->2<!--/-->`, are filled in.

    Args:
        path: The notebook.
        timeout_s: Limit for the whole notebook, in seconds.

    Raises:
        NotebookError: If a cell fails; the notebook on disk is then as it was.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    path = Path(path)
    notebook = nbformat.read(path, as_version=4)
    fingerprint = compute_fingerprint(path)
    clock = time.monotonic()
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        extra_arguments=QUIET_KERNEL,
        record_timing=False,
        timeout_func=lambda cell: max(1, math.ceil(clock + timeout_s - time.monotonic())),
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{path} was left as it was, because a cell failed:\n{error}") from error
    seconds = time.monotonic() - clock
    notebook.metadata["kernelspec"] = KERNEL_SPEC
    notebook.metadata["language_info"] = LANGUAGE_INFO
    notebook.metadata.pop("widgets", None)
    run = {"fingerprint": fingerprint, "run_seconds": round(seconds), "machine": describe_machine()}
    notebook.metadata[RUN_METADATA] = run
    _fill_own_numbers(notebook)
    _tidy_outputs(notebook)
    with write_atomic(path) as temporary:
        nbformat.write(notebook, temporary)


def is_fresh(path: str | Path) -> bool:
    """Tell whether a notebook was executed with its present code and the present library."""
    run = nbformat.read(path, as_version=4).metadata.get(RUN_METADATA, {})
    return run.get("fingerprint") == compute_fingerprint(path)


def compute_fingerprint(path: str | Path) -> str:
    """Hash the code of a notebook and of the library that it calls."""
    digest = hashlib.sha256()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            digest.update(cell.source.encode() + b"\0")
    library = Path(utils_cv.__file__).resolve().parent
    for source in sorted(library.rglob("*.py")):
        digest.update(source.relative_to(library).as_posix().encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def export_figures(path: str | Path, out_dir: str | Path) -> list[Path]:
    """Write the figures of cells tagged `figure-<name>` to PNG files, for README.md and FAQ.md.

    Args:
        path: An executed notebook.
        out_dir: The files are named `<number of the notebook>_<name>.png`; others in there stay.

    Returns:
        The files.

    Raises:
        ValueError: If such a cell shows no figure.
    """
    path, written = Path(path), []
    for cell in nbformat.read(path, as_version=4).cells:
        for tag in cell.metadata.get("tags", []):
            if not tag.startswith(FIGURE_TAG):
                continue
            images = [o["data"]["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
            if not images:
                raise ValueError(f"{path.name}: the cell tagged {tag!r} shows no figure. Was the notebook executed?")
            out_path = Path(out_dir) / f"{path.stem.split('_')[0]}_{tag.removeprefix(FIGURE_TAG)}.png"
            with write_atomic(out_path) as temporary:
                temporary.write_bytes(base64.b64decode(images[-1]))
            written.append(out_path)
    return written


def read_recorded(path: str | Path) -> Results:
    """Read the results of an executed notebook together with the facts of its run.

    Returns:
        What `show_results` recorded; once refreshed also `run_seconds`, `run_minutes` (at least 1), `machine` and
        `processor` (its name and the number of cores).
    """
    run = nbformat.read(path, as_version=4).metadata.get(RUN_METADATA, {})
    return {**read_results(path), **_describe_run(run)}


def find_recorded(notebooks_dir: str | Path, source: str) -> Results:
    """Read the recorded results of a source.

    Args:
        notebooks_dir: The notebooks; the results of benchmarks lie in `benchmarks/results` beside it.
        source: The beginning of a notebook's file name, for example `01`, or `benchmarks/` and the name of a JSON file.

    Raises:
        FileNotFoundError: If not exactly one notebook's name begins so, or there is no such JSON file.
    """
    if source.startswith("benchmarks/"):
        path = Path(notebooks_dir).parent / "benchmarks" / "results" / f"{source.removeprefix('benchmarks/')}.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"No file {path}; run the benchmark that writes it, or correct the name {source!r}."
            )
        return json.loads(path.read_text(encoding="utf-8"))
    found = sorted(Path(notebooks_dir).glob(f"{source}_*.ipynb"))
    if len(found) != 1:
        raise FileNotFoundError(f"{len(found)} notebooks in {notebooks_dir} begin with {source!r}, expected one.")
    return read_recorded(found[0])


def fill_document(path: str | Path, notebooks_dir: str | Path) -> bool:
    """Write the recorded numbers into a Markdown file.

    Returns:
        Whether a number had changed.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    sources = {number.source for number in list_numbers(text)}
    recorded = {source: find_recorded(notebooks_dir, source) for source in sources}
    filled = fill_numbers(text, recorded.__getitem__)
    if filled != text:
        with write_atomic(path) as temporary:
            temporary.write_text(filled, encoding="utf-8", newline="\n")
    return filled != text


def refresh_all(notebooks: Sequence[Path], documents: Sequence[Path], *, only_stale: bool = False) -> None:
    """Refresh notebooks one after another, then the figures and numbers of the documents; prints a line each.

    Args:
        notebooks: The committed notebooks.
        documents: Markdown files with numbers.
        only_stale: Leave out notebooks that were executed with their present code and library, as after a stop.
    """
    for i, path in enumerate(notebooks, start=1):
        print(f"[{i}/{len(notebooks)}] {path} ...", end=" ", flush=True)
        if only_stale and is_fresh(path):
            print("fresh", flush=True)
        else:
            refresh_notebook(path)
            print(f"{read_recorded(path)['run_seconds']} s", flush=True)
        export_figures(path, path.parent / "figures")
    for document in documents:
        changed = fill_document(document, notebooks[0].parent)
        print(f"{document}: {'numbers changed' if changed else 'unchanged'}")


def _describe_run(run: Mapping[str, Any]) -> Results:
    if not run:
        return {}
    processor = ", ".join(run["machine"].split(", ")[:2])  # its name and the number of cores
    return {**run, "run_minutes": max(1, round(run["run_seconds"] / 60)), "processor": processor}


def _fill_own_numbers(notebook: Any) -> None:
    facts = _describe_run(notebook.metadata[RUN_METADATA])
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = fill_numbers(cell.source, lambda _: facts)


def _tidy_outputs(notebook: Any) -> None:
    """Drop progress bars, which are empty for everybody else, and join pieces of printed text.

    How printed text is cut into pieces differs from run to run.
    """
    for cell in notebook.cells:
        kept: list[Any] = []
        for output in cell.get("outputs", []):
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                continue
            if kept and output.output_type == "stream" and kept[-1].get("name") == output.get("name"):
                kept[-1]["text"] += output["text"]
            else:
                kept.append(output)
        if "outputs" in cell:
            cell["outputs"] = kept


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m tools.refresh_notebooks NOTEBOOK ... --document FILE`."""
    parser = argparse.ArgumentParser(prog="python -m tools.refresh_notebooks", description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--document", action="append", default=[], type=Path, help="a Markdown file with numbers")
    parser.add_argument("--only-stale", action="store_true", help="leave out those run with the present code")
    options = parser.parse_args(arguments)
    try:
        refresh_all(options.notebooks, options.document, only_stale=options.only_stale)
    except (NotebookError, FileNotFoundError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
