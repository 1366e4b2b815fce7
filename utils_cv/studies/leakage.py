"""What a leak does to a score: frames of one scene on both sides of a split, and copies of test images in training.

Works on features that a frozen backbone computed once, so that a split takes a fraction of a second.
"""

import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from utils_cv.data.splits import split_folds
from utils_cv.evaluation.intervals import (
    Score,
    compare_means,
    compare_repeated,
    compare_scores,
)
from utils_cv.training.linear_probe import fit_linear_head

from .experiment import FIXED_C, join_results, run_trials

RANDOM, GROUPED = "random split", "scenes kept together"


def compare_splits(
    features: np.ndarray,
    codes: np.ndarray,
    groups: Any,
    other_features: np.ndarray,
    other_codes: np.ndarray,
    *,
    n_folds: int = 5,
    n_repeats: int = 4,
    seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Score the same images with a random split and with one that keeps groups together, and see which score holds.

    Every image is scored once a repeat, by a model that was trained on the other folds; both kinds of split train on
    equally many images. All models are scored on other images as well, which share no group with any of them.

    Args:
        features: (n_images, n_features).
        codes: (n_images,) classes, 0 to n_classes - 1.
        groups: (n_images,) scene, video or patient of each image.
        other_features: (n_other, n_features) of images that share no group with the first ones.
        other_codes: (n_other,) their classes.
        n_folds: Parts of a split, each scored once; at most the number of groups of a class.
        n_repeats: Repeats with other random numbers.
        seed: Seed of the splits.
        show_progress: Show a bar.

    Returns:
        `name`, `value`, `low`, `high`, `n`: what each split claims, what its models score on the other images, and the
        differences "random minus grouped" (paired), "random minus truth" and "grouped minus truth". Intervals of
        claims count groups as independent, not images.

    Raises:
        ValueError: If a class has fewer groups than there are folds.

    Example:
        >>> rows = compare_splits(features, codes, groups, other_features, other_codes)  # doctest: +SKIP
    """
    groups = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(min(len(np.unique(groups[codes == code])) for code in np.unique(codes)))
    if n_groups < n_folds:
        raise ValueError(f"A class has {n_groups} groups, fewer than n_folds = {n_folds}. Ask for fewer folds.")
    trial = functools.partial(_score_folds, features, codes, groups, other_features, other_codes, n_folds)
    settings = [
        {"split": split, "seed": seed * 1000 + repeat} for repeat in range(n_repeats) for split in (RANDOM, GROUPED)
    ]
    trials = join_results(settings, run_trials(trial, settings, description="splits", show_progress=show_progress))
    claimed, real, shares = {}, {}, {}
    for split, part in trials.groupby("split"):
        shares[split] = np.stack(part["right"]).mean(axis=0)
        claimed[split] = _measure_mean(shares[split], groups)
        real[split] = _measure_mean(np.stack(part["other_shares"]).mean(axis=0), None)
    rows = {
        f"{RANDOM}, claimed": claimed[RANDOM],
        f"{RANDOM}, on other scenes": real[RANDOM],
        f"{GROUPED}, claimed": claimed[GROUPED],
        f"{GROUPED}, on other scenes": real[GROUPED],
        "random minus grouped": compare_means(shares[RANDOM], shares[GROUPED], groups=groups),
        "random minus truth": compare_scores(claimed[RANDOM], real[RANDOM]),
        "grouped minus truth": compare_scores(claimed[GROUPED], real[GROUPED]),
    }
    return pd.DataFrame([{"name": name, **score._asdict()} for name, score in rows.items()])


def _score_folds(
    features: np.ndarray,
    codes: np.ndarray,
    groups: np.ndarray,
    other_features: np.ndarray,
    other_codes: np.ndarray,
    n_folds: int,
    split: str,
    seed: int,
) -> dict[str, Any]:
    folds = split_folds(codes, None if split == RANDOM else groups, n_folds=n_folds, seed=seed)
    right, other_right = np.zeros(len(codes), bool), np.zeros(len(other_codes))
    for train, test in folds:
        predict = _learn(features[train], codes[train])
        right[test] = predict(features[test]) == codes[test]
        other_right += predict(other_features) == other_codes
    return {"right": right, "other_shares": other_right / n_folds}


def measure_planted_duplicates(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    copies: np.ndarray,
    *,
    shares: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 1.0),
    n_draws: int = 5,
    seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Plant near-copies of some test images in the training images and see what the test score then claims.

    Args:
        train: Features (n_train, n_features) and classes (n_train,).
        test: Features (n_test, n_features) and classes (n_test,).
        copies: (n_test, n_features), features of a near-copy of each test image.
        shares: Shares of the test images to copy, in [0, 1]; 0 is the baseline and always measured.
        n_draws: Draws of the images that are copied.
        seed: Seed of the draws.
        show_progress: Show a bar.

    Returns:
        One row a share: `share`, `n_copies`, `accuracy`, and the `difference` to no copies with `difference_low`,
        `difference_high` (paired, 95 %, over test images and draws), `n_test`.

    Example:
        >>> rows = measure_planted_duplicates((features, codes), (test_features, test_codes), copies)  # doctest: +SKIP
    """
    shares = list(dict.fromkeys([0.0, *shares]))
    trial = functools.partial(_score_planted, train, test, copies)
    settings = [{"share": float(share), "seed": seed * 1000 + draw} for share in shares for draw in range(n_draws)]
    trials = join_results(settings, run_trials(trial, settings, description="duplicates", show_progress=show_progress))
    right = {share: np.stack(part["right"]) for share, part in trials.groupby("share")}
    rows = []
    for share in shares:
        change = compare_repeated(right[share], right[0.0]) if share else Score(0.0, 0.0, 0.0, len(copies))
        row = {"share": share, "n_copies": round(share * len(copies)), "accuracy": float(right[share].mean())}
        row |= {"difference": change.value, "difference_low": change.low, "difference_high": change.high}
        rows.append(row | {"n_test": len(copies)})
    return pd.DataFrame(rows)


def _score_planted(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    copies: np.ndarray,
    share: float,
    seed: int,
) -> dict[str, Any]:
    copied = np.random.default_rng(seed).permutation(len(copies))[: round(share * len(copies))]
    predict = _learn(np.concatenate([train[0], copies[copied]]), np.concatenate([train[1], test[1][copied]]))
    return {"right": predict(test[0]) == test[1]}


def make_near_copies(pixels: np.ndarray, *, quality: int = 60, brightness: float = 1.1) -> np.ndarray:
    """Make copies as a second export would: brighter, 5 % cut off at each side, and compressed again.

    Args:
        pixels: uint8, (n, size, size, 3).
        quality: Of the JPEG compression.
        brightness: Factor.

    Returns:
        New images of the same shape.
    """
    copies = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        side, margin = image.shape[0], 0.05 * image.shape[0]
        box = (margin, margin, side - margin, side - margin)
        copy = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box)
        buffer = io.BytesIO()
        ImageEnhance.Brightness(copy).enhance(brightness).save(buffer, "JPEG", quality=quality)
        copies[i] = np.asarray(Image.open(buffer))
    return copies


def _learn(features: np.ndarray, codes: np.ndarray) -> Any:
    weight, bias = fit_linear_head(features, codes, n_classes=int(codes.max()) + 1, strength=FIXED_C)
    return lambda images: (images @ weight.T + bias).argmax(axis=1)


def _measure_mean(shares: np.ndarray, groups: Any) -> Score:
    """Mean of shares with an interval over groups."""
    score = compare_means(shares, np.zeros_like(shares), groups=groups)
    return Score(score.value, max(score.low, 0.0), min(score.high, 1.0), score.n)
