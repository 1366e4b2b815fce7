"""Predictions by heads that did not learn an image, and what they reject of a class that none has learned."""

import numpy as np
import pytest

from utils_cv.models.out_of_fold import measure_left_out, predict_out_of_fold, predict_to_check_labels


def make_features(n=120, *, distance=1.5, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    return rng.normal(size=(n, 60)) + distance * np.eye(60)[codes], codes


def test_images_are_predicted_by_models_that_did_not_learn_them():
    """Labels drawn at random cannot be predicted; a model that had seen them would."""
    rng = np.random.default_rng(0)
    features, one, several = rng.normal(size=(120, 200)), rng.integers(0, 2, 120), rng.integers(0, 2, (120, 2))
    for labels in (one, several):
        found = predict_out_of_fold(features, labels, n_classes=2, Cs=(1.0,))
        answers = found.argmax(axis=1) if labels is one else found > 0.5
        assert abs((answers == labels).mean() - 0.5) < 0.15 and np.allclose(found.sum(axis=1), 1) == (labels is one)


def test_copies_vouch_for_each_other_unless_they_are_a_group():
    """Each image five times, wrong label included: only folds that keep the copies together contradict it."""
    features, true = make_features(36, distance=2.0)
    wrong = np.random.default_rng(1).permutation(36)[:7]
    labels = true.copy()
    labels[wrong] = (labels[wrong] + 1) % 3
    five = [np.repeat(values, 5, axis=0) for values in (features, labels, np.isin(range(36), wrong), range(36))]
    believed = []  # probability of the wrong labels
    for groups in (None, five[3]):
        found = predict_out_of_fold(five[0], five[1], n_classes=3, groups=groups, Cs=(0.1,))
        believed.append(found[np.arange(180), five[1]][five[2]].mean())
    assert believed[0] > 0.8 and believed[1] < 0.6


def test_the_chosen_c_has_the_lowest_log_loss():
    from sklearn.metrics import log_loss

    features, labels = make_features()
    grid = (0.0001, 0.01, 1.0)
    losses = [log_loss(labels, predict_out_of_fold(features, labels, n_classes=3, Cs=(C,))) for C in grid]
    best = predict_out_of_fold(features, labels, n_classes=3, Cs=grid)
    assert log_loss(labels, best) == min(losses) < max(losses)


@pytest.mark.parametrize("what", ["image", "group"])
def test_a_class_of_one_is_learned_by_all_and_judged_by_none(what):
    features, labels = make_features(30, distance=4.0)
    n_rare = {"image": 1, "group": 2}[what]
    features, labels = np.append(features, [9 * np.eye(60)[9]] * n_rare, axis=0), np.append(labels, [3] * n_rare)
    groups = None if what == "image" else np.append(np.arange(30) // 2, [99, 99])
    with pytest.warns(UserWarning, match=f"1 of 4 classes have one {what} to learn from: 3. Every model learns it"):
        found = predict_out_of_fold(features, labels, n_classes=4, groups=groups, Cs=(0.1,))
    assert (found.argmax(axis=1) == labels).mean() > 0.8
    assert (found[30:].argmax(axis=1) == 3).all()  # every model knows it
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_a_class_that_labels_leave_without_images_is_the_least_likely():
    features, labels = make_features(30)
    found = predict_out_of_fold(features, labels % 2, n_classes=3, Cs=(0.1,))
    assert (found[:, 2] == found.min(axis=1)).all()


def test_labels_are_checked_by_a_model_that_knows_the_group_and_one_that_does_not():
    rng = np.random.default_rng(0)
    labels, groups = np.repeat([0, 1], 20), np.arange(40) // 2
    features = rng.normal(size=(40, 3)).astype(np.float32) + labels[:, None]
    alone, grouped = (
        predict_out_of_fold(features, labels, n_classes=2, groups=way, Cs=(1.0,)) for way in (None, groups)
    )
    found = predict_to_check_labels(features, labels, n_classes=2, groups=groups, Cs=(1.0,))
    assert abs(alone - grouped).max() > 0.01
    np.testing.assert_allclose(found, (alone + grouped) / 2)
    np.testing.assert_array_equal(predict_to_check_labels(features, labels, n_classes=2, Cs=(1.0,)), alone)


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
