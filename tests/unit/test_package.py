"""The package: its wheel holds what it should, OpenMP waits asleep unless the user said else, settings can be read."""

import functools
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import utils_cv
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, {"1000"}, id="a short loop"),
        pytest.param({"GOMP_SPINCOUNT": "77"}, {"77"}, id="the user's count stays"),
        pytest.param({"OMP_WAIT_POLICY": "passive"}, {"0"}, id="the user's policy stays"),
    ],
)
def test_openmp_spins_as_long_as_asked(given, expected):
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    # GNU's OpenMP, which torch brings along on Linux, prints what it reads when it is loaded, with torch or alone.
    libraries = [str(path) for path in Path(find_spec("torch").origin).parent.glob("lib/libgomp*")]
    code = f"import ctypes, utils_cv; [ctypes.CDLL(path) for path in {libraries}]"
    env = own | given | {"OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)) == (expected if sys.platform == "linux" else set())


def test_the_wheel_is_built_and_works_without_a_network_and_without_the_repository(tmp_path):
    source, site, own = tmp_path / "source", tmp_path / "site", ROOT / "utils_cv"
    shutil.copytree(own, source / "utils_cv", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    run = functools.partial(subprocess.run, check=True, cwd=tmp_path, capture_output=True, text=True)
    run([*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source])
    (wheel,) = tmp_path.glob("utils_cv-*-py3-none-any.whl")
    expected = {path.relative_to(source).as_posix() for path in (source / "utils_cv").rglob("*") if path.is_file()}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("LICENSE") for name in names)
    zipfile.ZipFile(wheel).extractall(site)  # as pip does with a package of Python files only
    code = "import utils_cv; print(utils_cv.__version__, utils_cv.__file__)"
    env = os.environ | {"PYTHONPATH": str(site)}
    done = run([sys.executable, "-c", code], env=env)
    assert done.stdout.split() == [utils_cv.__version__, str(site / "utils_cv/__init__.py")]
    assert "predict" in run([sys.executable, "-m", "utils_cv", "--help"], env=env).stdout


# Everything in YAML that a program reads, and nobody here runs.
SETTINGS = sorted([*ROOT.glob(".github/**/*.yml"), *ROOT.glob("*.yml"), ROOT / ".pre-commit-config.yaml"])


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_settings_are_yaml_and_jobs_are_limited_and_pinned(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content
    if path.parent.name == "workflows":
        assert content["permissions"] == {"contents": "read"} and content["concurrency"]
        steps = [step for job in content["jobs"].values() for step in job["steps"]]
        assert all(job["timeout-minutes"] <= 90 for job in content["jobs"].values())
        assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)


def test_the_citation_has_what_its_schema_asks_for_and_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation) and citation["authors"][0]["name"]
    assert (str(citation["version"]), citation["license"]) == (utils_cv.__version__, "MIT")


def test_hooks_call_programs_that_are_installed():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    for hook in hooks:
        assert hook["language"] == "system" and hook["entry"].startswith("python -m ")
        assert find_spec(hook["entry"].split()[2]), hook["entry"]
