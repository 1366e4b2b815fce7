"""A page that classifies images in a browser: a folder of plain files that needs no network and no server.

The page decodes and resizes images with the arithmetic of `utils_cv.data.images`, so that it gives Python's answers.
Beside it stands the runtime onnxruntime-web, whose pinned version npm brings once and the cache folder keeps.
"""

import base64
import gzip
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL

from utils_cv.models.model_card import read_card
from utils_cv.models.model_files import ONNX_NAME, ModelInfo, read_model
from utils_cv.system.files import get_cache_dir, hash_file, write_atomic

from .pages import read_page_file

PAGE_DIR = Path(__file__).parent / "browser_page"
PAGE_FILES = ("index.html", "style.css", "jpeg.js", "pixels.js", "page.js", "LICENSE-onnxruntime-web.txt")
GENERATED_FILES = ("model.js", "runtime.js")
RUNTIME_PACKAGE, RUNTIME_VERSION = "onnxruntime-web", "1.30.0"
# SHA-256 of what the page needs of the package: one thread, 128-bit instructions, no headers asked of a server.
RUNTIME_FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
NPM_TIMEOUT_S = 300.0


class BrowserRuntimeError(RuntimeError):
    """The files of onnxruntime-web are not here and cannot be had; the message says what to do. Nothing was written."""


def export_browser(model_folder: str | Path, folder: str | Path) -> Path:
    """Write a page that classifies images in a browser: dropped, pasted or chosen ones, or those of a camera.

    Open its `index.html` by a double click, or put the folder on any web server. Everything runs on the reader's
    device: the page may not contact any host. Its probabilities are those of `ImageClassifier.predict` to 1e-3, which
    `benchmarks/README.md` shows for Chromium; the page decodes JPEG files itself. What a browser cannot open, such as
    TIFF, the page cannot either. On first use npm downloads onnxruntime-web, 33 MB, into the cache folder.

    Args:
        model_folder: Where `save_classifier` wrote the model, with ONNX.
        folder: The folder to write; it is made. An older page in it is replaced.

    Returns:
        The path of `index.html`. With the network of EfficientNet-Lite0 the folder has about 20 MB.

    Raises:
        BrowserRuntimeError: onnxruntime-web cannot be had; the message says how to bring it from another computer.
        FileExistsError: The folder holds something else than a page.
        FileNotFoundError: There is no model, or it has no ONNX file.
    """
    model_folder, folder = Path(model_folder), Path(folder)
    info, _, network = read_model(model_folder, [ONNX_NAME])
    others = {path.name for path in folder.iterdir()} - {*PAGE_FILES, *GENERATED_FILES} if folder.is_dir() else set()
    if others:
        raise FileExistsError(f"{folder} holds {sorted(others)[0]!r}; choose a new folder, or one with a page in it.")
    runtime_dir = get_cache_dir(f"{RUNTIME_PACKAGE}-{RUNTIME_VERSION}")
    if not _is_runtime(runtime_dir):
        _fetch_runtime(runtime_dir)
    contents = {name: read_page_file(PAGE_DIR / name) for name in reversed(PAGE_FILES)}
    runtime = {name: _pack((runtime_dir / name).read_bytes()) for name in RUNTIME_FILES}
    page = {"model.js": _assign("MODEL", _describe(info, model_folder) | {"network": _pack(network)})}
    page["runtime.js"] = _assign("RUNTIME", {"version": RUNTIME_VERSION, "files": runtime, "sha256": RUNTIME_FILES})
    for name, content in {**page, **contents}.items():  # index.html comes last: a stop leaves no page that cannot run
        with write_atomic(folder / name) as temporary_path:
            temporary_path.write_bytes(content)
    return folder / "index.html"


def _describe(info: ModelInfo, model_folder: Path) -> dict[str, Any]:
    """Gather what the page must know of a model, and what it shows of it."""
    title, license_name = read_card(model_folder)
    names = ("class_names", "is_multilabel", "im_size_px", "fit", "value_range", "unknown", "backbone", "scores")
    return {name: getattr(info, name) for name in names} | {
        "title": title,
        "license": license_name,
        "thresholds": info.thresholds or [0.5] * len(info.class_names),
        "is_tall_first": int(PIL.__version__.split(".")[0]) >= 13,  # the page resizes like the Pillow that exports it
        "n_train": info.training.get("n_train"),
    }


def _pack(content: bytes) -> str:
    """Compress bytes, and spell them as text: pages opened from a disk may load scripts, but no other files."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _assign(name: str, value: Mapping[str, Any]) -> bytes:
    return f"'use strict';\nconst {name} = {json.dumps(value, indent=1)};\n".encode()


def _is_runtime(folder: Path) -> bool:
    paths = {folder / name: digest for name, digest in RUNTIME_FILES.items()}
    return all(path.is_file() and hash_file(path) == digest for path, digest in paths.items())


def _fetch_runtime(cache_dir: Path) -> None:
    """Let npm bring the package, and keep the files that the page needs, after a check of their hashes."""
    wanted = f"{RUNTIME_PACKAGE}@{RUNTIME_VERSION}"
    hint = f"On a computer with npm (it comes with Node.js) run `npm pack {wanted}`, unpack it, and put "
    hint += f"{' and '.join(RUNTIME_FILES)} of its folder dist into {cache_dir}."
    npm = shutil.which("npm")
    if npm is None:
        raise BrowserRuntimeError(f"The page needs {wanted}, which npm brings, and npm is not installed here. {hint}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", wanted, "--fetch-retries=0", "--loglevel=error", "--pack-destination", folder]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise BrowserRuntimeError(f"npm did not bring {wanted} within {NPM_TIMEOUT_S:.0f} s. {hint}") from error
        packages = list(Path(folder).glob("*.tgz"))
        if done.returncode or not packages:
            reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[0]
            raise BrowserRuntimeError(f"npm could not bring {wanted}: {reason}. Is there a network? {hint}")
        if not _unpack_runtime(packages[0], Path(folder)):
            raise BrowserRuntimeError(f"What npm brought is not {wanted} as it was published: hashes differ. {hint}")
        for name in RUNTIME_FILES:
            with write_atomic(cache_dir / name) as temporary_path:
                shutil.copyfile(Path(folder) / name, temporary_path)


def _unpack_runtime(package: Path, folder: Path) -> bool:
    """Unpack the files that the page needs, and nothing else; tell whether all are there as they were published."""
    with tarfile.open(package) as archive:
        for member in archive:
            if member.isfile() and (name := member.name.removeprefix("package/dist/")) in RUNTIME_FILES:
                (folder / name).write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    return _is_runtime(folder)
