"""The probe's head against scikit-learn, and its corner cases."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from utils_cv.training.linear_probe import STRENGTHS, fit_linear_head


def make_features(n_classes, n=60, n_features=80):
    rng = np.random.default_rng(0)
    codes = np.arange(n) % n_classes
    spread = np.linspace(0.1, 3, n_features)
    return (rng.normal(size=(n, n_features)) * spread + 2 * np.eye(n_features)[codes]).astype(np.float32), codes


def predict(features, weight, bias):
    exponentials = np.exp(features @ weight.T + bias)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def scale_like_the_head(features):
    std = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.sqrt(std * np.sqrt((std**2).mean()))


@pytest.mark.parametrize("n_features", [pytest.param(80, id="wide"), pytest.param(20, id="more images than features")])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_fixed_strength_agrees_with_scikit_learn(n_classes, n_features):
    features, codes = make_features(n_classes, n_features=n_features)
    ours = predict(features, *fit_linear_head(features, codes, n_classes=n_classes, strength=0.1))
    scaled = scale_like_the_head(features)
    oracle = LogisticRegression(C=0.1, max_iter=5000).fit(scaled, codes).predict_proba(scaled)
    assert np.abs(ours - oracle).max() < 2e-3


def test_the_strength_is_chosen_by_cross_validated_log_loss():
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    features, codes = make_features(3)
    scaled = scale_like_the_head(features)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    models = [LogisticRegression(C=strength, max_iter=5000) for strength in STRENGTHS]
    losses = [-cross_val_score(model, scaled, codes, cv=folds, scoring="neg_log_loss").mean() for model in models]
    best = STRENGTHS[int(np.argmin(losses))]
    chosen = predict(features, *fit_linear_head(features, codes, n_classes=3))
    expected = predict(features, *fit_linear_head(features, codes, n_classes=3, strength=best))
    np.testing.assert_allclose(chosen, expected, atol=1e-6)


def test_several_labels_an_image_give_one_head_a_class():
    features, codes = make_features(3)
    targets = np.eye(3, dtype=np.float32)[codes]
    targets[codes == 0, 1] = 1  # every image of class 0 is one of class 1, too
    weight, bias = fit_linear_head(features, targets, n_classes=3)
    assert weight.shape == (3, 80)
    assert ((features @ weight.T + bias > 0) == targets.astype(bool)).mean() > 0.95


def test_a_constant_feature_does_no_harm():
    features, codes = make_features(2)
    features[:, 5] = 1.0
    weight, bias = fit_linear_head(features, codes, n_classes=2)
    assert np.isfinite(weight).all()
    assert np.isfinite(bias).all()


def test_one_image_a_class_is_enough():
    features, codes = make_features(2, n=2)
    weight, bias = fit_linear_head(features, codes, n_classes=2)
    assert ((features @ weight.T + bias).argmax(axis=1) == codes).all()


def test_a_class_without_images_is_named():
    features, codes = make_features(2)
    with pytest.raises(ValueError, match=r"Classes \[2\] have no train image"):
        fit_linear_head(features, codes, n_classes=3)


def test_balanced_weights_count_the_images_of_a_rare_class_more():
    features, codes = make_features(2)
    kept = np.concatenate([np.flatnonzero(codes == 0), np.flatnonzero(codes == 1)[:3]])
    shares = []
    for class_weights in ("none", "balanced"):
        head = fit_linear_head(features[kept], codes[kept], n_classes=2, strength=0.001, class_weights=class_weights)
        shares.append(predict(features, *head)[:, 1].mean())
    assert shares[1] > shares[0] + 0.1


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="'none' or 'balanced'"):
        fit_linear_head(*make_features(2), n_classes=2, class_weights="equal")
