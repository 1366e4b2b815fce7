"""Differences of two scores with 95 % intervals: paired over images or groups of images, or of separate test sets.

Studies repeat a trial with other seeds. What one image gains, averaged over the seeds, is one paired observation,
and the images (or the groups they come in) are what the interval counts.
"""

import math
from typing import Any

import numpy as np

from .intervals import Z_95, Score, compute_wilson_interval


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
    centre = value
    if half < 1e-12:  # no variation seen says little about the next image: one image more on either side
        centre = value * n / (n + 2)
        half = Z_95 * math.sqrt(((value**2 * n + 2) / (n + 2) - centre**2) / (n + 2))
    return Score(value, max(centre - half, -1.0), min(centre + half, 1.0), n)


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


def say_verdict(difference: Score) -> str:
    """Say in a word what an interval of a difference shows: "helps", "hurts" or "no difference shown".

    Example:
        >>> say_verdict(Score(0.05, 0.01, 0.09, n=160))
        'helps'
    """
    if difference.low > 0:
        return "helps"
    return "hurts" if difference.high < 0 else "no difference shown"
