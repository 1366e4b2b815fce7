"""Wrong labels in the test set: what the measured accuracy then says, as formulas and as a simulation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from utils_cv.evaluation.metrics import check_same_length

from .label_noise import inject_wrong_labels

KINDS = ("at random", "where the model errs")


def compute_measured_accuracy(accuracy: float, wrong_fraction: float, n_classes: int) -> float:
    """What a test set measures on average when some of its labels are wrong at random.

    A right answer then counts as wrong, and a wrong answer counts as right where it happens to repeat the wrong
    label: one time in `n_classes - 1`.

    Args:
        accuracy: True accuracy, in [0, 1].
        wrong_fraction: Share of wrong labels, in [0, 1]; each wrong class equally often, whatever the model says.
        n_classes: Number of classes, at least 2.

    Example:
        >>> round(compute_measured_accuracy(0.95, 0.05, 4), 4)
        0.9033
    """
    _check(wrong_fraction, n_classes)
    return accuracy * (1 - wrong_fraction) + (1 - accuracy) * wrong_fraction / (n_classes - 1)


def compute_true_accuracy(measured: float, wrong_fraction: float, n_classes: int) -> float:
    """The true accuracy behind a measured one: the inverse of `compute_measured_accuracy`, cut to [0, 1].

    Args:
        measured: Measured accuracy, in [0, 1].
        wrong_fraction: Share of wrong labels, below (n_classes - 1) / n_classes: beyond that labels say nothing.
        n_classes: Number of classes, at least 2.

    Raises:
        ValueError: If the labels say nothing.

    Example:
        >>> round(compute_true_accuracy(0.9033, 0.05, 4), 3)
        0.95
    """
    _check(wrong_fraction, n_classes)
    chance = wrong_fraction / (n_classes - 1)
    if 1 - wrong_fraction - chance <= 1e-9:
        raise ValueError(f"With {wrong_fraction:.0%} wrong labels of {n_classes} classes the labels say nothing.")
    return min(max((measured - chance) / (1 - wrong_fraction - chance), 0.0), 1.0)


def simulate_test_noise(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    wrong_fractions: Sequence[float],
    *,
    n_classes: int,
    n_repeats: int = 300,
    seed: int = 0,
) -> pd.DataFrame:
    """Plant wrong labels into the test set of a finished model, many times, and measure its accuracy each time.

    "at random" draws images and wrong classes at random. "where the model errs" gives images that the model gets
    wrong the label that it predicts, as happens when annotators confuse the same classes, or correct a model's
    suggestions and let its mistakes pass.

    Args:
        y_true: True class codes, (n_test,).
        y_pred: Predicted class codes, (n_test,).
        wrong_fractions: Shares of wrong labels, in [0, 1].
        n_classes: Number of classes.
        n_repeats: Simulated test sets for each share.
        seed: Seed of the simulation.

    Returns:
        One row a kind and share: `name` (one of `KINDS`), `wrong_fraction`, `accuracy` (mean of the measured ones),
        `accuracy_low` and `accuracy_high` (95 % of them lie between), `expected` (by formula), `n_test`, `n_repeats`.
        The second kind stops when the model has no mistake left, and does not vary.
    """
    check_same_length(y_true=y_true, y_pred=y_pred)
    accuracy, n_test = float((y_true == y_pred).mean()), len(y_true)
    rows = []
    for fraction in wrong_fractions:
        draws = range(seed, seed + n_repeats)
        planted = [inject_wrong_labels(y_true, fraction, n_classes=n_classes, seed=draw) for draw in draws]
        measured = np.array([(labels == y_pred).mean() for labels in planted])
        low, high = np.quantile(measured, [0.025, 0.975])
        expected = compute_measured_accuracy(accuracy, fraction, n_classes)
        counts = {"n_test": n_test, "n_repeats": n_repeats}
        limits = {"accuracy": float(measured.mean()), "accuracy_low": float(low), "accuracy_high": float(high)}
        rows.append({"name": KINDS[0], "wrong_fraction": fraction, **limits, "expected": expected, **counts})
        flattered = min(accuracy + round(fraction * n_test) / n_test, 1.0)
        same = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "expected"), flattered)
        rows.append({"name": KINDS[1], "wrong_fraction": fraction, **same, **counts})
    return pd.DataFrame(rows).sort_values("name", kind="stable").reset_index(drop=True)


def _check(wrong_fraction: float, n_classes: int) -> None:
    if not 0 <= wrong_fraction <= 1 or n_classes < 2:
        raise ValueError(
            f"Got wrong_fraction={wrong_fraction} and n_classes={n_classes}; expected a fraction in [0, 1] and at "
            "least two classes."
        )
