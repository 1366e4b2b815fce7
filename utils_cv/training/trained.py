"""What every recipe returns: a trained model, its history, and what prediction needs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from utils_cv.data.image_table import TableImages
from utils_cv.data.images import Fit

from . import learners

if TYPE_CHECKING:
    from fastai.learner import Learner


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and what it needs to predict.

    Attributes:
        learn: The fastai learner; its model takes normalized images and returns logits.
        class_names: The classes, in the order of the logits.
        backbone: Name of the pretrained network.
        im_size_px: Side of the square images it takes.
        fit: How an image becomes square, see `utils_cv.data.images.resize_image`.
        is_multilabel: Whether an image may have several labels; then probabilities are one sigmoid each.
        history: One row an epoch: `epoch`, `train_loss`, `valid_loss`, `valid_accuracy` with its 95 % interval
            `valid_accuracy_low` and `valid_accuracy_high`, `temperature`, `seconds`, `is_kept`. `valid_loss` is the
            plain one, without weights or smoothing, of the logits divided by `temperature`, the best for it; the
            kept epoch's model has been divided by it. `train_loss` is what was trained with.
        seconds: Time of the whole recipe and those it started from, in seconds, without opening the images and
            without `export_seconds`.
        export_seconds: Time to export the frozen part for ONNX Runtime; nearly 0 when that was done before, since
            exports are kept between programs.
    """

    learn: "Learner"
    class_names: list[str]
    backbone: str
    im_size_px: int
    fit: Fit
    is_multilabel: bool
    history: pd.DataFrame
    seconds: float
    export_seconds: float = 0.0


def make_trained(
    images: TableImages,
    backbone: str,
    learn: "Learner",
    history: pd.DataFrame,
    seconds: float,
    export_seconds: float,
) -> TrainedModel:
    """Put a recipe's result together with the choices that its images made."""
    return TrainedModel(
        learn=learn,
        class_names=list(images.class_names),
        backbone=backbone,
        im_size_px=images.pixels.shape[1],
        fit=images.fit,
        is_multilabel=images.is_multilabel,
        history=history,
        seconds=seconds,
        export_seconds=export_seconds,
    )


def check_can_choose(images: TableImages, epochs: int, *, needs_valid: bool = True) -> None:
    """Check that there are validation images to choose the best epoch by, where one is to be chosen.

    Raises:
        ValueError: If there are none, or the number of epochs is negative.
    """
    n_valid = len(learners.find_rows(images)[1])
    if epochs < 0 or (needs_valid and not n_valid):
        raise ValueError(
            f"Got epochs={epochs} and {n_valid} images of split 'valid'; expected 0 or more epochs, and validation "
            "images to choose the best epoch by: utils_cv.data.splits.hold_out_valid."
        )
