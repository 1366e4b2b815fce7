"""Multi-label scores and thresholds, against scikit-learn and by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, hamming_loss

from utils_cv.evaluation.metrics import measure_accuracy, measure_f1
from utils_cv.evaluation.multilabel import apply_thresholds, measure_hamming_accuracy, select_thresholds

SCORES = [measure_accuracy, measure_hamming_accuracy, measure_f1]


@st.composite
def multi_hot_pairs(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    return rng.random(shape) < 0.5, rng.random(shape) < 0.5


@given(multi_hot_pairs())
def test_exact_match_and_hamming_agree_with_scikit_learn_and_are_ordered(pair):
    exact, hamming = measure_accuracy(*pair), measure_hamming_accuracy(*pair)
    assert exact.value == pytest.approx(accuracy_score(*pair))
    assert hamming.value == pytest.approx(1 - hamming_loss(*pair))
    assert exact.value <= hamming.value + 1e-12


@pytest.mark.parametrize("average", ["macro", "micro"])
@given(pair=multi_hot_pairs())
def test_f1_agrees_with_scikit_learn(average, pair):
    if not np.any(pair):
        return
    expected = f1_score(*pair, average=average, zero_division=np.nan)
    score = measure_f1(*pair, average=average, n_bootstrap=10)
    assert score.value == pytest.approx(expected)
    assert 0 <= score.low <= score.value <= score.high <= 1


@given(multi_hot_pairs(), st.randoms(use_true_random=False))
def test_order_of_images_and_classes_does_not_matter(pair, random):
    rows, columns = (random.sample(range(n), n) for n in pair[0].shape)
    for measure in (measure_accuracy, measure_hamming_accuracy):
        assert measure(*(y[rows][:, columns] for y in pair)) == pytest.approx(measure(*pair))


def test_perfect_scores_keep_a_width():
    y = np.eye(4)[np.arange(40) % 4]
    for measure in SCORES:
        assert measure(y, y).value == 1.0 and 0.85 < measure(y, y).low < 0.95


def test_hamming_interval_follows_images_not_decisions():
    y_true = np.zeros((50, 10))
    y_pred = np.repeat(np.arange(50)[:, None] < 5, 10, axis=1)  # an image has all its decisions right or wrong
    hamming, exact = measure_hamming_accuracy(y_true, y_pred), measure_accuracy(y_true, y_pred)
    assert hamming == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        pytest.param(0.0, [[True, True, True]], id="zero predicts everything"),
        pytest.param(0.5, [[False, True, True]], id="equal counts as yes"),
        pytest.param(1.0, [[False, False, True]], id="one keeps certainty"),
        pytest.param([0.0, 0.6, 1.0], [[True, False, True]], id="one for each class"),
    ],
)
def test_apply_thresholds(threshold, expected):
    assert apply_thresholds([[0.0, 0.5, 1.0]], threshold).tolist() == expected


@pytest.mark.parametrize(
    ("functions", "arguments", "message"),
    [
        pytest.param(SCORES, ([[1, 0]], [[0.3, 0.9]]), "apply_thresholds", id="probabilities"),
        pytest.param(SCORES, ([[1, 0]], [[1, 0, 1]]), "equal shapes", id="other number of classes"),
        pytest.param([apply_thresholds], ([[2.0, -1.0]], 0.5), "logits", id="logits"),
        pytest.param([apply_thresholds], ([[0.2, 0.4]], [0.5]), "each of 2 classes", id="too few thresholds"),
        pytest.param([apply_thresholds], ([[0.2, 0.4]], 50), r"fractions in \[0, 1\]", id="percent"),
        pytest.param([apply_thresholds], ([[0.2, 0.4]], np.nan), r"fractions in \[0, 1\]", id="not a number"),
    ],
)
def test_what_does_not_fit_is_refused(functions, arguments, message):
    for function in functions:
        with pytest.raises(ValueError, match=message):
            function(*arguments)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=1, max_size=30))
def test_selected_threshold_is_as_good_as_any_other(pairs):
    y_true, probabilities = np.array([[p[0]] for p in pairs]), np.array([[p[1] / 10] for p in pairs])
    if not y_true.any():
        return
    chosen = select_thresholds(y_true, probabilities)
    f1 = [f1_score(y_true, apply_thresholds(probabilities, t / 10), zero_division=0) for t in range(11)]
    assert f1_score(y_true, apply_thresholds(probabilities, chosen)) == pytest.approx(max(f1))


def test_selected_thresholds_lie_halfway_and_of_equals_the_nearest_to_a_half():
    separable = [[1, 1], [0, 1], [0, 0]], [[0.9, 0.3], [0.2, 0.25], [0.1, 0.05]]
    np.testing.assert_allclose(select_thresholds(*separable), [0.55, 0.15])
    y_true = np.array([1, 1, 0, 0, 1, 0, 0, 0, 1])[:, None]  # the first 2 and the first 5 have the same F1
    probabilities = np.array([0.9, 0.8, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05])[:, None]
    np.testing.assert_allclose(select_thresholds(y_true, probabilities), [0.6])


def test_class_without_a_true_image_keeps_a_half_and_says_so():
    with pytest.warns(UserWarning, match=r"Columns \[1\]"):
        assert select_thresholds([[1, 0], [0, 0]], [[0.9, 0.1], [0.7, 0.2]])[1] == 0.5


def test_thresholds_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"y_true \(1, 2\), probabilities \(2, 2\)"):
        select_thresholds([[1, 0]], [[0.5, 0.5]] * 2)
