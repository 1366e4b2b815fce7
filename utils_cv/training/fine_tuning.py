"""Fine-tuning as one call: all layers on the images, or the last stage on activations that are computed once."""

import copy
import functools
import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from utils_cv.data.image_table import TableImages, find_rows
from utils_cv.data.labels import encode_labels
from utils_cv.models.features import prepare_network, run_in_batches
from utils_cv.models.model_files import DEFAULT_BACKBONE
from utils_cv.models.onnx_export import Normalized
from utils_cv.models.saved_classifier import ImageClassifier
from utils_cv.models.splitting import split_backbone
from utils_cv.system.machine import measure_free_memory_mb
from utils_cv.system.threads import N_MANY, announce
from utils_cv.system.timing import Timer

from .augmentation import BatchAugmentation
from .callbacks import Checkpoint, Distribute, KeepBest
from .learner import make_dataloaders, make_item_loaders, make_learner
from .linear_probe import linear_probe
from .trained_models import TrainedModel, compute_logits, make_trained_model, take_start

# Passes over the train images.
EPOCHS = 8
# Highest learning rates: from pretrained weights, from random ones.
LEARNING_RATE, LEARNING_RATE_FROM_RANDOM = 5e-4, 3e-3
# How many times smaller the rate of the lowest layers is, where all of them learn.
RATE_RATIO = 10
# Views of each image whose activations are kept; fewer where they would take more than this, in units of 10**6 bytes.
N_VIEWS, ACTIVATIONS_BUDGET_MB = 4, 2_000
# How many answers it takes to learn an image once, as measured with efficientnet_lite0.
ANSWERS_PER_PASS = {"all": 4, "last_stage": 1}


def fine_tune(
    images: TableImages,
    *,
    trainable: str = "all",
    start: TrainedModel | ImageClassifier | None = None,
    pretrained: bool = True,
    backbone: str | None = None,
    epochs: int = EPOCHS,
    learning_rate: float | None = None,
    batch_size: int = 16,
    augment: str = "upright",
    balance: str = "none",
    activations: "Activations | None" = None,
    checkpoint_dir: str | Path | None = None,
    seed: int = 0,
    show_progress: bool = True,
) -> TrainedModel:
    """Fine-tune a pretrained network: data loaders, learner, one cycle, and the best epoch, in one call.

    It starts from the linear probe, so that the head knows the classes before the body changes, and returns the
    network that it trained: of the epoch with the lowest validation loss, or the last one where there are no validation
    images. It does not ask whether that is better than the probe: `utils_cv.training.model_selection.select_recipe`
    does. Learning rates rise and fall in one cycle (Smith 2018).

    One seed gives the same numbers twice on the same machine, with the same versions and number of threads; on a GPU
    some sums are added up in varying order, so that the last digits may differ. Under `torchrun` the processes share
    every batch: see `utils_cv.training.callbacks.Distribute`.

    Args:
        images: Opened images with the split `train`, and `valid` to choose the epoch by.
        trainable: "all" trains every layer, the lowest ten times more slowly than the head; "last_stage" trains the
            layers of the last resolution and the head, on activations of the frozen part that are computed once.
        start: A trained model of the same classes to start from, which is not changed, such as a finished one by
            `utils_cv.training.trained_models.load_trained` or `load_classifier`; None trains a probe first.
        pretrained: False trains all layers from random weights at one rate, which takes far more images and epochs.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes. Default: that of `start`, or
            "efficientnet_lite0".
        epochs: Passes over the train images, at least 1.
        learning_rate: Highest learning rate, that of the head. None: 0.0005, from random weights 0.003.
        batch_size: Images per step; larger ones need more memory and seldom help on small sets.
        augment: One of `utils_cv.training.augmentation.AUGMENTATIONS`: what may change about an image without changing
            its label. `utils_cv.training.augmentation.augment_pixels` shows what it does.
        balance: Where some classes are rare: "weights" lets every class count alike in the loss, "sampling" draws all
            classes equally often, "none" lets every image count alike. The best epoch and the probe are chosen alike.
        activations: From `compute_activations`, to be used by several trainings; None computes them.
        checkpoint_dir: Folder where the training is saved after every epoch. Called again with the same arguments it
            goes on from there, to the same result as without a stop.
        seed: Seed of shuffling and augmentation.
        show_progress: Show fastai's bars and its table of epochs.

    Returns:
        The fine-tuned model. Epoch 0 of its `history` is the start; its `seconds` include those of the start.

    Raises:
        ValueError: If there are no train images, an argument has no such value, `start` has other classes, another
            backbone or takes other images, the backbone cannot be cut, the checkpoint is of another training, or the
            training diverged.
        TypeError: If `start` is no model.

    Example:
        >>> tuned = fine_tune(images, trainable="last_stage", start=probe)  # doctest: +SKIP
    """
    start = take_start(start, images, backbone)
    _check_request(trainable, start, pretrained, epochs)
    if start and (start.class_names, start.is_multilabel) != (images.class_names, images.is_multilabel):
        raise ValueError(
            f"start has the classes {start.class_names}, the images {images.class_names} (several labels: "
            f"{start.is_multilabel}, {images.is_multilabel}). Fit a new head first: linear_probe(images, start=start)."
        )
    if pretrained and start is None:
        start = linear_probe(images, backbone=backbone, balance=balance, seed=seed)
    seconds, backbone = (start.seconds, start.backbone) if start else (0.0, backbone or DEFAULT_BACKBONE)
    rate = learning_rate or (LEARNING_RATE if pretrained else LEARNING_RATE_FROM_RANDOM)
    settings = {"epochs": epochs, "rate": rate, "batch_size": batch_size, "augment": augment, "seed": seed}
    settings |= {"trainable": trainable, "pretrained": pretrained, "balance": balance}
    dls = make_dataloaders(images, batch_size=batch_size, augment=augment, balance=balance, seed=seed)
    network = copy.deepcopy(start.learn.model) if start else None
    learn = trained = make_learner(dls, backbone, network=network, pretrained=pretrained)
    if show_progress:
        announce_training(images, learn.model, {trainable: epochs})
    checkpoint = None
    if checkpoint_dir:
        checkpoint = Checkpoint(checkpoint_dir, _make_fingerprint(images, learn.model, settings))
    if trainable == "last_stage":
        if activations is None:
            activations = compute_activations(
                images, learn.model, backbone=backbone, augment=augment, seed=seed, show_progress=show_progress
            )
            seconds += activations.seconds
        given: dict[str, Any] = {"batch_size": batch_size, "balance": balance, "seed": seed}
        loaders = make_item_loaders(images, *_list_items(images, activations), **given)
        trained = make_learner(loaders, backbone, network=_LastStage(learn.model, images.pixels.shape[1]))
    is_flat = trainable == "last_stage" or not pretrained
    rates = rate if is_flat else slice(rate / RATE_RATIO, rate)  # fastai spreads it geometrically over the groups
    with Timer() as timer:
        rows, kept_epoch = _fit(trained, epochs, rates, checkpoint, show_progress=show_progress)
    return make_trained_model(learn, rows, first_epoch=0, kept_epoch=kept_epoch, seconds=seconds + timer.seconds)


def announce_training(images: TableImages, network: Normalized, n_passes: Mapping[str, int]) -> None:
    """Say in one line, before a long training of these parts, how long it takes, by the time of a few answers."""
    rows = find_rows(images)[0]
    if len(rows) * sum(n_passes.values()) < 10 * N_MANY:
        return
    n_answers = len(rows) * sum(ANSWERS_PER_PASS[part] * n for part, n in n_passes.items())
    passes = ", ".join(f"{n} passes with trainable={part!r}" for part, n in n_passes.items())
    needs = "in the memory of the opened images. Fewer epochs, folds or recipes take less, and so does a smaller size."
    answer = functools.partial(compute_logits, network, images.pixels)
    announce(f"{len(rows):,} images, {passes}", range(n_answers), lambda some: answer(rows[: len(some)]), needs)


class Activations(NamedTuple):
    """What the frozen part of a network gives for views of images: computed once, for any number of trainings."""

    views: list[np.ndarray]  # float16 (n_rows, channels, height, width): as they are, then augmented train images
    rows: list[int]  # of the image table, those of the train images first
    seconds: float  # without the export

    def compute_logits(self, network: Normalized, pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """As the function of that name, by a network with the same frozen part, which is not run again."""
        upper, device = _LastStage(network, pixels.shape[1]).eval(), network.mean.device
        run = torch.inference_mode()(lambda batch: upper(torch.from_numpy(batch).to(device)).cpu().numpy())
        return run_in_batches(run, self.views[0], pd.Index(self.rows).get_indexer(rows))


def compute_activations(
    images: TableImages,
    network: Normalized,
    *,
    backbone: str = DEFAULT_BACKBONE,
    augment: str = "upright",
    seed: int = 0,
    show_progress: bool = False,
) -> Activations:
    """Compute what the part below the last stage gives for views of the train images and for the validation images."""
    size_px, (train_rows, valid_rows) = images.pixels.shape[1], find_rows(images)
    lower = Normalized(split_backbone(network.body, size_px)[0], network.mean, network.std)
    run = prepare_network(lower, size_px, name=f"{backbone}_lower")
    n_views = _count_views(augment, run(images.pixels[:1]).nbytes // 2, len(train_rows))
    rows: list[int] = train_rows + valid_rows
    views = []
    with Timer() as timer:
        for view in range(n_views):
            change = BatchAugmentation(augment, size_px, seed * 1000 + view) if view else None
            given: Any = {"description": f"frozen part, view {view + 1} of {n_views}", "show_progress": show_progress}
            given |= {"change": change, "rows": train_rows if view else rows}
            views.append(run_in_batches(run, images.pixels, dtype=np.float16, **given))
    return Activations(views, rows, timer.seconds)


class _LastStage(nn.Module):
    """The layers of the last resolution and the head, which are the network's own: activations in, logits out."""

    def __init__(self, network: Normalized, im_size_px: int) -> None:
        super().__init__()
        self.body, self.head = split_backbone(network.body, im_size_px)[1], network.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x.float()))


class _ActivationItems:
    """Activations and targets of some rows; each time a row is taken, one of the given views by chance."""

    def __init__(self, views: Sequence[np.ndarray], positions: np.ndarray, targets: np.ndarray) -> None:
        self.views, self.positions, self.targets = views, positions, torch.as_tensor(targets)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        view = self.views[int(torch.randint(len(self.views), ()))]
        return torch.from_numpy(view[self.positions[i]]), self.targets[i]


def _list_items(images: TableImages, activations: Activations) -> list[_ActivationItems]:
    """Items to learn, in all views, and items to validate, as they are."""
    targets = encode_labels(images.table["label"], images.class_names, multilabel=images.is_multilabel)
    index = pd.Index(activations.rows)
    parts = zip((activations.views, activations.views[:1]), find_rows(images), strict=True)
    return [_ActivationItems(views, index.get_indexer(rows), targets[rows]) for views, rows in parts]


def _count_views(augment: str, n_bytes: int, n_images: int) -> int:
    """Count the views whose activations, of so many bytes per image, are worth keeping and fit into memory."""
    wanted = 1 if augment == "none" else N_VIEWS
    if (n_mb := n_bytes * n_images / 1e6) > (free_mb := measure_free_memory_mb()):
        raise MemoryError(
            f"{n_mb:,.0f} MB of activations, {free_mb:,.0f} MB free: use trainable='all' or a smaller size."
        )
    possible = max(1, int(min(ACTIVATIONS_BUDGET_MB, free_mb) // n_mb))
    if possible < wanted:
        warnings.warn(
            f"Of {wanted} views, {n_mb:,.0f} MB of activations each, {possible} fit into memory", stacklevel=4
        )
    return min(possible, wanted)


def _fit(
    learn: Any, epochs: int, rates: float | slice, checkpoint: Checkpoint | None, *, show_progress: bool
) -> tuple[list[list[float]], int]:
    """Train in one cycle of learning rates, put the best epoch's weights back; scores from the start on, and epoch."""
    distribute, keeper = Distribute(), KeepBest() if len(learn.dls.valid) else None
    if checkpoint:
        checkpoint.keeper = keeper
    with learn.no_bar():
        rows = [[np.nan, *learn.validate()[:2], 0.0]]
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your generator is empty")  # fastai's bar without validation images
        if not show_progress or os.environ.get("RANK", "0") != "0":
            stack.enter_context(learn.no_bar())
            stack.enter_context(learn.no_logging())
        learn.fit_one_cycle(epochs, rates, cbs=[distribute, *filter(None, (keeper, checkpoint))])
    rows += map(list, learn.recorder.values)
    kept_epoch = keeper.best_epoch if keeper else epochs
    if kept_epoch == 0 or not np.isfinite(rows[-1][0]):
        raise ValueError("The training diverged: no epoch has a finite loss. Use a lower learning_rate.")
    return rows, kept_epoch


def _make_fingerprint(images: TableImages, network: nn.Module, settings: dict[str, Any]) -> str:
    """Hash everything that a training depends on: numbers and words, images, labels and splits, and the start."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    columns = (images.table[name].to_numpy(dtype="U") for name in ("label", "split"))
    for array in (images.pixels, *columns):
        digest.update(str((array.shape, array.dtype)).encode())
        for start in range(0, len(array), 256):
            digest.update(np.ascontiguousarray(array[start : start + 256]).tobytes())
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _check_request(trainable: str, start: TrainedModel | None, pretrained: bool, epochs: int) -> None:
    if trainable not in ANSWERS_PER_PASS:
        raise ValueError(f"Got trainable={trainable!r}; expected {' or '.join(map(repr, ANSWERS_PER_PASS))}.")
    if epochs < 1:
        raise ValueError(f"Got epochs={epochs}; expected 1 or more.")
    if not pretrained and (start or trainable != "all"):
        raise ValueError("Got pretrained=False; expected trainable='all' and no start: all layers learn from nothing.")
