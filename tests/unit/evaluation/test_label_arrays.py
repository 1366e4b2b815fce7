"""Wrong arrays are refused with a message that says what came and what to do."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.evaluation.metrics import (
    check_class_names,
    check_labels,
    check_multi_hot,
    check_probabilities,
    check_same_length,
    divide_or_nan,
    encode_labels,
    make_multi_hot,
)

NAMES = ["can", "carton", "milk bottle"]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(["milk bottle", "can"], id="list of names"),
        pytest.param(pd.Series(["milk bottle", "can"], index=[7, 3]), id="pandas series"),
        pytest.param(pd.Categorical(["milk bottle", "can"]), id="pandas categorical"),
        pytest.param(np.array([2, 0], dtype=np.uint8), id="small unsigned codes"),
        pytest.param(np.array([2, 0], dtype=object), id="codes as objects"),
    ],
)
def test_encode_labels_accepts(labels):
    assert encode_labels(labels, NAMES).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(["cann"], "Did you mean 'can'", id="misspelled name"),
        pytest.param([3], "expected codes 0 to 2", id="code too large"),
        pytest.param([-1], "got -1", id="negative code"),
        pytest.param([], "at least one", id="no image"),
        pytest.param([[0.1, 0.9]], "argmax", id="probabilities"),
        pytest.param([0.9], "integer codes or label names", id="floats"),
        pytest.param(["can", None], "integer codes or label names", id="missing label"),
    ],
)
def test_encode_labels_refuses(labels, message):
    with pytest.raises(ValueError, match=message):
        encode_labels(labels, NAMES)


def test_check_labels_keeps_names_and_widens_codes():
    assert check_labels(["a", "b"]).dtype.kind == "U"
    assert check_labels(np.array([True, False])).dtype == np.int64


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param("can", "list of names", id="one string"),
        pytest.param([], "got none", id="empty"),
        pytest.param(["can", "can"], "distinct", id="twice the same"),
    ],
)
def test_check_class_names_refuses(names, message):
    with pytest.raises(ValueError, match=message):
        check_class_names(names)


def test_make_multi_hot_of_several_one_and_no_labels():
    multi_hot = make_multi_hot(["can|milk bottle", "carton", ""], NAMES)
    assert multi_hot.astype(int).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_make_multi_hot_of_codes_is_one_hot():
    assert (make_multi_hot([2, 0], NAMES) == np.eye(3, dtype=bool)[[2, 0]]).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        pytest.param([0, 1], "make_multi_hot", id="one dimension"),
        pytest.param([[0.2, 0.9]], "apply_thresholds", id="probabilities"),
        pytest.param(np.zeros((0, 3)), "shape", id="no image"),
    ],
)
def test_check_multi_hot_refuses(array, message):
    with pytest.raises(ValueError, match=message):
        check_multi_hot(array)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        pytest.param([[-4.2, 7.9]], r"got -4.2 to 7.9.*logits.*softmax", id="logits"),
        pytest.param([[30.0, 70.0]], "percent: divide by 100", id="percent"),
        pytest.param([[0.9, 0.9]], r"add up to 1, got 1.8 in row 0", id="sigmoid outputs"),
        pytest.param([[np.nan, 1.0]], "not finite", id="not a number"),
        pytest.param([0.2, 0.8], "shape", id="one dimension"),
    ],
)
def test_check_probabilities_refuses(probabilities, message):
    with pytest.raises(ValueError, match=message):
        check_probabilities(probabilities, rows_sum_to_one=True)


def test_check_probabilities_forgives_the_rounding_of_half_precision():
    probabilities = np.full((2, 3), 1 / 3, dtype=np.float16)
    assert check_probabilities(probabilities, rows_sum_to_one=True).dtype == np.float64


def test_check_same_length_names_every_length():
    with pytest.raises(ValueError, match="y_true 2, y_pred 3"):
        check_same_length(y_true=[0, 1], y_pred=[0, 1, 1])


def test_divide_or_nan():
    assert np.array_equal(divide_or_nan(np.array([1, 2]), np.array([2, 0])), [0.5, np.nan], equal_nan=True)
