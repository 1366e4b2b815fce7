"""A fastai learner from opened images: loaders, loss, parameter groups, plain predictions.

This file, `training.augmentation` and the callbacks import fastai; `training.training` holds the recipes.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

with warnings.catch_warnings():
    # Importing fastai with current torch prints a deprecation that readers can do nothing about.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    from fastai.data.core import DataLoaders, Datasets
    from fastai.data.transforms import IntToFloatTensor, ToTensor
    from fastai.learner import Learner
    from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
    from fastai.metrics import accuracy, accuracy_multi
    from fastai.torch_core import TensorCategory, TensorMultiCategory
    from fastai.vision.core import PILImage

from utils_cv.data.image_table import TableImages
from utils_cv.data.images import Fit, load_image, resize_image
from utils_cv.models.backbones import list_blocks
from utils_cv.system.machine import choose_device, tune_allocator

from .augmentation import make_augmentations
from .callbacks import ChannelsLast


class Classifier(nn.Module):
    """A backbone that gives features, and a linear head on top; takes images in [0, 1].

    Args:
        body: Network without its classifier: normalized images (n, 3, size, size) to features (n, n_features).
        weight: Head's weight, (n_classes, n_features).
        bias: Head's bias, (n_classes,).
        mean: Of each color channel, as the body was pretrained, in [0, 1].
        std: Likewise. Normalizing inside the network leaves no way to forget it.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, body: nn.Module, weight: np.ndarray, bias: np.ndarray, *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.body = body
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        self.head.weight.data = torch.as_tensor(weight, dtype=torch.float32)
        self.head.bias.data = torch.as_tensor(bias, dtype=torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn images in [0, 1], (n, 3, size, size), into logits, (n, n_classes)."""
        return self.head(self.body((x - self.mean) / self.std))


def make_learner(
    images: TableImages,
    targets: np.ndarray,
    model: Classifier,
    *,
    batch_size: int = 16,
    augment: str = "upright",
    loss: nn.Module | None = None,
) -> Learner:
    """Make a fastai learner whose loaders read the opened images; `learn.dls.test_dl([path])` opens files alike.

    Args:
        images: Opened images; splits `train` and `valid` become the two loaders.
        targets: (n_images,) class codes, or (n_images, n_classes) multi-hot as float32.
        model: What is trained.
        batch_size: Images a step.
        augment: One of `utils_cv.training.augmentation.AUGMENTATIONS`.
        loss: From `make_loss`; None takes the plain one.

    Returns:
        A learner with three parameter groups: lower half of the body, upper half, head.

    Raises:
        ValueError: If `augment` is not a preset, or the table lacks train images.
    """
    splits = find_loader_rows(images)
    items = list(range(len(images.table)))
    readers = [[_OpenItem(images.pixels, images.fit)], [_ReadTarget(targets)]]
    loaders = Datasets(items, tfms=readers, splits=splits).dataloaders(
        bs=min(batch_size, len(splits[0])),
        after_item=[ToTensor()],
        after_batch=[IntToFloatTensor(), *make_augmentations(augment)],
        num_workers=0,  # the images are in memory: forked workers would only copy them
        device=torch.device(choose_device()),
    )
    loaders.vocab = list(images.class_names)
    return assemble_learner(loaders, model, loss or make_loss(targets, len(images.class_names)), targets.ndim == 2)


def assemble_learner(loaders: DataLoaders, model: nn.Module, loss: nn.Module, multilabel: bool) -> Learner:
    """Put loaders, a model with `body` and `head`, and a loss together."""
    return Learner(
        loaders,
        model.to(loaders.device),  # fastai itself does so only when training begins
        loss_func=loss,
        metrics=accuracy_multi if multilabel else accuracy,
        splitter=split_parameters,
        cbs=[ChannelsLast()],
    )


def make_loss(
    targets: np.ndarray, n_classes: int, *, class_weights: str = "none", label_smoothing: float = 0.0
) -> nn.Module:
    """Make the loss: softmax cross-entropy, or one sigmoid a class when an image may have several labels.

    Args:
        targets: Of the train images: (n,) class codes, or (n, n_classes) multi-hot.
        n_classes: Number of classes.
        class_weights: "balanced" lets every class count alike, however few images it has; "none" every image.
        label_smoothing: Share of the target spread over all classes, in [0, 1); not for several labels an image.

    Raises:
        ValueError: If `class_weights` is neither, or the smoothing does not fit.
    """
    if class_weights not in ("none", "balanced") or not 0 <= label_smoothing < 1:
        raise ValueError(
            f"Got class_weights={class_weights!r} and label_smoothing={label_smoothing}; expected 'none' or "
            "'balanced', and a fraction in [0, 1)."
        )
    balanced = class_weights == "balanced"
    if targets.ndim == 2:
        if label_smoothing:
            raise ValueError(f"Got label_smoothing={label_smoothing} with several labels an image; expected 0.")
        n_with = np.maximum(targets.sum(axis=0), 1)
        weights = torch.as_tensor((len(targets) - n_with).clip(1) / n_with, dtype=torch.float32)
        return BCEWithLogitsLossFlat(pos_weight=weights if balanced else None)
    counts = np.maximum(np.bincount(targets, minlength=n_classes), 1)
    weights = torch.as_tensor(len(targets) / (n_classes * counts), dtype=torch.float32)
    return CrossEntropyLossFlat(weight=weights if balanced else None, label_smoothing=label_smoothing)


def find_rows(images: TableImages) -> tuple[list[int], list[int]]:
    """Find the row numbers of the train and the validation images.

    Raises:
        ValueError: If there are no train images.
    """
    split = images.table["split"].to_numpy()
    train_rows, valid_rows = (np.flatnonzero(split == name).tolist() for name in ("train", "valid"))
    if not train_rows:
        raise ValueError(
            f"No image of split 'train'; the table holds {images.table['split'].value_counts().to_dict()}. "
            "Use utils_cv.data.splits.complete_splits before loading the images."
        )
    return train_rows, valid_rows


def split_parameters(model: Any) -> list[list[nn.Parameter]]:
    """Split parameters into lower half of the body, upper half, and head, for learning rates that differ."""
    blocks = list_blocks(model.body)
    half = len(blocks) // 2
    groups = [nn.ModuleList(blocks[:half]), nn.ModuleList(blocks[half:]), model.head]
    return [list(group.parameters()) for group in groups]


def predict_pixels(learn: Learner, pixels: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """Predict opened images.

    Args:
        learn: A learner made by `make_learner`.
        pixels: uint8, (n, size, size, 3).
        batch_size: Images a step; changes nothing but time and memory.

    Returns:
        Logits, (n, n_classes), float32.
    """
    tune_allocator()  # without it a CPU spends most of the time giving memory back and taking it again
    model = learn.model.eval().to(memory_format=torch.channels_last)
    device = next(model.parameters()).device
    logits = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch_size])).to(device)
            # The pixels come with channels last in memory, which the permutation keeps.
            logits.append(model(batch.permute(0, 3, 1, 2).float() / 255).float().cpu().numpy())
    return np.concatenate(logits)


def find_loader_rows(images: TableImages) -> tuple[list[int], list[int]]:
    """Find the rows of both loaders: without validation images fastai's second one shows one train image again."""
    train_rows, valid_rows = find_rows(images)
    return train_rows, valid_rows or train_rows[:1]


class _OpenItem:
    """Turn a row number (an image already opened) or a path into fastai's image type."""

    def __init__(self, pixels: np.ndarray, fit: Fit) -> None:
        self.pixels, self.fit = pixels, fit

    def __call__(self, item: int | str) -> PILImage:
        if isinstance(item, str):
            size_px = self.pixels.shape[1]
            return PILImage(resize_image(load_image(item, target_px=size_px), size_px, fit=self.fit))
        return PILImage.create(np.asarray(self.pixels[item]))


class _ReadTarget:
    def __init__(self, targets: np.ndarray) -> None:
        self.targets = targets

    def __call__(self, item: int | str) -> torch.Tensor:
        known = not isinstance(item, str)
        if self.targets.ndim == 2:
            return TensorMultiCategory(self.targets[item] if known else np.zeros_like(self.targets[0]))
        return TensorCategory(int(self.targets[item]) if known else 0)
