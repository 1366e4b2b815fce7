"""The probe has the head of its features and groups, and is scored by what it was made for."""

import dataclasses

import numpy as np
import pytest

from tests.unit.models.test_linear_heads import make_scenes
from utils_cv.evaluation.calibration import weigh_images
from utils_cv.models import features
from utils_cv.models.features import compute_features
from utils_cv.models.linear_heads import fit_linear_head
from utils_cv.training import linear_probe as linear_probe_module
from utils_cv.training.linear_probe import compute_rows_features, linear_probe
from utils_cv.training.trained_models import predict_images


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


def test_rows_not_asked_for_have_no_features_and_long_work_is_announced_once(monkeypatch, small_images, capsys):
    rows = [5, 0, 29, 7, 3]
    found = compute_rows_features(small_images, rows, "efficientnet_lite0")
    assert not capsys.readouterr().out
    np.testing.assert_array_equal(found[rows], compute_features(small_images.pixels, rows))
    assert np.isnan(found).all(axis=1).sum() == 25
    for module in (features, linear_probe_module):
        monkeypatch.setattr(module, "N_MANY", 5)
    compute_rows_features(small_images, rows, "efficientnet_lite0")
    assert capsys.readouterr().out.count("features of 5 images at 64 px: about") == 1
