"""The cell for Colab and Kaggle: it fetches there, does nothing elsewhere, and what it installs leaves torch alone."""

import builtins
import runpy
import subprocess
from pathlib import Path

import pytest

from tools.hosted import CELL, make_pip_arguments


@pytest.mark.parametrize("service", ["COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", None])
def test_the_cell_fetches_and_installs_only_there_and_once(service, tmp_path, monkeypatch):
    done = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtins, "input", lambda _: "https://example.org/us/it")
    monkeypatch.setattr(subprocess, "run", lambda words, check: done.append(words[4]) or Path("repository").mkdir())
    monkeypatch.setattr(runpy, "run_module", lambda name, run_name: done.append(name) or Path("utils_cv").mkdir())
    if service:
        monkeypatch.setenv(service, "1")
    for _ in range(2):
        exec(CELL)
    assert done == (["https://example.org/us/it", "tools.hosted"] if service else [])


def test_torch_and_the_running_jupyter_stay_and_what_notebooks_import_is_asked_for(tmp_path):
    versions = {"torch": "2.10.0+cu126", "nvidia-cudnn": "9", "tornado": "6.4", "pandas": "2.2.2"}
    asked = " ".join(make_pip_arguments(versions, tmp_path / "kept.txt"))
    assert (tmp_path / "kept.txt").read_text() == "torch==2.10.0+cu126\nnvidia-cudnn==9\ntornado==6.4"
    assert all(name in asked for name in ("fastai>=", "timm>=", "onnxruntime>=", "httpx>=", str(tmp_path / "kept.txt")))
    assert not any(name in asked for name in ("jupyterlab", "ipykernel", "papermill"))
