"""95 % intervals: what the score of a finite set of images says about all images like them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]  # counts (n_resamples, n) of the images, to values (n_resamples,)
Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution: two-sided 95 % intervals
N_DIFFERING = 10  # images that must be wrong, or differ, so that those show how much others would


class Score(NamedTuple):
    """A score and its 95 % interval.

    Example:
        >>> print(Score(0.9, 0.8, 0.95, n=40))
        0.900 (0.800 to 0.950, n = 40)
    """

    value: float  # on these images, in [0, 1]; a difference of two scores is in [-1, 1]
    low: float  # limits of the interval
    high: float
    n: int  # images behind the score

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n})"

    def name_limits(self, name: str) -> dict[str, float]:
        """Columns of a table: the value under this name, its limits under `name_low` and `name_high`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def compute_wilson_interval(n_successes: Any, n: Any) -> tuple[Any, Any]:
    """Lower and upper limit of a fraction `n_successes / n` (Wilson 1927); NaN where `n` is 0."""
    # By hand: scipy's `binomtest(...).proportion_ci("wilson")` takes neither arrays nor fractional counts.
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


def resample_statistic(statistic: Statistic, n: int, *, n_bootstrap: int = 1000, seed: Any = 0) -> np.ndarray:
    """Compute a statistic of how often each image was drawn on bootstrap resamples of `n` images, (n_bootstrap,)."""
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap: expected at least 2 resamples, got {n_bootstrap}; 1000 are usual.")
    # One product of matrices serves hundreds of resamples; `scipy.stats.bootstrap` draws indices.
    rng, chunk = np.random.default_rng(seed), max(1, 2_000_000 // n)  # about 16 MB at a time
    sizes = [min(chunk, n_bootstrap - start) for start in range(0, n_bootstrap, chunk)]
    return np.concatenate([statistic(_draw_counts(n, size, rng)) for size in sizes])


def measure_resamples(values: Any, n: int) -> Score:
    """Measure a score of `n` images (or groups) that is no mean over them; the interval is over images and seeds.

    `values` (n_values,) or (n_seeds, n_values) are the score on the images, then on resamples of them, the same for all
    seeds. A resample where it is NaN does not count.
    """
    mean, standard_error = _find_resampled_error(np.atleast_2d(values))
    return make_score(mean, standard_error, n)


def compare_resamples(values_a: Any, values_b: Any, change: np.ndarray, n: int) -> Score:
    """Compare two scores as `measure_resamples` takes them: A minus B, with a paired 95 % interval over both.

    As in `compare_means`, two more images that differ as much as others do keep a width where none differs:
    `change` is by how much more right A is on each image, in [-1, 1].
    """
    mean, standard_error = _find_resampled_error(np.atleast_2d(values_a) - np.atleast_2d(values_b))
    added = float((change[change != 0] ** 2).mean()) if change.any() else 1.0
    half = Z_95 * math.sqrt(standard_error**2 + 2 * added / (n + 2) ** 2)
    return Score(mean, max(mean - half, -1.0), min(mean + half, 1.0), n)


def _find_resampled_error(values: np.ndarray) -> tuple[float, float]:
    """Find the mean over seeds, and its standard error: of the resamples, and of what seeds differ by beyond them."""
    from scipy.stats import t

    value, n_seeds = float(values[:, 0].mean()), len(values)
    resampled = values[:, 1:][:, np.isfinite(values[:, 1:]).all(axis=0)]
    if resampled.shape[1] < 2:
        return value, 0.0
    variance, quantile = float(resampled.mean(axis=0).var(ddof=1)), Z_95
    if n_seeds > 1:
        seeds = float(values[:, 0].var(ddof=1)) / n_seeds
        rest = float((resampled - resampled.mean(axis=0)).var(axis=1, ddof=1).sum()) / (n_seeds - 1) / n_seeds
        variance += max(seeds - rest, 0.0)
        uncertainty = max(seeds, rest / 2) ** 2 / (n_seeds - 1)  # as in `compare_means`
        quantile = float(t.ppf(0.975, max(variance**2 / uncertainty, 1.0))) if uncertainty > 0 else Z_95
    return value, math.sqrt(variance) * quantile / Z_95


def compare_scores(a: Score, b: Score) -> Score:
    """Compare two scores of separate images: A minus B, with a 95 % interval from the two intervals.

    Source: Zou and Donner 2008 (MOVER). With two of `make_fraction_score` it is Newcombe's interval (1998, method 10).
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Score(value, low, value + math.hypot(a.high - a.value, b.value - b.low), min(a.n, b.n))


def measure_mean(values: Any, *, groups: Any = None) -> Score:
    """Measure a mean over images, such as accuracy, also over several trainings, with its 95 % interval.

    The interval is Wilson's for one training and single images. Several trainings, or images that belong together,
    change the number of images that the mean is worth (Korn and Graubard 1998); see `compare_means`. Nothing tells
    from one training how others would turn out: its interval is about this one model.

    Args:
        values: (n_images,), whether each answer is right, or any number in [0, 1]; or (n_seeds, n_images), where a seed
            stands for a new training or a new draw of train images.
        groups: (n_images,), images of one group, such as a scene, do not count as independent. Default: all do.

    Returns:
        The mean, in [0, 1]; `n` counts test images, or groups where there are some. One group says nothing about
        others: its interval is [0, 1].

    Raises:
        ValueError: If the shapes do not fit, or a value lies outside [0, 1].

    Example:
        >>> print(measure_mean([[True, True, False, True], [True, False, False, True]]))  # (2, 4)
        0.625 (0.219 to 0.908, n = 4)
    """
    values, codes = _read_values(values, groups)
    mean = float(values.mean())
    if codes is not None and codes.max() == 0:  # one group says nothing about others
        return Score(mean, 0.0, 1.0, 1)
    n, n_effective = _count_effective(values, codes, mean * (1 - mean))
    # many seeds on few images see no more kinds of images: halfway, as a factor, to no more than the images
    n_effective /= math.sqrt(max(n_effective / values.shape[1], 1.0))
    if _are_few(1 - values if mean > 0.5 else values, codes):
        alone = [_count_effective(row[None], codes, row.mean() * (1 - row.mean()))[1] for row in values]
        n_effective = min(n_effective, float(np.mean(alone)))
    return Score(mean, *compute_wilson_interval(mean * n_effective, n_effective), n)


def compare_means(values_a: Any, values_b: Any, *, groups: Any = None) -> Score:
    """Compare two means over the same images and seeds: A minus B, with a paired 95 % interval over both.

    For one training the interval is that of Bonett and Price 2012 (adjusted Wald), which Fagerland, Lydersen and Laake
    2014 recommend; it keeps a width when no image differs. For several the variance is that of a two-way layout of
    images and seeds with random effects, never below the one over images alone, with degrees of freedom after
    Satterthwaite. In simulations (`benchmarks/README.md`) it held the truth in 92 to 100 % of studies: in 93 to 98 %
    with 10 or 20 seeds, in more with 3 or 5 seeds that act alike on both, where it errs on the wide side. Where fewer
    than 10 images (or groups) differ, several seeds do not make it narrower than that of one: they do not show how much
    other images would differ.

    Args:
        values_a: Of A, as in `measure_mean`.
        values_b: Of B: the same images, and the same seeds in the same order.
        groups: As in `measure_mean`.

    Returns:
        The difference, in [-1, 1]; `n` counts test images, or groups where there are some.

    Raises:
        ValueError: As `measure_mean`.

    Example:
        >>> print(compare_means([[True, True]] * 3, [[True, False]] * 3))  # two of (3, 2)
        0.500 (-0.563 to 1.000, n = 2)
    """
    (a, codes), (b, _) = _read_values(values_a, groups), _read_values(values_b, groups)
    if a.shape != b.shape:
        raise ValueError(f"Expected the same seeds and images in both, got {a.shape} and {b.shape}.")
    difference = a - b
    mean, mean_square = float(difference.mean()), float((difference**2).mean())
    if codes is not None and codes.max() == 0:
        return Score(mean, -1.0, 1.0, 1)
    n, n_effective = _count_effective(difference, codes, mean_square - mean**2)
    # Two more images that differ in opposite directions, as much as those that do differ; more of them where many seeds
    # on few images make the mean worth more than its images.
    n_added = 2 * math.sqrt(max(n_effective / a.shape[1], 1.0))
    added = mean_square / float((difference != 0).mean()) if difference.any() else 1.0
    center = mean * n_effective / (n_effective + n_added)
    spread = (mean_square * n_effective + added * n_added) / (n_effective + n_added) - center**2
    half = Z_95 * math.sqrt(spread / (n_effective + n_added))
    if _are_few(difference, codes):
        alone = [compare_means(*pair, groups=groups) for pair in zip(a, b, strict=True)]
        half = max(half, float(np.mean([(score.high - score.low) / 2 for score in alone])))
    return Score(mean, max(center - half, -1.0), min(center + half, 1.0), n)


def _read_values(values: Any, groups: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return values as float (n_seeds, n_images) and groups as codes (n_images,) or None."""
    array = np.atleast_2d(np.asarray(values, float))
    codes = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if array.ndim != 2 or array.size == 0 or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"Expected values in [0, 1], (n_images,) or (n_seeds, n_images); got {np.shape(values)}.")
    if codes is not None and codes.shape != array.shape[1:]:
        raise ValueError(f"Expected a group for each of {array.shape[1]} images, got {codes.shape}.")
    if codes is not None and codes.max() + 1 == array.shape[1]:
        codes = None  # every image is a group of its own
    return array, codes


def _are_few(values: np.ndarray, codes: np.ndarray | None) -> bool:
    """Whether several seeds have too few images or groups that are not 0, counted by how much each of them is."""
    of_unit = np.abs(values.mean(axis=0) if codes is None else np.bincount(codes, weights=values.mean(axis=0)))
    return len(values) > 1 and bool(of_unit.sum() ** 2 < N_DIFFERING * max((of_unit**2).sum(), 1e-12))


def _count_effective(values: np.ndarray, codes: np.ndarray | None, spread: float) -> tuple[int, float]:
    """Count images or groups, and find how many single images of variance `spread` the mean of `values` is worth."""
    from scipy.stats import t

    n_seeds, n_images = values.shape
    share = np.ones(n_images) / n_images if codes is None else np.bincount(codes) / n_images
    n, deviation = len(share), values - values.mean()
    if codes is not None:
        deviation = np.stack([np.bincount(codes, weights=row) for row in deviation])
    parts = deviation * n / n_images  # (n_seeds, n): what each seed and unit adds to the mean
    of_unit, of_seed = parts.mean(axis=0), parts.mean(axis=1)
    leverage = share / (1 - share) if n > 1 else share
    # of units of several sizes (Bell and McCaffrey 2002)
    variance = float((of_unit**2 * (1 + leverage)).sum()) / n**2
    inverse_df = float((leverage**2 * (1 - 2 * share)).sum() + (leverage * share).sum() ** 2)
    uncertainty = 0.0 if codes is None else variance**2 * inverse_df  # single images: Z_95, as in one training
    if n_seeds > 1:
        seeds = float((of_seed**2).sum()) / (n_seeds - 1) / n_seeds
        rest = float(((parts - of_unit - of_seed[:, None]) ** 2).sum()) / max(n - 1, 1) / (n_seeds - 1) / (n * n_seeds)
        variance += max(seeds - rest, 0.0)
        # few seeds may agree by chance, so they count with half of what chance alone gives
        uncertainty += max(seeds, rest / 2) ** 2 / (n_seeds - 1)
    if variance < 1e-15 or spread < 1e-15:
        return n, float(n)
    quantile = float(t.ppf(0.975, max(variance**2 / uncertainty, 1.0))) if uncertainty > 0 else Z_95
    n_effective = spread * n_images / max(n_images - 1, 1) / variance * (Z_95 / quantile) ** 2
    return n, min(n_effective, float(n_images * n_seeds))


def find_variance(deviations: np.ndarray, groups: Any) -> tuple[float, int]:
    """Find the variance of a mean of images in groups, and count those (Liang and Zeger 1986; Obuchowski 1997)."""
    codes = np.arange(len(deviations)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.bincount(codes, weights=deviations)
    n = len(sums)
    return float((sums**2).sum()) / len(deviations) ** 2 * n / max(n - 1, 1), n


def count_effective(values: Any, groups: Any) -> float:
    """Count how many single images a mean of values in [0, 1], (n_images,), of images in groups is worth."""
    array, codes = _read_values(values, groups)
    return _count_effective(array, codes, float(array.mean() * (1 - array.mean())))[1]


def resample_means(right: Any, *, groups: Any = None, n_bootstrap: int = 1000) -> np.ndarray:
    """Compute means (n_bootstrap, n_settings) of bool (n_settings, n_seeds, n_images), from draws of whole groups."""
    right = np.asarray(right)
    if right.ndim != 3 or right.size == 0 or right.dtype != bool:
        raise ValueError(f"Expected bool (n_settings, n_seeds, n_images), not empty; got {right.dtype} {right.shape}.")
    _, n_seeds, n_images = right.shape
    rng = np.random.default_rng(0)
    codes = np.arange(n_images) if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn_images = _draw_counts(int(codes.max()) + 1, n_bootstrap, rng)[:, codes]
    drawn_images = drawn_images / drawn_images.sum(axis=1, keepdims=True)
    drawn_seeds = _draw_counts(n_seeds, n_bootstrap, rng) / n_seeds
    of_seed = right.astype(float) @ drawn_images.T  # (n_settings, n_seeds, n_bootstrap)
    return np.einsum("ksb,bs->bk", of_seed, drawn_seeds)


def _draw_counts(n: int, n_bootstrap: int, rng: "np.random.Generator") -> np.ndarray:
    """Draw how often each of `n` images occurs in each resample, int (n_bootstrap, n); every row sums to `n`."""
    drawn = rng.integers(0, n, size=(n_bootstrap, n)) + np.arange(n_bootstrap)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=n_bootstrap * n).reshape(n_bootstrap, n)
