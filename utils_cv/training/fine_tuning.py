"""The training loop behind the recipes: all of a network on images, or its upper part on cached activations."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

with warnings.catch_warnings():
    # Importing fastai with current torch prints a deprecation that readers can do nothing about.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    from fastai.callback.fp16 import AMPMode, MixedPrecision
    from fastai.callback.mixup import MixUp
    from fastai.callback.progress import ProgressCallback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader

from utils_cv.data.image_table import TableImages
from utils_cv.evaluation.calibration import ValidationScore, score_logits
from utils_cv.models.backbones import split_backbone
from utils_cv.models.features import choose_runtime, prepare_network, run_in_batches
from utils_cv.models.onnx_export import Normalized, export_to_cache
from utils_cv.system.machine import choose_device, tune_allocator

from . import callbacks, checkpoints, distribution, learners
from .augmentation import make_views

if TYPE_CHECKING:
    from fastai.learner import Learner

# Activations of more than this are not kept: fewer views are made. In units of 10**6 bytes.
ACTIVATIONS_BUDGET_MB = 2_000


@dataclass(frozen=True)
class FitSettings:
    """What a training depends on, beside images and start; see `training.training.fine_tune` for their meaning."""

    epochs: int
    learning_rate: float
    rate_ratio: float
    batch_size: int
    augment: str
    n_views: int
    class_weights: str
    label_smoothing: float
    mixup: float
    patience: int
    freeze_statistics: bool
    keeps_last: bool
    seed: int


class TopModel(nn.Module):
    """The upper part of a network and its head: takes activations of the lower part, gives logits."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn activations, (n, channels, height, width), into logits, (n, n_classes)."""
        return self.head(self.body(x))


class ActivationItems:
    """Activations and targets by image; each time an image is taken, one of its views by chance.

    Args:
        activations: float16, (n_views, n, channels, height, width).
        targets: (n,) class codes, or (n, n_classes) multi-hot.
    """

    def __init__(self, activations: np.ndarray, targets: np.ndarray) -> None:
        self.activations, self.targets = activations, torch.as_tensor(targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        view = int(torch.randint(len(self.activations), ()))
        return torch.from_numpy(self.activations[view, i]).float(), self.targets[i]


def fit_all(
    images: TableImages,
    targets: np.ndarray,
    model: learners.Classifier,
    settings: FitSettings,
    start: Sequence[dict[str, Any]],
    *,
    checkpoint_dir: str | Path | None = None,
    description: str = "fine-tuning all",
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train a whole network in place.

    Args:
        images: Opened images.
        targets: Of all images.
        model: The start; ends with the weights of the best epoch.
        settings: How to train.
        start: The history's row of the start.
        checkpoint_dir: Where the training is saved after every epoch, and resumed from.
        description: Words in front of the bar.
        show_progress: Show a bar.

    Returns:
        The history.
    """
    loss = _make_loss(images, targets, settings)
    learn = learners.make_learner(
        images, targets, model, batch_size=settings.batch_size, augment=settings.augment, loss=loss
    )
    if settings.mixup > 0:
        learn.add_cb(MixUp(settings.mixup))
    fingerprint = _make_fingerprint(images, targets, model, settings) if checkpoint_dir else ""
    return _fit(learn, settings, start, checkpoint_dir, fingerprint, description, show_progress)


def fit_top(
    images: TableImages,
    targets: np.ndarray,
    model: learners.Classifier,
    settings: FitSettings,
    start: Sequence[dict[str, Any]],
    *,
    name: str,
    checkpoint_dir: str | Path | None = None,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train the upper part of a network in place, on activations of its frozen lower part that are computed once.

    Args:
        images: Opened images.
        targets: Of all images.
        model: The start; ends with the weights of the best epoch.
        settings: How to train.
        start: The history's row of the start.
        name: What the cached export of the lower part is called.
        checkpoint_dir: Where the training is saved after every epoch, and resumed from.
        show_progress: Show a bar.

    Returns:
        The history.

    Raises:
        ValueError: If the backbone cannot be cut.
    """
    fingerprint = _make_fingerprint(images, targets, model, settings) if checkpoint_dir else ""
    lower, upper = split_backbone(model.body, images.pixels.shape[1])
    rows = learners.find_loader_rows(images)
    parts = compute_activations(images, rows, lower, model, settings, name=name, show_progress=show_progress)
    items = [ActivationItems(part, targets[row]) for part, row in zip(parts, rows, strict=True)]
    device, batch_size = torch.device(choose_device()), min(settings.batch_size, len(rows[0]))
    loaders = DataLoaders(
        DataLoader(items[0], bs=batch_size, shuffle=True, drop_last=True, device=device),
        DataLoader(items[1], bs=4 * batch_size, device=device),
        device=device,
    )
    loss = _make_loss(images, targets, settings)
    learn = learners.assemble_learner(loaders, TopModel(upper, model.head), loss, targets.ndim == 2)
    if settings.mixup > 0:
        learn.add_cb(MixUp(settings.mixup))
    return _fit(learn, settings, start, checkpoint_dir, fingerprint, "fine-tuning top", show_progress)


def compute_activations(
    images: TableImages,
    rows: Sequence[Sequence[int]],
    lower: nn.Module,
    model: learners.Classifier,
    settings: FitSettings,
    *,
    name: str,
    show_progress: bool = False,
) -> list[np.ndarray]:
    """Compute what the frozen lower part gives for several views of the train images and for the validation images.

    Returns:
        For train and validation images, float16 (n_views, n, channels, height, width).
    """
    run = prepare_network(_normalize(lower, model), images.pixels.shape[1], name=f"{name}_lower")
    n_views = _count_views(run(images.pixels[:1]).nbytes // 2, len(rows[0]), settings.n_views)
    parts = []
    for part, n in zip(rows, (n_views, 1), strict=True):
        views = make_views(images.pixels[part], settings.augment, n, seed=settings.seed)
        flat = views.reshape(-1, *views.shape[2:])
        values = run_in_batches(
            lambda batch: run(batch).astype(np.float16), flat, description="frozen part", show_progress=show_progress
        )
        parts.append(values.reshape(n, len(part), *values.shape[1:]))
    return parts


def export_lower(model: learners.Classifier, im_size_px: int, *, name: str) -> None:
    """Export the lower part for ONNX Runtime where that is what runs it, unless it was done before."""
    if choose_runtime() == "onnx":
        lower = _normalize(split_backbone(model.body, im_size_px)[0], model)
        export_to_cache(lower, im_size_px, name=f"{name}_lower")


def _normalize(lower: nn.Module, model: learners.Classifier) -> Normalized:
    mean, std = (tuple(values.flatten().tolist()) for values in (model.mean, model.std))
    return Normalized(lower, mean, std)


def _count_views(bytes_each: int, n_images: int, n_views: int) -> int:
    possible = max(1, int(ACTIVATIONS_BUDGET_MB * 1e6 // (bytes_each * n_images)))
    if possible < n_views:
        warnings.warn(
            f"{n_views} views of {n_images} images take {bytes_each * n_images * n_views / 1e6:.0f} MB as activations; "
            f"{possible} views fit into {ACTIVATIONS_BUDGET_MB} MB and are used.",
            stacklevel=4,
        )
    return min(possible, n_views)


def _fit(
    learn: "Learner",
    settings: FitSettings,
    start: Sequence[dict[str, Any]],
    checkpoint_dir: str | Path | None,
    fingerprint: str,
    description: str,
    show_progress: bool,
) -> pd.DataFrame:
    """Train with one cycle of learning rates and put the best weights back."""
    tune_allocator()  # eager torch on glibc otherwise spends half its time giving memory back
    rank, n_processes = distribution.join_processes()
    validation = callbacks.Validate()
    if settings.keeps_last:
        keeper: callbacks.KeepBest = callbacks.KeepLast(validation, None)
    else:
        is_trained = np.isfinite(start[0]["valid_loss"])
        keeper = callbacks.KeepBest(validation, _score_start(learn) if is_trained else None)
    record = callbacks.Record(
        [dict(start[0])], validation, keeper, description, show_progress=show_progress and rank == 0
    )
    added = [callbacks.SeedEpochs(settings.seed, rank), validation, keeper, record]
    added.append(callbacks.StopEarly(keeper, settings.patience))
    added += [callbacks.FreezeStatistics()] * settings.freeze_statistics + _choose_precision()
    added += [distribution.Distribute(rank, n_processes)] * (n_processes > 1)
    first_epoch = 0
    if checkpoint_dir:
        first_epoch = checkpoints.resume_checkpoint(checkpoint_dir, fingerprint, learn, keeper, record)
        added += [checkpoints.SaveCheckpoint(checkpoint_dir, fingerprint, keeper, record)] * (rank == 0)
    if first_epoch < settings.epochs:
        rate = settings.learning_rate
        rates = slice(rate / settings.rate_ratio, rate)  # fastai spreads it geometrically over the groups
        theirs = [callback for callback in learn.cbs if isinstance(callback, ProgressCallback)]
        with learn.no_logging(), learn.removed_cbs(theirs):
            learn.fit_one_cycle(settings.epochs, lr_max=rates, cbs=added, start_epoch=first_epoch)
    keeper.restore(learn.model)
    return record.table()


def _score_start(learn: "Learner") -> ValidationScore:
    """Score the start on the validation images, in the order in which epochs are scored."""
    learn.model.eval()
    with torch.inference_mode():
        parts = [(learn.model(x).float().cpu().numpy(), y.cpu().numpy()) for x, y in learn.dls.valid]
    return score_logits(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _choose_precision() -> list[callbacks.Callback]:
    """Mixed precision on a GPU only: a CPU without bfloat16 is 25 times slower in it, one that has it was no faster."""
    if not torch.cuda.is_available() or not choose_device().startswith("cuda"):
        return []
    return [MixedPrecision(amp_mode=AMPMode.BF16 if torch.cuda.is_bf16_supported() else AMPMode.FP16)]


def _make_loss(images: TableImages, targets: np.ndarray, settings: FitSettings) -> nn.Module:
    return learners.make_loss(
        targets[learners.find_rows(images)[0]],
        len(images.class_names),
        class_weights=settings.class_weights,
        label_smoothing=settings.label_smoothing,
    )


def _make_fingerprint(images: TableImages, targets: np.ndarray, model: nn.Module, settings: FitSettings) -> str:
    splits = images.table["split"].astype(str).to_numpy(dtype="U")
    return checkpoints.make_fingerprint(asdict(settings), [images.pixels, targets, splits], model)
