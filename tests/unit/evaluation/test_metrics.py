"""Scores of decisions, against scikit-learn and against hand-made truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from utils_cv.evaluation.metrics import (
    compare_accuracy,
    compute_class_table,
    compute_confusion,
    measure_accuracy,
    measure_macro_f1,
    measure_mcnemar_p,
)

NAMES = ["can", "carton", "milk bottle", "water bottle"]
pairs_of_codes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60).map(
    lambda pairs: np.array(pairs).T
)


@given(pairs_of_codes)
def test_scores_agree_with_scikit_learn(codes):
    y_true, y_pred = codes
    assert measure_accuracy(y_true, y_pred).value == pytest.approx(accuracy_score(y_true, y_pred))
    expected = f1_score(y_true, y_pred, average="macro")
    assert measure_macro_f1(y_true, y_pred, n_bootstrap=2).value == pytest.approx(expected)
    expected = confusion_matrix(y_true, y_pred, labels=range(4))
    assert (compute_confusion(y_true, y_pred, NAMES).to_numpy() == expected).all()


@given(pairs_of_codes)
def test_class_table_agrees_with_scikit_learn(codes):
    table = compute_class_table(*codes, NAMES)
    expected = precision_recall_fscore_support(*codes, labels=range(4), zero_division=np.nan)
    for column, values in zip(("precision", "recall", "f1", "n"), expected, strict=True):
        np.testing.assert_allclose(table[column], values)


@given(pairs_of_codes)
def test_names_give_the_same_scores_as_codes(codes):
    y_true, y_pred = (np.array(NAMES)[y] for y in codes)
    assert measure_accuracy(y_true, y_pred) == measure_accuracy(*codes)
    assert compute_confusion(y_true, y_pred, NAMES).equals(compute_confusion(*codes, NAMES))
    assert measure_macro_f1(y_true, y_pred, NAMES, n_bootstrap=9) == measure_macro_f1(*codes, NAMES, n_bootstrap=9)


@given(pairs_of_codes, st.randoms(use_true_random=False))
def test_order_of_images_does_not_matter(codes, random):
    order = random.sample(range(codes.shape[1]), codes.shape[1])
    y_true, y_pred = codes[:, order]
    assert measure_accuracy(y_true, y_pred) == measure_accuracy(*codes)
    assert measure_macro_f1(y_true, y_pred, n_bootstrap=9) == measure_macro_f1(*codes, n_bootstrap=9)


@pytest.mark.parametrize("measure", [measure_accuracy, measure_macro_f1])
@pytest.mark.parametrize(
    ("y_pred", "value"),
    [pytest.param([0, 1] * 10, 1.0, id="all right"), pytest.param([1, 0] * 10, 0.0, id="all wrong")],
)
def test_extreme_scores_keep_a_width(measure, y_pred, value):
    score = measure([0, 1] * 10, y_pred)
    assert score.value == value and score.n == 20
    assert 0.1 < score.high - score.low < 0.2 and value in (score.low, score.high)


def test_macro_f1_leaves_out_a_class_that_never_occurs():
    assert measure_macro_f1([0, 1, 1], [0, 1, 1], NAMES).value == 1.0


def test_macro_f1_repeats_with_its_seed_and_varies_with_another():
    y_true, y_pred = np.arange(60) % 4, np.arange(60) % 4 * (np.arange(60) % 5 > 0)
    assert measure_macro_f1(y_true, y_pred, seed=1) == measure_macro_f1(y_true, y_pred, seed=1)
    assert measure_macro_f1(y_true, y_pred, seed=1) != measure_macro_f1(y_true, y_pred, seed=2)


def test_class_without_an_image_is_nan_not_zero():
    row = compute_class_table(["can"], ["carton"], NAMES).set_index("label").loc
    assert row["milk bottle", "n"] == 0
    assert np.isnan(row["milk bottle", ["precision", "recall", "recall_low", "recall_high", "f1"]].astype(float)).all()
    assert row["can", "recall"] == 0 and np.isnan(row["can", "precision"]) and row["carton", "precision"] == 0


def test_class_table_takes_multi_hot_arrays():
    table = compute_class_table([[1, 1], [0, 1]], [[1, 0], [0, 1]], NAMES[:2])
    assert table["n"].tolist() == [1, 2] and table["recall"].tolist() == [1.0, 0.5]


def test_confusion_is_named():
    confusion = compute_confusion(["can"], ["carton"], NAMES)
    assert confusion.loc["can", "carton"] == 1 and confusion.to_numpy().sum() == 1
    assert (confusion.index.name, confusion.columns.name) == ("true", "predicted")


def test_one_class_is_enough():
    assert measure_accuracy([0], [0]).value == measure_macro_f1(["can"], ["can"]).value == 1.0
    assert compute_confusion([0], [0], ["can"]).to_numpy().tolist() == [[1]]


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        pytest.param([], [], "no image", id="empty"),
        pytest.param([0, 1], [0], "y_true 2, y_pred 1", id="other length"),
        pytest.param(["can"], [0], "names in both or codes in both", id="names and codes"),
        pytest.param([0], [[0.9, 0.1]], "argmax", id="probabilities"),
    ],
)
def test_scores_refuse(y_true, y_pred, message):
    for measure in (measure_accuracy, measure_macro_f1):
        with pytest.raises(ValueError, match=message):
            measure(y_true, y_pred)


@given(pairs_of_codes, st.randoms(use_true_random=False))
def test_comparison_is_the_difference_and_turns_its_sign(codes, random):
    y_true, a = codes
    b = np.array([random.randrange(4) for _ in y_true])
    score, turned = compare_accuracy(y_true, a, b), compare_accuracy(y_true, b, a)
    assert score.value == pytest.approx(measure_accuracy(y_true, a).value - measure_accuracy(y_true, b).value)
    assert turned == pytest.approx((-score.value, -score.high, -score.low, score.n))
    assert -1 <= score.low <= score.value <= score.high <= 1 and score.low < score.high


def test_comparison_of_equal_predictions_still_has_a_width():
    score = compare_accuracy([0] * 50, [0] * 50, [0] * 50)
    assert score.value == 0 and score.high == -score.low and 0.02 < score.high < 0.1


def test_comparison_holds_the_truth():
    rng, held = np.random.default_rng(0), 0
    for _ in range(500):
        which = rng.choice(3, 160, p=[0.87, 0.1, 0.03])  # both alike, only A right, only B right
        score = compare_accuracy(np.zeros(160, int), which == 2, which == 1)
        held += score.low <= 0.07 <= score.high
    assert 0.92 <= held / 500 <= 0.99


def test_comparison_reproduces_bonett_and_price():
    # by hand: (12 + 1) / 102 and (3 + 1) / 102 give 9/102 ± 1.96 * sqrt((17/102 - (9/102)**2) / 102)
    score = compare_accuracy([0] * 100, [0] * 97 + [1] * 3, [1] * 12 + [0] * 88)
    assert score == pytest.approx((0.09, 0.0108772, 0.1655934, 100), abs=1e-5)


def test_mcnemar_agrees_with_the_binomial_test():
    from scipy.stats import binomtest

    for n_only_a, n_only_b in ((0, 6), (3, 12), (8, 8), (700, 640)):
        a, b = [0] * n_only_a + [1] * n_only_b, [1] * n_only_a + [0] * n_only_b
        expected = binomtest(n_only_a, n_only_a + n_only_b).pvalue
        assert measure_mcnemar_p([0] * len(a), a, b) == pytest.approx(expected)


def test_mcnemar_of_equal_predictions_is_one():
    assert measure_mcnemar_p([0, 1], [0, 0], [0, 0]) == 1.0
