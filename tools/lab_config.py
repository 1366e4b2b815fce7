"""Settings of JupyterLab for `make lab`: a notebook in which nothing was changed is saved as it was.

JupyterLab writes the reader's version of Python into every notebook that is opened, and some numbers in other digits.
Two minutes later it saves that, and git would show a change that nobody made.
"""

import copy
from pathlib import Path
from typing import Any

import nbformat


def keep_unchanged(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    """Give a notebook that is about to be saved the version on the disk, and all of that where nothing else differs."""
    file = Path(contents_manager.root_dir) / path.lstrip("/")
    if model["type"] != "notebook" or not file.exists():
        return
    on_disk, content = nbformat.read(file, as_version=4), model["content"]
    if "language_info" in on_disk.metadata:
        content["metadata"]["language_info"] = on_disk.metadata["language_info"]
    given = copy.deepcopy(content)
    for cell in given["cells"]:
        cell["metadata"].pop("trusted", None)  # is not saved
    if given == on_disk:
        model["content"] = on_disk


if "get_config" in globals():  # only JupyterLab has it
    get_config().FileContentsManager.pre_save_hook = keep_unchanged  # type: ignore[name-defined]  # noqa: F821
