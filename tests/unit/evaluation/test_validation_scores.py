"""Scores on validation images: losses against scikit-learn and torch, and a temperature that only ever softens."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss

from utils_cv.evaluation.calibration import compute_losses, fit_temperature, score_logits


def make_logits(n=60, n_classes=3, *, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_classes
    return scale * (rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[codes]), codes


def soft_max(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def test_losses_agree_with_scikit_learn():
    logits, codes = make_logits()
    assert compute_losses(logits, codes).mean() == pytest.approx(log_loss(codes, soft_max(logits)))
    assert score_logits(logits, codes).accuracy == accuracy_score(codes, logits.argmax(axis=1))


def test_losses_of_several_labels_agree_with_torch():
    logits, codes = make_logits()
    hot = np.eye(3, dtype=np.float32)[codes]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(hot).double())
    assert compute_losses(logits, hot).mean() == pytest.approx(float(expected))
    assert score_logits(logits, hot).accuracy == pytest.approx(((logits > 0) == (hot > 0.5)).mean())


def test_large_logits_give_finite_losses():
    assert compute_losses(np.array([[1000.0, -1000.0]]), np.array([1])).tolist() == [2000.0]


@given(seed=st.integers(0, 50), scale=st.floats(0.1, 20))
def test_the_temperature_softens_and_never_raises_the_loss(seed, scale):
    logits, codes = make_logits(seed=seed, scale=scale)
    score = score_logits(logits, codes)
    assert score.temperature >= 1
    assert score.losses.mean() <= compute_losses(logits, codes).mean() + 1e-9


def test_logits_that_are_too_sure_get_the_temperature_of_temperature_scaling():
    logits, codes = make_logits(scale=8.0)
    assert score_logits(logits, codes).temperature == pytest.approx(fit_temperature(codes, logits), rel=1e-3)


def test_logits_that_are_all_right_are_not_sharpened():
    assert score_logits(np.eye(3) * 2, np.arange(3)).temperature == 1
