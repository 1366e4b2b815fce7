"""Calibration error, reliability, losses and temperature: by hand, by simulation, and against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from utils_cv.evaluation.calibration import (
    adjust_logits,
    compute_losses,
    compute_reliability_table,
    fit_temperature,
    measure_calibration_error,
    weigh_images,
)
from utils_cv.evaluation.intervals import compute_wilson_interval

BY_HAND = [0, 0, 0, 1, 1, 1], [[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2  # bins with 4 and 2 images; 3 and 2 of them right
with np.errstate(divide="ignore"):
    CERTAIN = np.log([[1.0, 0.0], [0.7, 0.3], [0.2, 0.8]])


def draw_calibrated(n, *, seed=0, n_classes=4):
    """Labels drawn from the probabilities of logits: temperature 1 is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 2
    y_true = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return y_true, logits


def draw_probabilities(n, *, seed, temperature):
    y_true, logits = draw_calibrated(n, seed=seed)
    return y_true, softmax(logits / temperature, axis=1)


def test_calibration_error_by_hand():
    assert measure_calibration_error(*BY_HAND).value == pytest.approx(4 / 6 * (0.9 - 0.75) + 2 / 6 * (1 - 0.6))
    sure_and_right = measure_calibration_error([0, 1] * 25, [[1.0, 0.0], [0.0, 1.0]] * 25)
    assert sure_and_right[:2] == (0, 0) and sure_and_right.high == 1 - compute_wilson_interval(50, 50)[0]
    several_labels = measure_calibration_error([[1, 0], [0, 0]], [[0.8, 0.1], [0.8, 0.1]])
    assert (several_labels.value, several_labels.n) == (pytest.approx((0.3 + 0.1) / 2), 2)


def test_interval_of_a_calibrated_model_starts_at_zero():
    drawn = (draw_probabilities(160, seed=seed, temperature=1) for seed in range(40))
    starts = [measure_calibration_error(*arrays, n_bootstrap=200).low for arrays in drawn]
    assert np.mean(np.array(starts) == 0) >= 0.85  # 0.975 is expected


def test_interval_of_an_overconfident_model_leaves_out_zero_and_shifts_against_the_bias():
    drawn = (draw_probabilities(300, seed=seed, temperature=0.4) for seed in range(40))
    scores = [measure_calibration_error(*arrays, n_bootstrap=200) for arrays in drawn]
    assert np.mean([score.low > 0 for score in scores]) >= 0.9
    assert np.mean([(score.low + score.high) / 2 - score.value for score in scores]) < 0  # the error comes out too high


def test_reliability_table_by_hand():
    table = compute_reliability_table(*BY_HAND)
    assert table["n"].tolist() == [2, 4] and table["accuracy"].tolist() == [1.0, 0.75]
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.9])
    assert ((table["accuracy_low"] <= table["accuracy"]) & (table["accuracy"] <= table["accuracy_high"])).all()
    assert compute_reliability_table([0, 0], [[0.5, 0.5], [0.55, 0.45]])["n"].tolist() == [1, 1]  # 0.5 ends its bin


@pytest.mark.parametrize("encode", [np.asarray, np.eye(4).__getitem__], ids=["one label", "several labels"])
def test_copies_of_an_image_in_a_group_tell_nothing_new(encode):
    codes, probabilities = draw_probabilities(200, seed=0, temperature=0.5)
    y_true = encode(codes)
    copies, groups = [np.repeat(part, 3, axis=0) for part in (y_true, probabilities)], np.arange(600) // 3
    for measure in (measure_calibration_error, lambda *a, **b: compute_reliability_table(*a, **b).query("n > 15")):
        np.testing.assert_allclose(measure(*copies, groups=groups), measure(y_true, probabilities), atol=0.03)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0], ids=["not confident enough", "calibrated", "too confident"])
def test_temperature_agrees_with_scikit_learn(scale):
    y_true, logits = draw_calibrated(400, seed=3)
    model = LogisticRegression()  # whose logits are its inputs
    model.coef_, model.intercept_, model.classes_ = np.eye(4), np.zeros(4), np.arange(4)
    oracle = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(logits * scale, y_true)
    probabilities = softmax(logits * scale / fit_temperature(y_true, logits * scale), axis=1)
    np.testing.assert_allclose(probabilities, oracle.predict_proba(logits * scale), atol=1e-4)


def test_temperature_is_found_again_from_logits_and_from_log_probabilities():
    y_true, logits = draw_calibrated(4000)
    temperature = fit_temperature(y_true, logits * 2.5)
    assert temperature == pytest.approx(2.5, rel=0.1)
    assert fit_temperature(y_true, np.log(softmax(logits * 2.5, axis=1))) == pytest.approx(temperature)


@given(seed=st.integers(0, 50), scale=st.floats(0.1, 20), is_table=st.booleans())
def test_temperature_has_the_lowest_loss_also_for_several_labels(seed, scale, is_table):
    y_true, logits = draw_calibrated(60, seed=seed)
    y_true = np.eye(4)[y_true] if is_table else y_true
    best = fit_temperature(y_true, logits * scale)
    losses = [compute_losses(y_true, logits * scale / t).mean() for t in (best, best * 1.01, best / 1.01, 1.0)]
    assert losses[0] <= min(losses) + 1e-12 or best > 19.9


@pytest.mark.parametrize(
    ("y_true", "logits", "expected"),
    [
        pytest.param([0, 1], np.eye(2) * 3, 1.0, id="all right"),
        pytest.param([0, 1], np.eye(2) * 90, 1.0, id="all right, far apart"),
        pytest.param([1, 0], np.eye(2) * 3, 20.0, id="all wrong"),
        pytest.param([1, 0], np.eye(2) * 90, 20.0, id="all wrong, far apart"),
        pytest.param([0, 1, 1], CERTAIN, 2.39366, id="certain and right"),
        pytest.param([1, 0, 1], CERTAIN, 20.0, id="certain and wrong"),
    ],
)
def test_temperature_where_images_set_no_limit_or_are_certain(y_true, logits, expected):
    assert fit_temperature(y_true, logits) == pytest.approx(expected)


def test_losses_agree_with_scikit_learn_and_torch():
    y_true, logits = draw_calibrated(50)
    assert compute_losses(y_true, logits).mean() == pytest.approx(log_loss(y_true, softmax(logits, axis=1)))
    table = np.eye(4)[y_true]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(table))
    assert compute_losses(table, logits).mean() == pytest.approx(float(expected))
    assert compute_losses([1], [[1000.0, -1000.0]]).tolist() == [2000.0]  # finite


def test_weights_are_those_of_scikit_learn_and_weigh_losses_and_the_temperature():
    y_true, logits = draw_calibrated(60)
    y_true = np.where(np.arange(60) < 40, 0, y_true)
    weights = compute_sample_weight("balanced", y_true)
    np.testing.assert_allclose(weigh_images(y_true, y_true), weights)
    np.testing.assert_allclose(weigh_images(y_true[::3], y_true), weights[::3])
    expected = log_loss(y_true, softmax(logits, axis=1), sample_weight=weights)
    assert compute_losses(y_true, logits, weights=weights).mean() == pytest.approx(expected)
    best = fit_temperature(y_true, logits, weights=weights)
    losses = [compute_losses(y_true, logits / t, weights=weights).mean() for t in (best, best * 1.05, best / 1.05)]
    assert losses[0] == min(losses) and best != pytest.approx(fit_temperature(y_true, logits), rel=0.05)


def test_yes_and_no_of_every_label_count_alike():
    table = (np.random.default_rng(0).random((50, 3)) < [0.1, 0.5, 0.95]).astype(float)
    table[:, 2] = 1  # no image without it
    weights = weigh_images(table, table)
    expected = [compute_sample_weight("balanced", column) for column in table.T[:2]]
    np.testing.assert_allclose(weights.T[:2], expected)
    assert np.isfinite(weigh_images(1 - table, table)).all()
    losses = compute_losses(table, np.zeros((50, 3)), weights=weights)
    np.testing.assert_allclose(losses, np.log(2) * weights.mean(axis=1))


def test_adjusted_logits_are_those_of_equally_frequent_classes():
    """Bayes: the class of a number drawn around 0 or 1, where class 1 is nine times rarer."""
    x, counts = np.linspace(-2, 3, 50), [90, 10]
    logits = np.stack([-(x**2) / 2 + np.log(0.9), -((x - 1) ** 2) / 2 + np.log(0.1)], axis=1)
    expected = softmax(logits - np.log([0.9, 0.1]), axis=1)
    for source in (logits, np.log(softmax(logits, axis=1))):
        np.testing.assert_allclose(softmax(adjust_logits(source, counts), axis=1), expected)
        np.testing.assert_allclose(softmax(adjust_logits(source, counts, strength=0), axis=1), softmax(logits, axis=1))
    assert (x[expected[:, 1] > 0.5] > 0.5).all()  # halfway


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: adjust_logits([[2.0, 1.0]], [1, 0]), "above 0", id="a class without images"),
        pytest.param(lambda: adjust_logits([[2.0, 1.0]], [1, 1, 1]), "of 2 classes", id="too many classes"),
        pytest.param(lambda: adjust_logits([[0.9, 0.1]], [1, 1]), r"np\.log", id="probabilities to adjust"),
        pytest.param(lambda: measure_calibration_error([0], [[3.0, -1.0]]), "logits", id="logits as probabilities"),
        pytest.param(lambda: measure_calibration_error([0], [[0.9, 0.8]]), "add up to 1", id="sigmoid outputs"),
        pytest.param(lambda: measure_calibration_error([2], [[0.9, 0.1]]), "codes 0 to 1", id="unknown code"),
        pytest.param(lambda: measure_calibration_error([0, 1], [[0.9, 0.1]]), "y_true 2", id="other length"),
        pytest.param(lambda: fit_temperature([0], [[0.9, 0.1]]), r"np\.log", id="probabilities as logits"),
        pytest.param(lambda: fit_temperature([0], [[np.nan, 0.1]]), "NaN", id="not a number"),
        pytest.param(lambda: fit_temperature([0], [3.0, 0.1]), r"\(n_images, n_classes\)", id="one dimension"),
        pytest.param(lambda: fit_temperature([0, 1], [[3.0, 1.0]]), r"\(2,\) and \(1, 2\)", id="other images"),
        pytest.param(lambda: compute_losses([[3.0, 1.0]], [0]), r"\(1, 2\) and \(1,\)", id="arguments swapped"),
    ],
)
def test_mixed_up_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
