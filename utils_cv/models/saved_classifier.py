"""Finished models: saved as plain files, loaded without fastai or a pickle, and with ONNX without torch as well.

`save_classifier` writes a folder: `model.json`, `model.safetensors`, a model card, and on request `model.onnx` and
`model.int8.onnx`. `load_classifier` gives a classifier that predicts files, images and arrays.
"""

import copy
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils_cv.data.image_files import list_image_files
from utils_cv.data.images import ImageError, ImageLike, expand_home, iterate_images, load_pixels
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import choose_device, count_cpus
from utils_cv.system.threads import map_in_threads

from .model_files import (
    CARD_NAME,
    INFO_NAME,
    LABEL_SEPARATOR,
    MODEL_FILES,
    ONNX_NAME,
    WEIGHTS_NAME,
    ModelInfo,
    list_versions,
    make_model_card,
    read_model_info,
    write_model_info,
)
from .runtimes import TORCH_RUNTIMES, Network, load_network

if TYPE_CHECKING:
    import pandas as pd

    from utils_cv.data.image_table import TableImages
    from utils_cv.evaluation.intervals import Score

BATCH_SIZE = 16  # images per step: changes nothing but time and memory


@dataclass(frozen=True)
class ImageClassifier:
    """A finished model that predicts; several threads may use it at once.

    Attributes:
        info: Its facts: classes, size of the images, scores, versions.
        runtime: What runs it, see `load_classifier`.
        run: The network: uint8 images (n, size, size, 3) to logits (n, n_classes).
    """

    info: ModelInfo
    runtime: str
    run: Network

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Predict one image or many, opened and sized as the training images were.

        Args:
            images: A file, its bytes, a file opened in binary mode, a Pillow image or an array of uint8: grey (height,
                width), RGB (height, width, 3) or RGBA; or many of these in a list, generator, glob or array. A Pillow
                image that was already loaded can differ a little, see `utils_cv.data.images.load_pixels`.

        Returns:
            Probabilities (n_images, n_classes), in [0, 1]; rows sum to 1 unless the model is multi-label.

        Raises:
            utils_cv.data.images.ImageError: An image cannot be opened. `predict_files` goes on with the others.
            TypeError: Something is none of these kinds.

        Example:
            >>> classifier.predict(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
            (2, 4)
        """
        parts = [np.zeros((0, len(self.info.class_names)), np.float32)]
        for _, opened in self._open_in_batches(images):
            for image in opened:
                if isinstance(image, ImageError):
                    raise image
            parts.append(self._run(opened))
        return np.concatenate(parts)

    def predict_labels(self, images: ImageLike | Iterable[ImageLike]) -> list[str]:
        """Predict labels: the most probable class, or in a multi-label model all that reach their thresholds.

        Args:
            images: As in `predict`.

        Returns:
            One label per image. Several labels of an image are joined by `|`, none gives an empty text.

        Example:
            >>> classifier.predict_labels(["image.jpg"])  # doctest: +SKIP
            ['can']
        """
        return self._choose_labels(self.predict(images))

    def predict_files(self, files: str | Path | Iterable[str | Path]) -> "pd.DataFrame":
        """Predict a folder or a list of files; what cannot be opened stops nothing and is listed with its cause.

        Args:
            files: A folder, with all folders below it; or files, in any iterable.

        Returns:
            One row per file, in order: `path`; `label`, empty where the file cannot be opened; `probability`, the
            highest of all classes; and `cause`, why the file cannot be opened, else empty.

        Example:
            >>> predicted = classifier.predict_files("new_images")  # doctest: +SKIP
            >>> predicted.loc[predicted["cause"] != "", ["path", "cause"]]  # doctest: +SKIP
        """
        import pandas as pd  # only here: the other ways start twice as fast without it

        is_folder = isinstance(files, str | Path) and expand_home(files).is_dir()
        files = list_image_files(expand_home(files)) if is_folder else files  # type: ignore[arg-type]
        columns, rows = ["path", "label", "probability", "cause"], []
        for paths, opened in self._open_in_batches(files):
            is_open = [not isinstance(image, ImageError) for image in opened]
            probabilities = self._run([image for image, is_good in zip(opened, is_open, strict=True) if is_good])
            answers = iter(zip(self._choose_labels(probabilities), probabilities.max(axis=1).tolist(), strict=True))
            for path, image in zip(paths, opened, strict=True):
                answer = ("", np.nan, image.cause) if isinstance(image, ImageError) else (*next(answers), "")
                rows.append((str(path), *answer))
        return pd.DataFrame(rows, columns=columns)

    def _choose_labels(self, probabilities: np.ndarray) -> list[str]:
        names = np.array(self.info.class_names)
        if not self.info.is_multilabel:
            return names[probabilities.argmax(axis=1)].tolist()
        is_yes = probabilities >= np.array(self.info.thresholds or [0.5] * len(names))
        return [LABEL_SEPARATOR.join(names[row]) for row in is_yes]

    def _open_in_batches(
        self, images: ImageLike | Iterable[ImageLike]
    ) -> Iterator[tuple[list[ImageLike], list[np.ndarray | ImageError]]]:
        """Give some images at a time, and each opened as the network takes it, uint8 (size, size, 3), or its error."""
        remaining = iterate_images(images)
        while batch := list(itertools.islice(remaining, BATCH_SIZE)):
            if len(batch) == 1:  # a thread would cost more than it gives
                yield batch, [self._open(batch[0])]
            else:
                yield batch, list(map_in_threads(self._open, batch, n_threads=count_cpus()))

    def _open(self, image: ImageLike) -> np.ndarray | ImageError:
        info = self.info
        try:
            return load_pixels(image, info.im_size_px, fit=info.fit, value_range=info.value_range)
        except ImageError as error:
            return error

    def _run(self, pixels: Sequence[Any]) -> np.ndarray:
        """Probabilities (n, n_classes) of opened images."""
        if not pixels:
            return np.zeros((0, len(self.info.class_names)), np.float32)
        return _to_probabilities(self.run(np.stack(pixels)), is_multilabel=self.info.is_multilabel)


def load_classifier(folder: str | Path, *, runtime: str = "auto") -> ImageClassifier:
    """Load a finished model. Nothing is run before the hashes of its files fit.

    The hash beside a file detects damage and mix-ups, not somebody who changed both; see `utils_cv.models.model_files`.

    Args:
        folder: Where `save_classifier` wrote it.
        runtime: See `utils_cv.models.runtimes.RUNTIME_FILES`: "onnx" and "int8" run in ONNX Runtime, "openvino" and
            "openvino_int8" in OpenVINO (an extra), all without importing torch; "torch", "channels_last" and "compile"
            run in PyTorch (on a GPU where there is one). "auto" takes "onnx" where the model has it, else
            "channels_last". 8 bits are never chosen by themselves.

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
        ['can']
    """
    info = read_model_info(folder)
    if runtime == "auto":
        runtime = "onnx" if ONNX_NAME in info.files else "channels_last"
    device = choose_device() if runtime in TORCH_RUNTIMES else "cpu"
    return ImageClassifier(info, runtime, load_network(folder, runtime, device=device))


def save_classifier(
    trained: Any,
    folder: str | Path,
    *,
    images: "TableImages | None" = None,
    scores: "Mapping[str, Score] | None" = None,
    thresholds: Sequence[float] = (),
    onnx: bool = True,
    int8: bool = False,
    title: str = "",
    license: str = "other",
    overwrite: bool = False,
) -> ModelInfo:
    """Save a trained model as plain files that other programs can read and nothing can hide code in.

    Args:
        trained: A `TrainedModel`, as `utils_cv.training` gives it.
        folder: The folder to write; it is made.
        images: The images it was trained on, for the hash of the table and for `int8`.
        scores: Name to score, such as `{"accuracy": measure_accuracy(y_true, y_pred)}`.
        thresholds: Multi-label: the lowest probability of each class that counts as a yes. Default: 0.5 each.
        onnx: Also write `model.onnx`, which needs no torch and is several times faster on a CPU.
        int8: Also try `model.int8.onnx`, calibrated on images of the `train` split. It is kept only if it is
            faster and the `valid` split shows that it loses at most 0.01 of accuracy, which takes at least 276 images;
            with fewer, if answers and logits agree closely with those in floats. `info.int8` says what was measured.
        title: Name in the model card. Default: the folder's name.
        license: Of the model as a whole, for the card, such as "mit"; "other" leaves it to its owner to state one.
        overwrite: Replace a model that lies in `folder`; other files there stay as they are.

    Returns:
        The facts, as in `model.json`.

    Raises:
        FileExistsError: The folder holds files, and they are not those of a model that may be overwritten.
        ValueError: `int8` without `images`, or thresholds that do not fit the classes.

    Example:
        >>> save_classifier(trained, "models/fridge", images=images, scores={"accuracy": score})  # doctest: +SKIP
    """
    folder = Path(folder)
    if int8 and images is None:
        raise ValueError("int8=True needs images=...: 8-bit networks are calibrated on training images.")
    if len(thresholds) not in (0, len(trained.class_names)):
        raise ValueError(f"Got {len(thresholds)} thresholds for {len(trained.class_names)} classes.")
    _check_folder(folder, overwrite)
    from .onnx_export import export_classifier, write_network_weights

    folder.mkdir(parents=True, exist_ok=True)
    network = copy.deepcopy(trained.learn.model).cpu().eval()
    names = [WEIGHTS_NAME]
    write_network_weights(network, folder / WEIGHTS_NAME)
    if onnx or int8:
        export_classifier(network, trained.im_size_px, folder / ONNX_NAME, backbone=trained.backbone)
        names.append(ONNX_NAME)
    info = write_model_info(_describe(trained, images, scores, thresholds, names), folder)
    if int8 and images is not None:
        from .quantization import add_int8

        info = add_int8(folder, images)
    with write_atomic(folder / CARD_NAME) as temporary_path:
        card = make_model_card(info, title=title or folder.absolute().name, license=license)
        temporary_path.write_text(card, encoding="utf-8")
    return info


def _to_probabilities(logits: np.ndarray, *, is_multilabel: bool) -> np.ndarray:
    """Turn logits (n, n_classes) into probabilities: softmax over the classes, or one sigmoid each.

    By hand: importing scipy.special would take 0.13 s of the 0.33 s from the start of a program to its first label.
    """
    if is_multilabel:
        return np.exp(-np.logaddexp(0, -logits))  # does not overflow for large negative logits
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _check_folder(folder: Path, overwrite: bool) -> None:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    is_model = INFO_NAME in found or found <= set(MODEL_FILES)  # the latter after a stop half-way
    if found and not (overwrite and is_model):
        hint = "pass overwrite=True to replace the model" if is_model else "choose another folder"
        raise FileExistsError(f"{folder} holds files already; {hint}. Nothing was written.")


def _describe(trained: Any, images: Any, scores: Any, thresholds: Sequence[float], names: Sequence[str]) -> ModelInfo:
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
        mean=model.mean.flatten().tolist(),
        std=model.std.flatten().tolist(),
        thresholds=[float(value) for value in thresholds],
        scores=[{"name": name, **score._asdict()} for name, score in (scores or {}).items()],
        training=training,
        table_sha256="" if images is None else _hash_table(images.table),
        versions=list_versions(),
        files=dict.fromkeys(names, ""),
    )


def _hash_table(table: Any) -> str:
    """Hash which images were trained on, with which labels: SHA-256 of image, label and split of every row."""
    columns = table[["image", "label", "split"]].astype(str)
    rows = sorted("\t".join(row) for row in columns.itertuples(index=False))
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()
