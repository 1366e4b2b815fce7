"""Out-of-fold predictions: by models that did not learn the image, so that they find wrong labels."""

import numpy as np
import pytest

from tests.unit.studies.test_experiment import make_data
from utils_cv.evaluation.label_errors import rank_suspects, trace_suspects
from utils_cv.studies.annotation_quality.wrong_labels import inject_wrong_labels
from utils_cv.studies.experiment import make_task
from utils_cv.training.out_of_fold import predict_out_of_fold


def predict(*, fraction=0.1, groups=None, distance=1.5, **options):
    table, features = make_data(distance=distance)
    true = make_task(table, features).codes
    labels = inject_wrong_labels(true, fraction, n_classes=3, seed=1)
    found = predict_out_of_fold(features, labels, n_classes=3, groups=groups, **options)
    return found, labels, labels != true


def test_injected_labels_are_found():
    found, labels, is_wrong = predict()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    suspects = rank_suspects(found.probabilities, labels)
    assert trace_suspects(suspects, is_wrong)["recall"][is_wrong.sum() - 1] > 0.8
    assert sorted(suspects["row"]) == list(range(len(labels)))


def test_images_are_predicted_by_models_that_did_not_learn_them():
    """Labels drawn at random cannot be predicted; a model that had seen them would."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(120, 200)), rng.integers(0, 2, 120)
    found = predict_out_of_fold(features, labels, n_classes=2, strengths=(1.0,))
    assert abs((found.probabilities.argmax(axis=1) == labels).mean() - 0.5) < 0.15


def test_copies_vouch_for_each_other_unless_they_are_a_group():
    """Each image five times, wrong label included: only folds that keep the copies together find it."""
    table, features = make_data(n_train=12, n_test=12, n_features=60, distance=0.9)
    true = make_task(table, features).codes
    labels = inject_wrong_labels(true, 0.2, n_classes=3, seed=1)
    five = [np.repeat(values, 5, axis=0) for values in (features, labels, labels != true, np.arange(len(true)))]
    recalls = []
    for groups in (None, five[3]):
        found = predict_out_of_fold(five[0], five[1], n_classes=3, groups=groups, strengths=(0.1,))
        suspects = rank_suspects(found.probabilities, five[1])
        recalls.append(five[2][suspects["row"][suspects["margin"] < 0]].sum() / five[2].sum())
    assert recalls[0] < 0.2 and recalls[1] > 0.6


def test_strength_has_the_lowest_log_loss():
    from sklearn.metrics import log_loss

    found, labels, _ = predict(fraction=0.3)
    losses = {s: log_loss(labels, predict(fraction=0.3, strengths=(s,))[0].probabilities) for s in (0.0001, 0.01, 1.0)}
    assert log_loss(labels, found.probabilities) <= min(losses.values()) + 1e-9


@pytest.mark.parametrize(
    ("groups", "what"), [(None, "images"), (["a"] * 9 + ["b"], "groups")], ids=["images", "groups"]
)
def test_class_that_no_other_image_can_vouch_for(groups, what):
    features, labels = np.random.default_rng(0).normal(size=(10, 3)), np.array([0] * 9 + [1])
    with pytest.raises(ValueError, match=f"has 1 {what}"):
        predict_out_of_fold(features, labels, n_classes=2, groups=groups)
