"""A trained model: put together, what it predicts, loaded as the start of more training, adjusted for rare classes."""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, softmax

from utils_cv.data.decoding import FULL_RANGE
from utils_cv.data.image_table import TableImages, find_rows
from utils_cv.data.images import Fit
from utils_cv.data.labels import encode_labels
from utils_cv.data.splits import list_groups
from utils_cv.evaluation.calibration import adjust_logits
from utils_cv.evaluation.intervals import compute_wilson_interval
from utils_cv.models.features import run_in_batches
from utils_cv.models.model_files import WEIGHTS_NAME, read_model
from utils_cv.models.onnx_export import Normalized, read_network
from utils_cv.models.runtimes import run_in_torch
from utils_cv.models.saved_classifier import ImageClassifier
from utils_cv.system.threads import N_MANY

from .learner import make_learner, wrap_network


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and what it needs to predict.

    `history` has one row per epoch: `epoch`, `train_loss` (fastai's moving average over the last steps), `valid_loss`,
    `valid_accuracy` with its 95 % interval `valid_accuracy_low` and `valid_accuracy_high` (a group counts as one
    image), `seconds`, and `is_kept`: whether the model is of this epoch. Epoch 0 is the start.
    """

    learn: Any  # fastai's Learner; `learn.model` is the network, images to logits
    class_names: list[str]  # in the order of the logits
    backbone: str  # name of the pretrained network
    im_size_px: int  # side of the square images it takes
    fit: Fit  # how an image becomes square, see `utils_cv.data.images.resize_image`
    is_multilabel: bool  # whether an image may have several labels; then probabilities are one sigmoid each
    history: pd.DataFrame
    seconds: float  # of the training and its start, without opening images and exporting the frozen part once
    value_range: int = FULL_RANGE  # the value of 16-bit files that becomes white


def make_trained_model(
    learn: Any,
    rows: Sequence[Sequence[float | None]] | None = None,
    *,
    first_epoch: int = 1,
    kept_epoch: int | None = None,
    seconds: float | None = None,
) -> TrainedModel:
    """Put a trained learner together with what prediction needs.

    Args:
        learn: From `make_learner`, trained.
        rows: Of the history: train loss, validation loss, accuracy, seconds; None takes those of all trainings so far.
        first_epoch: Number of the first row.
        kept_epoch: The epoch whose weights the network has; None means the last one.
        seconds: Of the training; None takes the sum of the rows'.

    Returns:
        The model, for `predict_images` and `utils_cv.models.saved_classifier.save_classifier`.

    Example:
        >>> model = make_trained_model(learn)  # doctest: +SKIP
    """
    images, rows = learn.dls.images, learn.start_epoch.rows if rows is None else rows
    names = ["train_loss", "valid_loss", "valid_accuracy", "seconds"]
    history = pd.DataFrame([list(row) for row in rows], columns=names, dtype=float)
    history.insert(0, "epoch", range(first_epoch, first_epoch + len(rows)))
    groups, valid_rows = list_groups(images.table), find_rows(images)[1]
    n_valid = len(valid_rows if groups is None else set(groups[valid_rows]))
    low, high = compute_wilson_interval(history["valid_accuracy"] * n_valid, n_valid) if n_valid else (np.nan, np.nan)
    history.insert(4, "valid_accuracy_low", low)
    history.insert(5, "valid_accuracy_high", high)
    history["is_kept"] = history["epoch"] == (history["epoch"].max() if kept_epoch is None else kept_epoch)
    return TrainedModel(
        learn, list(images.class_names), learn.arch, images.pixels.shape[1], images.fit, images.is_multilabel,
        history, float(history["seconds"].sum()) if seconds is None else seconds, images.value_range,
    )  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    """Predictions as arrays."""

    table: pd.DataFrame  # the rows of the image table that were predicted, in order
    class_names: list[str]  # in the order of the columns
    probabilities: np.ndarray  # (n_images, n_classes), in [0, 1]; rows sum to 1 unless multi-label
    y_true: np.ndarray  # (n_images,) class codes, or (n_images, n_classes) of 0 and 1

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each image, (n_images,), for intervals; None where the table has no column `group`."""
        return list_groups(self.table)

    @property
    def y_pred(self) -> np.ndarray:
        """The most probable class of each image, (n_images,) codes; multi-label: 1 from 0.5 on, (n_images, n_classes).

        Thresholds of each class: `utils_cv.evaluation.multilabel.select_thresholds`.
        """
        if self.y_true.ndim == 2:
            return (self.probabilities >= 0.5).astype(self.y_true.dtype)
        return self.probabilities.argmax(axis=1)


def predict_images(model: TrainedModel, images: TableImages, *, split: str = "test") -> Predictions:
    """Predict the images of one split.

    Args:
        model: A trained model.
        images: Opened images at the model's size.
        split: Which rows of the table.

    Returns:
        Probabilities in the order of `table`, and the true classes beside them.

    Raises:
        ValueError: If no image has that split, or the images are not of the model's size.

    Example:
        >>> predictions = predict_images(probe, images, split="test")  # doctest: +SKIP
        >>> predictions.probabilities.shape  # doctest: +SKIP
        (160, 4)
    """
    rows = np.flatnonzero(images.table["split"] == split)
    if not len(rows):
        raise ValueError(f"Got split={split!r}; the table has {images.table['split'].value_counts().to_dict()}.")
    if images.pixels.shape[1] != model.im_size_px:
        raise ValueError(
            f"The images are {images.pixels.shape[1]} px wide, the model takes {model.im_size_px} px: "
            f"load_table_images(table, {model.im_size_px})."
        )
    targets = encode_labels(images.table["label"].iloc[rows], model.class_names, multilabel=model.is_multilabel)
    logits = compute_logits(model.learn.model, images.pixels, rows, show_progress=len(rows) >= N_MANY)
    probabilities = expit(logits) if model.is_multilabel else softmax(logits, axis=1)
    return Predictions(images.table.iloc[rows].reset_index(drop=True), model.class_names, probabilities, targets)


def compute_logits(network: Normalized, pixels: np.ndarray, rows: Any = None, **options: Any) -> np.ndarray:
    """Compute logits, float32 (n, n_classes), of opened images, uint8 (n, size, size, 3), or some rows of them."""
    run = run_in_torch(network, runtime="channels_last", device=str(next(network.parameters()).device))
    return run_in_batches(run, pixels, rows, description="answers", **options)


def load_trained(folder: str | Path) -> TrainedModel:
    """Load a finished model to train it further, on images that are opened as its own were.

    With the same classes `fine_tune` goes on from it. With other classes, such as one more, `linear_probe` fits a new
    head on the features of its network, in seconds; `fine_tune` can go on from that.

    Args:
        folder: Where `utils_cv.models.saved_classifier.save_classifier` wrote it.

    Returns:
        The model, as a start; its `learn` has no data, and its `history` no rows.

    Raises:
        FileNotFoundError: There is no model.
        utils_cv.models.model_files.ModelFileError: A file is damaged or changed.

    Example:
        >>> start = load_trained("models/march")  # doctest: +SKIP
        >>> images = load_table_images(table, start.im_size_px, fit=start.fit)  # doctest: +SKIP
        >>> tuned = fine_tune(images, start=start)  # doctest: +SKIP
        >>> with_new_class = linear_probe(images_of_five_classes, start=start)  # doctest: +SKIP
    """
    info, name, content = read_model(folder, [WEIGHTS_NAME])
    network = read_network(info, content, Path(folder) / name)
    history = pd.DataFrame(columns=["epoch", "train_loss", "valid_loss", "valid_accuracy", "seconds", "is_kept"])
    return TrainedModel(
        wrap_network(network, info.backbone, is_multilabel=info.is_multilabel),
        info.class_names, info.backbone, info.im_size_px, info.fit, info.is_multilabel,
        history, float(info.training.get("seconds", 0.0)), info.value_range,
    )  # fmt: skip


def take_start(start: Any, images: TableImages, backbone: str | None) -> TrainedModel | None:
    """Check that training on these images can go on from a model; a loaded classifier is loaded again to be trained."""
    start = load_trained(start.folder) if isinstance(start, ImageClassifier) else start
    if start is None:
        return None
    if not isinstance(start, TrainedModel):
        raise TypeError(f"Got a start of type {type(start).__name__}, expected a model: start=load_trained(folder).")
    if backbone not in (None, start.backbone):
        raise ValueError(f"Got backbone={backbone!r}, and a start with {start.backbone!r}. Leave backbone out.")
    if (start.im_size_px, start.fit) != (images.pixels.shape[1], images.fit):
        raise ValueError(
            f"start takes images of {start.im_size_px} px, fit={start.fit!r}; these have {images.pixels.shape[1]} px, "
            f"fit={images.fit!r}. Open them as its own: load_table_images(table, start.im_size_px, fit=start.fit)."
        )
    return start


def adjust_model(model: TrainedModel) -> TrainedModel:
    """Adjust a trained model for the rare classes among its train images, without training it again.

    A model learns how frequent the classes are, so it calls doubtful images by the name of a common one. Here the log
    of each class's share of the train images is subtracted from its logit (logit adjustment, Menon et al. 2021). The
    answers become those for images whose classes are equally frequent. The shift is a part of the bias of the head, so
    that a saved model, its ONNX file and every prediction have it.

    Args:
        model: A trained model, of one label per image and `balance="none"`.

    Returns:
        A new model; its `history` is still that of the training. The given one is not changed.

    Raises:
        ValueError: If images have several labels, the model was trained with another balance or loaded, or a class has
            no train image.
    """
    dls = model.learn.dls
    if model.is_multilabel:
        raise ValueError(
            "This model gives each label its own yes or no, so that no class takes the place of another: choose a "
            "threshold for each label, utils_cv.evaluation.multilabel.select_thresholds."
        )
    if not dls.loaders:
        raise ValueError("This model was loaded, without its train images. Adjust it after its training; then save it.")
    if dls.balance != "none":
        raise ValueError(f"This model was trained with balance={dls.balance!r}: rare classes count in it already.")
    counts = dls.images.table["label"].iloc[find_rows(dls.images)[0]].value_counts()
    counts = counts.reindex(model.class_names, fill_value=0).to_numpy()
    shift = adjust_logits(np.zeros((1, len(counts))), counts)[0]
    network = copy.deepcopy(model.learn.model)
    network.head.bias.data += torch.as_tensor(shift).to(network.head.bias)
    return dataclasses.replace(model, learn=make_learner(dls, model.backbone, network=network))
