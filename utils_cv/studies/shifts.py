"""How a trained model fares on images that differ from the training images in one thing, and on small objects."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.intervals import Score, compare_fractions, compare_means, compute_wilson_interval
from utils_cv.evaluation.metrics import measure_accuracy


def measure_shifts(
    test: pd.DataFrame, shifted: pd.DataFrame, *, by: str = "shift", pair: str = "scene"
) -> pd.DataFrame:
    """Compare the accuracy on shifted images with that on the ordinary test images.

    Where shifted images show the same scenes as test images, the two are compared scene by scene (paired); otherwise
    all of one are compared with all of the other.

    Args:
        test: One row a test image: `right` (whether the model was), and `scene`.
        shifted: One row a shifted image: `right`, `shift`, and `scene` where known.
        by: Column of the kind of shift.
        pair: Column whose equal values are the same scene.

    Returns:
        One row a shift: `shift`, `accuracy`, `accuracy_low`, `accuracy_high`, `n`, `test_accuracy` (of the same scenes
        where paired), and the `difference` with `difference_low`, `difference_high`, `is_paired`.

    Raises:
        ValueError: If a column is missing, or there is no image.

    Example:
        >>> test = pd.DataFrame({"scene": [1, 2, 3], "right": [True, True, True]})
        >>> dark = pd.DataFrame({"scene": [1, 2, 3], "right": [True, False, False], "shift": "night"})
        >>> round(measure_shifts(test, dark)["difference"].item(), 3)
        -0.667
    """
    missing = [name for name, table in (("right", test), ("right", shifted), (by, shifted)) if name not in table]
    if missing or test.empty or shifted.empty:
        raise ValueError(
            f"Expected rows with 'right' and {by!r}; missing {missing}, {len(test)} and {len(shifted)} rows."
        )
    rows = []
    for name, part in shifted.groupby(by, sort=False):
        n_right, n = int(part["right"].sum()), len(part)
        low, high = compute_wilson_interval(n_right, n)
        row = {by: name, "accuracy": n_right / n, "accuracy_low": low, "accuracy_high": high, "n": n}
        twins = _find_twins(test, part, pair)
        if twins is None:
            change = compare_fractions(n_right, n, int(test["right"].sum()), len(test))
            row["test_accuracy"] = float(test["right"].mean())
        else:
            change = compare_means(part["right"], twins, groups=part[pair])
            row["test_accuracy"] = float(np.mean(twins))
        row |= {"difference": change.value, "difference_low": change.low, "difference_high": change.high}
        rows.append(row | {"is_paired": twins is not None})
    return pd.DataFrame(rows)


def _find_twins(test: pd.DataFrame, part: pd.DataFrame, pair: str) -> np.ndarray | None:
    """Whether the model was right on the test image of the same scene, (n,); None unless every image has one."""
    if pair not in test or pair not in part or not part[pair].isin(test[pair]).all():
        return None
    return part[pair].map(test.groupby(pair)["right"].mean()).to_numpy(dtype=float)


def measure_accuracy_by_width(widths: Any, right: Any, *, edges: Sequence[float]) -> pd.DataFrame:
    """Measure accuracy in bins of the object's width.

    Args:
        widths: (n_images,), the object's width as a share of the image's, in [0, 1].
        right: (n_images,), whether the model was right.
        edges: Limits of the bins, increasing; images outside are left out, and so are empty bins.

    Returns:
        One row a bin: `width_low`, `width_high`, `mean_width`, `accuracy`, `accuracy_low`, `accuracy_high`, `n`.

    Raises:
        ValueError: If the edges do not increase, or no image lies between them.

    Example:
        >>> measure_accuracy_by_width([0.1, 0.15, 0.3], [0, 1, 1], edges=[0.0, 0.2, 1.0])["accuracy"].tolist()
        [0.5, 1.0]
    """
    widths, right = np.asarray(widths, float), np.asarray(right, bool)
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges: expected two or more increasing numbers, got {list(edges)}.")
    rows = []
    for low, high in itertools.pairwise(edges):
        is_in = (widths >= low) & (widths < high)
        if is_in.any():
            score = measure_accuracy(np.ones(is_in.sum(), int), right[is_in].astype(int))
            limits = {"accuracy_low": score.low, "accuracy_high": score.high, "n": score.n}
            facts = {"width_low": low, "width_high": high, "mean_width": float(widths[is_in].mean())}
            rows.append({**facts, "accuracy": score.value, **limits})
    if not rows:
        raise ValueError(f"None of {len(widths)} images has a width between {edges[0]} and {edges[-1]}.")
    return pd.DataFrame(rows)


def compare_wide_with_narrow(widths: Any, right: Any, *, rule: float = 0.2) -> Score:
    """Accuracy on objects at least as wide as a rule of thumb asks, minus accuracy on narrower ones.

    Args:
        widths: (n_images,), shares of the image's width; images of unknown width (NaN) are left out.
        right: (n_images,), whether the model was right.
        rule: The limit, in (0, 1).

    Returns:
        The difference with its 95 % interval (Newcombe); `n` is that of the smaller group.

    Raises:
        ValueError: If either group is empty.

    Example:
        >>> compare_wide_with_narrow([0.1, 0.1, 0.3, 0.3], [0, 1, 1, 1]).value
        0.5
    """
    widths, right = np.asarray(widths, float), np.asarray(right, bool)
    wide, narrow = right[widths >= rule], right[widths < rule]
    return compare_fractions(int(wide.sum()), len(wide), int(narrow.sum()), len(narrow))


def compare_input_sizes(
    tables: Mapping[int, pd.DataFrame],
    *,
    edges: Sequence[float],
    rule: float = 0.2,
    width: str = "object_width_fraction",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put a rule of thumb about the width of objects to the test, at two sizes of the network's input.

    Args:
        tables: Input size in pixels to the scored images, the same rows in the same order: `right` and the width.
        edges: Limits of the bins of the width.
        rule: The least width that the rule asks for.
        width: Column of the widths.

    Returns:
        Accuracy by width with a `name` for each size, for `experiment_plots.plot_accuracy_by_width`; and differences
        of accuracy (`name`, `value`, `low`, `high`, `n`): wide minus narrow objects at each size (unpaired), and the
        larger minus the smaller input for all, wide and narrow objects (paired).

    Raises:
        ValueError: If there are not two sizes, or no object is wide, or none is narrow.

    Example:
        >>> tables = {224: rows_at_224, 128: rows_at_128}  # doctest: +SKIP
        >>> bins, changes = compare_input_sizes(tables, edges=[0, 0.2, 1])  # doctest: +SKIP
    """
    if len(tables) != 2:
        raise ValueError(f"Expected two input sizes, got {list(tables)}.")
    small, large = sorted(tables)
    widths = tables[small][width].to_numpy(dtype=float)
    right = {size: tables[size]["right"].to_numpy(dtype=bool) for size in (small, large)}
    bins = [
        measure_accuracy_by_width(widths, right[size], edges=edges).assign(name=f"{size} px") for size in (large, small)
    ]
    changes = {
        f"wide minus narrow at {size} px": compare_wide_with_narrow(widths, right[size], rule=rule) for size in right
    }
    for name, kept in (("all", widths >= 0), ("wide", widths >= rule), ("narrow", widths < rule)):
        changes[f"{large} px minus {small} px, {name}"] = compare_means(right[large][kept], right[small][kept])
    return pd.concat(bins), pd.DataFrame([{"name": name, **score._asdict()} for name, score in changes.items()])
