"""Tests of utils_cv.data.labels: how names are compared, several labels per image, missing labels, codes."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.data.labels import (
    check_labels,
    encode_labels,
    find_split_name,
    is_multilabel,
    list_class_names,
    normalize_name,
    split_labels,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(" cafe\u0301 ", "caf\u00e9", id="decomposed and padded"),
        pytest.param("caf\udce9.jpg", "caf\\udce9.jpg", id="not UTF-8"),
        pytest.param("$5 #1 %41 🐈 翘", "$5 #1 %41 🐈 翘", id="signs stay"),
    ],
)
def test_names_are_composed_trimmed_and_can_be_printed(name, expected):
    assert normalize_name(name) == expected
    expected.encode("utf-8")


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ("train Train TRAINING training_set seg_train Train_images trainset train2017 Training-Data tRain", "train"),
        ("val valid Validation val_set dev DEV evaluation eval_images validation-split vAL", "valid"),
        ("test Testing test_set seg_test TestImages PublicTest Test tEst", "test"),
        ("cat traffic trainer testament latest device train_test valley 1 seg set images prétest traintest", ""),
    ],
)
def test_split_names_are_recognized(names, split):
    assert {name: find_split_name(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("can", ["can"]), ("can|carton", ["can", "carton"]), (" milk bottle | | can", ["milk bottle", "can"]), (" ", [])],
)
def test_labels_are_split_and_blanks_around_them_do_not_count(labels, expected):
    assert split_labels(labels) == expected


@pytest.mark.parametrize(("labels", "expected"), [(["b", "a"], False), (["b", "a|b"], True), (["b", ""], False)])
def test_a_bar_makes_a_table_multilabel_and_a_missing_label_does_not(labels, expected):
    table = pd.DataFrame({"label": labels})
    assert is_multilabel(table) is expected
    assert list_class_names(table) == (["b"] if "" in labels else ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(["a", "b", ""], r"mine.csv has no label for 1 of 3 images: 2.jpg \(row 3\)", id="empty"),
        pytest.param(["a", None, " "], r"2 of 3 images: 1.jpg \(row 2\), 2.jpg \(row 3\)\.", id="None and blank"),
        pytest.param([0, 1, 1], "labels are text, got int", id="numbers"),
    ],
)
def test_missing_labels_are_named(labels, message):
    table = pd.DataFrame({"image": ["0.jpg", "1.jpg", "2.jpg"], "label": labels}, index=[7, 3, 3])
    with pytest.raises(ValueError, match=message):
        check_labels(table, source="mine.csv")
    check_labels(table.assign(label=["a|b", "", "a"]))  # none of the classes
    check_labels(table.assign(label=pd.Categorical(["a"] * 3)))


def test_labels_become_codes_or_zeros_and_ones():
    codes = encode_labels(pd.Series(["c", "a"], index=[7, 3]), ["a", "b", "c"])
    assert (codes.tolist(), codes.dtype) == ([2, 0], np.int64)
    table = encode_labels(["c | a", "b", ""], ["a", "b", "c"], multilabel=True)
    assert (table.tolist(), table.dtype) == ([[1, 0, 1], [0, 1, 0], [0, 0, 0]], np.float32)


@pytest.mark.parametrize("multilabel", [False, True])
def test_an_unknown_label_names_the_similar_class(multilabel):
    with pytest.raises(ValueError, match=r"Got labels \['cann'\].* Did you mean 'can'"):
        encode_labels(["carton", "cann"], ["can", "carton"], multilabel=multilabel)
