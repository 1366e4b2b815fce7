"""A class that probes have not learned is rejected where it looks like none of the others, and only then."""

import numpy as np
import pytest

from utils_cv.training.left_out import measure_left_out


def make_set(*, like_a):
    """Features of 4 classes, 24 images each: d is far from all others, or between a and b."""
    rng, centers = np.random.default_rng(0), np.eye(8)[:4] * 8
    centers[3] = (centers[0] * 0.9) if like_a else 0
    labels = np.repeat(list("abcd"), 24)
    return np.repeat(centers, 24, axis=0) + rng.normal(0, 0.5, (96, 8)), labels


def cut(n, n_folds=3):
    return [(np.flatnonzero(np.arange(n) % n_folds != fold), np.arange(fold, n, n_folds)) for fold in range(n_folds)]


@pytest.mark.parametrize(("like_a", "low", "high"), [(False, 0.9, 1.0), (True, 0.0, 0.5)], ids=["unlike", "like a"])
def test_what_looks_like_no_other_class_is_rejected(like_a, low, high):
    table = measure_left_out(*make_set(like_a=like_a), cut(96)).set_index("name")
    assert table.index.tolist() == list("abcd") and (table["rejected_n"] == 24).all()
    assert low <= table.loc["d", "rejected"] <= high
    assert (table["rejected_low"] <= table["rejected"]).all() and (table["rejected"] <= table["rejected_high"]).all()


def test_groups_are_counted_and_two_classes_or_one_image_leave_nothing():
    features, labels = make_set(like_a=False)
    assert (measure_left_out(features, labels, cut(96), groups=np.arange(96) // 8)["rejected_n"] == 3).all()
    two = np.where(labels < "c", "a", "b")
    assert measure_left_out(features, two, cut(96)).empty
    labels[0] = "one"  # learned by all folds, held out by none
    folds = [(np.union1d(learned, [0]), np.setdiff1d(held_out, [0])) for learned, held_out in cut(96)]
    assert "one" not in set(measure_left_out(features, labels, folds)["name"])
