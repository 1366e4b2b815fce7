"""Training effort: what more epochs, and other learning rates, buy on the validation images."""

from collections.abc import Sequence

import pandas as pd

from utils_cv.data.image_table import load_table_images
from utils_cv.models.backbones import DEFAULT_BACKBONE
from utils_cv.training.training import fine_tune, linear_probe


def measure_training_effort(
    table: pd.DataFrame,
    *,
    backbone: str = DEFAULT_BACKBONE,
    im_size_px: int = 128,
    epochs: int = 4,
    learning_rates: Sequence[float] = (1e-4, 1e-3, 1e-2),
    seed: int = 0,
) -> pd.DataFrame:
    """Fine-tune the upper layers from one linear probe with each learning rate, and keep every epoch's score.

    Args:
        table: An image table with splits `train` and `valid`.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        im_size_px: Side of the images.
        epochs: Passes over the train images.
        learning_rates: Highest learning rates, each its own training.
        seed: Seed of probe and fine-tuning.

    Returns:
        One row a learning rate and epoch (0 is the probe): `learning_rate`, `epoch`, `seconds` of training so far,
        `valid_loss`, `valid_accuracy` with `valid_accuracy_low` and `valid_accuracy_high` (95 %).

    Example:
        >>> measure_training_effort(table, epochs=2)  # doctest: +SKIP
    """
    images = load_table_images(table, im_size_px)
    probe = linear_probe(images, backbone=backbone, seed=seed)
    columns = ["epoch", "seconds", "valid_loss", "valid_accuracy", "valid_accuracy_low", "valid_accuracy_high"]
    histories = []
    for rate in learning_rates:
        tuned = fine_tune(
            images, depth="top", epochs=epochs, learning_rate=rate, start=probe, seed=seed, show_progress=False
        )
        history = tuned.history[columns].copy()
        history["seconds"] = history["seconds"].cumsum()
        histories.append(history.assign(learning_rate=rate))
    return pd.concat(histories, ignore_index=True)[["learning_rate", *columns]]
