"""How good logits are on validation images: the loss of each image at the temperature that suits them, and accuracy."""

from typing import NamedTuple

import numpy as np

HIGHEST_TEMPERATURE = 20.0
# By how much a gain must exceed its standard error to count: one-sided 95 %.
N_STANDARD_ERRORS = 1.65


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
