"""Training from random weights: what the pretrained ones are worth."""

import numpy as np
import torch
from torch import nn

from utils_cv.data.image_table import TableImages, encode_labels
from utils_cv.models.backbones import DEFAULT_BACKBONE, describe_backbone, load_backbone
from utils_cv.system.machine import set_seed
from utils_cv.system.timing import Timer

from . import learners
from .fine_tuning import FitSettings, fit_all
from .trained import TrainedModel, check_can_choose, make_trained


def train_from_scratch(
    images: TableImages,
    *,
    backbone: str = DEFAULT_BACKBONE,
    epochs: int = 4,
    learning_rate: float = 3e-3,
    batch_size: int = 16,
    augment: str = "upright",
    seed: int = 0,
    show_progress: bool = True,
) -> TrainedModel:
    """Train a network from random weights, to see what the pretrained ones are worth; needs far more images.

    Args:
        images: Opened images with splits `train` and `valid`.
        backbone: The architecture; its weights are not used.
        epochs: Passes over the train images.
        learning_rate: Highest learning rate, the same for all layers.
        batch_size: Images a step.
        augment: One of `utils_cv.training.augmentation.AUGMENTATIONS`.
        seed: Seed of weights, shuffling and augmentation.
        show_progress: Show a bar.

    Returns:
        The model of the best epoch.

    Example:
        >>> scratch = train_from_scratch(images, epochs=4)  # doctest: +SKIP
    """
    check_can_choose(images, epochs)
    settings = FitSettings(
        epochs, learning_rate, 1.0, batch_size, augment, n_views=1, class_weights="none", label_smoothing=0.0,
        mixup=0.0, patience=epochs + 1, freeze_statistics=False, keeps_last=False, seed=seed,
    )  # fmt: skip
    with Timer() as timer:
        set_seed(seed)
        facts = describe_backbone(backbone)
        body = load_backbone(backbone, n_classes=0, pretrained=False)
        weight = np.zeros((len(images.class_names), _count_features(body, images.pixels.shape[1])), np.float32)
        model = learners.Classifier(body, weight, weight[:, 0], mean=facts.mean, std=facts.std)
        targets = encode_labels(images.table["label"], images.class_names, multilabel=images.is_multilabel)
        start = {"epoch": 0, "valid_loss": np.inf, "valid_accuracy": 0.0, "seconds": 0.0}
        history = fit_all(
            images, targets, model, settings, [start], description="from scratch", show_progress=show_progress
        )
        learn = learners.make_learner(images, targets, model, batch_size=batch_size, augment=augment)
    history = history[history["epoch"] > 0].reset_index(drop=True)
    return make_trained(images, backbone, learn, history, timer.seconds, 0.0)


def _count_features(body: nn.Module, size_px: int) -> int:
    with torch.inference_mode():
        return int(body.eval()(torch.zeros(1, 3, size_px, size_px)).shape[1])
