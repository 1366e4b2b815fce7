"""What a finished model consists of on disk: `model.json`, the files that it names, each with its hash, and a card.

No torch, no pickle. `model.json` has a hash of its own content, too. Hashes detect damage and mix-ups; they do not
protect against somebody who changes both. For that, keep the hash of `model.json` elsewhere
(`utils_cv.system.files.hash_file`).

Whoever loads gets one model whole, while it is being replaced and after a process was killed in the middle: new files
lie under names made of their hashes, where `read_model` finds them, until `model.json` names them; then they take the
place of the old ones.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from utils_cv.data.decoding import FULL_RANGE
from utils_cv.data.images import VALUE_RANGES
from utils_cv.system.files import hash_file, lock_folder

INFO_NAME, WEIGHTS_NAME, ONNX_NAME, INT8_NAME = "model.json", "model.safetensors", "model.onnx", "model.int8.onnx"
CARD_NAME, DEFAULT_BACKBONE = "README.md", "efficientnet_lite0"
MODEL_FILES = (WEIGHTS_NAME, ONNX_NAME, INT8_NAME)
Checks = dict[str, Callable[[Any], bool]]  # of facts, by their names
KIND, SCHEMA_VERSION = "utils_cv classifier", 2
READ_VERSIONS, HASH_KEY = (1, 2), "content_sha256"  # models of version 1 have no hash of `model.json`
# What a save leaves when it is killed: its own folder, or files that did not get their final names yet.
_LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.(tmp(\.(json|md|onnx|safetensors))?|README\.md|model\..+)")
LABEL_SEPARATOR = "|"  # between several labels of an image, as in image tables
PACKAGES = ("utils_cv", "torch", "timm", "torchvision", "fastai", "onnx", "onnxruntime", "openvino", "pillow", "numpy")


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
    unknown: dict[str, Any] = field(default_factory=dict)  # see `unknown.describe_detector`; empty: rejects nothing
    training: dict[str, Any] = field(default_factory=dict)  # facts such as `seconds` and `n_train`
    table_sha256: str = ""  # hash of image, label and split of the training table, where one was given
    value_range: int = FULL_RANGE  # the value of 16-bit files that becomes white
    weights_license: str = ""  # of the pretrained weights that it was trained from; empty if there were none
    versions: dict[str, str] = field(default_factory=dict)  # of Python and the packages that made the model
    files: dict[str, str] = field(default_factory=dict)  # name to SHA-256 of the files beside `model.json`


def list_versions() -> dict[str, str]:
    """List the versions of Python and of the packages that decide a model's answers."""
    import importlib.metadata  # takes 0.02 s, which loading does not need

    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional package that is not there has no version
    return versions


def describe_model(trained: Any, images: Any, scores: Any, thresholds: Sequence[float]) -> ModelInfo:
    """Gather the facts of a trained model; for the arguments see `save_classifier`. Its files are not listed yet."""
    training: dict[str, Any] = {"seconds": round(float(trained.seconds), 3)}
    if images is not None:
        counts = images.table["split"].value_counts()
        training |= {f"n_{split}": int(counts.get(split, 0)) for split in ("train", "valid", "test")}
    model = trained.learn.model
    return ModelInfo(
        class_names=list(trained.class_names),
        is_multilabel=bool(trained.is_multilabel),
        backbone=trained.backbone,
        im_size_px=int(trained.im_size_px),
        fit=trained.fit,
        value_range=trained.value_range,
        weights_license=model.weights_license,
        mean=model.mean.flatten().tolist(),
        std=model.std.flatten().tolist(),
        thresholds=[float(value) for value in thresholds],
        scores=[{"name": name, **score._asdict()} for name, score in (scores or {}).items()],
        training=training,
        table_sha256="" if images is None else _hash_table(images.table),
        versions=list_versions(),
    )


def _hash_table(table: Any) -> str:
    """Hash which images were trained on, with which labels: SHA-256 of image, label and split of every row."""
    columns = table[["image", "label", "split"]].astype(str)
    rows = sorted("\t".join(row) for row in columns.itertuples(index=False))
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


@contextlib.contextmanager
def stage_model(folder: Path) -> Iterator[Path]:
    """Give an empty folder inside a model's folder, to build a model in for `commit_model`; one at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        _finish(folder)
        stage = folder / f".{secrets.token_hex(8)}.tmp"
        stage.mkdir()
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def commit_model(info: ModelInfo, folder: Path, stage: Path) -> ModelInfo:
    """Make the files of `stage` the model in `folder`, at one moment; return `info` with the hashes of its files.

    Files that `info` lists and `stage` lacks lie in `folder` already and stay. What no model can have is a ValueError.
    """
    new = {name: hash_file(stage / name) for name, old in info.files.items() if (stage / name).is_file() or not old}
    info = dataclasses.replace(info, files=info.files | new)
    check_facts(info)
    content = _to_content(info)
    (stage / INFO_NAME).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    final_names = {name: _name_pending(name, digest) for name, digest in new.items()}
    if (stage / CARD_NAME).is_file():
        final_names[CARD_NAME] = _name_pending(CARD_NAME, content[HASH_KEY])
    for name in (*final_names, INFO_NAME):
        with (stage / name).open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave a name without its content
    for name, pending in final_names.items():
        (stage / name).replace(folder / pending)
    (stage / INFO_NAME).replace(folder / INFO_NAME)
    _finish(folder)
    return info


def _name_pending(name: str, digest: str) -> str:
    """Name a file until it may take its place: `.0123456789abcdef.model.onnx`."""
    return f".{digest[:16]}.{name}"


def check_folder(folder: str | Path, *, overwrite: bool = False) -> None:
    """Check, before a training, that `save_classifier` may write into a folder; FileExistsError if not."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, expected a folder for the model. Choose another name.")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = {name for name in names if not _LEFTOVER.fullmatch(name)}
    is_model = INFO_NAME in found or found <= set(MODEL_FILES)  # the latter when version 1 was stopped half-way
    if found and not (overwrite and is_model):
        hint = "pass overwrite=True to replace the model" if is_model else "choose another folder"
        raise FileExistsError(f"{folder} holds files already; {hint}. Nothing was written.")


def _finish(folder: Path) -> None:
    """Let files that `model.json` names take their places, and remove what is of no model any more."""
    info = None
    with contextlib.suppress(FileNotFoundError, ModelFileError):
        info = read_model_info(folder)
    if info:
        final = {**info.files, CARD_NAME: str(_to_content(info)[HASH_KEY])}
        for name, digest in final.items():
            if (pending := folder / _name_pending(name, digest)).is_file():
                pending.replace(folder / name)
        for name in set(MODEL_FILES) - set(info.files):
            (folder / name).unlink(missing_ok=True)
    for path in [path for path in folder.iterdir() if _LEFTOVER.fullmatch(path.name)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def read_model_info(folder: str | Path) -> ModelInfo:
    """Read and check `model.json`; a ModelFileError says what is wrong with it."""
    path = Path(folder) / INFO_NAME
    if not path.exists():
        raise FileNotFoundError(f"No finished model at {path.parent.absolute()}: there is no {INFO_NAME} in it.")
    if not path.is_file():
        raise ModelFileError(f"{path} is not a file. Save the model again.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # broken JSON and broken UTF-8
        raise ModelFileError(f"{path} is damaged: {error}. Save the model again.") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ModelFileError(f"{path} does not describe a finished model of this library (kind {KIND!r}).")
    version = content.get("schema_version")
    if type(version) is not int or version not in READ_VERSIONS:
        raise ModelFileError(
            f"{path} has schema version {version!r}, this utils_cv reads {READ_VERSIONS[0]} to {READ_VERSIONS[-1]}. "
            "A newer version wrote it: update utils_cv, or save the model again with this one."
        )
    # Models of version 1 had neither the hash nor this fact: where one is there, somebody edited the version.
    is_hashed = version > 1 or bool({HASH_KEY, "unknown"} & content.keys())
    if is_hashed and content.pop(HASH_KEY, None) != _hash_content(content):
        raise ModelFileError(
            f"{path} is not what was saved: its content does not fit {HASH_KEY}. Somebody edited it, or it is damaged. "
            "Save the model again."
        )
    return _make_info(path, content)


def read_model(folder: str | Path, names: Sequence[str]) -> tuple[ModelInfo, str, bytes]:
    """Read the facts of a model, and the first of these `MODEL_FILES` that it has: its name and checked content.

    All is of one save, also when the model is replaced meanwhile. A FileNotFoundError says that the model has none of
    these files, a ModelFileError that a file is not the one that was saved.
    """
    info = read_model_info(folder)
    while True:
        name = next((name for name in names if name in info.files), names[0])
        try:
            return info, name, _read_file(Path(folder), name, info)
        except (FileNotFoundError, ModelFileError):
            before, info = info, read_model_info(folder)
            if info == before:  # nobody replaced the model
                raise


def _read_file(folder: Path, name: str, info: ModelInfo) -> bytes:
    path, expected, got = folder / name, info.files.get(name, ""), ""
    # A file may move from its pending to its final name between two looks, so the last look is at that again.
    for place in (path, folder / _name_pending(name, expected), path) if expected else ():
        content = None
        with contextlib.suppress(FileNotFoundError):  # moved since the look
            content = place.read_bytes() if place.is_file() else None
        if content is not None and (got := hashlib.sha256(content).hexdigest()) == expected:
            return content
    if not expected or not path.exists():
        has = ", ".join(info.files) or "no files"
        raise FileNotFoundError(f"{path} is missing; {INFO_NAME} lists {has}. Save the model again with it.")
    raise ModelFileError(
        f"{path} is not the file that {INFO_NAME} lists: got SHA-256 {got[:16] or 'of no file'}…, expected "
        f"{expected[:16]}…. It was changed, cut short, or belongs to another model; it was not loaded."
    )


def _to_content(info: ModelInfo) -> dict[str, Any]:
    """What `model.json` holds; numbers that JSON does not know become null."""
    content = {"kind": KIND, "schema_version": SCHEMA_VERSION, **_drop_nan(dataclasses.asdict(info))}
    return content | {HASH_KEY: _hash_content(content)}


def _drop_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_drop_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _hash_content(content: dict[str, Any]) -> str:
    """SHA-256 of JSON in one way of writing: sorted keys, no blanks, ASCII."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _make_info(path: Path, content: dict[str, Any]) -> ModelInfo:
    """Make the facts from JSON that may hold anything; unknown names are passed over, later ones have defaults."""
    entries = dataclasses.fields(ModelInfo)
    missing = [
        entry.name
        for entry in entries
        if entry.default is entry.default_factory is dataclasses.MISSING and entry.name not in content
    ]
    if missing:
        raise ModelFileError(f"{path} lacks {', '.join(missing)}. Save the model again.")
    info = ModelInfo(**{entry.name: content[entry.name] for entry in entries if entry.name in content})
    if wrong := _list_wrong_facts(info):
        raise ModelFileError(f"{path} has values that no model can have: {', '.join(wrong)}. Save the model again.")
    return info


def check_facts(info: ModelInfo) -> None:
    """Check, before anything is written, that a model can have these facts; a ValueError names those it cannot."""
    if wrong := _list_wrong_facts(info):
        got = ", ".join(f"{name}={getattr(info, name)!r:.200}" for name in wrong)
        raise ValueError(f"No model can have {got}; it would not be loaded again. Nothing was written.")


def _list_wrong_facts(info: ModelInfo) -> list[str]:
    """List the facts that cannot be: of the wrong type, out of range, or of another number than the classes."""
    names = info.class_names if isinstance(info.class_names, list) else []
    dicts = ("int8", "unknown", "training", "versions", "files")
    are_dicts = {name: isinstance(getattr(info, name), dict) for name in dicts}
    problems = {
        "class_names": len(names) < 2 or not all(map(_is_text, names)) or len(set(names)) < len(names),
        "is_multilabel": not isinstance(info.is_multilabel, bool),
        "backbone": not _is_text(info.backbone),
        "im_size_px": not isinstance(info.im_size_px, int) or info.im_size_px not in range(1, 10_001),
        "value_range": not isinstance(info.value_range, int) or info.value_range not in VALUE_RANGES,
        "weights_license": not isinstance(info.weights_license, str),
        "fit": info.fit not in ("squash", "crop", "pad"),
        "mean": not _are_numbers(info.mean, 3),
        "std": not _are_numbers(info.std, 3) or min(info.std) <= 0,
        "thresholds": not _are_numbers(info.thresholds, len(names) * (info.thresholds != []))
        or any(not 0 <= value <= 1 for value in info.thresholds),
        "scores": not isinstance(info.scores, list) or not all(isinstance(score, dict) for score in info.scores),
        "table_sha256": not isinstance(info.table_sha256, str),
        **{name: not is_dict for name, is_dict in are_dicts.items()},
    }
    if are_dicts["unknown"] and info.unknown:
        problems["unknown"] = info.is_multilabel is not False or not _fits(info.unknown, _UNKNOWN)
    problems["class_names"] |= info.is_multilabel is True and any(LABEL_SEPARATOR in str(name) for name in names)
    problems["files"] |= are_dicts["files"] and not all(
        name in MODEL_FILES and re.fullmatch("[0-9a-f]{64}", str(digest)) for name, digest in info.files.items()
    )
    return [name for name, is_wrong in problems.items() if is_wrong]


def _is_text(value: Any) -> bool:
    """Tell whether a value is a text that is not blank and can be written as UTF-8."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9  # so not NaN


def _are_numbers(values: Any, n: int) -> bool:
    return isinstance(values, list) and len(values) == n and all(map(_is_number, values))


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_left_out(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) and _fits(row, _LEFT_OUT) for row in rows)


def _fits(facts: dict[str, Any], checks: Checks) -> bool:
    return all(check(facts.get(name)) for name, check in checks.items())


_SHARES = ("rejected", "rejected_low", "rejected_high")
_LEFT_OUT: Checks = {"name": _is_text, "rejected_n": _is_count, **dict.fromkeys(_SHARES, _is_share)}
_UNKNOWN: Checks = {
    "score": _is_text,
    "threshold": _is_number,
    "expected": _is_share,
    "n_known": _is_count,
    "left_out": _are_left_out,
}
