"""95 % intervals for scores: what a score of a finite set of images says about all images like them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution: two-sided 95 % intervals


class Score(NamedTuple):
    """A score and its 95 % interval, all as fractions.

    Attributes:
        value: The score on these images, in [0, 1]; a difference of two scores is in [-1, 1].
        low: Lower limit of the interval.
        high: Upper limit of the interval.
        n: Number of images behind the score.

    Example:
        >>> print(Score(0.9, 0.8, 0.95, n=40))
        0.900 (0.800 to 0.950, n = 40)
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n})"


def compute_wilson_interval(n_successes: Any, n: Any) -> tuple[Any, Any]:
    """Wilson's 95 % interval of a fraction; arrays give arrays.

    Unlike `value ± 1.96 standard errors` it stays in [0, 1] and has a width when all or none succeed.
    Source: Wilson 1927; recommended for small n by Brown, Cai and DasGupta 2001 (Statistical Science 16).

    Args:
        n_successes: How many succeeded; fractional counts are allowed.
        n: Out of how many; where it is 0 the limits are NaN.

    Returns:
        Lower and upper limit, in [0, 1].

    Raises:
        ValueError: If `n_successes` lies outside 0 to `n`.

    Example:
        >>> low, high = compute_wilson_interval(9, 10)
        >>> round(low, 3), round(high, 3)
        (0.596, 0.982)
    """
    successes, trials = np.broadcast_arrays(np.asarray(n_successes, float), np.asarray(n, float))
    if np.any(successes < 0) or np.any(successes > trials):
        raise ValueError(f"Expected 0 <= n_successes <= n, got {n_successes} of {n}.")
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 of 0 gives NaN
        fraction = successes / trials
        centre = (fraction + Z_95**2 / (2 * trials)) / (1 + Z_95**2 / trials)
        spread = np.sqrt(fraction * (1 - fraction) / trials + (Z_95 / (2 * trials)) ** 2)
        half = Z_95 / (1 + Z_95**2 / trials) * spread
        # the minimum and maximum take away rounding errors such as 0.9999999999999999 for 10 of 10
        low = np.where(successes == 0, 0.0, np.clip(centre - half, 0, fraction))
        high = np.where(successes == trials, 1.0, np.clip(centre + half, fraction, 1))
    low, high = np.where(trials == 0, np.nan, low), np.where(trials == 0, np.nan, high)
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


def make_fraction_score(n_successes: int, n: int) -> Score:
    """A fraction such as accuracy as a `Score` with Wilson's interval; `n` must be at least 1."""
    return Score(n_successes / n, *compute_wilson_interval(n_successes, n), int(n))


def make_score(value: float, standard_error: float, n: int) -> Score:
    """A score in [0, 1] that is not a plain fraction, such as macro-F1, with a 95 % interval.

    The standard error says how many independent images would have been as informative; Wilson's formula is
    applied to that number (Korn and Graubard 1998, effective sample size). A percentile bootstrap is too narrow
    near 1: for a macro-F1 of 0.98 with 10 images in each of 4 classes it held the truth in 54 % of simulated
    test sets, this interval in 95 % (`tests/unit/test_intervals.py` repeats that in small).

    Args:
        value: The score, in [0, 1].
        standard_error: Its standard error, usually from a bootstrap; 0 when resampling shows no variation,
            and then the `n` images are taken as they are.
        n: Number of images.
    """
    variance = value * (1 - value)
    n_effective = variance / standard_error**2 if standard_error > 0 and variance > 0 else n
    value = min(max(float(value), 0.0), 1.0)
    return Score(value, *compute_wilson_interval(value * n_effective, n_effective), int(n))


def draw_bootstrap_counts(n: int, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `n` images occurs in each resample of `n` images drawn with replacement.

    Returns:
        int array (n_bootstrap, n), every row sums to `n`.
    """
    drawn = rng.integers(0, n, size=(n_bootstrap, n)) + np.arange(n_bootstrap)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=n_bootstrap * n).reshape(n_bootstrap, n)


def resample_in_chunks(statistic: Callable[[int], np.ndarray], n: int, n_bootstrap: int) -> np.ndarray:
    """Values of a resampled statistic (n_bootstrap,), computed in chunks of some 16 MB whatever the number of images.

    Args:
        statistic: Takes how many resamples to draw, returns their values.
        n: Number of images.
        n_bootstrap: Number of resamples, at least 2.
    """
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap: expected at least 2 resamples, got {n_bootstrap}; 1000 are usual.")
    chunk = max(1, 2_000_000 // n)
    return np.concatenate([statistic(min(chunk, n_bootstrap - start)) for start in range(0, n_bootstrap, chunk)])


def compute_bootstrap_error(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, *, n_bootstrap: int, seed: int
) -> float:
    """Bootstrap standard error of a statistic of `n` images.

    Args:
        statistic: Takes counts (n_resamples, n), how often each image was drawn, and returns one value a
            resample (n_resamples,); NaN where the resample does not define it.
        n: Number of images.
        n_bootstrap: Number of resamples, at least 2; 1000 settle the limits to about 3 % of the width.
        seed: The same seed gives the same error.
    """
    rng = np.random.default_rng(seed)
    values = resample_in_chunks(lambda size: statistic(draw_bootstrap_counts(n, size, rng)), n, n_bootstrap)
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if values.size > 1 else 0.0
