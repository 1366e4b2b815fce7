"""Precision-recall curves and average precision, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from utils_cv.evaluation.metrics import compute_average_precision, compute_precision_recall, measure_average_precision

# few distinct probabilities, so that ties are common
ranked = st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=40).map(
    lambda pairs: (np.array([[p[0]] for p in pairs]), np.array([[p[1] / 4] for p in pairs]))
)


@given(ranked)
def test_average_precision_with_ties_agrees_with_scikit_learn(arrays):
    y_true, probabilities = arrays
    value = compute_average_precision(y_true, probabilities)[0]
    if y_true.any():
        assert value == pytest.approx(average_precision_score(y_true[:, 0], probabilities[:, 0]))
    else:
        assert np.isnan(value)


@given(ranked)
def test_curve_agrees_with_scikit_learn(arrays):
    y_true, probabilities = arrays
    curve = compute_precision_recall(y_true, probabilities, ["can"])
    if not y_true.any():
        assert len(curve) == 1 and curve[["precision", "recall", "average_precision"]].isna().all(axis=None)
        return
    precision, recall, thresholds = precision_recall_curve(y_true[:, 0], probabilities[:, 0])
    np.testing.assert_allclose(curve["threshold"], thresholds[::-1])
    np.testing.assert_allclose(curve["precision"], precision[-2::-1])
    np.testing.assert_allclose(curve["recall"], recall[-2::-1])
    assert curve["average_precision"].nunique() == 1
    assert curve["average_precision"][0] == pytest.approx(compute_average_precision(y_true, probabilities)[0])


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_mean_average_precision_and_its_resamples_agree_with_repeated_images(seed):
    """A resample with counts must give what scikit-learn gives on the images repeated that often."""
    from utils_cv.evaluation.metrics import _resample_average_precision

    rng = np.random.default_rng(seed)
    y_true, probabilities = rng.random(30) < 0.4, rng.integers(0, 6, 30) / 5
    y_true[0] = True
    counts = rng.integers(0, 4, (30, 3)) + np.eye(30, 3, dtype=int)
    values = _resample_average_precision(y_true, probabilities, counts)
    for value, repeats in zip(values, counts.T, strict=True):
        expected = average_precision_score(np.repeat(y_true, repeats), np.repeat(probabilities, repeats))
        assert value == pytest.approx(expected) or not np.repeat(y_true, repeats).any()


def test_mean_average_precision_leaves_out_a_class_without_images():
    y_true, probabilities = [[1, 0], [0, 0], [1, 0]], [[0.9, 0.4], [0.8, 0.5], [0.1, 0.9]]
    score = measure_average_precision(y_true, probabilities)
    assert score.value == pytest.approx(average_precision_score([1, 0, 1], [0.9, 0.8, 0.1])) and score.n == 3
    assert 0 <= score.low < score.value < score.high <= 1


def test_perfect_ranking_keeps_a_width():
    y_true = np.eye(2)[np.arange(40) % 2]
    score = measure_average_precision(y_true, y_true)
    assert score.value == score.high == 1.0 and 0.85 < score.low < 0.95


@pytest.mark.parametrize(
    ("y_true", "probabilities", "message"),
    [
        pytest.param([[0, 0]], [[0.5, 0.5]], "none of the 2 classes", id="no true label at all"),
        pytest.param([[1, 0]], [[3.0, -2.0]], "logits", id="logits"),
        pytest.param([[1, 0]], [[0.5]], "equal shapes", id="other number of classes"),
        pytest.param([[1, 0]], [[0.5, 0.5]] * 2, "y_true 1, probabilities 2", id="other number of images"),
    ],
)
def test_mean_average_precision_refuses(y_true, probabilities, message):
    with pytest.raises(ValueError, match=message):
        measure_average_precision(y_true, probabilities)


def test_curves_refuse_missing_names():
    with pytest.raises(ValueError, match="2 columns, got 1"):
        compute_precision_recall([[1, 0]], [[0.5, 0.5]], ["can"])
