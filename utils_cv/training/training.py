"""Recipes that train a classifier: a linear probe in seconds, and fine-tuning that starts from its solution.

Every recipe takes the opened images of an image table and returns a `TrainedModel`: a fastai `Learner` to go on with,
a history table, and the choices that prediction needs. The training loop is in `utils_cv.training.fine_tuning`.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages, encode_labels
from utils_cv.data.images import load_image, resize_image
from utils_cv.evaluation.calibration import compute_losses, score_logits
from utils_cv.evaluation.intervals import compute_wilson_interval
from utils_cv.models.backbones import DEFAULT_BACKBONE, describe_backbone, load_backbone
from utils_cv.models.features import choose_runtime, prepare_network, run_in_batches
from utils_cv.models.onnx_export import Normalized, export_to_cache
from utils_cv.system.machine import set_seed
from utils_cv.system.timing import Timer

from . import learners
from .augmentation import allows_mirror
from .fine_tuning import FitSettings, export_lower, fit_all, fit_top
from .linear_probe import fit_linear_head
from .trained import TrainedModel, check_can_choose, make_trained

# Highest learning rates, those of the head.
LEARNING_RATES = {"top": 5e-4, "all": 5e-4}
# How many times smaller the rate of the lowest trained layers is.
RATE_RATIOS = {"top": 1.0, "all": 10.0}


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


def linear_probe(
    images: TableImages, *, backbone: str = DEFAULT_BACKBONE, augment: str = "none", seed: int = 0
) -> TrainedModel:
    """Train a linear classifier on the features of a frozen backbone: seconds on a CPU, and often hard to beat.

    The strength of its regularization is chosen by cross-validation within the train split.

    Args:
        images: Opened images; those of the `train` split are learned, those of `valid` are scored for the history.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        augment: One of `training.augmentation.AUGMENTATIONS`; with a preset that allows it the mirror image of each
            train image is averaged in, for twice the time.
        seed: Seed of the folds.

    Returns:
        The backbone with the trained head, as one network.

    Raises:
        ValueError: If there are no train images.

    Example:
        >>> probe = linear_probe(images)  # doctest: +SKIP
    """
    train_rows, valid_rows = learners.find_rows(images)
    targets = encode_labels(images.table["label"], images.class_names, multilabel=images.is_multilabel)
    size_px, runtime = images.pixels.shape[1], choose_runtime()
    with Timer() as timer:
        set_seed(seed)
        facts, body = describe_backbone(backbone), load_backbone(backbone, n_classes=0)
        network = Normalized(body, facts.mean, facts.std)
        with Timer() as export_timer:
            if runtime == "onnx":
                export_to_cache(network, size_px, name=backbone)
        run = prepare_network(network, size_px, name=backbone, runtime=runtime)
        features = run_in_batches(run, images.pixels[train_rows])
        if allows_mirror(augment):
            features = (features + run_in_batches(run, images.pixels[train_rows][:, :, ::-1])) / 2
        weight, bias = fit_linear_head(features, targets[train_rows], n_classes=len(images.class_names), seed=seed)
    seconds = timer.seconds - export_timer.seconds
    model = learners.Classifier(body, weight, bias, mean=facts.mean, std=facts.std)
    learn = learners.make_learner(images, targets, model)
    logits = features @ weight.T + bias
    train_loss = float(compute_losses(targets[train_rows], logits).mean())
    row = {"epoch": 0, "train_loss": train_loss} | _score_start(run, weight, bias, images, targets, valid_rows)
    history = pd.DataFrame([row | {"seconds": seconds, "is_kept": True}])
    return make_trained(images, backbone, learn, history, seconds, export_timer.seconds)


def fine_tune(
    images: TableImages,
    *,
    depth: str = "all",
    backbone: str = DEFAULT_BACKBONE,
    epochs: int = 8,
    learning_rate: float | None = None,
    batch_size: int = 16,
    augment: str = "upright",
    n_views: int = 4,
    class_weights: str = "none",
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    patience: int = 6,
    keep: Literal["best", "last"] = "best",
    start: TrainedModel | None = None,
    checkpoint_dir: str | Path | None = None,
    seed: int = 0,
    show_progress: bool = True,
) -> TrainedModel:
    """Fine-tune a network from the linear probe's solution, or that of another rung, and keep the best epoch.

    Epoch 0 of the history is the start. The epoch with the lowest validation loss is kept, of those whose validation
    accuracy is not below the start's and whose loss is lower by 1.65 standard errors of the difference. So the
    result is never worse than its start on the validation images, and it is the start where these cannot tell.
    Learning rates rise and fall in one cycle: the same in all upper blocks, and with depth "all" down to a tenth in the
    first layers. The statistics of normalization layers stay as pretrained, because small batches estimate them badly.

    One seed gives the same numbers twice on the same machine, with the same versions and number of threads; on a GPU
    some sums are added up in varying order, so that the last digits may differ. Under `torchrun` the processes share
    every batch: see `utils_cv.training.distribution`.

    Args:
        images: Opened images with splits `train` and `valid`.
        depth: "top" trains the blocks of the last resolution and the head, on activations of the frozen lower part
            that are computed once; "all" trains everything.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes; ignored when `start` is given.
        epochs: Passes over the train images; 0 returns the start.
        learning_rate: Highest learning rate, that of the head; None takes that of `LEARNING_RATES`.
        batch_size: Images a step; larger ones need more memory and seldom help on small sets.
        augment: One of `training.augmentation.AUGMENTATIONS`: what may change about an image without changing its
            label. `utils_cv.training.augmentation.make_views` shows what it does.
        n_views: With depth "top": views of each image whose activations are kept; the first is the image as it is.
        class_weights: "balanced" lets every class count alike in the loss, "none" every image.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        mixup: Strength of blending pairs of images (alpha of the Beta distribution, Zhang et al. 2018); 0 for none.
        patience: Stop when the best epoch, and the peak of the learning rate, lie this many epochs back.
        keep: "best" as above; "last" keeps the last epoch and needs no validation images: for a number of epochs that
            was chosen before. Without them the history has no validation scores.
        start: A trained rung to start from, which is not changed; None trains a probe first.
        checkpoint_dir: Folder where the training is saved after every epoch. Called again with the same arguments it
            goes on from there, to the same result as without a stop.
        seed: Seed of shuffling and augmentation.
        show_progress: Show a bar with time left, losses and the validation accuracy with its interval.

    Returns:
        The fine-tuned model; its `seconds` include those of the start.

    Raises:
        ValueError: If there are no train or validation images, an argument has no such value, the backbone cannot be
            cut, or the checkpoint is of another training.

    Example:
        >>> top = fine_tune(images, depth="top", start=probe)  # doctest: +SKIP
    """
    if depth not in LEARNING_RATES:
        raise ValueError(f"Got depth={depth!r}; expected {' or '.join(map(repr, LEARNING_RATES))}.")
    if keep not in ("best", "last"):
        raise ValueError(f"Got keep={keep!r}; expected 'best' or 'last'.")
    check_can_choose(images, epochs, needs_valid=keep == "best")
    start = start or linear_probe(images, backbone=backbone, seed=seed)
    rate = LEARNING_RATES[depth] if learning_rate is None else learning_rate
    settings = FitSettings(
        epochs, rate, RATE_RATIOS[depth], batch_size, augment, n_views, class_weights, label_smoothing, mixup,
        patience, freeze_statistics=True, keeps_last=keep == "last", seed=seed,
    )  # fmt: skip
    with Timer() as timer:
        set_seed(seed)
        targets = encode_labels(images.table["label"], images.class_names, multilabel=images.is_multilabel)
        model = copy.deepcopy(start.learn.model)
        rows = start.history[start.history["is_kept"]].assign(epoch=0).drop(columns="is_kept").to_dict("records")
        options: dict[str, Any] = {"checkpoint_dir": checkpoint_dir, "show_progress": show_progress}
        with Timer() as export_timer:
            if depth == "top":
                export_lower(model, images.pixels.shape[1], name=start.backbone)
        if depth == "top":
            history = fit_top(images, targets, model, settings, rows, name=start.backbone, **options)
        else:
            history = fit_all(images, targets, model, settings, rows, **options)
        learn = learners.make_learner(images, targets, model, batch_size=batch_size, augment=augment)
    if keep == "last" and not learners.find_rows(images)[1]:
        history[[name for name in history if name.startswith(("valid_", "temperature"))]] = np.nan
    seconds = start.seconds + timer.seconds - export_timer.seconds
    return make_trained(images, start.backbone, learn, history, seconds, start.export_seconds + export_timer.seconds)


def predict_images(trained: TrainedModel, images: TableImages, *, split: str = "test") -> Predictions:
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


def predict_files(trained: TrainedModel, paths: Sequence[str | Path]) -> np.ndarray:
    """Predict image files, opened and sized exactly as the training images were.

    Args:
        trained: A trained model.
        paths: Image files.

    Returns:
        Probabilities, (n_files, n_classes), in [0, 1].

    Raises:
        utils_cv.data.images.ImageError: If a file cannot be opened as an image.

    Example:
        >>> predict_files(probe, ["my_image.jpg"])  # doctest: +SKIP
    """
    sized = [
        resize_image(load_image(path, target_px=trained.im_size_px), trained.im_size_px, fit=trained.fit)
        for path in paths
    ]
    logits = learners.predict_pixels(trained.learn, np.stack([np.asarray(image) for image in sized]))
    return _to_probabilities(logits, trained)


def _score_start(
    run: Any, weight: np.ndarray, bias: np.ndarray, images: TableImages, targets: np.ndarray, rows: Sequence[int]
) -> dict[str, float]:
    """Score the probe on the validation images from their features, which the fast runner gives."""
    names = ("valid_loss", "valid_accuracy", "valid_accuracy_low", "valid_accuracy_high", "temperature")
    if not rows:
        return dict.fromkeys(names, np.nan)
    logits = run_in_batches(run, images.pixels[rows]) @ weight.T + bias
    score = score_logits(logits, targets[rows])
    interval = compute_wilson_interval(score.accuracy * len(rows), len(rows))
    values = (score.loss, score.accuracy, *interval, score.temperature)
    return dict(zip(names, values, strict=True))


def _to_probabilities(logits: np.ndarray, trained: TrainedModel) -> np.ndarray:
    if trained.is_multilabel:
        return 1 / (1 + np.exp(-logits))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
