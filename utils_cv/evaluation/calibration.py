"""Calibration: does a model that says 90 % turn out right in 90 % of its answers, and how to make it so.

One label an image. Probabilities and logits are different arguments of different functions, and each refuses the other.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .intervals import Score, compute_wilson_interval, draw_bootstrap_counts, resample_in_chunks
from .metrics import check_probabilities, check_same_length, encode_labels

TEMPERATURE_LIMITS = (0.05, 20.0)
HIGHEST_TEMPERATURE = 20.0
# By how much a gain must exceed its standard error to count: one-sided 95 %.
N_STANDARD_ERRORS = 1.65


def measure_calibration_error(
    y_true: Any,
    probabilities: Any,
    class_names: Sequence[str] | None = None,
    *,
    n_bins: int = 15,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Score:
    """Expected calibration error: mean distance between how sure the model is and how often it is right.

    The images are put into bins of equal width by the probability of their predicted class (Guo et al. 2017, 15
    bins). With few images the error comes out too high, even for a perfectly calibrated model: with 160 images 0.09 on
    average where the truth is 0. The interval takes that into account. It is the basic bootstrap interval, which
    shifts against the bias, and starts at 0 when a perfectly calibrated model would reach such a `value` by chance in
    more than 2.5 % of cases (consistency resampling, Bröcker and Smith 2007).

    Args:
        y_true: True labels (n_images,), codes, or names when `class_names` is given.
        probabilities: (n_images, n_classes), rows add up to 1.
        class_names: Names of the columns, needed when `y_true` holds names.
        n_bins: Number of bins.
        n_bootstrap: Resamples of the images behind the interval.
        seed: Seed of the resamples.

    Returns:
        The error, a fraction in [0, 1]; 0 is perfect.

    Example:
        >>> measure_calibration_error([0, 1], [[1.0, 0.0], [0.5, 0.5]]).value  # sure 0.75, right 0.5
        0.25
    """
    confidence, is_right = _compare_confidence(y_true, probabilities, class_names)
    in_bin = np.eye(n_bins)[_find_bins(confidence, n_bins)]  # (n_images, n_bins)
    surplus = in_bin * (confidence - is_right)[:, None]
    n = len(confidence)
    rng = np.random.default_rng(seed)
    value = float(np.abs(surplus.sum(axis=0)).sum() / n)

    def resample(size: int) -> np.ndarray:
        return np.abs(draw_bootstrap_counts(n, size, rng) @ surplus).sum(axis=1) / n

    def simulate_calibrated(size: int) -> np.ndarray:
        is_right = rng.random((size, n)) < confidence  # right as often as the model says
        return np.abs((confidence - is_right) @ in_bin).sum(axis=1) / n

    low, high = np.quantile(resample_in_chunks(resample, n, n_bootstrap), (0.025, 0.975))
    is_chance = value <= np.quantile(resample_in_chunks(simulate_calibrated, n, n_bootstrap), 0.975)
    return Score(value, 0.0 if is_chance else max(2 * value - high, 0.0), min(max(2 * value - low, value), 1.0), n)


def compute_reliability_table(
    y_true: Any, probabilities: Any, class_names: Sequence[str] | None = None, *, n_bins: int = 10
) -> pd.DataFrame:
    """Confidence and accuracy of the images in each bin of confidence: the numbers of a reliability diagram.

    Args:
        y_true: True labels (n_images,), codes, or names when `class_names` is given.
        probabilities: (n_images, n_classes), rows add up to 1.
        class_names: Names of the columns, needed when `y_true` holds names.
        n_bins: Number of bins of equal width; empty ones are left out of the table.

    Returns:
        One row a bin: `confidence` (mean probability of the predicted class), `accuracy`, `accuracy_low`,
        `accuracy_high` (Wilson's 95 % interval), `n` images.
    """
    confidence, is_right = _compare_confidence(y_true, probabilities, class_names)
    bins = _find_bins(confidence, n_bins)
    n = np.bincount(bins, minlength=n_bins)
    kept = n > 0
    n_right = np.bincount(bins, weights=is_right, minlength=n_bins)[kept]
    mean_confidence = np.bincount(bins, weights=confidence, minlength=n_bins)[kept] / n[kept]
    low, high = compute_wilson_interval(n_right, n[kept])
    columns = {"accuracy": n_right / n[kept], "accuracy_low": low, "accuracy_high": high, "n": n[kept]}
    return pd.DataFrame({"confidence": mean_confidence, **columns})


def fit_temperature(y_true: Any, logits: Any, class_names: Sequence[str] | None = None) -> float:
    """Temperature that makes the probabilities of validation images fit how often they are right.

    Source: Guo et al. 2017, temperature scaling. It minimises the mean negative log-likelihood of
    softmax(logits / temperature); which class is predicted does not change.

    Args:
        y_true: True labels (n_images,) of validation images, codes, or names when `class_names` is given.
        logits: (n_images, n_classes), before softmax; from probabilities, pass `np.log(probabilities)`.
        class_names: Names of the columns, needed when `y_true` holds names.

    Returns:
        The temperature; above 1 for a model that is too sure of itself. 1.0, with a warning, when the images cannot
        tell: every one is right (no temperature is low enough) or the model is no better than chance.

    Example:
        >>> temperature = fit_temperature([0, 0, 1], [[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> round(temperature, 3)  # right in 2 of 3, hence 4 / log(2)
        5.771
    """
    logits = _check_logits(logits)
    names = class_names if class_names is not None else [str(column) for column in range(logits.shape[1])]
    codes = encode_labels(y_true, names, name="y_true")
    check_same_length(y_true=codes, logits=logits)
    low, high = (np.log(1 / limit) for limit in reversed(TEMPERATURE_LIMITS))  # of the log of 1 / temperature
    if _compute_slope(codes, logits, np.exp(low)) >= 0 or _compute_slope(codes, logits, np.exp(high)) <= 0:
        warnings.warn(
            f"No temperature between {TEMPERATURE_LIMITS[0]} and {TEMPERATURE_LIMITS[1]} fits best (all images right, "
            "or no better than chance); 1.0 leaves the probabilities as they are. Use more validation images.",
            stacklevel=2,
        )
        return 1.0
    for _ in range(50):  # bisection: the loss is convex in 1 / temperature, so its slope changes sign once
        middle = (low + high) / 2
        low, high = (middle, high) if _compute_slope(codes, logits, np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def apply_temperature(logits: Any, temperature: float) -> np.ndarray:
    """Probabilities softmax(logits / temperature).

    Args:
        logits: (n_images, n_classes), before softmax; from probabilities, pass `np.log(probabilities)`.
        temperature: From `fit_temperature`; 1 is the plain softmax.

    Returns:
        float64 (n_images, n_classes), rows add up to 1.

    Example:
        >>> apply_temperature([[2.0, 0.0]], 2.0).round(3).tolist()
        [[0.731, 0.269]]
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}.")
    return _softmax(_check_logits(logits) / temperature)


def _compare_confidence(
    y_true: Any, probabilities: Any, class_names: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the predicted class and whether it is right, both (n_images,)."""
    probabilities = check_probabilities(probabilities, rows_sum_to_one=True)
    names = class_names if class_names is not None else [str(column) for column in range(probabilities.shape[1])]
    codes = encode_labels(y_true, names, name="y_true")
    check_same_length(y_true=codes, probabilities=probabilities)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == codes


def _find_bins(confidence: np.ndarray, n_bins: int) -> np.ndarray:
    """Bin of each image; a bin holds its upper edge, as in the paper, and the first also holds 0."""
    return np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)


def _check_logits(logits: Any) -> np.ndarray:
    array = np.asarray(logits, dtype=float)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"logits: expected the shape (n_images, n_classes), got {array.shape}.")
    if np.isnan(array).any() or np.isposinf(array).any() or np.isneginf(array).all(axis=1).any():
        raise ValueError("logits: got NaN, or inf where a finite number is needed; look for a diverged training.")
    if array.min() >= 0 and array.max() <= 1 and np.allclose(array.sum(axis=1), 1, atol=1e-3):
        raise ValueError("logits: got probabilities (rows in [0, 1] that add up to 1); pass np.log(probabilities).")
    return np.maximum(array, -1e4)  # log(0) = -inf from a probability of 0 stays harmless


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _compute_slope(codes: np.ndarray, logits: np.ndarray, inverse_temperature: float) -> float:
    """Derivative of the mean negative log-likelihood with respect to 1 / temperature."""
    probabilities = _softmax(logits * inverse_temperature)
    return float(((probabilities * logits).sum(axis=1) - logits[np.arange(len(codes)), codes]).mean())


class ValidationScore(NamedTuple):
    """Score of one model on validation images.

    Attributes:
        losses: Loss of each image, (n_images,), of the logits divided by `temperature`.
        accuracy: In [0, 1]; multi-label: the share of single labels that are right.
        temperature: What the logits are divided by, at least 1.
    """

    losses: np.ndarray
    accuracy: float
    temperature: float

    @property
    def loss(self) -> float:
        """Mean loss."""
        return float(self.losses.mean())


class Gain(NamedTuple):
    """What one model gains over another on the same validation images.

    Attributes:
        value: By how much the mean loss is lower.
        error: Standard error of that, image by image.
        is_shown: Whether it is more than chance explains, at no cost of accuracy.
    """

    value: float
    error: float
    is_shown: bool


def measure_gain(score: ValidationScore, below: ValidationScore) -> Gain:
    """Measure what a model gains over the one below; both scores are of the same images in the same order."""
    gains = below.losses - score.losses
    value, error = float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))
    return Gain(value, error, score.accuracy >= below.accuracy and value > N_STANDARD_ERRORS * error)


def score_logits(logits: np.ndarray, targets: np.ndarray) -> ValidationScore:
    """Score logits by what they tell apart, whether or not they are too sure of it.

    Fine-tuned networks become too sure of themselves while they still learn, so that their plain loss rises and hides
    what was gained. One number mends that afterwards, the temperature, so models are compared at their own best one
    (Berta et al. 2025, "Rethinking Early Stopping: Refine, Then Calibrate"). It is never below 1: a few images that
    are all right would make any model look infinitely sure.

    Args:
        logits: (n_images, n_classes).
        targets: (n_images,) class codes, or (n_images, n_classes) multi-hot.

    Returns:
        Losses, accuracy and temperature.

    Example:
        >>> score = score_logits(np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0]]), np.array([0, 0, 1]))
        >>> round(score.temperature, 1)  # sure of three, right in two
        13.0
    """
    from scipy.optimize import minimize_scalar

    def find_loss(log_temperature: float) -> float:
        return float(compute_losses(logits / np.exp(log_temperature), targets).mean())

    best = minimize_scalar(find_loss, bounds=(0.0, np.log(HIGHEST_TEMPERATURE)), method="bounded").x
    temperature = 1.0 if find_loss(0.0) <= find_loss(best) else float(np.exp(best))
    if targets.ndim == 2:
        accuracy = ((logits > 0) == (targets > 0.5)).mean()
    else:
        accuracy = (logits.argmax(axis=1) == targets).mean()
    return ValidationScore(compute_losses(logits / temperature, targets), float(accuracy), temperature)


def compute_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute the plain loss of each image, (n_images,): cross-entropy, multi-label averaged over the classes."""
    logits = np.asarray(logits, dtype=np.float64)
    if targets.ndim == 2:
        return (np.logaddexp(0, logits) - logits * targets).mean(axis=1)
    highest = logits.max(axis=1, keepdims=True)
    log_sums = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    return log_sums - logits[np.arange(len(logits)), targets]
