"""Finished models: saved as plain files, loaded without fastai or a pickle, and with ONNX without torch as well.

`save_classifier` writes a folder: `model.json`, `model.safetensors`, a model card, and on request `model.onnx` and
`model.int8.onnx`. `load_classifier` gives a classifier that predicts files, images and arrays.
"""

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utils_cv.data.image_files import expand_images
from utils_cv.data.images import ImageError, ImageLike, iterate_images, load_pixels, make_printable
from utils_cv.evaluation.out_of_distribution import OodDetector
from utils_cv.system.machine import choose_device, count_cpus
from utils_cv.system.threads import map_in_threads

from .model_files import (
    CARD_NAME,
    LABEL_SEPARATOR,
    ONNX_NAME,
    WEIGHTS_NAME,
    ModelFileError,
    ModelInfo,
    check_facts,
    check_folder,
    commit_model,
    describe_model,
    read_model,
    stage_model,
)
from .runtimes import INT8_RUNTIMES, TORCH_RUNTIMES, Network, find_runtime_file, make_network
from .unknown import EIGHT_BITS, NO_DETECTOR, append_score, describe_detector, find_misfit

if TYPE_CHECKING:
    import pandas as pd

    from utils_cv.data.image_table import TableImages
    from utils_cv.evaluation.intervals import Score

BATCH_SIZE = 16  # images per step in PyTorch: changes nothing but time and memory
# The images of a batch, their errors or None, and of those without one the probabilities and which are unknown.
Answers = tuple[list[ImageLike], list[ImageError | None], tuple[np.ndarray, list[Any]]]


class Prediction(NamedTuple):
    """What a model says of one image; see `ImageClassifier.predict_table`."""

    image: str
    label: str
    probability: float | None  # of the most probable class; None where the image cannot be opened
    probabilities: dict[str, float]  # of each class; empty where the image cannot be opened
    is_unknown: bool | None
    problem: str


@dataclass(frozen=True)
class ImageClassifier:
    """A finished model that predicts; several threads may use it at once.

    It travels to other processes (`joblib`, `multiprocessing` with "spawn"), which load it again from its folder.

    Attributes:
        info: Its facts: classes, size of the images, scores, versions.
        runtime: What runs it, see `load_classifier`.
        run: The network: uint8 images (n, size, size, 3) to logits (n, n_classes). Where the model `can_reject`,
            `scored=True` adds the scores (n,) of unknown images.
        folder: Where it was loaded from.
    """

    info: ModelInfo
    runtime: str
    run: Network
    folder: Path

    @property
    def can_reject(self) -> bool:
        """Whether the model can say that an image belongs to none of its classes; 8 bits shift its scores too far."""
        return bool(self.info.unknown) and self.runtime not in INT8_RUNTIMES

    def __reduce__(self) -> tuple:
        return _load_again, (self.info, self.runtime, self.folder)

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Predict one image or many, opened and sized as the training images were.

        Args:
            images: A file, its bytes, a file opened in binary mode, a Pillow image or an array of uint8: grey (height,
                width), RGB (height, width, 3) or RGBA; many of these in a list, generator or array; a folder, with all
                folders below it; or a pattern such as `photos/*.jpg`. A Pillow image that was already loaded can differ
                a little, see `utils_cv.data.images.load_pixels`.

        Returns:
            Probabilities (n_images, n_classes), in [0, 1]; rows sum to 1 unless the model is multi-label.

        Raises:
            utils_cv.data.images.ImageError: An image cannot be opened. `predict_table` goes on with the others.
            FileNotFoundError: No file fits the pattern.
            TypeError: Something is none of these kinds.

        Example:
            >>> classifier.predict(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
            (2, 4)
        """
        parts = [np.zeros((0, len(self.info.class_names)), np.float32)]
        for _, errors, (probabilities, _) in self._answer_in_batches(expand_images(images)):
            _raise_first(errors)
            parts.append(probabilities)
        return np.concatenate(parts)

    def predict_labels(self, images: ImageLike | Iterable[ImageLike], *, reject: bool = False) -> list[str]:
        """Predict labels: the most probable class, or in a multi-label model all that reach their thresholds.

        Args:
            images: As in `predict`.
            reject: Give no label to images that belong to none of the classes, as far as the model can tell.

        Returns:
            One label per image. Several are joined by `|`; none, or an image that was rejected, gives an empty text.

        Raises:
            ValueError: If it is to reject, and the model cannot.

        Example:
            >>> classifier.predict_labels(["image.jpg", "sky.jpg"], reject=True)  # doctest: +SKIP
            ['can', '']
        """
        if reject and not self.can_reject:
            raise ValueError(EIGHT_BITS if self.info.unknown else NO_DETECTOR)
        labels: list[str] = []
        for _, errors, (probabilities, is_unknown) in self._answer_in_batches(expand_images(images)):
            _raise_first(errors)
            found = zip(self._choose_labels(probabilities), is_unknown, strict=True)
            labels += ["" if reject and is_new else label for label, is_new in found]
        return labels

    def predict_table(self, images: ImageLike | Iterable[ImageLike], *, show_progress: bool = False) -> "pd.DataFrame":
        """Predict a folder, or any number of images, as a table; what cannot be opened is listed and stops nothing.

        Only the rows are kept in memory, a few hundred bytes each.

        Args:
            images: As in `predict`.
            show_progress: Show a bar that counts images.

        Returns:
            One row per image, in order: `image`, its path, spelled so that it can be printed, or for what has none its
            number, such as "image 3"; `label`, as `predict_labels` gives it; `probability`, the highest of all classes;
            one column per class, with its probability; `is_unknown`, missing where the model cannot
            tell; and `problem`, empty, or why the image cannot be opened: then the label is empty and probabilities
            are NaN. A class that is called like another column has the column "... (class)".

        Raises:
            utils_cv.data.images.ImageError: A single path was given, and nothing is there.
            FileNotFoundError: No file fits the pattern.

        Example:
            >>> table = classifier.predict_table("new_images")  # doctest: +SKIP
            >>> table.loc[table["problem"] != "", ["image", "problem"]]  # doctest: +SKIP
            >>> table.to_csv("labels.csv", index=False)  # doctest: +SKIP
        """
        import pandas as pd  # only here: the other ways start twice as fast without it

        rows = self.predict_rows(images, show_progress=show_progress)
        return pd.DataFrame(rows, columns=self._list_columns()).astype({"is_unknown": "boolean"})

    def predict_rows(
        self, images: ImageLike | Iterable[ImageLike], *, show_progress: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Give the rows of `predict_table` one by one, as soon as they are known."""
        columns, nothing = self._list_columns(), dict.fromkeys(self.info.class_names, np.nan)
        for found in self.predict_each(images, show_progress=show_progress):
            values = (found.probabilities or nothing).values()
            yield dict(zip(columns, [*found[:2], max(values), *values, *found[4:]], strict=True))

    def predict_each(
        self, images: ImageLike | Iterable[ImageLike], *, show_progress: bool = False
    ) -> Iterator[Prediction]:
        """Predict images one by one, as soon as they are known; what cannot be opened stops nothing."""
        names, row, images = self.info.class_names, 0, expand_images(images)
        for given, errors, (probabilities, is_unknown) in self._answer_in_batches(images, show_progress=show_progress):
            answers = zip(self._choose_labels(probabilities), probabilities.tolist(), is_unknown, strict=True)
            for image, error in zip(given, errors, strict=True):
                name = make_printable(image) if isinstance(image, str | Path) else f"image {row}"
                row += 1
                if error:
                    yield Prediction(name, "", None, {}, None, error.cause)
                else:
                    label, values, is_new = next(answers)
                    yield Prediction(name, label, max(values), dict(zip(names, values, strict=True)), is_new, "")

    def _list_columns(self) -> list[str]:
        fixed = ["image", "label", "probability", "is_unknown", "problem"]
        names, taken = list(self.info.class_names), {*fixed, *self.info.class_names}
        for i in [names.index(name) for name in fixed if name in names]:
            while names[i] in taken:
                names[i] += " (class)"
        return [*fixed[:3], *names, *fixed[3:]]

    def _choose_labels(self, probabilities: np.ndarray) -> list[str]:
        names = self.info.class_names
        if not self.info.is_multilabel:
            return [names[code] for code in probabilities.argmax(axis=1).tolist()]
        is_yes = probabilities >= np.array(self.info.thresholds or [0.5] * len(names))
        return [LABEL_SEPARATOR.join(itertools.compress(names, row)) for row in is_yes]

    def _answer_in_batches(
        self, images: ImageLike | Iterable[ImageLike], *, show_progress: bool = False
    ) -> Iterator[Answers]:
        """Give the answers about some images at a time; only a few images are in memory.

        Threads open images and, outside PyTorch, ask the network about each. A call with one image takes less of the
        processors than its share of a batch, and none waits for the others.
        """
        many, in_torch = iterate_images(images), self.runtime in TORCH_RUNTIMES
        begin = list(itertools.islice(many, 2))
        work: Any = self._open if in_torch else lambda image: self._answer([self._open(image)])
        if len(begin) < 2:  # a thread would cost more than it gives
            done: Iterator[Any] = map(work, begin)
        else:
            n_images = len(images) if isinstance(images, Sized) else None
            done = map_in_threads(
                work, itertools.chain(begin, many), n_items=n_images, n_threads=count_cpus(),
                description="predicting", show_progress=show_progress,
            )  # fmt: skip
        yield from map(self._answer, iter(lambda: list(itertools.islice(done, BATCH_SIZE)), [])) if in_torch else done

    def _answer(self, opened: Sequence[tuple[ImageLike, np.ndarray | ImageError]]) -> Answers:
        errors = [pixels if isinstance(pixels, ImageError) else None for _, pixels in opened]
        pixels = [pixels for (_, pixels), error in zip(opened, errors, strict=True) if error is None]
        return [image for image, _ in opened], errors, self._run(pixels)

    def _open(self, image: ImageLike) -> tuple[ImageLike, np.ndarray | ImageError]:
        """Open an image as the network takes it, uint8 (size, size, 3); the image, and its pixels or its error."""
        info = self.info
        try:
            return image, load_pixels(image, info.im_size_px, fit=info.fit, value_range=info.value_range)
        except ImageError as error:
            return image, error

    def _run(self, pixels: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
        """Probabilities (n, n_classes) of opened images, and whether each is unknown, None where nobody can tell."""
        if not pixels:
            return np.zeros((0, len(self.info.class_names)), np.float32), []
        n, batch = len(pixels), np.stack(pixels) if len(pixels) > 1 else pixels[0][None]  # which copies nothing
        answers = list(self.run(batch, scored=True)) if self.can_reject else [self.run(batch)]
        expected = [(n, len(self.info.class_names)), (n,)][: len(answers)]
        if (found := [values.shape for values in answers]) != expected:
            raise ModelFileError(f"The network of {self.folder} gives {found}, expected {expected}. Save it again.")
        if bad := [value for values in answers for value in values.ravel().tolist() if not math.isfinite(value)]:
            raise ModelFileError(
                f"The network of {self.folder} gives {bad[0]} where numbers are expected: its "
                "weights are damaged. Train and save the model again."
            )
        is_unknown = (answers[1] > self.info.unknown["threshold"]).tolist() if self.can_reject else [None] * n
        return _to_probabilities(answers[0], is_multilabel=self.info.is_multilabel), is_unknown


def _raise_first(errors: Sequence[ImageError | None]) -> None:
    if error := next(filter(None, errors), None):
        raise error


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
    names = [ONNX_NAME, WEIGHTS_NAME] if runtime == "auto" else [find_runtime_file(runtime)]
    info, name, content = read_model(folder, names)
    if runtime == "auto":
        runtime = "onnx" if name == ONNX_NAME else "channels_last"
    folder, device = Path(folder).absolute(), choose_device() if runtime in TORCH_RUNTIMES else "cpu"
    return ImageClassifier(info, runtime, make_network(info, runtime, content, folder / name, device=device), folder)


def _load_again(info: ModelInfo, runtime: str, folder: Path) -> ImageClassifier:
    """Load a classifier in another process, where it must be the same model."""
    classifier = load_classifier(folder, runtime=runtime)
    if classifier.info != info:
        raise ModelFileError(f"The model in {folder} was replaced after it was loaded elsewhere. Load it again there.")
    return classifier


def save_classifier(
    trained: Any,
    folder: str | Path,
    *,
    images: "TableImages | None" = None,
    scores: "Mapping[str, Score] | None" = None,
    thresholds: Sequence[float] = (),
    detector: OodDetector | None = None,
    left_out: "pd.DataFrame | None" = None,
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
        detector: What tells images of none of the classes: that of `select_recipe`, or as notebook 15 fits it.
        left_out: For the card: what it found with each class left out, `left_out` of `select_recipe` or as there.
        onnx: Also write `model.onnx`, which needs no torch and is several times faster on a CPU.
        int8: Also try `model.int8.onnx`, calibrated on images of the `train` split. It is kept only if it is
            faster and the `valid` split shows that it loses at most 0.01 of accuracy, which takes at least 276 images;
            with fewer, if answers and logits agree closely with those in floats. `info.int8` says what was measured.
        title: Name in the model card. Default: that in the card of a model that is replaced, else the folder's name.
        license: Of the model as a whole, such as "mit"; "other" leaves it to its owner to state one in the card, where
            it is kept.
        overwrite: Replace a model that lies in `folder`; other files there stay as they are. Its scores, thresholds
            and detector are kept for the same network where none are given; else a warning names what is lost.

    Returns:
        The facts, as in `model.json`.

    Raises:
        FileExistsError: The folder holds files, and they are not those of a model that may be overwritten.
        ValueError: `int8` without `images`, or thresholds or a detector that do not fit.
    """
    folder = Path(folder)
    if int8 and images is None:
        raise ValueError("int8=True needs images=...: 8-bit networks are calibrated on training images.")
    if len(thresholds) not in (0, len(trained.class_names)):
        raise ValueError(f"Got {len(thresholds)} thresholds for {len(trained.class_names)} classes.")
    unknown = describe_detector(detector, left_out) if detector else {}
    info = dataclasses.replace(describe_model(trained, images, scores, thresholds), unknown=unknown)
    check_facts(info)
    check_folder(folder, overwrite=overwrite)
    from .model_card import make_model_card, read_card
    from .onnx_export import export_classifier, write_network_weights
    from .replacing import take_over

    network = copy.deepcopy(trained.learn.model).cpu().eval()
    info, detector = take_over(info, detector, network, folder)
    if detector and (misfit := find_misfit(detector, network, images)):
        raise ValueError(f"{misfit} Fit it to features of the network that is saved.")
    with stage_model(folder) as stage:
        names = [WEIGHTS_NAME, ONNX_NAME] if onnx or int8 else [WEIGHTS_NAME]
        write_network_weights(network, stage / WEIGHTS_NAME, detector.arrays if detector else {})
        if ONNX_NAME in names:
            export_classifier(network, trained.im_size_px, stage / ONNX_NAME, backbone=trained.backbone)
        info = dataclasses.replace(info, files=dict.fromkeys(names, ""))
        if int8 and images is not None:
            from .quantization import add_int8

            commit_model(info, stage, stage)
            info = add_int8(stage, images)
        if detector and ONNX_NAME in names:  # after the 8-bit network, which must not hold the score
            append_score(stage / ONNX_NAME, detector)
        old_title, old_license = read_card(folder)
        license = old_license or license if license == "other" else license
        card = make_model_card(info, title=title or old_title or folder.absolute().name, license=license)
        (stage / CARD_NAME).write_text(card, encoding="utf-8")
        return commit_model(info, folder, stage)


def _to_probabilities(logits: np.ndarray, *, is_multilabel: bool) -> np.ndarray:
    """Turn logits (n, n_classes) into probabilities; by hand, because importing scipy.special takes 0.13 s."""
    if is_multilabel:
        return np.exp(-np.logaddexp(0, -logits))  # does not overflow for large negative logits
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
