"""What the first cell of every notebook runs on Colab and Kaggle: installs what is missing there; torch stays as it is.

`python -m tools.hosted NOTEBOOK ...` writes that cell into notebooks, below the at-a-glance box.
"""

import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

from tools.check_ranges import list_requirements

TAG = "hosted"
CELL = """
# Colab and Kaggle only: fetches the repository, and installs what is missing there. Torch stays as it is.
import os
import runpy
import subprocess
from pathlib import Path

if os.environ.keys() & {"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"} and not Path("utils_cv").exists():
    if not Path("repository").exists():
        address = input("Address of the repository, https://...: ")
        subprocess.run(["git", "clone", "--depth", "1", address, "repository"], check=True)
    os.chdir("repository")
    runpy.run_module("tools.hosted", run_name="__main__")
""".strip()
_KEPT = re.compile(r"(torch\w*|triton|nvidia-.+|cuda-.+|ipykernel|ipython|ipywidgets|jupyter.*|notebook|tornado)\b")
_NOT_NEEDED = re.compile(r"(jupyterlab|ipykernel|ipywidgets|papermill|nbclient)\b")  # the service shows the notebook


def make_pip_arguments(versions: Mapping[str, str], constraints: Path) -> list[str]:
    """Give the arguments of pip that install what notebooks import and keep what `_KEPT` names as it is installed."""
    kept = [f"{name}=={version}" for name, version in versions.items() if _KEPT.match(name)]
    constraints.write_text("\n".join(kept), encoding="utf-8")
    wanted = [line for line in list_requirements("notebooks").splitlines() if not _NOT_NEEDED.match(line)]
    return ["install", "--quiet", "--constraint", str(constraints), *wanted]


def install_missing() -> None:
    """Install what is missing, and say when the session must be restarted because a changed package is in use."""
    before = _list_versions()
    with tempfile.TemporaryDirectory() as folder:
        arguments = make_pip_arguments(before, Path(folder) / "kept.txt")
        subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)
    after = _list_versions()
    changed = {name for name, version in before.items() if after.get(name) != version}
    owners = importlib.metadata.packages_distributions()
    in_use = sorted(
        module for module in owners if module in sys.modules and changed & {_fold(n) for n in owners[module]}
    )
    print(f"Restart the session and run this cell again: {', '.join(in_use)} changed." if in_use else "Ready.")


def _fold(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _list_versions() -> dict[str, str]:
    return {_fold(each.name): each.version for each in importlib.metadata.distributions()}


def write_cell(path: Path) -> None:
    """Write the cell into a notebook, or replace the one that is there."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if TAG not in cell.metadata.get("tags", [])]
    cell = nbformat.v4.new_code_cell(CELL, id=TAG)
    cell.metadata = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": [TAG]}
    notebook.cells = [*cells[:2], cell, *cells[2:]]
    nbformat.write(notebook, path)


def main(paths: Sequence[str]) -> None:
    """Write the cell into notebooks, or install where there are none."""
    for path in paths:
        write_cell(Path(path))
    if not paths:
        install_missing()


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument.endswith(".ipynb")])
