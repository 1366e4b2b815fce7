"""Which augmentation helps: the same images trained with and without it, on upright images and on turned ones.

Each train image is turned into a few augmented views, and a frozen backbone computes the features of all of them once.
A linear head learned from the views then takes a fraction of a second, so that many draws of train images can be
compared. What helps a linear head need not help a network whose every layer is trained, and the other way round.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from utils_cv.data.image_table import TableImages, encode_labels
from utils_cv.data.splits import take_per_class
from utils_cv.evaluation.intervals import compare_repeated, describe_effect
from utils_cv.models.features import compute_features
from utils_cv.training.linear_probe import fit_linear_head

from .experiment import FIXED_C, join_results, run_trials

NONE = "none"
# What is learned and what is scored; "any side up" images are turned by a random angle.
WORLDS = ("upright", "any side up", "upright, tested any side up")
_TRAIN_IS_TURNED = {WORLDS[0]: False, WORLDS[1]: True, WORLDS[2]: False}
_TEST_IS_TURNED = {WORLDS[0]: False, WORLDS[1]: True, WORLDS[2]: True}


def _mirror(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def _rotate_a_little(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return turn_image(image, rng.uniform(-10, 10))


def _rotate_any(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return turn_image(image, rng.uniform(-180, 180))


def _change_color(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(math.exp(rng.uniform(-0.35, 0.35)))  # 0.7 to 1.4 times
    return image


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = image.width * math.sqrt(rng.uniform(0.5, 1.0))  # half to all of the area
    left, top = rng.uniform(0, image.width - side, size=2)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _change_all(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    for change in (_mirror, _rotate_a_little, _change_color, _crop):
        image = change(image, rng)
    return image


CHANGES: Mapping[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "mirror": _mirror,
    "rotate up to 10°": _rotate_a_little,
    "rotate by any angle": _rotate_any,
    "color": _change_color,
    "crop": _crop,
    "all but any angle": _change_all,
}


def turn_image(image: Image.Image, angle_deg: float) -> Image.Image:
    """Turn a square image about its middle; the corners are filled with the mirrored image, so that no edge shows.

    Args:
        image: A square RGB image.
        angle_deg: Degrees, counter-clockwise.

    Returns:
        A new image of the same size.
    """
    side = image.width
    margin = math.ceil(side * (math.sqrt(2) - 1) / 2) + 1
    padded = np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    turned = Image.fromarray(padded).rotate(angle_deg, Image.Resampling.BILINEAR)
    return turned.crop((margin, margin, margin + side, margin + side))


def change_images(pixels: np.ndarray, name: str, *, seed: int = 0) -> np.ndarray:
    """Make one augmented view of each image.

    Args:
        pixels: uint8, (n, size, size, 3).
        name: One of `CHANGES`.
        seed: The same seed gives the same views.

    Returns:
        New images of the same shape.

    Raises:
        ValueError: If there is no augmentation of that name.

    Example:
        >>> change_images(np.zeros((2, 32, 32, 3), np.uint8), "crop").shape
        (2, 32, 32, 3)
    """
    if name not in CHANGES:
        raise ValueError(f"No augmentation {name!r}; choose from {', '.join(CHANGES)}.")
    rng = np.random.default_rng(seed)
    views = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        views[i] = np.asarray(CHANGES[name](Image.fromarray(image), rng))
    return views


def compare_augmentations(
    images: TableImages,
    names: Sequence[str],
    *,
    worlds: Sequence[str] = WORLDS,
    n_per_class: int = 20,
    n_views: int = 3,
    n_draws: int = 5,
    backbone: str = "efficientnet_lite0",
    seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train linear heads with and without each augmentation and compare them on the same test images.

    Every draw takes `n_per_class` train images out of twice as many. The head learns the images as they are, and with
    an augmentation their views as well; its regularization is divided among the views, so that it stays the same for
    each image. Validation images count as train images, because nothing is chosen.

    Args:
        images: Opened images, one label each, with a `test` split.
        names: Which of `CHANGES`.
        worlds: Which of `WORLDS`.
        n_per_class: Train images of each class in a draw.
        n_views: Augmented views of each train image.
        n_draws: Draws of train images.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        seed: Seed of draws, angles and views.
        show_progress: Show progress bars.

    Returns:
        One row a world and an augmentation, "none" first: `world`, `augmentation`, `accuracy`, and the `difference`
        to "none" with `difference_low`, `difference_high` (paired, 95 %, over test images and draws), `verdict`,
        `n_test`.

    Raises:
        ValueError: If a name or a world is unknown, images have several labels, or a class has too few images.

    Example:
        >>> rows = compare_augmentations(images, ["mirror", "crop"])  # doctest: +SKIP
    """
    unknown = sorted({*names} - {*CHANGES} | {*worlds} - {*WORLDS})
    if unknown or images.is_multilabel:
        raise ValueError(
            f"Got unknown names {unknown}, several labels an image: {images.is_multilabel}; expected augmentations "
            f"from {', '.join(CHANGES)}, worlds from {', '.join(WORLDS)}, and one label an image."
        )
    pool = _choose_pool(images, n_per_class, seed)
    codes = encode_labels(images.table["label"], images.class_names, multilabel=False)
    is_test = (images.table["split"] == "test").to_numpy()
    rows = []
    for is_turned in dict.fromkeys(_TRAIN_IS_TURNED[world] for world in worlds):
        pixels = _turn_all(images.pixels, seed) if is_turned else images.pixels
        train = {NONE: compute_features(pixels[pool], backbone=backbone)[None]}
        for name in names:
            views = [change_images(pixels[pool], name, seed=seed + 1 + i) for i in range(n_views)]
            features = compute_features(np.concatenate(views), backbone=backbone, show_progress=show_progress)
            train[name] = np.concatenate([train[NONE], features.reshape(n_views, len(pool), -1)])
        for world in (world for world in worlds if _TRAIN_IS_TURNED[world] == is_turned):
            test_pixels = _turn_all(images.pixels, seed) if _TEST_IS_TURNED[world] else images.pixels
            test = compute_features(test_pixels[is_test], backbone=backbone)
            trial = functools.partial(_score_draw, train, codes[pool], test, codes[is_test], n_per_class)
            settings = [{"augmentation": name, "draw": seed * 1000 + draw} for name in train for draw in range(n_draws)]
            trials = run_trials(trial, settings, description=world, show_progress=show_progress)
            rows += [{"world": world, **row} for row in _summarize(join_results(settings, trials))]
    return pd.DataFrame(rows)


def _choose_pool(images: TableImages, n_per_class: int, seed: int) -> np.ndarray:
    """Rows of the train images that draws take from: twice `n_per_class` of each class, or all where there are less."""
    table = images.table.assign(row=np.arange(len(images.table)))
    train = table[table["split"] != "test"]
    smallest = int(train["label"].value_counts().reindex(images.class_names, fill_value=0).min())
    if smallest < n_per_class or len(train) == len(table):
        raise ValueError(
            f"The smallest class has {smallest} train images, the test split {len(table) - len(train)}; expected at "
            f"least n_per_class = {n_per_class} and 1. Ask for fewer, or split with complete_splits."
        )
    return take_per_class(train, min(2 * n_per_class, smallest), seed=seed, split=None)["row"].to_numpy()


def _turn_all(pixels: np.ndarray, seed: int) -> np.ndarray:
    return change_images(pixels, "rotate by any angle", seed=10_000 + seed)


def _score_draw(
    train: Mapping[str, np.ndarray],
    codes: np.ndarray,
    test: np.ndarray,
    test_codes: np.ndarray,
    n_per_class: int,
    augmentation: str,
    draw: int,
) -> dict[str, Any]:
    """Learn one draw of the train images, (1 + n_views, n_pool, n_features), and score it."""
    rng = np.random.default_rng(draw)
    drawn = [rng.permutation(np.flatnonzero(codes == code))[:n_per_class] for code in np.unique(codes)]
    rows = np.concatenate(drawn)
    views = train[augmentation][:, rows]
    weight, bias = fit_linear_head(
        views.reshape(-1, views.shape[2]),
        np.tile(codes[rows], len(views)),
        n_classes=int(codes.max()) + 1,
        C=FIXED_C / len(views),
    )
    right = (test @ weight.T + bias).argmax(axis=1) == test_codes
    return {"accuracy": float(right.mean()), "right": right}


def _summarize(trials: pd.DataFrame) -> list[dict[str, Any]]:
    right = {name: np.stack(part["right"]) for name, part in trials.groupby("augmentation")}
    rows = []
    for name in trials["augmentation"].unique():
        row = {"augmentation": name, "accuracy": float(right[name].mean()), "n_test": right[name].shape[1]}
        if name == NONE:
            row |= {"difference": 0.0, "difference_low": 0.0, "difference_high": 0.0, "verdict": "baseline"}
        else:
            change = compare_repeated(right[name], right[NONE])
            row |= {"difference": change.value, "difference_low": change.low, "difference_high": change.high}
            row["verdict"] = describe_effect(change)
        rows.append(row)
    return rows
