"""What a finished model consists of on disk: `model.json`, the files that it names, each with its hash, and a card.

No torch, no pickle. The hash beside a file detects damage and mix-ups; it does not protect against somebody who
changes both. For that, keep the hash of `model.json` elsewhere (`utils_cv.system.files.hash_file`).
"""

import dataclasses
import importlib.metadata
import json
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from utils_cv.data.decoding import FULL_RANGE
from utils_cv.data.images import VALUE_RANGES
from utils_cv.system.files import hash_file, write_atomic

INFO_NAME, WEIGHTS_NAME, ONNX_NAME, INT8_NAME = "model.json", "model.safetensors", "model.onnx", "model.int8.onnx"
CARD_NAME = "README.md"
MODEL_FILES = (WEIGHTS_NAME, ONNX_NAME, INT8_NAME)
KIND, SCHEMA_VERSION = "utils_cv classifier", 1
LABEL_SEPARATOR = "|"  # between several labels of an image, as in image tables
PACKAGES = ("utils_cv", "torch", "timm", "torchvision", "fastai", "onnx", "onnxruntime", "openvino", "pillow", "numpy")
_CARD = """\
---
{front_matter}
---

# {title}

An image classifier that gives each image {kind} {n_classes} labels: {class_names}.{trained} The network is \
{info.backbone} with a linear head. It takes square images of {info.im_size_px} px, which `fit={info.fit!r}` makes.

## Scores

{scores}

## Use

```python
from {module} import load_classifier

classifier = load_classifier("path/to/this/folder")
classifier.predict_labels(["image.jpg"])
```{int8}

## Limits

- The scores hold for images like those they were measured on. On images that look different they can be far lower.
- {unknown}
- The hashes in `model.json` detect damaged and mixed-up files. They do not protect against somebody who replaces the \
file and its hash.

## Made with

{versions}.
"""


class ModelFileError(ValueError):
    """A finished model cannot be loaded; the message names the file and the reason. Nothing of it was run."""


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a finished model, as in its `model.json`."""

    class_names: list[str]  # in the order of the network's outputs
    is_multilabel: bool  # an image may have several labels; probabilities are then one sigmoid each
    backbone: str  # name of the architecture, see `utils_cv.models.backbones.load_backbone`
    im_size_px: int  # side of the square images that the network takes
    fit: Literal["squash", "crop", "pad"]  # how an image becomes square, see `utils_cv.data.images.resize_image`
    mean: list[float]  # of each color channel, in [0, 1]; images are normalized by it
    std: list[float]
    thresholds: list[float] = field(default_factory=list)  # multi-label: lowest probability that counts as a yes
    scores: list[dict[str, Any]] = field(default_factory=list)  # name, value, low, high (95 % interval), n images
    int8: dict[str, Any] = field(default_factory=dict)  # what the check of 8 bits found; empty if they were not wanted
    training: dict[str, Any] = field(default_factory=dict)  # facts such as `seconds` and `n_train`
    table_sha256: str = ""  # hash of image, label and split of the training table, where one was given
    value_range: int = FULL_RANGE  # the value of 16-bit files that becomes white
    versions: dict[str, str] = field(default_factory=dict)  # of Python and the packages that made the model
    files: dict[str, str] = field(default_factory=dict)  # name to SHA-256 of the files beside `model.json`


def list_versions() -> dict[str, str]:
    """List the versions of Python and of the packages that decide a model's answers."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional package that is not there has no version
    return versions


def write_model_info(info: ModelInfo, folder: Path) -> ModelInfo:
    """Write `model.json` with the hashes of the files beside it that `info.files` names; return `info` with them."""
    info = dataclasses.replace(info, files={name: hash_file(folder / name) for name in info.files})
    content = {"kind": KIND, "schema_version": SCHEMA_VERSION, **dataclasses.asdict(info)}
    with write_atomic(folder / INFO_NAME) as temporary_path:
        temporary_path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return info


def read_model_info(folder: str | Path) -> ModelInfo:
    """Read and check `model.json`; a ModelFileError says what is wrong with it."""
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
    """Find one of `MODEL_FILES` in the folder of a model; ModelFileError if its content is not what `info` lists."""
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


def make_model_card(info: ModelInfo, *, title: str, license: str = "other") -> str:
    """Write a model card in Markdown, with the front matter that the Hugging Face Hub reads."""
    n_train = info.training.get("n_train")
    return _CARD.format(
        front_matter=_make_front_matter(info, title, license),
        module=f"{__package__}.saved_classifier",
        title=_escape(title),
        kind="any number of" if info.is_multilabel else "one of",
        n_classes=len(info.class_names),
        class_names=", ".join(map(_escape, info.class_names)),
        trained="" if n_train is None else f" It was trained on {n_train} images.",
        info=info,
        scores=_list_scores(info.scores),
        int8='\n\nThe 8-bit network is loaded by `load_classifier(..., runtime="int8")`.' * (INT8_NAME in info.files),
        unknown="A class that never occurred in training cannot be recognized."
        if info.is_multilabel
        else "Every image gets a label, also one that shows none of the classes.",
        versions=", ".join(f"{name} {version}" for name, version in info.versions.items()),
    )


def _check_info(path: Path, content: dict[str, Any]) -> ModelInfo:
    """Make the facts from JSON that may hold anything: known names, right types, counts that fit each other."""
    names = {entry.name for entry in dataclasses.fields(ModelInfo)}
    content = {"value_range": FULL_RANGE} | content  # as it was before models had it
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
        "value_range": info.value_range not in VALUE_RANGES,
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


def _make_front_matter(info: ModelInfo, title: str, license: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = "image-classification"
    results = [
        EvalResult(task, "images", "test", _on_one_line(score["name"]), round(score["value"], 4))
        for score in info.scores
    ]
    data = ModelCardData(
        license=license,
        pipeline_tag=task,
        library_name="utils_cv",
        tags=[task, info.backbone, *(["onnx"] if ONNX_NAME in info.files else [])],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=_on_one_line(title),  # a line of dashes would end the front matter
        eval_results=results or None,
    )
    return data.to_yaml(line_break="\n")


def _escape(text: str) -> str:
    """Text on one line, without what Markdown or HTML would read as markup."""
    return re.sub(r"[\\`*\[\]<>|#~$&]|\b_|_\b", r"\\\g<0>", _on_one_line(text))


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _list_scores(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return "None were recorded."
    row = "| {name} | {value:.3f} | {low:.3f} to {high:.3f} | {n} |"
    rows = [row.format(**score | {"name": _escape(score["name"])}) for score in scores]
    return "\n".join(["| score | value | 95 % interval | images |", "|---|---|---|---|", *rows])
