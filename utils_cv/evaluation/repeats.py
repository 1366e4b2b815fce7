"""Scores of trials that were repeated over seeds on one test set: intervals over images and seeds. No torch.

The same test images are scored in every repeat, so repeats are no further images: averaging the intervals of ten
seeds, or counting 10 × 160 images, would promise too much. Here test images and seeds are both drawn anew
(pigeonhole bootstrap, Owen 2007), which errs on the wide side.
"""

import math
from typing import Any

import numpy as np

from .intervals import Z_95, Score, draw_bootstrap_counts, make_score


def measure_repeated(right: Any, *, n_bootstrap: int = 1000, seed: int = 0) -> Score:
    """Mean accuracy over seeds, with a 95 % interval over test images and seeds.

    Args:
        right: Which answers are right, bool (n_seeds, n_images).
        n_bootstrap: Resamples behind the interval.
        seed: Seed of the resamples.

    Returns:
        The score; its `n` counts test images.

    Raises:
        ValueError: If `right` is not such an array, or is empty.

    Example:
        >>> measure_repeated([[True, True, False, True], [True, False, False, True]]).value
        0.625
    """
    right = _check_right(right, n_axes=2)
    means = resample_means(right[None], n_bootstrap=n_bootstrap, seed=seed)[:, 0]
    return make_score(float(right.mean()), float(means.std(ddof=1)), right.shape[1])


def compare_repeated(right_a: Any, right_b: Any, *, n_bootstrap: int = 1000, seed: int = 0) -> Score:
    """Mean accuracy of A minus that of B on the same test images and seeds, with a paired 95 % interval.

    Args:
        right_a: Which answers of A are right, bool (n_seeds, n_images).
        right_b: Those of B, the same images and seeds in the same order.
        n_bootstrap: Resamples behind the interval.
        seed: Seed of the resamples.

    Returns:
        The difference, in [-1, 1]. Its interval is never narrower than that of two models which agree on every
        image (`metrics.compare_accuracy`).

    Raises:
        ValueError: If the two differ in shape.

    Example:
        >>> compare_repeated([[True, True]], [[True, False]]).value
        0.5
    """
    a, b = _check_right(right_a, n_axes=2), _check_right(right_b, n_axes=2)
    if a.shape != b.shape:
        raise ValueError(f"Expected the same seeds and images in both, got {a.shape} and {b.shape}.")
    means = resample_means(np.stack([a, b]), n_bootstrap=n_bootstrap, seed=seed)
    least = math.sqrt(2) / (a.shape[1] + 2)
    half = Z_95 * max(float((means[:, 0] - means[:, 1]).std(ddof=1)), least)
    value = float(a.mean() - b.mean())
    return Score(value, max(value - half, -1.0), min(value + half, 1.0), a.shape[1])


def resample_means(right: Any, *, n_bootstrap: int = 1000, seed: int = 0) -> np.ndarray:
    """Mean accuracy of every setting in every resample; all settings see the same drawn images and seeds.

    Args:
        right: Which answers are right, bool (n_settings, n_seeds, n_images).
        n_bootstrap: Number of resamples, at least 2.
        seed: Seed of the resamples.

    Returns:
        (n_bootstrap, n_settings), fractions.
    """
    right = _check_right(right, n_axes=3).astype(float)
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap: expected at least 2 resamples, got {n_bootstrap}; 1000 are usual.")
    _, n_seeds, n_images = right.shape
    rng = np.random.default_rng(seed)
    drawn_images = draw_bootstrap_counts(n_images, n_bootstrap, rng) / n_images
    drawn_seeds = draw_bootstrap_counts(n_seeds, n_bootstrap, rng) / n_seeds
    of_seed = right @ drawn_images.T  # (n_settings, n_seeds, n_bootstrap)
    return np.einsum("ksb,bs->bk", of_seed, drawn_seeds)


def join_right(is_right: Any) -> str:
    """Which answers are right as one string of 0 and 1, which fits into a flat row.

    Example:
        >>> join_right([True, False])
        '10'
    """
    return "".join("1" if value else "0" for value in np.asarray(is_right, dtype=bool))


def split_right(texts: Any) -> np.ndarray:
    """What `join_right` made, as bool (n_texts, n_images).

    Raises:
        ValueError: If the strings differ in length, or hold anything but 0 and 1.

    Example:
        >>> split_right(["10", "11"]).mean()
        np.float64(0.75)
    """
    texts = [str(text) for text in texts]
    if len({len(text) for text in texts}) != 1 or set("".join(texts)) - {"0", "1"}:
        raise ValueError("Expected strings of 0 and 1, all of one length: rows that were scored on the same images.")
    return np.array([[character == "1" for character in text] for text in texts])


def _check_right(right: Any, *, n_axes: int) -> np.ndarray:
    array = np.asarray(right)
    if array.ndim != n_axes or array.size == 0 or array.dtype != bool:
        axes = ("n_settings", "n_seeds", "n_images")[-n_axes:]
        raise ValueError(f"Expected bool ({', '.join(axes)}), not empty; got {array.dtype} {array.shape}.")
    return array
