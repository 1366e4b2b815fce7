"""What a finished model consists of on disk: `model.json` and the files that it names, each with its hash.

No torch, no pickle. The hash beside a file detects damage and mix-ups; it does not protect against somebody who
changes both. For that, keep the hash of `model.json` elsewhere (`utils_cv.system.files.hash_file`).
"""

import dataclasses
import importlib.metadata
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from utils_cv.system.files import hash_file, write_atomic

INFO_NAME, WEIGHTS_NAME, ONNX_NAME, INT8_NAME = "model.json", "model.safetensors", "model.onnx", "model.int8.onnx"
CARD_NAME = "README.md"
MODEL_FILES = (WEIGHTS_NAME, ONNX_NAME, INT8_NAME)
KIND, SCHEMA_VERSION = "utils_cv classifier", 1


class ModelFileError(ValueError):
    """A finished model cannot be loaded; the message names the file and the reason. Nothing of it was run."""


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a finished model, as in its `model.json`.

    Attributes:
        class_names: The classes, in the order of the network's outputs.
        is_multilabel: Whether an image may have several labels; then probabilities are one sigmoid each.
        backbone: Name of the architecture, see `utils_cv.models.backbones.load_backbone`.
        im_size_px: Side of the square images that the network takes.
        fit: How an image becomes square, see `utils_cv.data.images.resize_image`.
        mean: Of each color channel, in [0, 1]; images are normalized by it.
        std: Likewise.
        thresholds: Multi-label: the lowest probability of each class that counts as a yes, in [0, 1].
        scores: One row a score: `name`, `value`, `low`, `high` (95 % interval), `n` and whatever else was given.
        int8: What was measured when the 8-bit network was judged; empty when it was not asked for.
        training: Facts of the training, such as `seconds` and `n_train`.
        table_sha256: Hash of the training table (image, label, split); empty when no table was given.
        versions: Of Python and the packages that made the model.
        files: Name to SHA-256 of the files beside `model.json`.
    """

    class_names: list[str]
    is_multilabel: bool
    backbone: str
    im_size_px: int
    fit: Literal["squash", "crop", "pad"]
    mean: list[float]
    std: list[float]
    thresholds: list[float] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    int8: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    table_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def list_versions() -> dict[str, str]:
    """List the versions of Python and of the packages that decide a model's answers."""
    packages = (
        "utils_cv",
        "torch",
        "timm",
        "torchvision",
        "fastai",
        "onnx",
        "onnxruntime",
        "openvino",
        "pillow",
        "numpy",
    )
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional package that is not there has no version
    return versions


def write_model_info(info: ModelInfo, folder: str | Path) -> ModelInfo:
    """Write `model.json`, with the hashes of the model's files that lie beside it.

    Args:
        info: What to write; its `files` name those that belong to the model, their hashes are computed here.
        folder: Where the files lie.

    Returns:
        The same facts, with the hashes.
    """
    folder = Path(folder)
    info = dataclasses.replace(info, files={name: hash_file(folder / name) for name in info.files})
    content = {"kind": KIND, "schema_version": SCHEMA_VERSION, **dataclasses.asdict(info)}
    with write_atomic(folder / INFO_NAME) as temporary_path:
        temporary_path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return info


def read_model_info(folder: str | Path) -> ModelInfo:
    """Read and check `model.json`.

    Args:
        folder: The folder of a finished model.

    Returns:
        Its facts.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: It is damaged, of another kind, or written by a newer version.
    """
    path = Path(folder) / INFO_NAME
    if not path.is_file():
        raise FileNotFoundError(f"No finished model at {path.parent.absolute()}: there is no {INFO_NAME} in it.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # broken JSON and broken UTF-8
        raise ModelFileError(f"{path} is damaged: {error}. Save the model again.") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ModelFileError(f"{path} does not describe a finished model of this library (kind {KIND!r}).")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ModelFileError(
            f"{path} has schema version {version!r}, this utils_cv reads {SCHEMA_VERSION}. "
            "A newer version wrote it: update utils_cv, or save the model again with this one."
        )
    return _check_info(path, content)


def find_model_file(folder: str | Path, name: str, info: ModelInfo) -> Path:
    """Find a file of a finished model and compare its hash.

    Args:
        folder: The folder of the model.
        name: One of `MODEL_FILES`.
        info: From `read_model_info`.

    Returns:
        The file, whose content is what `model.json` says.

    Raises:
        FileNotFoundError: The model has no such file, or it is not there.
        ModelFileError: Its content is another one.
    """
    path = Path(folder) / name
    if name not in info.files or not path.is_file():
        has = ", ".join(info.files) or "no files"
        raise FileNotFoundError(f"{path} is missing; {INFO_NAME} lists {has}. Save the model again with it.")
    got = hash_file(path)
    if got != info.files[name]:
        raise ModelFileError(
            f"{path} is not the file that {INFO_NAME} lists: got SHA-256 {got[:16]}…, expected "
            f"{info.files[name][:16]}…. It was changed, cut short, or belongs to another model; it was not loaded."
        )
    return path


def _check_info(path: Path, content: dict[str, Any]) -> ModelInfo:
    """Make the facts from JSON that nobody vouches for: known names, right types, counts that fit each other."""
    names = {entry.name for entry in dataclasses.fields(ModelInfo)}
    missing = sorted(names - set(content))
    if missing:
        raise ModelFileError(f"{path} lacks {', '.join(missing)}. Save the model again.")
    info = ModelInfo(**{name: content[name] for name in names})
    n_classes = len(info.class_names) if isinstance(info.class_names, list) else 0
    problems = {
        "class_names": n_classes < 2 or not all(isinstance(name, str) for name in info.class_names),
        "is_multilabel": not isinstance(info.is_multilabel, bool),
        "backbone": not isinstance(info.backbone, str),
        "im_size_px": not isinstance(info.im_size_px, int) or not 1 <= info.im_size_px <= 10_000,
        "fit": info.fit not in ("squash", "crop", "pad"),
        "mean": not _are_numbers(info.mean, 3),
        "std": not _are_numbers(info.std, 3) or 0 in info.std,
        "thresholds": not (info.thresholds == [] or _are_numbers(info.thresholds, n_classes)),
        "files": not isinstance(info.files, dict) or not set(info.files) <= set(MODEL_FILES),
    }
    wrong = [name for name, is_wrong in problems.items() if is_wrong]
    if wrong:
        raise ModelFileError(f"{path} has values that no model can have: {', '.join(wrong)}. Save the model again.")
    return info


def _are_numbers(values: Any, n: int) -> bool:
    is_list = isinstance(values, list) and len(values) == n
    return is_list and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
