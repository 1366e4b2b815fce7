"""Which augmentation helps: the same images trained with and without it, on upright images and on turned ones.

Each train image is turned into a few augmented views, and a frozen backbone computes the features of all of them once.
A linear head learned from the views then takes a fraction of a second, so that many draws of train images can be
compared. What helps a linear head need not help a network whose every layer is trained, and the other way round.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages
from utils_cv.data.labels import encode_labels
from utils_cv.data.splits import list_groups, take_per_class
from utils_cv.evaluation.intervals import compare_means
from utils_cv.models.backbones import DEFAULT_BACKBONE
from utils_cv.models.features import compute_features
from utils_cv.training.augmentation import BatchAugmentation, augment_pixels
from utils_cv.training.linear_probe import fit_linear_head

from .experiment import FIXED_C, join_results, run_trials

NONE = "none"
# Whether train and test images are turned by a random angle.
CONDITIONS = {
    "upright": (False, False),
    "any side up": (True, True),
    "only new images turned": (False, True),
}


def compare_augmentations(
    images: TableImages,
    names: Sequence[str],
    *,
    n_per_class: int = 20,
    n_views: int = 3,
    n_draws: int = 20,
    backbone: str = DEFAULT_BACKBONE,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a linear head with each augmentation and without, under three conditions, and compare on the test images.

    Args:
        images: Opened images with splits, one label per image; all but the test images may be learned from.
        names: Names of `utils_cv.training.augmentation.AUGMENTATIONS`.
        n_per_class: Train images of each class in a draw.
        n_views: Augmented views of each train image.
        n_draws: Draws of train images.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        seed: Seed of draws, angles and views.

    Returns:
        One row per condition and augmentation: `condition`, `augmentation`, `accuracy`, and the difference to no
        augmentation: `value`, `low`, `high` (paired, 95 %, over test images and draws), `n`, `effect`. That of no
        augmentation is to the first condition.

    Raises:
        ValueError: If a name is unknown, images have several labels, or a class has too few images.

    Example:
        >>> rows = compare_augmentations(images, ["mirror", "crop"])  # doctest: +SKIP
    """
    pool = _choose_pool(images, n_per_class, seed)
    codes = encode_labels(images.table["label"], images.class_names, multilabel=False)
    is_test = (images.table["split"] == "test").to_numpy()
    test_groups = list_groups(images.table[is_test])
    compute = functools.partial(compute_features, backbone=backbone, show_progress=True)
    test_rows = np.flatnonzero(is_test)
    turned = _turn(images.pixels, np.concatenate([test_rows, pool]), 10_000 + seed)
    test = {False: compute(images.pixels, test_rows), True: compute(turned[: len(test_rows)])}
    pools = {False: images.pixels[pool], True: turned[len(test_rows) :]}
    train = {key: _compute_views(compute, pixels, names, n_views, seed) for key, pixels in pools.items()}
    rows, plain = [], None
    for condition, (train_is_turned, test_is_turned) in CONDITIONS.items():
        data = (train[train_is_turned], images.table.iloc[pool], codes[pool], test[test_is_turned], codes[is_test])
        trial = functools.partial(_score_draw, *data, n_per_class)
        settings = [
            {"augmentation": name, "draw": seed * 1000 + draw} for name in (NONE, *names) for draw in range(n_draws)
        ]
        results = run_trials(trial, settings, description=condition)
        trials = join_results(settings, results)
        right = {name: np.stack(part["right"]) for name, part in trials.groupby("augmentation")}
        plain = right[NONE] if plain is None else plain
        rows += [{"condition": condition, **row} for row in _summarize(right, names, test_groups, plain)]
    return pd.DataFrame(rows)


def _choose_pool(images: TableImages, n_per_class: int, seed: int) -> np.ndarray:
    """Rows of the train images that draws take from: twice `n_per_class` of each class, or all where there are less."""
    if images.is_multilabel:
        raise ValueError("Got several labels per image; this study takes one label per image.")
    table = images.table.assign(row=np.arange(len(images.table)))
    train = table[table["split"] != "test"]
    smallest = int(train["label"].value_counts().reindex(images.class_names, fill_value=0).min())
    if smallest < n_per_class or len(train) == len(table):
        raise ValueError(
            f"The smallest class has {smallest} train images, the test split {len(table) - len(train)}; expected at "
            f"least n_per_class = {n_per_class} and 1. Ask for fewer, or split with complete_splits."
        )
    return take_per_class(train, min(2 * n_per_class, smallest), seed=seed, split=None)["row"].to_numpy()


def _turn(pixels: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Turn images by random angles, some at a time, and keep rows of them, in that order."""
    turn = BatchAugmentation("rotate_any", pixels.shape[1], seed)
    found = np.empty((len(rows), *pixels.shape[1:]), np.uint8)
    for start in range(0, len(pixels), 256):
        turned = turn(pixels[start : start + 256])
        is_here = rows // 256 == start // 256
        found[is_here] = turned[rows[is_here] - start]
    return found


def _compute_views(
    compute: Any, pixels: np.ndarray, names: Sequence[str], n_views: int, seed: int
) -> dict[str, np.ndarray]:
    """Features of each image as it is and of its augmented views: name to (1 + n_views, n_images, n_features)."""
    plain = compute(pixels)[None]
    features = {NONE: plain}
    for name in names:
        views = np.concatenate([augment_pixels(pixels, name, seed=seed + 1 + i) for i in range(n_views)])
        features[name] = np.concatenate([plain, compute(views).reshape(n_views, len(pixels), -1)])
    return features


def _score_draw(
    train: Mapping[str, np.ndarray],
    pool: pd.DataFrame,
    codes: np.ndarray,
    test: np.ndarray,
    test_codes: np.ndarray,
    n_per_class: int,
    augmentation: str,
    draw: int,
) -> dict[str, Any]:
    rows = take_per_class(pool.assign(row=np.arange(len(pool))), n_per_class, seed=draw, split=None)["row"].to_numpy()
    views = train[augmentation][:, rows]
    weight, bias = fit_linear_head(
        views.reshape(-1, views.shape[2]),
        np.tile(codes[rows], len(views)),
        n_classes=int(codes.max()) + 1,
        C=FIXED_C / len(views),  # the same regularization per image, however many views it has
    )
    return {"right": (test @ weight.T + bias).argmax(axis=1) == test_codes}


def _summarize(
    right: Mapping[str, np.ndarray], names: Sequence[str], groups: np.ndarray | None, plain: np.ndarray
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in (NONE, *names):
        change = compare_means(right[name], plain if name == NONE else right[NONE], groups=groups)
        effect = "helps" if change.low > 0 else "hurts" if change.high < 0 else "no difference shown"
        row = {"augmentation": name, "accuracy": float(right[name].mean())}
        rows.append(row | change._asdict() | {"effect": "baseline" if name == NONE else effect})
    return rows
