"""The adapter to fastai: data loaders and a learner from opened images, a trained model, and what it predicts."""

import random
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
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
    from fastai.losses import BaseLoss, BCEWithLogitsLossFlat, CrossEntropyLossFlat
    from fastai.metrics import accuracy, accuracy_multi
    from fastai.torch_core import TensorImage
    from fasttransform import Transform

from utils_cv.data.image_table import TableImages, find_rows
from utils_cv.data.images import load_pixels
from utils_cv.data.labels import encode_labels, split_labels
from utils_cv.evaluation.calibration import weigh_images
from utils_cv.models.model_files import DEFAULT_BACKBONE
from utils_cv.models.onnx_export import Normalized
from utils_cv.models.splitting import list_blocks
from utils_cv.system.files import get_cache_dir
from utils_cv.system.machine import choose_device, set_seed, tune_allocator

from .augmentation import make_augmentation
from .callbacks import BalanceValidation, FreezeStatistics, StartEpoch

# What may be done where classes have unequal numbers of images.
BALANCES = ("none", "weights", "sampling")


def make_dataloaders(
    images: TableImages, *, batch_size: int = 16, augment: str = "upright", balance: str = "none", seed: int = 0
) -> DataLoaders:
    """Make fastai's data loaders: they hand the images to the network in batches, shuffled and augmented for training.

    Args:
        images: Opened images of an image table; the split "train" becomes `dls.train`, "valid" `dls.valid`.
        batch_size: Images per training step, at most the number of train images. A last, smaller batch is left out.
        augment: One of `utils_cv.training.augmentation.AUGMENTATIONS`: what may change about a train image without
            changing its label. Validation images stay as they are.
        balance: Where some classes are rare: "weights" lets every class count alike in the loss of `make_learner`,
            "sampling" draws train images so that every class comes equally often, rare ones repeatedly. With either
            the validation loss lets every class count alike. "none" lets every image count alike.
        seed: Seed of shuffling and augmentation; the random numbers of Python, NumPy and torch start from it.

    Returns:
        fastai's DataLoaders. A batch is `(x, y)`: images in [0, 1], float32 (batch_size, 3, size, size), and class
        codes (batch_size,), or 0 and 1 (batch_size, n_classes) in multi-label sets.

    Raises:
        ValueError: If there are no train images, an image occurs twice, the augmentation or the balance is unknown, or
            images with several labels are to be sampled.

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
        num_workers=0,  # the images are in memory or one read away: forked workers would only copy them
        device=torch.device(choose_device()),
    )
    return _describe_loaders(loaders, images, balance, seed)


def make_item_loaders(
    images: TableImages, train_items: Any, valid_items: Any, *, batch_size: int, balance: str, seed: int
) -> DataLoaders:
    """Make loaders of pairs of tensors, such as activations and targets, computed from images."""
    device = torch.device(choose_device())
    train = DataLoader(train_items, bs=min(batch_size, len(train_items)), shuffle=True, drop_last=True, device=device)
    valid = DataLoader(valid_items, bs=64, device=device)
    return _describe_loaders(DataLoaders(train, valid, device=device), images, balance, seed)


def make_learner(
    dls: DataLoaders,
    backbone: str = DEFAULT_BACKBONE,
    *,
    pretrained: bool = True,
    network: nn.Module | None = None,
) -> Learner:
    """Make fastai's learner: data loaders, a network, a loss and an optimizer (Adam), ready to train.

    The network is the pretrained body of the backbone and a new head, one linear layer. As in fastai the body is frozen
    at first: only the head learns until `learn.unfreeze()`. The parameters are in three groups for learning rates that
    differ: lower half of the body, upper half, head. Running statistics of normalization layers stay as pretrained,
    because small batches estimate them badly. On a GPU it trains in mixed precision.

    Args:
        dls: From `make_dataloaders`.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        pretrained: False gives random weights, and nothing is frozen.
        network: A network with `body` and `head` to go on with, in place of a new one; nothing is frozen.

    Returns:
        fastai's Learner: `learn.lr_find()`, `learn.fit_one_cycle(...)`, `learn.predict("image.jpg")`.

    Raises:
        ValueError: If the backbone or the weights are unknown.

    Example:
        >>> learn = make_learner(dls, "efficientnet_lite0")  # doctest: +SKIP
        >>> learn.fit_one_cycle(1, 1e-3)  # doctest: +SKIP
    """
    images, start_epoch, is_frozen = dls.images, StartEpoch(dls.seed), pretrained and network is None
    callbacks = [start_epoch, FreezeStatistics()] if pretrained else [start_epoch]
    if dls.device.type == "cuda":  # a CPU without bfloat16 is 25 times slower in it, one that has it was no faster
        callbacks.append(MixedPrecision(amp_mode=AMPMode.BF16 if torch.cuda.is_bf16_supported() else AMPMode.FP16))
    if dls.balance == "sampling":
        callbacks.append(BalanceValidation(_make_loss(images, is_balanced=True, device=dls.device)))
    set_seed(dls.seed)
    if network is None:
        n_classes = len(images.class_names)
        network = Normalized.load(backbone, images.pixels.shape[1], n_classes=n_classes, pretrained=pretrained)
    learn = Learner(
        dls,
        # Channels last is the memory order in which convolutions are fastest.
        network.to(dls.device).to(memory_format=torch.channels_last),
        loss_func=_make_loss(images, is_balanced=dls.balance == "weights"),
        metrics=[
            accuracy_multi if images.is_multilabel else accuracy,
            ValueMetric(lambda: time.perf_counter() - start_epoch.clock, "seconds"),
        ],
        splitter=_split_parameters,
        cbs=callbacks,
        path=get_cache_dir("fastai"),  # lr_find puts the weights aside in a file; the working folder stays clean
        train_bn=False,  # a frozen body is frozen, its normalization layers too: an epoch of the head is faster
    )
    learn.recorder.add_time = False  # `seconds` tell it as a number
    learn.arch = backbone
    tune_allocator()  # eager torch on glibc otherwise spends half its time giving memory back
    learn.freeze_to(-1 if is_frozen else 0)
    return learn


def wrap_network(network: nn.Module, backbone: str, *, is_multilabel: bool) -> Learner:
    """Make a learner that has a network and no data."""
    loss = BCEWithLogitsLossFlat() if is_multilabel else CrossEntropyLossFlat()
    learn = Learner(DataLoaders(), network.to(choose_device()), loss_func=loss)
    learn.arch = backbone
    return learn


def _describe_loaders(loaders: DataLoaders, images: TableImages, balance: str, seed: int) -> DataLoaders:
    """Note in loaders what `make_learner` asks them for: the images that they are made of, the balance and the seed."""
    if balance not in BALANCES:
        raise ValueError(f"Got balance={balance!r}; expected one of {', '.join(map(repr, BALANCES))}.")
    loaders.images, loaders.balance, loaders.seed = images, balance, seed
    train = loaders.train
    train.rng = random.Random(seed)
    if balance == "sampling":
        if images.is_multilabel:
            raise ValueError("Images with several labels cannot be drawn label by label; use balance='weights'.")
        codes = encode_labels(images.table["label"], images.class_names, multilabel=False)[find_rows(images)[0]]
        weights = weigh_images(codes, codes)
        # The order is drawn from the loader's own random numbers, which every epoch and every process starts alike.
        train.shuffle_fn = lambda order: train.rng.choices(order, weights=weights[order], k=len(order))
    return loaders


def _list_image_steps(images: TableImages, row_of: dict[str, int], augment: str) -> list[Callable]:
    """From a path, of the table or of any file, to fastai's image; only train images are augmented."""
    size_px = images.pixels.shape[1]
    change = make_augmentation(augment, size_px)
    load = partial(load_pixels, size_px=size_px, fit=images.fit, value_range=images.value_range)

    def read(path: str) -> torch.Tensor:
        pixels = images.pixels[row_of[path]] if path in row_of else load(path)
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)

    return [read, Transform(lambda image: change(image), split_idx=0), lambda image: TensorImage(image)]


def _list_label_steps(images: TableImages, row_of: dict[str, int]) -> list[Callable]:
    labels, names = images.table["label"].tolist(), images.class_names
    if images.is_multilabel:
        return [lambda path: split_labels(labels[row_of[path]]), MultiCategorize(names), OneHotEncode(len(names))]
    return [lambda path: labels[row_of[path]], Categorize(names, sort=False)]


class _WeightedCrossEntropy(nn.CrossEntropyLoss):
    """Divides by the number of images; torch divides by their weights, so that a batch of one class has none."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = nn.functional.cross_entropy(logits, targets, weight=self.weight, reduction="none")
        return losses.mean() if self.reduction == "mean" else losses


def _make_loss(images: TableImages, *, is_balanced: bool, device: torch.device | None = None) -> BaseLoss:
    """Softmax cross-entropy, or one sigmoid per class where an image may have several labels."""
    if not is_balanced:
        return BCEWithLogitsLossFlat() if images.is_multilabel else CrossEntropyLossFlat()
    n_classes, labels = len(images.class_names), images.table["label"].iloc[find_rows(images)[0]]
    learned = encode_labels(labels, images.class_names, multilabel=images.is_multilabel)
    asked = [np.zeros(n_classes), np.ones(n_classes)] if images.is_multilabel else [np.arange(n_classes)]
    weights = [torch.as_tensor(weigh_images(a, learned), dtype=torch.float32, device=device) for a in asked]
    if images.is_multilabel:
        return BCEWithLogitsLossFlat(weight=weights[0], pos_weight=weights[1] / weights[0])
    loss = CrossEntropyLossFlat()
    loss.func = _WeightedCrossEntropy(weight=weights[0])
    return loss


def _split_parameters(model: Any) -> list[list[nn.Parameter]]:
    """Split parameters into lower half of the body, upper half, and head."""
    blocks = list(list_blocks(model.body).values())
    upper = list(nn.ModuleList(blocks[len(blocks) // 2 :]).parameters())
    # The rest has what belongs to no block, too: a transformer's positions and class token.
    lower = [parameter for parameter in model.body.parameters() if not any(parameter is other for other in upper)]
    return [lower, upper, list(model.head.parameters())]
