"""Calibration error, reliability and temperature, by hand and by simulation."""

import numpy as np
import pytest

from utils_cv.evaluation.calibration import (
    apply_temperature,
    compute_reliability_table,
    fit_temperature,
    measure_calibration_error,
)


def draw_calibrated(n, *, seed=0, n_classes=4):
    """Labels drawn from the probabilities of logits: temperature 1 is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 2
    y_true = (apply_temperature(logits, 1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return y_true, logits


def test_calibration_error_by_hand():
    probabilities = [[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2  # bins with 4 and 2 images
    y_true = [0, 0, 0, 1, 1, 1]  # right in 3 of 4, and in 2 of 2
    expected = 4 / 6 * (0.9 - 0.75) + 2 / 6 * (1 - 0.6)
    assert measure_calibration_error(y_true, probabilities).value == pytest.approx(expected)


def test_perfect_certainty_that_is_right_has_no_error():
    score = measure_calibration_error([0, 1], [[1.0, 0.0], [0.0, 1.0]])
    assert score[:3] == (0, 0, 0)


def test_interval_of_a_calibrated_model_starts_at_zero():
    starts = []
    for seed in range(40):
        y_true, logits = draw_calibrated(160, seed=seed)
        starts.append(measure_calibration_error(y_true, apply_temperature(logits, 1), n_bootstrap=200).low)
    assert np.mean(np.array(starts) == 0) >= 0.85  # 0.975 is expected


def test_interval_of_an_overconfident_model_holds_the_truth_and_not_zero():
    truth = measure_calibration_error(*_sharpen(draw_calibrated(20_000, seed=99)), n_bootstrap=2).value
    scores = [measure_calibration_error(*_sharpen(draw_calibrated(300, seed=s)), n_bootstrap=200) for s in range(40)]
    assert np.mean([score.low <= truth <= score.high for score in scores]) >= 0.8
    assert np.mean([score.low > 0 for score in scores]) >= 0.9


def _sharpen(drawn):
    return drawn[0], apply_temperature(drawn[1], 0.4)


def test_reliability_table_by_hand():
    table = compute_reliability_table([0, 0, 0, 1, 1, 1], [[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    assert table["n"].tolist() == [2, 4] and table["accuracy"].tolist() == [1.0, 0.75]
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.9])
    assert ((table["accuracy_low"] <= table["accuracy"]) & (table["accuracy"] <= table["accuracy_high"])).all()


def test_temperature_is_found_again():
    y_true, logits = draw_calibrated(4000)
    assert fit_temperature(y_true, logits * 2.5) == pytest.approx(2.5, rel=0.1)


def test_temperature_is_the_minimum_of_the_loss():
    y_true, logits = draw_calibrated(200, seed=3)
    best = fit_temperature(y_true, logits * 3)

    def measure_loss(temperature):
        return -np.log(apply_temperature(logits * 3, temperature)[np.arange(200), y_true]).mean()

    assert measure_loss(best) <= min(measure_loss(best * 1.01), measure_loss(best / 1.01))


def test_temperature_of_log_probabilities_equals_that_of_logits():
    y_true, logits = draw_calibrated(300)
    from_probabilities = fit_temperature(y_true, np.log(apply_temperature(logits * 2, 1)))
    assert from_probabilities == pytest.approx(fit_temperature(y_true, logits * 2))


def test_temperature_changes_no_prediction_and_rows_add_up_to_one():
    _, logits = draw_calibrated(50)
    probabilities = apply_temperature(logits, 3.0)
    assert (probabilities.argmax(axis=1) == logits.argmax(axis=1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("y_true", [pytest.param([0, 1], id="all right"), pytest.param([1, 0], id="all wrong")])
def test_temperature_stays_one_where_images_cannot_tell(y_true):
    with pytest.warns(UserWarning, match=r"1\.0 leaves"):
        assert fit_temperature(y_true, [[3.0, 0.0], [0.0, 3.0]]) == 1.0


def test_names_are_as_good_as_codes():
    probabilities = [[0.7, 0.3], [0.2, 0.8]]
    by_name = measure_calibration_error(["can", "can"], probabilities, ["can", "carton"])
    assert by_name == measure_calibration_error([0, 0], probabilities)


def test_large_logits_do_not_overflow_and_certain_probabilities_do_not_break():
    assert apply_temperature([[1e5, -1e5]], 0.5).tolist() == [[1.0, 0.0]]
    with np.errstate(divide="ignore"):
        assert apply_temperature(np.log([[1.0, 0.0]]), 2.0).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: measure_calibration_error([0], [[3.0, -1.0]]), "logits", id="logits as probabilities"),
        pytest.param(lambda: measure_calibration_error([0], [[0.9, 0.8]]), "add up to 1", id="sigmoid outputs"),
        pytest.param(lambda: measure_calibration_error([2], [[0.9, 0.1]]), "codes 0 to 1", id="unknown code"),
        pytest.param(lambda: fit_temperature([0], [[0.9, 0.1]]), r"np\.log", id="probabilities as logits"),
        pytest.param(lambda: fit_temperature([0], [[np.nan, 0.1]]), "NaN", id="not a number"),
        pytest.param(lambda: apply_temperature([[3.0, 1.0]], 0), "above 0", id="temperature zero"),
        pytest.param(lambda: fit_temperature([0, 1], [[3.0, 1.0]]), "y_true 2, logits 1", id="other length"),
    ],
)
def test_mixed_up_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
