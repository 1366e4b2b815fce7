"""95 % intervals: what the score of a finite set of images says about all images like them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]  # counts (n_resamples, n) of the images, to values (n_resamples,)
Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution: two-sided 95 % intervals


class Score(NamedTuple):
    """A score and its 95 % interval.

    Attributes:
        value: The score on these images, in [0, 1]; a difference of two scores is in [-1, 1].
        low: Lower limit of the interval, like `value` a fraction.
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
    """Lower and upper limit of a fraction `n_successes / n` (Wilson 1927); NaN where `n` is 0.

    By hand because scipy's `binomtest(...).proportion_ci("wilson")` takes neither arrays nor fractional counts.
    """
    successes, trials = np.broadcast_arrays(np.asarray(n_successes, float), np.asarray(n, float))
    if np.any(successes < 0) or np.any(successes > trials):
        raise ValueError(f"Expected 0 <= n_successes <= n, got {n_successes} of {n}.")
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 of 0 gives NaN
        fraction = successes / trials
        center = (fraction + Z_95**2 / (2 * trials)) / (1 + Z_95**2 / trials)
        spread = np.sqrt(fraction * (1 - fraction) / trials + (Z_95 / (2 * trials)) ** 2)
        half = Z_95 / (1 + Z_95**2 / trials) * spread
        # the minimum and maximum take away rounding errors such as 0.9999999999999999 for 10 of 10
        low = np.where(successes == 0, 0.0, np.clip(center - half, 0, fraction))
        high = np.where(successes == trials, 1.0, np.clip(center + half, fraction, 1))
    low, high = np.where(trials == 0, np.nan, low), np.where(trials == 0, np.nan, high)
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


def make_fraction_score(n_successes: float, n: int) -> Score:
    """Make the score of a fraction such as accuracy, with Wilson's interval.

    Args:
        n_successes: How many images succeeded, such as right answers.
        n: Out of how many images, at least 1.

    Returns:
        The fraction, in [0, 1].

    Raises:
        ValueError: If there is no image, or more successes than images.

    Example:
        >>> print(make_fraction_score(9, 10))
        0.900 (0.596 to 0.982, n = 10)
    """
    if n < 1:
        raise ValueError(f"Expected at least one image, got {n}.")
    return Score(n_successes / n, *compute_wilson_interval(n_successes, n), int(n))


def make_score(value: float, standard_error: float, n: int) -> Score:
    """Make a score in [0, 1] that is not a plain fraction, such as macro-F1, from its standard error.

    Wilson's interval of the effective sample size (Korn and Graubard 1998), or of `n` where the error is 0. Near 1 it
    holds the truth in 95 % of simulated test sets where percentiles of a bootstrap hold it in 54 %.
    """
    variance = value * (1 - value)
    n_effective = variance / standard_error**2 if standard_error > 0 and variance > 0 else n
    value = min(max(float(value), 0.0), 1.0)
    return Score(value, *compute_wilson_interval(value * n_effective, n_effective), int(n))


def make_paired_score(value: float, mean_square: float, n: int) -> Score:
    """Make the score of a mean of `n` differences in [-1, 1] from their mean and mean square.

    Source: Bonett and Price 2012 (adjusted Wald interval), which Fagerland, Lydersen and Laake 2014 recommend. It keeps
    a width when no image differs.
    """
    center = value * n / (n + 2)
    half = Z_95 * math.sqrt(((mean_square * n + 2) / (n + 2) - center**2) / (n + 2))
    return Score(value, max(center - half, -1.0), min(center + half, 1.0), n)


def resample_statistic(statistic: Statistic, n: int, *, n_bootstrap: int = 1000, seed: Any = 0) -> np.ndarray:
    """Compute a statistic on bootstrap resamples of `n` images, (n_bootstrap,).

    It takes how often each image was drawn, so that one product of matrices serves hundreds of resamples;
    `scipy.stats.bootstrap` draws indices.
    """
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap: expected at least 2 resamples, got {n_bootstrap}; 1000 are usual.")
    rng, chunk = np.random.default_rng(seed), max(1, 2_000_000 // n)  # about 16 MB at a time
    sizes = [min(chunk, n_bootstrap - start) for start in range(0, n_bootstrap, chunk)]
    return np.concatenate([statistic(_draw_counts(n, size, rng)) for size in sizes])


def measure_resampled(statistic: Statistic, n: int, *, n_bootstrap: int = 1000, seed: int = 0) -> Score:
    """Measure a statistic in [0, 1] of `n` images with its bootstrap interval; NaN marks an undefined resample."""
    values = resample_statistic(statistic, n, n_bootstrap=n_bootstrap, seed=seed)
    values = values[np.isfinite(values)]
    standard_error = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return make_score(float(statistic(np.ones((1, n)))[0]), standard_error, n)


def compare_means(values_a: Any, values_b: Any, *, groups: Any = None) -> Score:
    """Compare two means over the same images: A minus B, with a paired 95 % interval (Student's t).

    Values are (n_images,), each in [0, 1]. Images of one of the `groups` (n_images,), such as a scene, do not count as
    independent (Liang and Zeger 1986); `n` of the score is the number of groups. When all groups differ by the same
    amount, the interval is that of `make_paired_score`.
    """
    from scipy.stats import t

    a, b = np.asarray(values_a, float), np.asarray(values_b, float)
    codes = np.arange(len(a)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if not a.shape == b.shape == codes.shape or a.ndim != 1:
        raise ValueError(f"Expected three equal lengths, got {a.shape} and {b.shape}, groups {codes.shape}.")
    n = len(np.unique(codes))
    if n < 2:
        raise ValueError(f"An interval needs at least 2 independent images or groups, got {n}.")
    value = float((a - b).mean())
    residuals = np.bincount(codes, weights=a - b - value) * n / len(a)  # (n_groups,), what each group adds
    half = float(t.ppf(0.975, n - 1)) * math.sqrt(float((residuals**2).sum()) / (n - 1) / n)
    if half < 1e-12:
        return make_paired_score(value, value**2, n)
    return Score(value, max(value - half, -1.0), min(value + half, 1.0), n)


def compare_scores(a: Score, b: Score) -> Score:
    """Compare two scores of separate images: A minus B, with a 95 % interval from the two intervals.

    Source: Zou and Donner 2008 (MOVER). With two of `make_fraction_score` it is Newcombe's interval (1998, method 10).
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Score(value, low, value + math.hypot(a.high - a.value, b.value - b.low), min(a.n, b.n))


def measure_repeated(right: Any, *, n_bootstrap: int = 1000, seed: int = 0) -> Score:
    """Measure the mean accuracy over seeds, with a 95 % interval over test images and seeds.

    Args:
        right: Which answers are right, bool (n_seeds, n_images).
        n_bootstrap: Resamples behind the interval.
        seed: Seed of the resamples; the same seed gives the same interval.

    Returns:
        The accuracy, in [0, 1]; its `n` counts test images.

    Raises:
        ValueError: If `right` is not such an array, or empty.

    Example:
        >>> measure_repeated([[True, True, False, True], [True, False, False, True]]).value
        0.625
    """
    right = _check_right(right, n_axes=2)
    means = resample_means(right[None], n_bootstrap=n_bootstrap, seed=seed)[:, 0]
    return make_score(float(right.mean()), float(means.std(ddof=1)), right.shape[1])


def compare_repeated(right_a: Any, right_b: Any, *, n_bootstrap: int = 1000, seed: int = 0) -> Score:
    """Compare mean accuracies on the same images and seeds: A minus B, with a paired 95 % interval.

    Args:
        right_a: Which answers of A are right, bool (n_seeds, n_images).
        right_b: Those of B, the same seeds and images in the same order.
        n_bootstrap: Resamples behind the interval.
        seed: Seed of the resamples; the same seed gives the same interval.

    Returns:
        The difference, in [-1, 1]. Its interval is never narrower than that of two models which agree on every image.

    Raises:
        ValueError: If the two differ in shape, or are not such arrays.

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
    """Compute means (n_bootstrap, n_settings) of `right` (n_settings, n_seeds, n_images), all from the same draws."""
    right = _check_right(right, n_axes=3).astype(float)
    _, n_seeds, n_images = right.shape
    rng = np.random.default_rng(seed)
    drawn_images = _draw_counts(n_images, n_bootstrap, rng) / n_images
    drawn_seeds = _draw_counts(n_seeds, n_bootstrap, rng) / n_seeds
    of_seed = right @ drawn_images.T  # (n_settings, n_seeds, n_bootstrap)
    return np.einsum("ksb,bs->bk", of_seed, drawn_seeds)


def _draw_counts(n: int, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """Draw how often each of `n` images occurs in each resample, int (n_bootstrap, n); every row sums to `n`."""
    drawn = rng.integers(0, n, size=(n_bootstrap, n)) + np.arange(n_bootstrap)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=n_bootstrap * n).reshape(n_bootstrap, n)


def _check_right(right: Any, *, n_axes: int) -> np.ndarray:
    array = np.asarray(right)
    if array.ndim != n_axes or array.size == 0 or array.dtype != bool:
        axes = ("n_settings", "n_seeds", "n_images")[-n_axes:]
        raise ValueError(f"Expected bool ({', '.join(axes)}), not empty; got {array.dtype} {array.shape}.")
    return array
