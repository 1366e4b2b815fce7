"""The adapter to fastai: data loaders and a learner from opened images, a trained model, and what it predicts."""

import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

with warnings.catch_warnings():
    # Importing fastai with current torch prints a deprecation that readers can do nothing about.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    import fastai.callback.schedule
    import fastai.vision.data  # noqa: F401  (the two give Learner its fit_one_cycle and DataLoaders its show_batch)
    from fastai.callback.fp16 import AMPMode, MixedPrecision
    from fastai.data.core import DataLoaders, Datasets
    from fastai.data.load import DataLoader
    from fastai.data.transforms import Categorize, IntToFloatTensor, MultiCategorize, OneHotEncode
    from fastai.learner import Learner, ValueMetric
    from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
    from fastai.metrics import accuracy, accuracy_multi
    from fastai.torch_core import TensorImage
    from fasttransform import Transform

from utils_cv.data.image_table import TableImages, encode_labels, split_labels
from utils_cv.data.images import Fit, load_image, resize_image
from utils_cv.evaluation.intervals import compute_wilson_interval
from utils_cv.models.backbones import DEFAULT_BACKBONE, describe_backbone, list_blocks, load_backbone
from utils_cv.models.onnx_export import Normalized
from utils_cv.system.files import get_cache_dir
from utils_cv.system.machine import choose_device, set_seed, tune_allocator

from .augmentation import make_augmentation
from .callbacks import FreezeStatistics, StartEpoch


def make_dataloaders(
    images: TableImages, *, batch_size: int = 16, augment: str = "upright", seed: int = 0
) -> DataLoaders:
    """Make fastai's data loaders: they hand the images to the network in batches, shuffled and augmented for training.

    Args:
        images: Opened images of an image table; the split "train" becomes `dls.train`, "valid" `dls.valid`.
        batch_size: Images per training step, at most the number of train images. A last, smaller batch is left out.
        augment: One of `utils_cv.training.augmentation.AUGMENTATIONS`: what may change about a train image without
            changing its label. Validation images stay as they are.
        seed: Seed of shuffling and augmentation; the random numbers of Python, NumPy and torch start from it.

    Returns:
        fastai's DataLoaders. A batch is `(x, y)`: images in [0, 1], float32 (batch_size, 3, size, size), and class
        codes (batch_size,), or 0 and 1 (batch_size, n_classes) in multi-label sets.

    Raises:
        ValueError: If there are no train images, an image occurs twice, or the augmentation is unknown.

    Example:
        >>> dls = make_dataloaders(images, batch_size=16)  # doctest: +SKIP
        >>> dls.show_batch()  # doctest: +SKIP
    """
    splits = find_rows(images)
    row_of = {str(path): row for row, path in enumerate(images.table["path"])}
    if len(row_of) < len(images.table):
        raise ValueError(f"{len(images.table) - len(row_of)} images occur twice; expected one row per image.")
    set_seed(seed)
    loaders = Datasets(
        list(row_of),
        tfms=[_list_image_steps(images, row_of, augment), _list_label_steps(images, row_of)],
        splits=splits,
    ).dataloaders(
        bs=min(batch_size, len(splits[0])),
        after_batch=[IntToFloatTensor()],
        num_workers=0,  # the images are in memory: forked workers would only copy them
        device=torch.device(choose_device()),
    )
    return _describe_loaders(loaders, images, seed)


def make_item_loaders(
    train_items: Any, valid_items: Any, images: TableImages, *, batch_size: int, seed: int
) -> DataLoaders:
    """Make loaders of pairs of tensors, such as activations and targets, computed from images."""
    device = torch.device(choose_device())
    train = DataLoader(train_items, bs=min(batch_size, len(train_items)), shuffle=True, drop_last=True, device=device)
    return _describe_loaders(
        DataLoaders(train, DataLoader(valid_items, bs=64, device=device), device=device), images, seed
    )


def _describe_loaders(loaders: DataLoaders, images: TableImages, seed: int) -> DataLoaders:
    """Note in loaders what `make_learner` asks them for: the images that they are made of, and the seed."""
    loaders.images, loaders.seed = images, seed
    loaders.train.rng = random.Random(seed)
    return loaders


def make_learner(
    dls: DataLoaders,
    backbone: str = DEFAULT_BACKBONE,
    *,
    pretrained: bool = True,
    network: nn.Module | None = None,
    class_weights: str = "none",
) -> Learner:
    """Make fastai's learner: data loaders, a network, a loss and an optimizer (Adam), ready to train.

    The network is the pretrained body of the backbone and a new head, one linear layer. As in fastai the body is frozen
    at first: only the head learns until `learn.unfreeze()`. The parameters are in three groups for learning rates that
    differ: lower half of the body, upper half, head. Running statistics of normalization layers stay as pretrained,
    because small batches estimate them badly. On a GPU it trains in mixed precision; a CPU without bfloat16 is 25 times
    slower in it, one that has it was no faster.

    Args:
        dls: From `make_dataloaders`.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        pretrained: False gives random weights, and nothing is frozen.
        network: A network with `body` and `head` to go on with, in place of a new one; nothing is frozen.
        class_weights: "balanced" lets every class count alike in the loss, "none" every image.

    Returns:
        fastai's Learner: `learn.lr_find()`, `learn.fit_one_cycle(...)`, `learn.predict("image.jpg")`.

    Raises:
        ValueError: If the backbone or the weights are unknown.

    Example:
        >>> learn = make_learner(dls, "efficientnet_lite0")  # doctest: +SKIP
        >>> learn.fit_one_cycle(1, 1e-3)  # doctest: +SKIP
    """
    images, seeds = dls.images, StartEpoch(dls.seed)
    is_frozen = network is None and pretrained
    set_seed(dls.seed)
    network = network or make_network(images, backbone, pretrained=pretrained)
    learn = Learner(
        dls,
        # Channels last is the memory order in which convolutions are fastest.
        network.to(dls.device).to(memory_format=torch.channels_last),
        loss_func=_make_loss(images, class_weights),
        metrics=[
            accuracy_multi if images.is_multilabel else accuracy,
            ValueMetric(lambda: time.perf_counter() - seeds.clock, "seconds"),
        ],
        splitter=_split_parameters,
        cbs=[seeds, *([FreezeStatistics()] if pretrained else []), *_choose_precision(dls.device)],
        path=get_cache_dir("fastai"),  # lr_find puts the weights aside in a file; the working folder stays clean
        train_bn=False,  # a frozen body is frozen, its normalization layers too: an epoch of the head is faster
    )
    learn.recorder.add_time = False  # `seconds` tell it as a number
    learn.arch = backbone
    tune_allocator()  # eager torch on glibc otherwise spends half its time giving memory back
    learn.freeze_to(-1 if is_frozen else 0)
    return learn


def make_network(
    images: TableImages, backbone: str, *, pretrained: bool = True, head: nn.Linear | None = None
) -> Normalized:
    """Put a body and a head together: a new head, or one that was fitted before."""
    facts, body = describe_backbone(backbone), load_backbone(backbone, n_classes=0, pretrained=pretrained)
    if head is None:
        with torch.inference_mode():
            n_features = body(torch.zeros(1, 3, *images.pixels.shape[1:3])).shape[1]
        head = nn.Linear(n_features, len(images.class_names))
    return Normalized(body, facts.mean, facts.std, head)


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and what it needs to predict.

    Attributes:
        learn: fastai's learner; its network takes images in [0, 1] and returns logits.
        class_names: The classes, in the order of the logits.
        backbone: Name of the pretrained network.
        im_size_px: Side of the square images it takes.
        fit: How an image becomes square, see `utils_cv.data.images.resize_image`.
        is_multilabel: Whether an image may have several labels; then probabilities are one sigmoid each.
        history: One row per epoch: `epoch`, `train_loss`, `valid_loss`, `valid_accuracy` with its 95 % interval
            `valid_accuracy_low` and `valid_accuracy_high`, `seconds`, and `is_kept`: whether the model is of this
            epoch. Epoch 0 is the start. The train loss is fastai's: a moving average over the last steps.
        seconds: Time of the whole training and of what it started from, in seconds, without opening the images and
            without `export_seconds`.
        export_seconds: Time to export the frozen part for ONNX Runtime; nearly 0 when that was done before, since
            exports are kept between programs.
    """

    learn: Learner
    class_names: list[str]
    backbone: str
    im_size_px: int
    fit: Fit
    is_multilabel: bool
    history: pd.DataFrame
    seconds: float
    export_seconds: float = 0.0


def make_trained_model(
    learn: Learner, *, history: pd.DataFrame | None = None, seconds: float | None = None, export_seconds: float = 0.0
) -> TrainedModel:
    """Put a trained learner together with what prediction needs.

    Args:
        learn: From `make_learner`, trained.
        history: None takes what the learner recorded of its last training.
        seconds: Of the training; None takes the sum of the history's.
        export_seconds: As in `TrainedModel`.

    Returns:
        The model, for `predict_images` and `utils_cv.models.saved_classifier.save_classifier`.

    Example:
        >>> model = make_trained_model(learn)  # doctest: +SKIP
    """
    images = learn.dls.images
    if history is None:
        rows = learn.start_epoch.rows
        history = make_history(rows, n_valid=len(find_rows(images)[1]), kept_epoch=len(rows))
    seconds = float(history["seconds"].sum()) if seconds is None else seconds
    return TrainedModel(
        learn, list(images.class_names), learn.arch, images.pixels.shape[1], images.fit, images.is_multilabel,
        history, seconds, export_seconds,
    )  # fmt: skip


def make_history(
    rows: Sequence[Sequence[float | None]], *, n_valid: int, kept_epoch: int, first_epoch: int = 1
) -> pd.DataFrame:
    """Make a history of rows (train loss, valid loss, accuracy, seconds): add epoch, interval, and which is kept."""
    names = ["train_loss", "valid_loss", "valid_accuracy", "seconds"]
    table = pd.DataFrame([list(row) for row in rows], columns=names, dtype=float)
    table.insert(0, "epoch", range(first_epoch, first_epoch + len(table)))
    low, high = np.nan, np.nan
    if n_valid:
        low, high = compute_wilson_interval(table["valid_accuracy"] * n_valid, n_valid)
    table.insert(4, "valid_accuracy_low", low)
    table.insert(5, "valid_accuracy_high", high)
    return table.assign(is_kept=table["epoch"] == kept_epoch)


@dataclass(frozen=True)
class Predictions:
    """Predictions as arrays.

    Attributes:
        table: The rows of the image table that were predicted, in order.
        class_names: The classes, in the order of the columns.
        probabilities: (n_images, n_classes), in [0, 1]; rows sum to 1 unless multi-label.
        y_true: (n_images,) class codes, or (n_images, n_classes) of 0 and 1.
    """

    table: pd.DataFrame
    class_names: list[str]
    probabilities: np.ndarray
    y_true: np.ndarray

    @property
    def y_pred(self) -> np.ndarray:
        """The most probable class of each image, (n_images,) codes; multi-label: 1 from 0.5 on, (n_images, n_classes).

        Thresholds of each class: `utils_cv.evaluation.multilabel.choose_thresholds`.
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
    from scipy.special import expit, softmax

    rows = np.flatnonzero(images.table["split"] == split)
    if not len(rows):
        counts = images.table["split"].value_counts().to_dict()
        raise ValueError(f"Got split={split!r}; the table has {counts}.")
    if images.pixels.shape[1] != model.im_size_px:
        raise ValueError(
            f"The images are {images.pixels.shape[1]} px wide, the model takes {model.im_size_px} px: "
            f"load_table_images(table, {model.im_size_px})."
        )
    targets = encode_labels(images.table["label"].iloc[rows], model.class_names, multilabel=model.is_multilabel)
    logits = compute_logits(model.learn.model, images.pixels[rows])
    probabilities = expit(logits) if model.is_multilabel else softmax(logits, axis=1)
    return Predictions(images.table.iloc[rows].reset_index(drop=True), model.class_names, probabilities, targets)


def compute_logits(network: nn.Module, pixels: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """Compute logits, float32 (n, n_classes), of opened images, uint8 (n, size, size, 3)."""
    tune_allocator()  # without it a CPU spends most of the time giving memory back and taking it again
    network = network.eval().to(memory_format=torch.channels_last)
    device = next(network.parameters()).device
    logits = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            batch = torch.from_numpy(np.array(pixels[start : start + batch_size])).to(device)
            # The pixels come with channels last in memory, which the permutation keeps.
            logits.append(network(batch.permute(0, 3, 1, 2).float() / 255).float().cpu().numpy())
    return np.concatenate(logits)


def find_rows(images: TableImages) -> tuple[list[int], list[int]]:
    """Find the row numbers of the train and the validation images.

    Raises:
        ValueError: If there are no train images.
    """
    split = images.table["split"].to_numpy()
    train_rows, valid_rows = (np.flatnonzero(split == name).tolist() for name in ("train", "valid"))
    if not train_rows:
        raise ValueError(
            f"No image of split 'train'; the table has {images.table['split'].value_counts().to_dict()}. "
            "Use utils_cv.data.splits.complete_splits before loading the images."
        )
    return train_rows, valid_rows


def _list_image_steps(images: TableImages, row_of: dict[str, int], augment: str) -> list[Callable]:
    """From a path, of the table or of any file, to fastai's image; only train images are augmented."""
    size_px = images.pixels.shape[1]
    change = make_augmentation(augment, size_px)

    def read(path: str) -> torch.Tensor:
        if path in row_of:
            pixels = np.array(images.pixels[row_of[path]])
        else:
            pixels = np.array(resize_image(load_image(path, target_px=size_px), size_px, fit=images.fit))
        return torch.from_numpy(pixels).permute(2, 0, 1)

    return [read, Transform(lambda image: change(image), split_idx=0), lambda image: TensorImage(image)]


def _list_label_steps(images: TableImages, row_of: dict[str, int]) -> list[Callable]:
    labels, names = images.table["label"].tolist(), images.class_names
    if images.is_multilabel:
        return [lambda path: split_labels(labels[row_of[path]]), MultiCategorize(names), OneHotEncode(len(names))]
    return [lambda path: labels[row_of[path]], Categorize(names, sort=False)]


def _make_loss(images: TableImages, class_weights: str) -> nn.Module:
    """Softmax cross-entropy, or one sigmoid per class where an image may have several labels."""
    if class_weights not in ("none", "balanced"):
        raise ValueError(f"Got class_weights={class_weights!r}; expected 'none' or 'balanced'.")
    train_labels = images.table["label"].iloc[find_rows(images)[0]]
    n_with = encode_labels(train_labels, images.class_names, multilabel=True).sum(axis=0).clip(1)
    is_balanced = class_weights == "balanced"
    if images.is_multilabel:
        weights = torch.as_tensor((len(train_labels) - n_with).clip(1) / n_with, dtype=torch.float32)
        return BCEWithLogitsLossFlat(pos_weight=weights if is_balanced else None)
    weights = torch.as_tensor(len(train_labels) / (len(n_with) * n_with), dtype=torch.float32)
    return CrossEntropyLossFlat(weight=weights if is_balanced else None)


def _choose_precision(device: torch.device) -> list[MixedPrecision]:
    if device.type != "cuda":
        return []
    return [MixedPrecision(amp_mode=AMPMode.BF16 if torch.cuda.is_bf16_supported() else AMPMode.FP16)]


def _split_parameters(model: Any) -> list[list[nn.Parameter]]:
    """Split parameters into lower half of the body, upper half, and head."""
    blocks = list_blocks(model.body)
    half = len(blocks) // 2
    groups = [nn.ModuleList(blocks[:half]), nn.ModuleList(blocks[half:]), model.head]
    return [list(group.parameters()) for group in groups]
