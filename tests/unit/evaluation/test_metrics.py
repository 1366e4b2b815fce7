"""Scores of decisions and rankings, against scikit-learn, by hand, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, precision_recall_fscore_support

from utils_cv.evaluation.metrics import (
    check_label_answers,
    check_probabilities,
    check_same_length,
    compare_accuracy,
    compute_class_table,
    compute_confusion,
    measure_accuracy,
    measure_kappa,
    read_labels,
)

NAMES = ["can", "carton", "milk bottle", "water bottle"]
pairs_of_codes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60).map(
    lambda pairs: np.array(pairs).T
)
# few distinct probabilities, so that ties are common


@given(pairs_of_codes)
def test_scores_agree_with_scikit_learn(codes):
    assert measure_accuracy(*codes).value == pytest.approx(accuracy_score(*codes))
    assert (compute_confusion(*codes, NAMES).to_numpy() == confusion_matrix(*codes, labels=range(4))).all()


@given(pairs_of_codes)
def test_class_table_agrees_with_scikit_learn(codes):
    table = compute_class_table(*codes, NAMES)
    expected = precision_recall_fscore_support(*codes, labels=range(4), zero_division=np.nan)
    for column, values in zip(("precision", "recall", "f1", "n"), expected, strict=True):
        np.testing.assert_allclose(table[column], values)
    with_images = table[table["n"] > 0]
    assert ((with_images["recall_low"] <= with_images["recall"]) & (with_images["recall"] <= 1)).all()


@given(pairs_of_codes)
def test_names_and_tables_of_0_and_1_give_the_same_scores_as_codes(codes):
    names, tables = np.array(NAMES)[codes], np.eye(4)[codes]
    assert measure_accuracy(*names) == measure_accuracy(*codes)
    assert compute_confusion(*names, NAMES).equals(compute_confusion(*codes, NAMES))
    for others in (names, tables):
        pd.testing.assert_frame_equal(compute_class_table(*others, NAMES), compute_class_table(*codes, NAMES))


@given(pairs_of_codes, st.randoms(use_true_random=False))
def test_order_of_images_does_not_matter(codes, random):
    mixed = codes[:, random.sample(range(codes.shape[1]), codes.shape[1])]
    assert measure_accuracy(*mixed) == measure_accuracy(*codes)


@pytest.mark.parametrize(
    ("y_pred", "value"),
    [pytest.param([0, 1] * 10, 1.0, id="all right"), pytest.param([1, 0] * 10, 0.0, id="all wrong")],
)
def test_extreme_scores_keep_a_width(y_pred, value):
    score = measure_accuracy([0, 1] * 10, y_pred)
    assert score.value == value and score.n == 20
    assert 0.1 < score.high - score.low < 0.2 and value in (score.low, score.high)


def test_class_without_an_image_is_nan_not_zero():
    row = compute_class_table(["can"], ["carton"], NAMES).set_index("label").loc
    assert row["milk bottle", "n"] == 0
    assert np.isnan(row["milk bottle", ["precision", "recall", "recall_low", "recall_high", "f1"]].astype(float)).all()
    assert row["can", "recall"] == 0 and np.isnan(row["can", "precision"]) and row["carton", "precision"] == 0


@pytest.mark.parametrize(
    ("y_true", "y_pred", "n", "recall"),
    [
        pytest.param([[1, 1], [0, 1]], [[1, 0], [0, 1]], [1, 2], [1.0, 0.5], id="two classes"),
        pytest.param([[1], [0], [1]], [[1], [1], [0]], [2], [0.5], id="one class"),
    ],
)
def test_class_table_takes_several_labels_per_image(y_true, y_pred, n, recall):
    table = compute_class_table(y_true, y_pred, NAMES[: len(n)])
    assert table["n"].tolist() == n and table["recall"].tolist() == recall


def test_two_models_are_compared_by_the_images_with_all_labels_right():
    y_true, a, b = [[1, 0], [1, 1]], [[1, 0], [1, 1]], [[1, 0], [0, 1]]
    assert compare_accuracy(y_true, a, b) == compare_accuracy([1, 1], [1, 1], [1, 0])


def test_images_of_one_group_count_as_one():
    y_true, y_pred = np.zeros(60, int), np.repeat(np.arange(12) % 4 == 0, 5).astype(int)
    groups = np.repeat(range(12), 5)
    alone, grouped = (measure_accuracy(y_true, y_pred, groups=given) for given in (None, groups))
    assert (alone.value, alone.n) == (grouped.value, 60) and grouped.n == 12
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert compare_accuracy(y_true, y_true, y_pred, groups=groups).n == 12
    for labels in ((y_true, y_pred), [np.eye(3)[codes] for codes in (y_true, y_pred)]):
        row = compute_class_table(*labels, NAMES[:3], groups=groups).iloc[0]  # the only class with images
        assert tuple(row[["recall", "recall_low", "recall_high"]]) == pytest.approx(grouped[:3])


def test_confusion_is_named_and_one_class_is_enough():
    confusion = compute_confusion(["can"], ["carton"], NAMES)
    assert confusion.loc["can", "carton"] == 1 and confusion.to_numpy().sum() == 1
    assert (confusion.index.name, confusion.columns.name) == ("true", "predicted")
    assert measure_accuracy([0], [0]).value == 1.0
    assert compute_confusion([0], [0], ["can"]).to_numpy().tolist() == [[1]]


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


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(["milk bottle", "can"], id="list of names"),
        pytest.param(pd.Series(["milk bottle", "can"], index=[7, 3]), id="pandas series"),
        pytest.param(pd.Categorical(["milk bottle", "can"]), id="pandas categorical"),
        pytest.param(np.array([2, 0], dtype=np.uint8), id="small unsigned codes"),
        pytest.param(np.array([np.int64(2), 0], dtype=object), id="codes as objects"),
    ],
)
def test_labels_become_codes(labels):
    assert read_labels(labels, NAMES).tolist() == [2, 0]


def refuse_labels(labels):
    return lambda: compute_confusion(labels, labels, NAMES)


def refuse_probabilities(probabilities):
    return lambda: check_probabilities(probabilities, rows_sum_to_one=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(refuse_labels(["cann"]), "Did you mean 'can'", id="misspelled name"),
        pytest.param(refuse_labels([3, 4]), r"codes 0 to 3, got \[4\]", id="code too large"),
        pytest.param(refuse_labels([-1]), r"got \[-1\]", id="negative code"),
        pytest.param(refuse_labels([]), "at least one", id="no label"),
        pytest.param(refuse_labels([0.9]), "integer codes or label names", id="floats"),
        pytest.param(refuse_labels(["can", None]), "integer codes or label names", id="missing label"),
        pytest.param(lambda: measure_accuracy([], []), "at least one image", id="empty"),
        pytest.param(lambda: measure_accuracy([0, 1], [0]), "y_true 2, y_pred 1", id="other length"),
        pytest.param(lambda: measure_accuracy(["can"], [0]), "names in both or codes in both", id="names and codes"),
        pytest.param(lambda: compare_accuracy([0], [0], [[0.9, 0.1]]), "y_pred_b.*argmax", id="probabilities"),
        pytest.param(lambda: check_same_length(images=[0, 1], titles=[0]), "images 2, titles 1", id="lengths"),
        pytest.param(lambda: measure_accuracy([[1, 0]], [[1, 0, 1]]), "equal shapes", id="other classes"),
        pytest.param(lambda: check_label_answers([0, 1], [[0.5]]), "shape", id="one dimension"),
        pytest.param(lambda: check_label_answers(np.zeros((0, 3)), [[0.5]]), "shape", id="no image"),
        pytest.param(
            lambda: check_label_answers([[0.2, 0.9]], [[0.5]]), "apply_thresholds", id="probabilities as 0 and 1"
        ),
        pytest.param(lambda: compute_confusion([0], [0], "can"), "list of distinct names, got 'can'", id="one string"),
        pytest.param(lambda: compute_confusion([0], [0], []), "list of distinct names", id="no name"),
        pytest.param(lambda: compute_confusion([0], [0], ["can", "can"]), r"got \['can'\]", id="twice the same"),
        pytest.param(lambda: compute_class_table([[1, 0]], [[1, 0]], ["can"]), "2 columns, got 1", id="columns"),
        pytest.param(refuse_probabilities([[-4.2, 7.9]]), r"got -4.2 to 7.9.*logits.*softmax", id="logits"),
        pytest.param(refuse_probabilities([[30.0, 70.0]]), "divide percent by 100", id="percent"),
        pytest.param(refuse_probabilities([[0.9, 0.9]]), r"add up to 1, got 1.8 in row 0", id="sigmoid outputs"),
        pytest.param(refuse_probabilities([[np.nan, 1.0]]), "got nan", id="not a number"),
        pytest.param(refuse_probabilities([0.2, 0.8]), "shape", id="one dimension"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_probabilities_may_be_rounded_to_half_precision():
    probabilities = np.full((2, 3), 1 / 3, dtype=np.float16)
    assert check_probabilities(probabilities, rows_sum_to_one=True).dtype == np.float64


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=60))
def test_kappa_is_that_of_scikit_learn_within_its_interval(pairs):
    a, b = zip(*pairs, strict=True)
    if len({*a, *b}) == 1:
        with pytest.raises(ValueError, match="kappa is not defined"):
            measure_kappa(a, b)
        return
    score = measure_kappa(a, b)
    assert score.value == pytest.approx(cohen_kappa_score(a, b))
    assert score.low - 1e-9 <= score.value <= score.high + 1e-9
    assert score.low < score.high
    assert measure_kappa(a + a, b + b, groups=[*range(len(a))] * 2).n == len(a)
