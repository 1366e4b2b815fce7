"""How large a test set must be: to know one accuracy, and to tell two models apart."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from utils_cv.evaluation.intervals import Z_95, compute_wilson_interval
from utils_cv.evaluation.metrics import check_same_length, compare_accuracy


def count_images_for_width(accuracy: float, half_width: float) -> int:
    """Test images needed to know an accuracy to within plus or minus `half_width`, with 95 % confidence.

    Args:
        accuracy: Expected accuracy, in (0, 1); 0.5 is the worst case.
        half_width: Half of the wanted interval; 0.02 is plus or minus two points.

    Returns:
        The normal approximation n = 1.96² × accuracy × (1 - accuracy) / half_width², rounded up.

    Example:
        >>> count_images_for_width(0.9, 0.02)
        865
    """
    if not 0 < accuracy < 1 or not 0 < half_width < 1:
        raise ValueError(f"Expected accuracy and half_width between 0 and 1, got {accuracy} and {half_width}.")
    return math.ceil(Z_95**2 * accuracy * (1 - accuracy) / half_width**2)


def count_images_to_tell_apart(difference: float, discordance: float, *, power: float = 0.8) -> int:
    """Test images on which two models must be compared so that their difference shows.

    Args:
        difference: True difference of the two accuracies, above 0.
        discordance: Share of images on which exactly one of the two is right, at least `difference`; a first test
            set gives an estimate. Models that make the same mistakes need fewer images.
        power: Chance that the paired 95 % interval leaves out 0.

    Returns:
        Number of images (Connor 1987, the sample size of McNemar's test), rounded up.

    Example:
        >>> count_images_to_tell_apart(0.02, 0.10)
        1960
    """
    from scipy.stats import norm

    if not 0 < difference <= discordance <= 1 or not 0 < power < 1:
        raise ValueError(
            f"Got difference={difference}, discordance={discordance}, power={power}; expected "
            "0 < difference <= discordance <= 1 and a power between 0 and 1."
        )
    spread = math.sqrt(max(discordance - difference**2, 0.0))
    return math.ceil(((Z_95 * math.sqrt(discordance) + norm.ppf(power) * spread) / difference) ** 2)


def measure_discordance(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Share of images on which exactly one of two models is right; bool (n_images,) each."""
    check_same_length(right_a=right_a, right_b=right_b)
    return float((np.asarray(right_a, bool) != np.asarray(right_b, bool)).mean())


def simulate_test_sizes(
    right_a: np.ndarray, right_b: np.ndarray, sizes: Sequence[int], *, n_repeats: int = 300, seed: int = 0
) -> pd.DataFrame:
    """Compare two models on many test sets of each size, drawn with replacement from the images at hand.

    The images at hand stand for the world: their difference is taken as the true one.

    Args:
        right_a: Where model A is right, bool (n_images,).
        right_b: Where model B is right, bool (n_images,).
        sizes: Numbers of test images; larger than n_images is fine.
        n_repeats: Test sets of each size.
        seed: Seed of the draws.

    Returns:
        One row a size: `n_test`; `half_width` (mean half width of the interval of A's accuracy) and
        `paired_half_width` (of the difference); shares of the test sets in which the better model is shown to be
        better by the paired interval (`told_apart`, with its 95 % interval `told_apart_low` and `told_apart_high`) or
        by two intervals that do not overlap (`intervals_apart`), and in which the worse model scores higher
        (`wrong_winner`); `n_repeats`.

    Example:
        >>> rows = simulate_test_sizes(right_a, right_b, [50, 100, 200])  # doctest: +SKIP
    """
    right = np.stack([np.asarray(right_a, bool), np.asarray(right_b, bool)])
    sign = 1 if right[0].sum() >= right[1].sum() else -1
    rng = np.random.default_rng(seed)
    return pd.DataFrame([_simulate_size(right, int(n), sign, n_repeats, rng) for n in sizes])


def _simulate_size(
    right: np.ndarray, n_test: int, sign: int, n_repeats: int, rng: np.random.Generator
) -> dict[str, float]:
    drawn = rng.integers(0, right.shape[1], (n_repeats, n_test))
    a, b = right[0][drawn].astype(int), right[1][drawn].astype(int)
    ones = np.ones(n_test, int)  # a model is right where it predicts 1
    paired = np.array([tuple(compare_accuracy(ones, a[i], b[i]))[:3] for i in range(n_repeats)])
    low_a, high_a = compute_wilson_interval(a.sum(axis=1), n_test)
    low_b, high_b = compute_wilson_interval(b.sum(axis=1), n_test)
    is_told = paired[:, 1] > 0 if sign > 0 else paired[:, 2] < 0
    is_apart = low_a > high_b if sign > 0 else low_b > high_a
    low, high = compute_wilson_interval(int(is_told.sum()), n_repeats)
    return {
        "n_test": n_test,
        "half_width": float((high_a - low_a).mean() / 2),
        "paired_half_width": float((paired[:, 2] - paired[:, 1]).mean() / 2),
        "told_apart": float(is_told.mean()),
        "told_apart_low": low,
        "told_apart_high": high,
        "intervals_apart": float(is_apart.mean()),
        "wrong_winner": float((sign * paired[:, 0] < 0).mean()),
        "n_repeats": n_repeats,
    }
