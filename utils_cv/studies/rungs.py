"""When a higher rung pays: the probe and fine-tuning side by side, for more and more train images."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from utils_cv.data.image_table import TableImages
from utils_cv.data.splits import take_per_class
from utils_cv.evaluation.metrics import compare_accuracy, measure_accuracy
from utils_cv.training.training import TrainedModel, fine_tune, linear_probe, predict_images


def compare_rungs_by_size(
    images: TableImages,
    sizes: Sequence[int],
    *,
    backbone: str,
    depth: str = "top",
    seed: int = 0,
    show_progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Train a probe and fine-tune from it for several numbers of train images, and score both on the same test images.

    The validation images stay whole, because they choose the epoch; smaller sets are parts of larger ones.

    Args:
        images: Opened images with all three splits, one label each.
        sizes: Train images a class; those that some class does not have are left out.
        backbone: Name of the pretrained network.
        depth: What fine-tuning trains, as in `utils_cv.training.training.fine_tune`.
        seed: Seed of the choice of images and of the training.
        show_progress: Show a bar that counts sizes.
        **options: Further arguments of `fine_tune`, such as `epochs`.

    Returns:
        Two rows a size: `n_per_class`, `name` ("probe", "top" or "all"), `accuracy` with `accuracy_low` and
        `accuracy_high` (95 %), `n_test`, `seconds`, and `gain` over the probe with its paired interval `gain_low`
        and `gain_high`.

    Raises:
        ValueError: If no class has as many images as the smallest size.

    Example:
        >>> rows = compare_rungs_by_size(images, [10, 20], backbone="efficientnet_lite0")  # doctest: +SKIP
    """
    is_train = images.table["split"] == "train"
    n_most = int(images.table.loc[is_train, "label"].value_counts().min())
    possible = [size for size in sizes if size <= n_most]
    if not possible:
        raise ValueError(f"The smallest class has {n_most} train images; expected at least {min(sizes)}.")
    rows: list[dict[str, Any]] = []
    for size in tqdm(possible, desc="sizes", unit="size", disable=not show_progress):
        part = take_images(images, size, seed=seed)
        probe = linear_probe(part, backbone=backbone, seed=seed)
        tuned = fine_tune(part, depth=depth, start=probe, seed=seed, show_progress=False, **options)
        rows += _score(part, size, {"probe": probe, depth: tuned})
    return pd.DataFrame(rows)


def take_images(images: TableImages, n_per_class: int, *, seed: int = 0) -> TableImages:
    """Take some train images of each class, and the validation and test images whole."""
    numbered = images.table.assign(row=np.arange(len(images.table)))
    table = take_per_class(numbered, n_per_class, seed=seed)
    rows = table["row"].to_numpy()
    return dataclasses.replace(
        images, table=table.drop(columns="row").reset_index(drop=True), pixels=images.pixels[rows]
    )


def _score(images: TableImages, size: int, rungs: dict[str, TrainedModel]) -> list[dict[str, Any]]:
    rows, baseline = [], None
    for name, trained in rungs.items():
        predictions = predict_images(trained, images)
        baseline = predictions.y_pred if baseline is None else baseline
        score = measure_accuracy(predictions.y_true, predictions.y_pred)
        gain = compare_accuracy(predictions.y_true, predictions.y_pred, baseline)
        row = {"n_per_class": size, "name": name, "accuracy": score.value}
        row |= {"accuracy_low": score.low, "accuracy_high": score.high, "n_test": score.n, "seconds": trained.seconds}
        rows.append(row | {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high})
    return rows
