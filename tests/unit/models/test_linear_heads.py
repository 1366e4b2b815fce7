"""Heads of one label and of many against scikit-learn, folds that keep groups together, and corner cases."""

import functools
import tracemalloc

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from utils_cv.data.splits import split_folds
from utils_cv.models import linear_heads
from utils_cv.models.linear_heads import C_GRID, DEFAULT_C, N_FOLDS, fit_linear_head


def make_features(n_classes, n=60, n_features=80):
    rng = np.random.default_rng(0)
    codes = np.arange(n) % n_classes
    spread = np.linspace(0.1, 3, n_features)
    return (rng.normal(size=(n, n_features)) * spread + 2 * np.eye(n_features)[codes]).astype(np.float32), codes


def scale_like_the_head(features):
    """Center and scale features as `fit_linear_head` does."""
    std = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.sqrt(std * np.sqrt((std**2).mean()))


def predict(features, weight, bias):
    return softmax(features @ weight.T + bias, axis=1)


def choose_like_scikit_learn(features, codes, folds, groups=None):
    from sklearn.model_selection import cross_val_score

    scaled = scale_like_the_head(features)
    models = [LogisticRegression(C=C, max_iter=5000) for C in C_GRID]
    options = {"cv": folds, "groups": groups, "scoring": "neg_log_loss"}
    return C_GRID[int(np.argmax([cross_val_score(model, scaled, codes, **options).mean() for model in models]))]


@pytest.mark.parametrize("n_features", [pytest.param(80, id="wide"), pytest.param(20, id="more images than features")])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_fixed_c_agrees_with_scikit_learn(n_classes, n_features):
    features, codes = make_features(n_classes, n_features=n_features)
    ours = predict(features, *fit_linear_head(features, codes, n_classes=n_classes, C=0.1))
    scaled = scale_like_the_head(features)
    oracle = LogisticRegression(C=0.1, max_iter=5000).fit(scaled, codes).predict_proba(scaled)
    assert np.abs(ours - oracle).max() < 2e-3


def test_c_is_chosen_by_cross_validated_log_loss():
    from sklearn.model_selection import StratifiedKFold

    features, codes = make_features(3)
    best = choose_like_scikit_learn(features, codes, StratifiedKFold(5, shuffle=True, random_state=0))
    chosen, expected = (fit_linear_head(features, codes, n_classes=3, C=C) for C in (None, best))
    np.testing.assert_allclose(predict(features, *chosen), predict(features, *expected), atol=1e-6)


def make_scenes():
    """Twelve scenes of five nearly equal images, a class each: folds that cut scenes apart are right everywhere."""
    rng = np.random.default_rng(1)
    codes = np.arange(12) % 2
    scenes = rng.normal(size=(12, 40)) * 3 + 1.5 * np.eye(40)[codes]
    return np.repeat(scenes, 5, axis=0) + rng.normal(size=(60, 40)) * 0.05, np.repeat(codes, 5), np.repeat(range(12), 5)


def test_images_of_one_group_stay_in_one_fold():
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    features, codes, groups = make_scenes()
    grouped = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    best = choose_like_scikit_learn(features, codes, grouped, groups)
    assert best < choose_like_scikit_learn(features, codes, StratifiedKFold(5, shuffle=True, random_state=0))
    chosen = fit_linear_head(features, codes, n_classes=2, groups=groups)
    np.testing.assert_allclose(chosen[0], fit_linear_head(features, codes, n_classes=2, C=best)[0], atol=1e-6)


def test_a_fold_that_lost_a_class_is_left_out():
    """Both images of class 1 are of one group, so no fold can learn the class and be scored on it."""
    features, codes = make_features(2)
    codes = np.where(np.arange(60) < 58, 0, 1)
    groups = np.array([*range(58), 58, 58])
    head = fit_linear_head(features, codes, n_classes=2, groups=groups)
    np.testing.assert_array_equal(head[0], fit_linear_head(features, codes, n_classes=2, C=DEFAULT_C)[0])


def test_a_constant_feature_does_no_harm():
    features, codes = make_features(2)
    features[:, 5] = 1.0
    assert all(np.isfinite(values).all() for values in fit_linear_head(features, codes, n_classes=2))


def test_a_class_without_images_says_so():
    with pytest.raises(ValueError, match=r"Classes \[2\] have no train image"):
        fit_linear_head(*make_features(2), n_classes=3)


def test_one_image_per_class_is_enough():
    features, codes = make_features(2, n=2)
    weight, bias = fit_linear_head(features, codes, n_classes=2)
    assert ((features @ weight.T + bias).argmax(axis=1) == codes).all()


def test_balanced_classes_count_alike_in_the_fit_and_in_the_choice_of_c():
    from sklearn.model_selection import StratifiedKFold
    from sklearn.utils.class_weight import compute_sample_weight

    features, codes = make_features(2)
    kept = np.concatenate([np.flatnonzero(codes == 0), np.flatnonzero(codes == 1)[:8]])
    features, codes = features[kept], codes[kept]
    scaled, weights, losses = scale_like_the_head(features), compute_sample_weight("balanced", codes), []
    for C in C_GRID:
        model, parts = LogisticRegression(C=C, max_iter=5000), []
        for learned, held_out in StratifiedKFold(5, shuffle=True, random_state=0).split(scaled, codes):
            probabilities = model.fit(scaled[learned], codes[learned], weights[learned]).predict_proba(scaled[held_out])
            parts.append(log_loss(codes[held_out], probabilities, sample_weight=weights[held_out]))
        losses.append(np.mean(parts))
    best = C_GRID[int(np.argmin(losses))]
    oracle = LogisticRegression(C=best, class_weight="balanced", max_iter=5000).fit(scaled, codes).predict_proba(scaled)
    found = predict(features, *fit_linear_head(features, codes, n_classes=2, balanced=True))
    np.testing.assert_allclose(found, oracle, atol=2e-3)
    plain = predict(features, *fit_linear_head(features, codes, n_classes=2))
    assert found[:, 1].mean() > plain[:, 1].mean() + 0.05


def test_few_images_of_many_classes_give_no_warning(recwarn):
    features = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
    for codes in (np.arange(24) % 14, np.arange(24)):
        fit_linear_head(features, codes, n_classes=codes.max() + 1)
    assert not recwarn.list


class Hasty(LogisticRegression):
    """Stops after one step where it is one of many."""

    def fit(self, *given):
        """Fit, or begin to."""
        self.max_iter = 1 if self.max_iter == 300 else self.max_iter
        return super().fit(*given)


def test_fits_that_stop_before_the_end_choose_c_without_a_warning(monkeypatch, recwarn):
    monkeypatch.setattr(linear_heads, "LogisticRegression", Hasty)
    fit_linear_head(*make_features(3), n_classes=3)
    assert not recwarn.list


def test_features_are_copied_once(monkeypatch):
    features, codes = make_features(3, n=8000, n_features=200)
    monkeypatch.setattr(linear_heads, "N_MANY", 100)
    tracemalloc.start()
    fit_linear_head(features, codes[::2], n_classes=3, C=0.1, rows=np.arange(0, 8000, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * features[::2].nbytes


@pytest.mark.parametrize("groups", [None, np.arange(300) // 2], ids=["images", "groups"])
def test_many_images_are_fitted_alike_and_some_of_them_choose_c(monkeypatch, groups):
    random = np.random.default_rng(0)
    codes = np.append(np.arange(298) % 3, [3, 3])  # a rare class, which has no say in the choice
    features = (random.normal(0, 1, (300, 8)) + codes[:, None] * 0.8).astype(np.float32)
    expected = fit_linear_head(features, codes, n_classes=4, C=0.1)
    chosen, asked = linear_heads.LogisticRegression, []
    monkeypatch.setattr(linear_heads, "N_MANY", 100)
    found = fit_linear_head(features, codes, n_classes=4, C=0.1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)

    class Recorded(chosen):
        def fit(self, values, labels, sample_weight=None):
            asked.append((len(labels), len(np.unique(labels)), values.dtype))
            return super().fit(values, labels, sample_weight)

    monkeypatch.setattr(linear_heads, "LogisticRegression", Recorded)
    fit_linear_head(features, codes, n_classes=4, groups=groups)
    assert asked[-1] == (300, 4, np.float32) and len(asked) == 31
    assert all(n <= 90 and n_classes == 3 for n, n_classes, _ in asked[:-1])


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
    monkeypatch.setattr(linear_heads, "LABELS_AT_ONCE", 2)  # the last part is smaller
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
