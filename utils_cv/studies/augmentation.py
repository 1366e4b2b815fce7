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
from utils_cv.models.features import compute_features
from utils_cv.models.linear_heads import fit_linear_head
from utils_cv.models.model_files import DEFAULT_BACKBONE
from utils_cv.training.augmentation import BatchAugmentation, augment_pixels

from .experiment import FIXED_C, Task, compare_trials, make_task, summarize, tabulate_trials

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
        images: Opened images with splits, of one label or several; all but the test images may be learned from.
        names: Names of `utils_cv.training.augmentation.AUGMENTATIONS`.
        n_per_class: Train images of each class in a draw; of several labels, at least so many of each.
        n_views: Augmented views of each train image.
        n_draws: Draws of train images.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        seed: Seed of draws, angles and views.

    Returns:
        One row per condition and augmentation: `condition`, `augmentation`, `accuracy` (of several labels
        `mean_average_precision`), and the difference to no augmentation: `value`, `low`, `high` (paired, 95 %, over
        test images and draws), `n`, `effect`. That of no augmentation is to the first condition.

    Raises:
        ValueError: If a name is unknown, there is no test split, or a class has too few images.
    """
    task = make_task(images.table, np.empty((len(images.table), 0)), takes_several=True)
    if task.n_smallest < n_per_class:
        raise ValueError(
            f"The smallest class has {task.n_smallest} train images; expected at least n_per_class = {n_per_class}. "
            "Ask for fewer."
        )
    task = task._replace(pool_rows=task.draw(min(2 * n_per_class, task.n_smallest), seed=seed))
    compute = functools.partial(compute_features, backbone=backbone, show_progress=True)
    turned = _turn(images.pixels, np.concatenate([task.test_rows, task.pool_rows]), 10_000 + seed)
    n_test = len(task.test_rows)
    test = {False: compute(images.pixels, task.test_rows), True: compute(turned[:n_test])}
    pools = {False: images.pixels[task.pool_rows], True: turned[n_test:]}
    train = {key: _compute_views(compute, pixels, names, n_views, seed) for key, pixels in pools.items()}
    rows, plain = [], None
    for condition, (train_is_turned, test_is_turned) in CONDITIONS.items():
        trial = functools.partial(_score_draw, task, train[train_is_turned], test[test_is_turned], n_per_class)
        settings = [
            {"augmentation": name, "seed": seed * 1000 + draw} for name in (NONE, *names) for draw in range(n_draws)
        ]
        trials = dict(list(tabulate_trials(trial, settings, description=condition).groupby("augmentation")))
        plain = trials[NONE] if plain is None else plain
        rows += [{"condition": condition, **row} for row in _summarize(trials, names, plain, task.measure)]
    return pd.DataFrame(rows)


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
    task: Task, train: Mapping[str, np.ndarray], test: np.ndarray, n_per_class: int, augmentation: str, seed: int
) -> dict[str, Any]:
    rows = task.draw(n_per_class, seed=seed)
    views = train[augmentation][:, np.searchsorted(task.pool_rows, rows)]
    weight, bias = fit_linear_head(
        views.reshape(-1, views.shape[2]),
        np.concatenate([task.codes[rows]] * len(views)),
        n_classes=len(task.class_names),
        C=FIXED_C / len(views),  # the same regularization per image, however many views it has
    )
    return task.score(test @ weight.T + bias)


def _summarize(
    trials: Mapping[str, pd.DataFrame], names: Sequence[str], plain: pd.DataFrame, measure: str
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in (NONE, *names):
        change = compare_trials(trials[name], plain if name == NONE else trials[NONE])
        effect = "helps" if change.low > 0 else "hurts" if change.high < 0 else "no difference shown"
        row = {"augmentation": name, measure: summarize(trials[name], ["augmentation"])[measure].iloc[0]}
        rows.append(row | change._asdict() | {"effect": "baseline" if name == NONE else effect})
    return rows
