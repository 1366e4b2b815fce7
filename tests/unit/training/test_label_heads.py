"""Heads of many labels at once against scikit-learn, label by label: the same C, the same probabilities."""

import functools

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tests.unit.training.conftest import scale_like_the_head
from utils_cv.data.splits import split_folds
from utils_cv.training import label_heads
from utils_cv.training.linear_probe import C_GRID, DEFAULT_C, N_FOLDS, fit_linear_head


def make_labels(n=90, n_features=30, n_labels=5):
    """Labels from frequent to rare, from easy to hard."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(n, n_features)) * np.linspace(0.2, 2, n_features)
    noise = rng.logistic(size=(n, n_labels)) * np.linspace(0.2, 8, n_labels)
    scores = features @ rng.normal(size=(n_features, n_labels)) + noise
    return features, (scores > np.quantile(scores, np.linspace(0.4, 0.85, n_labels), axis=0).diagonal()).astype(float)


def measure_like_scikit_learn(scaled, codes, folds, C):
    model, loss = LogisticRegression(C=C, max_iter=9999, tol=1e-6), 0.0
    for rows, held_out in folds:
        model.fit(scaled[rows], codes[rows])
        loss += log_loss(codes[held_out], model.predict_proba(scaled[held_out]), labels=[0, 1])
    return loss


@pytest.mark.parametrize("n_features", [pytest.param(30, id="more images than features"), pytest.param(120, id="wide")])
@pytest.mark.parametrize("grouped", [False, True], ids=["each image", "scenes of three"])
def test_each_label_has_the_c_and_the_head_of_scikit_learn(grouped, n_features, monkeypatch):
    monkeypatch.setattr(label_heads, "LABELS_AT_ONCE", 2)  # the last part is smaller
    features, targets = make_labels(n_features=n_features)
    groups = np.arange(90) // 3 if grouped else None
    weight, bias = fit_linear_head(features, targets, n_classes=5, groups=groups)
    scaled, found = scale_like_the_head(features), set()
    for label, codes in enumerate(targets.T):
        stratified = np.zeros(90) if grouped else codes
        folds = split_folds(stratified, groups, n_folds=N_FOLDS)
        C = min(C_GRID, key=functools.partial(measure_like_scikit_learn, scaled, codes, folds))
        oracle = LogisticRegression(C=C, max_iter=9999, tol=1e-7).fit(scaled, codes).predict_proba(scaled)[:, 1]
        np.testing.assert_allclose(expit(features @ weight[label] + bias[label]), oracle, atol=2e-3)
        found.add(C)
    assert len(found) > 1


def test_balanced_labels_agree_with_scikit_learn():
    features, targets = make_labels()
    weight, bias = fit_linear_head(features, targets, n_classes=5, C=0.1, balanced=True)
    scaled = scale_like_the_head(features)
    for label, codes in enumerate(targets.T):
        model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=9999, tol=1e-7).fit(scaled, codes)
        found = expit(features @ weight[label] + bias[label])
        np.testing.assert_allclose(found, model.predict_proba(scaled)[:, 1], atol=2e-3)


def test_labels_of_one_image_and_of_all_images_are_learned():
    features, targets = make_labels()
    targets[:, 0], targets[:, 1] = np.eye(90)[7], 1
    weight, bias = fit_linear_head(features, targets, n_classes=5)
    expected = fit_linear_head(features, targets[:, :1], n_classes=1, C=DEFAULT_C)  # nothing to choose C by
    np.testing.assert_allclose(weight[0], expected[0][0], rtol=1e-3, atol=1e-5)
    assert (features @ weight[0] + bias[0]).argmax() == 7
    assert (expit(features @ weight[1] + bias[1]) > 0.98).all()
