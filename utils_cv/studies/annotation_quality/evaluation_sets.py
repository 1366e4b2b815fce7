"""The test set: what wrong labels in it do to a score, and how large it must be. Formulas, and simulations of them."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from utils_cv.evaluation.intervals import Z_95, compute_wilson_interval
from utils_cv.evaluation.metrics import check_same_length, compare_accuracy

from .wrong_labels import inject_wrong_labels

N_SIMULATED = 300  # test sets for each share of wrong labels
POWER = 0.8  # chance that a difference shows


def simulate_test_noise(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    wrong_fractions: Sequence[float],
    *,
    n_classes: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Inject wrong labels into the test set of a finished model, many times, and measure its accuracy each time.

    Args:
        y_true: True class codes, (n_test,).
        y_pred: Predicted class codes, (n_test,).
        wrong_fractions: Shares of labels that become wrong at random, in [0, 1].
        n_classes: Number of classes.
        seed: Seed of the simulation.

    Returns:
        One row per share: `wrong_fraction`, `accuracy` (mean of the measured ones), `accuracy_low` and `accuracy_high`
        (95 % of them lie between), and `expected`, by formula: a wrong answer repeats a wrong label one time in
        `n_classes - 1`.

    Example:
        >>> y_true = np.arange(100) % 4
        >>> simulate_test_noise(y_true, y_true, [0.0, 0.1], n_classes=4)["accuracy"].round(3).tolist()
        [1.0, 0.9]
    """
    check_same_length(y_true=y_true, y_pred=y_pred)
    accuracy = float((y_true == y_pred).mean())
    rows = []
    for fraction in wrong_fractions:
        draws = range(seed, seed + N_SIMULATED)
        noisy = [inject_wrong_labels(y_true, fraction, n_classes=n_classes, seed=draw) for draw in draws]
        measured = (np.stack(noisy) == y_pred).mean(axis=1)
        expected = accuracy * (1 - fraction) + (1 - accuracy) * fraction / (n_classes - 1)
        rows.append((fraction, measured.mean(), *np.quantile(measured, [0.025, 0.975]), expected))
    return pd.DataFrame(rows, columns=["wrong_fraction", "accuracy", "accuracy_low", "accuracy_high", "expected"])


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


def count_images_to_tell_apart(difference: float, discordance: float) -> int:
    """Test images on which two models must be compared so that their difference shows.

    Args:
        difference: True difference of the two accuracies, above 0.
        discordance: Share of images on which exactly one of the two is right: about 0.05 for similar models, 0.15 for
            different ones. Models that make the same mistakes need fewer images.

    Returns:
        Number of images with which the paired 95 % interval leaves out 0 in four of five cases (Connor 1987, the sample
        size of McNemar's test for a power of 0.8), rounded up.

    Raises:
        ValueError: If the discordance is below the difference, which cannot be: it then was measured on too few images.

    Example:
        >>> count_images_to_tell_apart(0.02, 0.10)
        1960
    """
    from scipy.stats import norm

    if not 0 < difference <= discordance <= 1:
        raise ValueError(
            f"Got difference={difference}, discordance={discordance}; expected 0 < difference <= discordance <= 1. Two "
            "models differ by at most the share of images on which exactly one is right; where that was measured on "
            "few images, try 0.05 to 0.15."
        )
    spread = math.sqrt(max(discordance - difference**2, 0.0))
    return math.ceil(((Z_95 * math.sqrt(discordance) + norm.ppf(POWER) * spread) / difference) ** 2)


def simulate_test_sizes(
    right_a: np.ndarray, right_b: np.ndarray, sizes: Sequence[int], *, n_repeats: int = N_SIMULATED, seed: int = 0
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
        One row per outcome and size: `name`, `n_test`, and the `share` of test sets with that outcome, with its 95 %
        interval `share_low` to `share_high`. Outcomes: the paired interval shows the better model, two separate
        intervals that do not overlap show it, or the worse model scores higher.

    Example:
        >>> right = np.arange(100)
        >>> rows = simulate_test_sizes(right < 90, right < 70, [20, 200], n_repeats=50)
        >>> rows["share"].round(1).tolist()
        [0.5, 1.0, 0.0, 1.0, 0.0, 0.0]
    """
    check_same_length(right_a=right_a, right_b=right_b)
    better, worse = sorted((np.asarray(right_a, bool), np.asarray(right_b, bool)), key=lambda right: -right.sum())
    rng = np.random.default_rng(seed)
    rows = []
    for n_test in sizes:
        drawn = rng.integers(0, len(better), (n_repeats, n_test))
        a, b = better[drawn].astype(int), worse[drawn].astype(int)
        ones = np.ones(n_test, int)  # a model is right where it predicts 1
        low = np.array([compare_accuracy(ones, a[i], b[i]).low for i in range(n_repeats)])
        low_a, high_b = (compute_wilson_interval(right.sum(axis=1), n_test)[side] for right, side in ((a, 0), (b, 1)))
        wins = {"paired interval": low > 0, "separate intervals": low_a > high_b}
        wins |= {"worse model scores higher": a.sum(axis=1) < b.sum(axis=1)}
        for name, is_so in wins.items():
            limits = compute_wilson_interval(int(is_so.sum()), n_repeats)
            rows.append((name, int(n_test), float(is_so.mean()), *limits))
    table = pd.DataFrame(rows, columns=["name", "n_test", "share", "share_low", "share_high"])
    return table.sort_values("name", key=lambda names: names.map(list(wins).index), kind="stable", ignore_index=True)
