"""The probe's head against scikit-learn, folds that keep groups together, and corner cases."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tests.unit.training.conftest import scale_like_the_head
from utils_cv.evaluation.calibration import weigh_images
from utils_cv.training import linear_probe as linear_probe_module
from utils_cv.training.learner import predict_images
from utils_cv.training.linear_probe import C_GRID, DEFAULT_C, fit_linear_head, linear_probe


def make_features(n_classes, n=60, n_features=80):
    rng = np.random.default_rng(0)
    codes = np.arange(n) % n_classes
    spread = np.linspace(0.1, 3, n_features)
    return (rng.normal(size=(n, n_features)) * spread + 2 * np.eye(n_features)[codes]).astype(np.float32), codes


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


def test_the_probe_takes_groups_from_the_table(small_images):
    features, codes, groups = make_scenes()
    table = small_images.table.loc[np.resize(small_images.table.index, 60)].reset_index(drop=True)
    table = table.assign(split="train", label=np.array(["can", "carton"])[codes], path=[f"{i}.png" for i in range(60)])
    learned = []
    for columns in ({}, {"group": groups}):
        images = dataclasses.replace(
            small_images, table=table.assign(**columns), pixels=np.zeros((60, 8, 8, 3), np.uint8)
        )
        wide = np.pad(features, ((0, 0), (0, 1280 - features.shape[1])))
        head = linear_probe(images, features=wide).learn.model.head
        expected = fit_linear_head(wide, codes, n_classes=2, groups=columns.get("group"))
        np.testing.assert_array_equal(head.weight.detach(), expected[0])
        learned.append(np.abs(expected[0]).max())
    assert learned[1] < learned[0]  # folds that cut scenes apart ask for too little regularization


def test_a_fold_that_lost_a_class_is_left_out():
    """Both images of class 1 are of one group, so no fold can learn the class and be scored on it."""
    features, codes = make_features(2)
    codes = np.where(np.arange(60) < 58, 0, 1)
    groups = np.array([*range(58), 58, 58])
    head = fit_linear_head(features, codes, n_classes=2, groups=groups)
    np.testing.assert_array_equal(head[0], fit_linear_head(features, codes, n_classes=2, C=DEFAULT_C)[0])


def test_several_labels_are_one_head_per_class():
    features, codes = make_features(3)
    targets = np.eye(3, dtype=np.float32)[codes]
    targets[codes == 0, 1] = 1  # every image of class 0 is one of class 1, too
    weight, bias = fit_linear_head(features, targets, n_classes=3, C=0.1)
    scaled = scale_like_the_head(features)
    for code in range(3):
        oracle = LogisticRegression(C=0.1, max_iter=5000).fit(scaled, targets[:, code]).predict_proba(scaled)[:, 1]
        np.testing.assert_allclose(expit(features @ weight[code] + bias[code]), oracle, atol=2e-3)
    chosen = fit_linear_head(features, targets, n_classes=3)
    assert ((features @ chosen[0].T + chosen[1] > 0) == targets.astype(bool)).mean() > 0.95


def test_a_constant_feature_does_no_harm():
    features, codes = make_features(2)
    features[:, 5] = 1.0
    assert all(np.isfinite(values).all() for values in fit_linear_head(features, codes, n_classes=2))


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


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_the_probe_is_scored_by_what_it_is_balanced_for(small_images, small_probe, balance):
    table = small_images.table
    is_left_out = (table["split"] == "train") & (table["label"] == "can") & (table.groupby("label").cumcount() % 3 > 0)
    images = dataclasses.replace(small_images, table=table.assign(split=table["split"].where(~is_left_out, "test")))
    probe = linear_probe(images, balance=balance)
    codes = np.array([images.class_names.index(name) for name in table["label"]])
    rows = {name: np.flatnonzero(images.table["split"] == name) for name in ("train", "valid")}
    losses = -np.log(predict_images(probe, images, split="valid").probabilities[range(6), codes[rows["valid"]]])
    weights = weigh_images(codes[rows["valid"]], codes[rows["train"]])
    assert probe.history["valid_loss"].item() == pytest.approx((losses * weights).mean(), abs=1e-5)
    assert probe.learn.dls.balance == balance


def test_a_class_without_images_says_so(small_images):
    with pytest.raises(ValueError, match=r"Classes \[2\] have no train image"):
        fit_linear_head(*make_features(2), n_classes=3)
    table = small_images.table.assign(split=small_images.table["label"].map({"can": "test", "carton": "train"}))
    with pytest.raises(ValueError, match="Classes can have no train image"):
        linear_probe(dataclasses.replace(small_images, table=table))


def test_the_probe_learns_and_its_history_is_its_score(small_images, small_probe):
    predictions = predict_images(small_probe, small_images, split="valid")
    row = small_probe.history.iloc[0]
    assert row["valid_accuracy"] == (predictions.y_pred == predictions.y_true).mean() >= 0.8
    losses = -np.log(predictions.probabilities[np.arange(len(predictions.y_true)), predictions.y_true])
    assert row["valid_loss"] == pytest.approx(losses.mean(), abs=1e-4)
    assert row["valid_accuracy_low"] < row["valid_accuracy"] and bool(row["is_kept"])
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-5)


def test_without_validation_images_the_history_has_no_score(no_valid_images):
    row = linear_probe(no_valid_images).history.iloc[0]
    assert np.isnan(row["valid_loss"]) and np.isnan(row["valid_accuracy_low"]) and row["train_loss"] > 0


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
    monkeypatch.setattr(linear_probe_module, "LogisticRegression", Hasty)
    fit_linear_head(*make_features(3), n_classes=3)
    assert not recwarn.list


def test_features_are_copied_once_and_computed_in_parts(monkeypatch, small_images):
    rows = [5, 0, 29, 7, 3]
    expected = linear_probe_module.compute_rows_features(small_images, rows, "efficientnet_lite0")
    monkeypatch.setattr(linear_probe_module, "_N_ROWS", 2)
    found = linear_probe_module.compute_rows_features(small_images, rows, "efficientnet_lite0")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.isfinite(found[rows]).all() and np.isnan(found).all(axis=1).sum() == 25
    features, codes = make_features(3, n=8000, n_features=200)
    monkeypatch.setattr(linear_probe_module, "N_MANY", 100)
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
    expected = linear_probe_module.fit_linear_head(features, codes, n_classes=4, C=0.1)
    chosen, asked = linear_probe_module.LogisticRegression, []
    monkeypatch.setattr(linear_probe_module, "N_MANY", 100)
    found = linear_probe_module.fit_linear_head(features, codes, n_classes=4, C=0.1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)

    class Recorded(chosen):
        def fit(self, values, labels, sample_weight=None):
            asked.append((len(labels), len(np.unique(labels)), values.dtype))
            return super().fit(values, labels, sample_weight)

    monkeypatch.setattr(linear_probe_module, "LogisticRegression", Recorded)
    linear_probe_module.fit_linear_head(features, codes, n_classes=4, groups=groups)
    assert asked[-1] == (300, 4, np.float32) and len(asked) == 31
    assert all(n <= 90 and n_classes == 3 for n, n_classes, _ in asked[:-1])
