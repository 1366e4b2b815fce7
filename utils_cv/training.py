"""Recipes that train a classifier: a linear probe in seconds, and fine-tuning that starts from its solution.

Every recipe takes the opened images of an image table and returns a `Trained`: a fastai `Learner` to go on with,
a history table, and the choices that prediction needs. The fastai part is in `utils_cv.learners`.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from utils_cv import callbacks, learners
from utils_cv.backbones import DEFAULT_BACKBONE, describe_backbone, load_backbone
from utils_cv.features import compute_features
from utils_cv.images import load_image, resize_image
from utils_cv.labels import encode_labels
from utils_cv.probes import fit_linear_head
from utils_cv.runtime import keep_memory, set_seed
from utils_cv.table_images import TableImages

if TYPE_CHECKING:
    from fastai.learner import Learner


@dataclass(frozen=True)
class Trained:
    """A trained model and what it needs to predict.

    Attributes:
        learn: The fastai learner; its model takes normalised images and returns logits.
        class_names: The classes, in the order of the logits.
        backbone: Name of the pretrained network.
        im_size_px: Side of the square images it takes.
        fit: How an image becomes square, see `utils_cv.images.resize_image`.
        is_multilabel: Whether an image may have several labels; then probabilities are one sigmoid each.
        history: One row an epoch: `epoch`, `train_loss`, `valid_loss`, `valid_accuracy`, `seconds`.
        seconds: Time of the whole recipe, in seconds, without opening the images.
    """

    learn: "Learner"
    class_names: list[str]
    backbone: str
    im_size_px: int
    fit: str
    is_multilabel: bool
    history: pd.DataFrame
    seconds: float


@dataclass(frozen=True)
class Predictions:
    """Predictions as arrays.

    Attributes:
        table: The rows of the image table that were predicted, in order.
        class_names: The classes, in the order of the columns.
        probabilities: (n_images, n_classes), in [0, 1]; rows sum to 1 unless multi-label.
        y_true: (n_images,) class codes, or (n_images, n_classes) multi-hot.
    """

    table: pd.DataFrame
    class_names: list[str]
    probabilities: np.ndarray
    y_true: np.ndarray

    @property
    def y_pred(self) -> np.ndarray:
        """The most probable class of each image, (n_images,) class codes."""
        return self.probabilities.argmax(axis=1)


def linear_probe(images: TableImages, *, backbone: str = DEFAULT_BACKBONE, seed: int = 0) -> Trained:
    """Train a linear classifier on the features of a frozen backbone: seconds on a CPU, and often hard to beat.

    The strength of its regularisation is chosen by cross-validation within the train split.

    Args:
        images: Opened images; those of the `train` split are learned, those of `valid` are scored for the history.
        backbone: Any name that `utils_cv.backbones.load_backbone` takes.
        seed: Seed of the folds.

    Returns:
        The backbone with the trained head, as one network.

    Raises:
        ValueError: If there are no train images.

    Example:
        >>> probe = linear_probe(images)  # doctest: +SKIP
    """
    clock = time.perf_counter()
    set_seed(seed)
    train_rows, _ = learners.find_rows(images)
    targets = encode_labels(images.table["label"], images.class_names, multilabel=images.is_multilabel)
    features = compute_features(images.pixels[train_rows], backbone=backbone)
    weight, bias = fit_linear_head(features, targets[train_rows], n_classes=len(images.class_names), seed=seed)
    facts = describe_backbone(backbone)
    body = load_backbone(backbone, n_classes=0)
    model = learners.Classifier(body, weight, bias, mean=facts.mean, std=facts.std)
    learn = learners.make_learner(images, targets, model)
    seconds = time.perf_counter() - clock
    history = _score_epoch_0(learn, images, targets, seconds)
    return _describe(images, backbone, learn, history, seconds)


def fine_tune(
    images: TableImages,
    *,
    backbone: str = DEFAULT_BACKBONE,
    epochs: int = 4,
    learning_rate: float = 1e-3,
    batch_size: int = 16,
    augment: str = "upright",
    start: Trained | None = None,
    seed: int = 0,
    show_progress: bool = True,
) -> Trained:
    """Fine-tune the whole network from the linear probe's solution, and keep the best epoch.

    Epoch 0 of the history is the start, and the weights kept are those of the lowest validation loss, so the
    result never has a higher validation loss than what it started from. Learning rates fall from the head
    to the first layers by a factor of 10 a group, in one cycle; the statistics of normalisation layers stay as
    pretrained, because small batches estimate them badly.

    Args:
        images: Opened images with splits `train` and `valid`.
        backbone: Any name that `utils_cv.backbones.load_backbone` takes; ignored when `start` is given.
        epochs: Passes over the train images; 0 returns the start.
        learning_rate: Highest learning rate, that of the head.
        batch_size: Images a step; larger ones need more memory and seldom help on small sets.
        augment: One of `utils_cv.learners.AUGMENTATIONS`: what may change about an image without changing its label.
        start: A trained probe to start from, which is not changed; None trains one first.
        seed: Seed of shuffling and augmentation.
        show_progress: Show a bar that counts steps, with losses and validation score.

    Returns:
        The fine-tuned model; its `seconds` include those of the start.

    Raises:
        ValueError: If there are no train or validation images, or `augment` is not a preset.

    Example:
        >>> tuned = fine_tune(images, epochs=2, start=probe)  # doctest: +SKIP
    """
    if epochs < 0 or not learners.find_rows(images)[1]:
        raise ValueError(
            f"Got epochs={epochs} and {len(learners.find_rows(images)[1])} images of split 'valid'; expected 0 or more "
            "epochs, and validation images to choose the best epoch by: utils_cv.splits.hold_out_valid."
        )
    start = start or linear_probe(images, backbone=backbone, seed=seed)
    clock = time.perf_counter()
    set_seed(seed)
    keep_memory()  # eager torch on glibc otherwise spends half its time giving memory back
    targets = encode_labels(images.table["label"], images.class_names, multilabel=images.is_multilabel)
    model = copy.deepcopy(start.learn.model)
    learn = learners.make_learner(images, targets, model, batch_size=batch_size, augment=augment)
    keeper = callbacks.KeepBest(start.history.iloc[-1]["valid_loss"])
    recorder = callbacks.Record(start.history.tail(1).assign(epoch=0), keeper, epochs, show_progress=show_progress)
    if epochs > 0:
        rates = slice(learning_rate / 100, learning_rate)  # fastai spreads it geometrically over the groups
        learn.fit_one_cycle(epochs, lr_max=rates, cbs=[callbacks.FreezeStatistics(), keeper, recorder])
        keeper.restore(learn.model)
    seconds = start.seconds + time.perf_counter() - clock
    return _describe(images, start.backbone, learn, recorder.table(), seconds)


def predict_images(trained: Trained, images: TableImages, *, split: str = "test") -> Predictions:
    """Predict the images of one split.

    Args:
        trained: A trained model.
        images: Opened images at the model's size.
        split: Which rows of the table.

    Returns:
        Probabilities in the order of `table`, and the true classes beside them.

    Raises:
        ValueError: If no image has that split, or these are not the images that the model was trained with.

    Example:
        >>> predictions = predict_images(probe, images, split="test")  # doctest: +SKIP
    """
    rows = np.flatnonzero(images.table["split"] == split)
    if not len(rows):
        counts = images.table["split"].value_counts().to_dict()
        raise ValueError(f"No image of split {split!r}; the table holds {counts}.")
    pixels = images.pixels[rows]
    if pixels.shape[1] != trained.im_size_px:
        raise ValueError(
            f"The images are {pixels.shape[1]} px wide, the model takes {trained.im_size_px} px: "
            f"load_table_images(table, {trained.im_size_px})."
        )
    targets = encode_labels(images.table["label"], trained.class_names, multilabel=trained.is_multilabel)
    logits = learners.predict_pixels(trained.learn, pixels)
    table = images.table.iloc[rows].reset_index(drop=True)
    return Predictions(table, trained.class_names, _to_probabilities(logits, trained), targets[rows])


def predict_files(trained: Trained, paths: Sequence[str | Path]) -> np.ndarray:
    """Predict image files, opened and sized exactly as the training images were.

    Args:
        trained: A trained model.
        paths: Image files.

    Returns:
        Probabilities, (n_files, n_classes), in [0, 1].

    Raises:
        utils_cv.images.ImageError: If a file cannot be opened as an image.

    Example:
        >>> predict_files(probe, ["my_image.jpg"])  # doctest: +SKIP
    """
    sized = [
        resize_image(load_image(path, target_px=trained.im_size_px), trained.im_size_px, fit=trained.fit)
        for path in paths
    ]
    logits = learners.predict_pixels(trained.learn, np.stack([np.asarray(image) for image in sized]))
    return _to_probabilities(logits, trained)


def _score_epoch_0(learn: "Learner", images: TableImages, targets: np.ndarray, seconds: float) -> pd.DataFrame:
    """Make the first row of a history: the probe before any epoch of fine-tuning."""
    train_rows, valid_rows = learners.find_rows(images)
    scores = {"train": (np.nan, np.nan), "valid": (np.nan, np.nan)}
    for name, rows in (("train", train_rows), ("valid", valid_rows)):
        if rows:
            scores[name] = learners.score_logits(learners.predict_pixels(learn, images.pixels[rows]), targets[rows])
    row = {
        "epoch": 0,
        "train_loss": scores["train"][0],
        "valid_loss": scores["valid"][0],
        "valid_accuracy": scores["valid"][1],
        "seconds": seconds,
    }
    return pd.DataFrame([{**row, "is_kept": True}])


def _to_probabilities(logits: np.ndarray, trained: Trained) -> np.ndarray:
    if trained.is_multilabel:
        return 1 / (1 + np.exp(-logits))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _describe(images: TableImages, backbone: str, learn: "Learner", history: pd.DataFrame, seconds: float) -> Trained:
    return Trained(
        learn=learn,
        class_names=list(images.class_names),
        backbone=backbone,
        im_size_px=images.pixels.shape[1],
        fit=images.fit,
        is_multilabel=images.is_multilabel,
        history=history,
        seconds=seconds,
    )
