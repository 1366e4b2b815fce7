"""JupyterLab saves a notebook in which nothing was changed as it was; `tools/check_lab.py` tries it in a browser."""

import json
import os
import subprocess
from types import SimpleNamespace

import nbformat
import pytest

from tests.conftest import ROOT
from tools.lab_config import keep_unchanged


@pytest.mark.parametrize("is_edited", [False, True], ids=["only opened", "edited"])
def test_the_version_and_the_digits_of_the_file_are_kept(is_edited, tmp_path):
    outputs = [nbformat.v4.new_output("display_data", {"application/json": {"share": 1.0}})]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 +\n1", outputs=outputs)])
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    content = json.loads(json.dumps(notebook).replace("3.11.7", "3.13.1").replace("1.0", "1"))  # as JavaScript writes
    content["cells"][0]["metadata"]["trusted"] = True
    if is_edited:
        content["cells"][0]["source"] = "2"
    model = {"type": "notebook", "content": content}
    keep_unchanged(model, "/a.ipynb", SimpleNamespace(root_dir=str(tmp_path)))
    saved = nbformat.writes(nbformat.from_dict(model["content"]))
    assert "3.11.7" in saved and "3.13.1" not in saved
    assert (saved + "\n" == (tmp_path / "a.ipynb").read_text(encoding="utf-8")) != is_edited
    assert model["content"]["cells"][0]["source"] == ("2" if is_edited else "1 +\n1")


@pytest.mark.linux
def test_make_lab_starts_for_root_too_as_in_a_container():
    said = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m jupyterlab" in said and ("--allow-root" in said) == (os.geteuid() == 0)
