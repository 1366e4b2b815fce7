"""Finished models: saved as plain files, loaded without fastai or a pickle, and with ONNX without torch as well.

`save_classifier` writes a folder: `model.json`, `model.safetensors`, a model card, and on request `model.onnx` and
`model.int8.onnx`. `load_classifier` gives a classifier that predicts files, images and arrays.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from utils_cv.data.images import ImageLike, load_pixels
from utils_cv.evaluation.metrics import LABEL_SEPARATOR
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import count_cpus
from utils_cv.system.threads import map_in_threads

from .model_files import (
    CARD_NAME,
    INFO_NAME,
    INT8_NAME,
    MODEL_FILES,
    ONNX_NAME,
    WEIGHTS_NAME,
    ModelInfo,
    find_model_file,
    list_versions,
    read_model_info,
    write_model_info,
)
from .runtimes import load_onnx, load_openvino

if TYPE_CHECKING:
    from utils_cv.data.image_table import TableImages
    from utils_cv.evaluation.intervals import Score

RUNTIME_FILES = {"onnx": ONNX_NAME, "int8": INT8_NAME, "openvino": ONNX_NAME, "torch": WEIGHTS_NAME}


@dataclass(frozen=True)
class ImageClassifier:
    """A finished model that predicts.

    Attributes:
        info: Its facts: classes, size of the images, scores, versions.
        runtime: What runs it, see `load_classifier`.
        run: The network: uint8 images (n, size, size, 3) to logits (n, n_classes).
    """

    info: ModelInfo
    runtime: str
    run: Callable[[np.ndarray], np.ndarray]

    def predict(self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 16) -> np.ndarray:
        """Predict one image or many, opened and sized exactly as the training images were.

        Args:
            images: A file, a Pillow image, an RGB array (height, width, 3) of uint8, or a sequence of these.
            batch_size: Images a step; changes nothing but time and memory.

        Returns:
            Probabilities (n_images, n_classes), in [0, 1]; rows sum to 1 unless the model is multi-label.

        Raises:
            utils_cv.data.images.ImageError: A file cannot be opened as an image.
            TypeError: Something is none of these kinds.

        Example:
            >>> classifier.predict("image.jpg")[0].max()  # doctest: +SKIP
        """
        images = _list_images(images)
        parts = [np.zeros((0, len(self.info.class_names)), np.float32)]
        for start in range(0, len(images), batch_size):
            pixels = self._open_all(images[start : start + batch_size])
            parts.append(to_probabilities(self.run(pixels), is_multilabel=self.info.is_multilabel))
        return np.concatenate(parts)

    def predict_labels(self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 16) -> list[str]:
        """Predict labels; several labels of an image are joined by `|`, none gives an empty text.

        Args:
            images: As in `predict`.
            batch_size: As in `predict`.

        Returns:
            One label an image.

        Example:
            >>> classifier.predict_labels(["image.jpg"])  # doctest: +SKIP
            ['can']
        """
        probabilities = self.predict(images, batch_size=batch_size)
        return decide_labels(probabilities, self.info)

    def open_image(self, image: ImageLike) -> np.ndarray:
        """Open one image as the network takes it: uint8 (size, size, 3)."""
        return load_pixels(image, self.info.im_size_px, fit=self.info.fit)

    def _open_all(self, images: Sequence[ImageLike]) -> np.ndarray:
        if len(images) == 1:  # a thread would cost more than it gives
            return self.open_image(images[0])[None]
        return np.stack(list(map_in_threads(self.open_image, images, n_threads=count_cpus())))


def _list_images(images: ImageLike | Sequence[ImageLike]) -> Sequence[ImageLike]:
    is_one = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3)
    return [images] if is_one else images  # type: ignore[list-item,return-value]


def load_classifier(folder: str | Path, *, runtime: str = "auto", n_threads: int | None = None) -> ImageClassifier:
    """Load a finished model. Nothing is run before the hashes of its files fit.

    The hash beside a file detects damage and mix-ups, not somebody who changed both; see `utils_cv.models.model_files`.

    Args:
        folder: Where `save_classifier` wrote it.
        runtime: "onnx" and "int8" run in ONNX Runtime, "openvino" in OpenVINO (an extra), all without importing torch;
            "torch" runs in PyTorch (on a GPU where there is one). "auto" takes "onnx" where the model has it. "int8"
            is never chosen by itself.
        n_threads: Threads of one call outside PyTorch. Default: as many as this process may use.

    Returns:
        The classifier.

    Raises:
        FileNotFoundError: There is no model, or not for this runtime.
        utils_cv.models.model_files.ModelFileError: A file is damaged, changed, or from a newer version.
        ModuleNotFoundError: The runtime is not installed.
        ValueError: Another `runtime`.

    Example:
        >>> classifier = load_classifier("models/fridge")  # doctest: +SKIP
        >>> classifier.predict_labels(["image.jpg"])  # doctest: +SKIP
    """
    info = read_model_info(folder)
    if runtime == "auto":
        runtime = "onnx" if ONNX_NAME in info.files else "torch"
    if runtime not in RUNTIME_FILES:
        raise ValueError(f"Got runtime {runtime!r}, expected 'auto', {', '.join(map(repr, RUNTIME_FILES))}.")
    path = find_model_file(folder, RUNTIME_FILES[runtime], info)
    if runtime != "torch":
        load = load_openvino if runtime == "openvino" else load_onnx
        return ImageClassifier(info, runtime, load(path, n_threads=n_threads))
    from .features import make_runner
    from .onnx_export import read_network

    run = make_runner(read_network(info, path), info.im_size_px, name=info.backbone, runtime="torch")
    return ImageClassifier(info, runtime, run)


def save_classifier(
    trained: Any,
    folder: str | Path,
    *,
    images: "TableImages | None" = None,
    scores: "Mapping[str, Score] | None" = None,
    thresholds: Sequence[float] = (),
    onnx: bool = True,
    int8: bool = False,
    max_loss: float = 0.01,
    title: str = "",
    license: str = "other",
    overwrite: bool = False,
) -> ModelInfo:
    """Save a trained model as plain files that other programs can read and nothing can hide code in.

    Args:
        trained: A `utils_cv.training.training.TrainedModel`.
        folder: The folder to write; it is made.
        images: The images it was trained on, for the hash of the table and for `int8`.
        scores: Name to score, such as `{"accuracy": measure_accuracy(y_true, y_pred)}`.
        thresholds: Multi-label: the lowest probability of each class that counts as a yes. Default: 0.5 each.
        onnx: Also write `model.onnx`, which needs no torch and is several times faster on a CPU.
        int8: Also try `model.int8.onnx`, calibrated on images of the `train` split. It is kept only where the `valid`
            split shows that it is faster and loses no more than `max_loss`; what was measured is in `info.int8`.
        max_loss: The accuracy that 8 bits may lose, a fraction, by the paired 95 % interval. To show 0.01 takes at
            least 276 validation images.
        title: Name in the model card. Default: the folder's name.
        license: Of the model as a whole, for the card.
        overwrite: Replace a model that lies in `folder`; other files there stay as they are.

    Returns:
        The facts, as in `model.json`.

    Raises:
        FileExistsError: The folder holds files, and they are not those of a model that may be overwritten.
        ValueError: `int8` without `images`, or thresholds that do not fit the classes.

    Example:
        >>> save_classifier(tuned, "models/fridge", images=images, scores={"accuracy": score})  # doctest: +SKIP
    """
    folder = Path(folder)
    _check_request(trained, folder, images, thresholds, int8, overwrite)
    from .onnx_export import copy_network, export_network, hash_table, write_network_weights

    folder.mkdir(parents=True, exist_ok=True)
    network = copy_network(trained.learn.model)
    info = _describe(trained, images, scores, thresholds)
    names = [WEIGHTS_NAME]
    write_network_weights(network, folder / WEIGHTS_NAME)
    if onnx or int8:
        export_network(network, trained.im_size_px, folder / ONNX_NAME, backbone=trained.backbone)
        names.append(ONNX_NAME)
    if images is not None:
        info = dataclasses.replace(info, table_sha256=hash_table(images.table))
    if int8 and images is not None:
        from .quantization import make_int8

        info = dataclasses.replace(
            info, int8=make_int8(folder / ONNX_NAME, folder / INT8_NAME, images, max_loss=max_loss)
        )
        names += [INT8_NAME] if info.int8["is_offered"] else []
    info = write_model_info(dataclasses.replace(info, files=dict.fromkeys(names, "")), folder)
    with write_atomic(folder / CARD_NAME) as temporary_path:
        card = make_model_card(info, title=title or folder.absolute().name, license=license)
        temporary_path.write_text(card, encoding="utf-8")
    return info


def to_probabilities(logits: np.ndarray, *, is_multilabel: bool) -> np.ndarray:
    """Turn logits (n, n_classes) into probabilities: softmax over the classes, or one sigmoid each."""
    if is_multilabel:
        return np.exp(-np.logaddexp(0, -logits))  # does not overflow for large negative logits
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def decide_labels(probabilities: np.ndarray, info: ModelInfo) -> list[str]:
    """Turn probabilities (n, n_classes) into labels: the most probable class, or all that reach their thresholds."""
    if not info.is_multilabel:
        return [info.class_names[i] for i in probabilities.argmax(axis=1)]
    is_yes = probabilities >= np.array(info.thresholds or [0.5] * len(info.class_names))
    names = np.array(info.class_names)
    return [LABEL_SEPARATOR.join(names[row]) for row in is_yes]


def _check_request(
    trained: Any, folder: Path, images: Any, thresholds: Sequence[float], int8: bool, overwrite: bool
) -> None:
    if int8 and images is None:
        raise ValueError("int8=True needs images=...: 8-bit networks are calibrated on training images.")
    if len(thresholds) not in (0, len(trained.class_names)):
        raise ValueError(f"Got {len(thresholds)} thresholds for {len(trained.class_names)} classes.")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    is_model = INFO_NAME in found or found <= set(MODEL_FILES)  # the latter after a stop half-way
    if found and not (overwrite and is_model):
        hint = "pass overwrite=True to replace the model" if is_model else "choose another folder"
        raise FileExistsError(f"{folder} holds files already; {hint}. Nothing was written.")


def _describe(
    trained: Any, images: Any, scores: "Mapping[str, Score] | None", thresholds: Sequence[float]
) -> ModelInfo:
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
        mean=model.mean.flatten().tolist(),
        std=model.std.flatten().tolist(),
        thresholds=[float(value) for value in thresholds],
        scores=[{"name": name, **score._asdict()} for name, score in (scores or {}).items()],
        training=training,
        versions=list_versions(),
    )


def make_model_card(info: ModelInfo, *, title: str, license: str = "other") -> str:
    """Write a model card in Markdown, with the front matter that the Hugging Face Hub reads.

    Args:
        info: The facts of the model.
        title: Its name.
        license: License of the model as a whole, such as "mit"; "other" says that its owner has to state it.

    Returns:
        The text of `README.md`.

    Example:
        >>> print(make_model_card(info, title="fridge objects"))  # doctest: +SKIP
    """
    sections = [
        _make_front_matter(info, title, license),
        f"# {title}",
        _describe_model(info),
        "## Scores\n\n" + _list_scores(info.scores),
        "## Use\n\n" + _show_use(info),
        "## Limits\n\n" + _list_limits(info),
        "## Made with\n\n" + ", ".join(f"{name} {version}" for name, version in info.versions.items()) + ".",
    ]
    return "\n\n".join(sections) + "\n"


def _make_front_matter(info: ModelInfo, title: str, license: str) -> str:
    lines = [
        "---",
        f"license: {license}",
        "pipeline_tag: image-classification",
        "library_name: utils_cv",
        "tags:",
        "- image-classification",
        f"- {info.backbone}",
        *(["- onnx"] if ONNX_NAME in info.files else []),
    ]
    if info.scores:
        lines += ["metrics:", *dict.fromkeys(f"- {_quote(score['name'])}" for score in info.scores)]
        lines += ["model-index:", f"- name: {_quote(title)}", "  results:"]
        for score in info.scores:
            lines += [
                "  - task: {type: image-classification}",
                f"    dataset: {{type: images, name: {_quote(score.get('split', 'test'))}}}",
                f"    metrics: [{{type: {_quote(score['name'])}, value: {score['value']:.4f}}}]",
            ]
    return "\n".join([*lines, "---"])


def _quote(text: Any) -> str:
    """A YAML string in double quotes, which escapes as JSON does."""
    import json

    return json.dumps(str(text), ensure_ascii=False)


def _describe_model(info: ModelInfo) -> str:
    kind = "any number of" if info.is_multilabel else "one of"
    facts = info.training
    trained = f" It was trained on {facts['n_train']} images." if "n_train" in facts else ""
    return (
        f"An image classifier that gives each image {kind} {len(info.class_names)} labels: "
        f"{', '.join(info.class_names)}.{trained} The network is {info.backbone} with a linear head; it takes square "
        f"images of {info.im_size_px} px, made so by `{info.fit}`."
    )


def _list_scores(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return "None were recorded."
    lines = ["| score | value | 95 % interval | images |", "|---|---|---|---|"]
    for score in scores:
        interval = f"{score['low']:.3f} to {score['high']:.3f}" if {"low", "high"} <= set(score) else ""
        lines.append(f"| {score['name']} | {score['value']:.3f} | {interval} | {score.get('n', '')} |")
    return "\n".join(lines)


def _show_use(info: ModelInfo) -> str:
    lines = [
        "```python",
        "from utils_cv.models.saved_classifier import load_classifier",
        "",
        'classifier = load_classifier("path/to/this/folder")',
        'classifier.predict_labels(["image.jpg"])',
        "```",
    ]
    text = "\n".join(lines)
    if INT8_NAME in info.files:
        text += '\n\nThe 8-bit network is loaded by `load_classifier(..., runtime="int8")`.'
    return text


def _list_limits(info: ModelInfo) -> str:
    limits = [
        "The scores hold for images like those they were measured on; on images that look different they can be far "
        "lower.",
        "Every image gets a label, also one that shows none of the classes."
        if not info.is_multilabel
        else "A class that never occurred in training cannot be recognized.",
        "The hashes in `model.json` detect damaged and mixed-up files. They do not protect against somebody who "
        "replaces the file and its hash.",
    ]
    return "\n".join(f"- {limit}" for limit in limits)
