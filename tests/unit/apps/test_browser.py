"""The page in the browser: what is written, what is refused; and that Chromium has checked how it opens images."""

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tarfile
from dataclasses import replace

import PIL
import pytest

from tests.conftest import ROOT
from utils_cv.apps import browser
from utils_cv.apps.browser import BrowserRuntimeError, export_browser
from utils_cv.apps.pages import read_page_file
from utils_cv.data import decoding, images
from utils_cv.evaluation.intervals import make_fraction_score

CONTENTS = {"ort.wasm.bundle.min.mjs": b"export const env = {};", "ort-wasm-simd-threaded.wasm": b"\0asm" * 99}
FAKE_NPM = """import pathlib, shutil, sys
folder = sys.argv[sys.argv.index("--pack-destination") + 1]
pathlib.Path({log!r}).open("a").write(" ".join(sys.argv[1:3]) + "\\n")
if {fails}:
    sys.exit("npm error network request to nowhere failed")
shutil.copy({package!r}, folder)
"""


@pytest.fixture
def package_dir(tmp_path, monkeypatch):
    """An unpacked npm package with small files, which count as the pinned ones; the cache folder is empty."""
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / "dist" / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setattr(browser, "RUNTIME_FILES", digests)
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def runtime(package_dir, tmp_path):
    """The files of that package in the cache folder."""
    shutil.copytree(package_dir / "dist", tmp_path / "cache" / f"onnxruntime-web-{browser.RUNTIME_VERSION}")


@pytest.fixture
def install_npm(tmp_path, package_dir, monkeypatch):
    """Put an npm on the path, the only program there, that brings a package or fails; gives the file of its calls."""

    def install(*, fails=False, changes=False):
        if changes:
            (package_dir / "dist/ort.wasm.bundle.min.mjs").write_bytes(b"something else")
        package, log = tmp_path / "onnxruntime-web-1.2.3.tgz", tmp_path / "calls.txt"
        with tarfile.open(package, "w:gz") as file:
            file.add(package_dir, "package")
        npm = tmp_path / "bin" / "npm"
        npm.parent.mkdir()
        program = tmp_path / "npm.py"
        program.write_text(FAKE_NPM.format(log=str(log), fails=fails, package=str(package)))
        npm.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')  # both may hold blanks
        npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(npm.parent))
        return log

    return install


def read_constant(path):
    """Read the value of a script that only assigns one constant."""
    text = path.read_text(encoding="ascii")
    return json.loads(re.fullmatch(r"'use strict';\nconst [A-Z]+ = (\{.*\});\n", text, re.S)[1])


def unpack(text):
    return gzip.decompress(base64.b64decode(text))


def test_the_folder_holds_the_page_the_model_and_the_runtime(model_dir, runtime, tmp_path):
    index = export_browser(model_dir, tmp_path / "page")
    assert index == tmp_path / "page/index.html"
    assert {path.name for path in index.parent.iterdir()} == {*browser.PAGE_FILES, *browser.GENERATED_FILES}
    for name in browser.PAGE_FILES:
        assert (index.parent / name).read_bytes() == read_page_file(browser.PAGE_DIR / name)
    assert index.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "light-dark(" in (index.parent / "style.css").read_text(encoding="utf-8")
    model, runtime = (read_constant(index.parent / name) for name in browser.GENERATED_FILES)
    assert unpack(model["network"]) == (model_dir / "model.onnx").read_bytes()
    assert {name: unpack(text) for name, text in runtime["files"].items()} == CONTENTS
    facts = {
        "title": "My *shapes*", "license": "mit", "class_names": ["can", "carton"], "is_multilabel": False,
        "thresholds": [0.5, 0.5], "im_size_px": 64, "fit": "squash", "value_range": 65535, "n_train": 18,
    }  # fmt: skip
    assert {name: model[name] for name in facts} == facts
    assert model["is_tall_first"] == (PIL.__version__ >= "13")
    assert model["scores"][0] == {"name": "accuracy", **make_fraction_score(5, 6)._asdict()}


def test_an_older_page_is_replaced_and_equal_input_gives_equal_files(model_dir, runtime, tmp_path):
    folder = export_browser(model_dir, tmp_path / "page").parent
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "model.js").write_text("const MODEL = 'old'")
    export_browser(model_dir, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_names_and_thresholds_reach_the_page_as_data(model_dir, runtime, tmp_path, monkeypatch):
    names = ["</script><script>alert(1)</script>", "Käse\u2028'\""]
    info, name, network = browser.read_model(model_dir, ["model.onnx"])
    info = replace(info, class_names=names, thresholds=[0.25, 0.75], is_multilabel=True)
    monkeypatch.setattr(browser, "read_model", lambda folder, names: (info, name, network))
    model = read_constant(export_browser(model_dir, tmp_path / "page").parent / "model.js")
    assert (model["class_names"], model["thresholds"], model["is_multilabel"]) == (names, [0.25, 0.75], True)


def test_foreign_files_are_not_touched(model_dir, runtime, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'notes.txt'; choose a new folder"):
        export_browser(model_dir, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.linux
def test_npm_brings_the_runtime_once_and_the_cache_keeps_it(model_dir, install_npm, tmp_path):
    log = install_npm()
    export_browser(model_dir, tmp_path / "first")
    export_browser(model_dir, tmp_path / "second")
    assert log.read_text() == f"pack onnxruntime-web@{browser.RUNTIME_VERSION}\n"
    cached = next((tmp_path / "cache").iterdir()) / "ort-wasm-simd-threaded.wasm"
    cached.write_bytes(b"damaged")
    export_browser(model_dir, tmp_path / "third")
    assert cached.read_bytes() == CONTENTS[cached.name]


@pytest.mark.linux
@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(None, r"npm is not installed here\. On a computer with npm .* dist into .*cache", id="no npm"),
        pytest.param(
            {"fails": True}, r"npm could not bring .*: npm error network .* Is there a network", id="npm fails"
        ),
        pytest.param({"changes": True}, r"What npm brought is not .* hashes differ", id="a changed package"),
    ],
)
def test_what_to_do_without_the_runtime_is_said_before_anything_is_written(
    options, message, model_dir, package_dir, install_npm, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", os.devnull)
    if options is not None:
        install_npm(**options)
    with pytest.raises(BrowserRuntimeError, match=message) as error:
        export_browser(model_dir, tmp_path / "page")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "page").exists()


def test_the_page_may_contact_no_host_and_names_none():
    index = read_page_file(browser.PAGE_DIR / "index.html").decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', index)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert {source for rule in rules.values() for source in rule.split()} <= {
        "'none'", "'self'", "blob:", "data:", "'wasm-unsafe-eval'",
    }  # fmt: skip
    assert re.findall(r'<script src="([^"]+)">', index) == ["model.js", "runtime.js", "jpeg.js", "pixels.js", "page.js"]
    for name in browser.PAGE_FILES:
        text = read_page_file(browser.PAGE_DIR / name).decode()
        assert not re.search(r"https?://[a-z]|innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(", text), name


def test_the_page_opens_images_with_the_numbers_of_python():
    text = (browser.PAGE_DIR / "pixels.js").read_text(encoding="utf-8")
    constants = dict(re.findall(r"^const ([A-Z_]+) = ([\d.]+);", text, re.M))
    assert float(constants["DECODE_MARGIN"]) == decoding._DECODE_MARGIN
    assert (int(constants["PADDING"]),) * 3 == images._PADDING


def test_chromium_checked_how_this_page_opens_images_and_found_the_answers_of_python():
    kept = json.loads((ROOT / "benchmarks/results/browser_page.json").read_text(encoding="utf-8"))
    digests = {name: hashlib.sha256((browser.PAGE_DIR / name).read_bytes()).hexdigest() for name in kept["sha256"]}
    assert set(digests) == {"jpeg.js", "pixels.js"}
    assert digests == kept["sha256"], "run python -m tools.check_browser_page again"
    assert kept["onnxruntime-web"] == browser.RUNTIME_VERSION
    for name, rows in kept["tables"].items():
        assert len(rows) >= 30, name
        assert [row["image"] for row in rows if row["difference"] > 1e-3] == [], name
