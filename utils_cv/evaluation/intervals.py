"""95 % intervals for scores: what a score of a finite set of images says about all images like them."""

import math
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
        center = (fraction + Z_95**2 / (2 * trials)) / (1 + Z_95**2 / trials)
        spread = np.sqrt(fraction * (1 - fraction) / trials + (Z_95 / (2 * trials)) ** 2)
        half = Z_95 / (1 + Z_95**2 / trials) * spread
        # the minimum and maximum take away rounding errors such as 0.9999999999999999 for 10 of 10
        low = np.where(successes == 0, 0.0, np.clip(center - half, 0, fraction))
        high = np.where(successes == trials, 1.0, np.clip(center + half, fraction, 1))
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


def compare_means(values_a: Any, values_b: Any, *, groups: Any = None) -> Score:
    """Mean of A minus mean of B on the same images, with a paired 95 % interval (Student's t).

    Args:
        values_a: (n_images,), each in [0, 1]: right or wrong, or the share of seeds in which the image was right.
        values_b: (n_images,), the same images in the same order.
        groups: (n_images,) scene, video or patient of each image; images of one group do not count as independent
            (Liang and Zeger 1986). None: each image is a group.

    Returns:
        The difference, in [-1, 1]; its `n` is the number of groups. When all groups differ by the same amount, the
        interval is that of Bonett and Price 2012, which keeps a width.

    Raises:
        ValueError: If the lengths differ, or there are fewer than 2 groups.

    Example:
        >>> compare_means([1, 1, 0, 1], [1, 0, 0, 0]).value
        0.5
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
    error = math.sqrt(float((residuals**2).sum()) / (n - 1) / n)
    half = float(t.ppf(0.975, n - 1)) * error
    center = value
    if half < 1e-12:  # no variation seen says little about the next image: one image more on either side
        center = value * n / (n + 2)
        half = Z_95 * math.sqrt(((value**2 * n + 2) / (n + 2) - center**2) / (n + 2))
    return Score(value, max(center - half, -1.0), min(center + half, 1.0), n)


def compare_fractions(n_a: float, total_a: int, n_b: float, total_b: int) -> Score:
    """Fraction A minus fraction B of two separate sets of images, with a 95 % interval.

    Source: Newcombe 1998 (method 10), from the two Wilson intervals; close to nominal for small sets.

    Args:
        n_a: Right answers among the images of A.
        total_a: Images of A, at least 1.
        n_b: Right answers among the images of B.
        total_b: Images of B, at least 1.

    Returns:
        The difference, in [-1, 1]; its `n` is that of the smaller set.

    Raises:
        ValueError: If a set is empty, or has more right answers than images.

    Example:
        >>> print(compare_fractions(56, 70, 48, 80))
        0.200 (0.052 to 0.334, n = 70)
    """
    if min(total_a, total_b) < 1:
        raise ValueError(f"Expected at least one image in either set, got {total_a} and {total_b}.")
    a = Score(n_a / total_a, *compute_wilson_interval(n_a, total_a), total_a)
    return compare_scores(a, Score(n_b / total_b, *compute_wilson_interval(n_b, total_b), total_b))


def compare_scores(a: Score, b: Score) -> Score:
    """Score A minus score B, measured on separate images, with a 95 % interval from the two intervals.

    Source: Zou and Donner 2008 (method of variance estimates recovery), of which Newcombe's interval is a case.

    Returns:
        The difference; its `n` is the smaller one.

    Example:
        >>> print(compare_scores(Score(0.8, 0.7, 0.9, n=70), Score(0.6, 0.5, 0.7, n=80)))
        0.200 (0.059 to 0.341, n = 70)
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Score(value, low, value + math.hypot(a.high - a.value, b.value - b.low), min(a.n, b.n))


def describe_effect(difference: Score) -> str:
    """Say in a word what an interval of a difference shows: "helps", "hurts" or "no difference shown".

    Example:
        >>> describe_effect(Score(0.05, 0.01, 0.09, n=160))
        'helps'
    """
    if difference.low > 0:
        return "helps"
    return "hurts" if difference.high < 0 else "no difference shown"


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


def _check_right(right: Any, *, n_axes: int) -> np.ndarray:
    array = np.asarray(right)
    if array.ndim != n_axes or array.size == 0 or array.dtype != bool:
        axes = ("n_settings", "n_seeds", "n_images")[-n_axes:]
        raise ValueError(f"Expected bool ({', '.join(axes)}), not empty; got {array.dtype} {array.shape}.")
    return array
