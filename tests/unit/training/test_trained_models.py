"""Predictions that do not depend on the batch, finished models as a start, and models adjusted for rare classes."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from scipy.special import softmax

from utils_cv.evaluation.intervals import compute_wilson_interval
from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.models.saved_classifier import load_classifier, save_classifier
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.learner import make_dataloaders, make_learner
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.trained_models import (
    Predictions,
    adjust_model,
    compute_logits,
    load_trained,
    make_trained_model,
    predict_images,
)

TINY = "test_efficientnet"
QUIET = {"epochs": 1, "batch_size": 8, "augment": "none", "show_progress": False}


def test_validation_images_of_one_group_count_as_one(small_images):
    images = dataclasses.replace(small_images, table=small_images.table.assign(group="one scene"))
    learn = make_learner(make_dataloaders(images, batch_size=8), TINY, pretrained=False)
    row = make_trained_model(learn, [[1.0, 1.0, 0.5, 1.0]]).history.iloc[0]
    assert (row["valid_accuracy_low"], row["valid_accuracy_high"]) == compute_wilson_interval(0.5, 1)


def test_a_learner_predicts_files_as_it_does_opened_images(small_images, small_probe, tmp_path):
    predictions = predict_images(small_probe, small_images)
    assert predictions.groups is None
    predictions.table["group"] = "one scene"
    assert set(predictions.groups) == {"one scene"}
    path = shutil.copy(predictions.table["path"].iloc[0], tmp_path / "my image.png")
    with small_probe.learn.no_bar():
        name, code, probabilities = small_probe.learn.predict(str(path))
    np.testing.assert_allclose(probabilities, predictions.probabilities[0], atol=1e-4)
    assert name == predictions.class_names[code] == predictions.table["label"].iloc[0]


def test_the_batch_does_not_change_predictions(small_images, small_probe):
    network = small_probe.learn.model
    two, all_ = (compute_logits(network, small_images.pixels[:n]) for n in (2, 20))
    np.testing.assert_allclose(two, all_[:2], atol=1e-4)


@pytest.mark.parametrize(
    ("y_true", "expected"),
    [
        pytest.param(np.array([1, 1]), [0, 1], id="one label: the most probable class"),
        pytest.param(np.array([[1, 0], [1, 1]]), [[1, 0], [1, 1]], id="several labels: all from 0.5 on"),
    ],
)
def test_predicted_labels(y_true, expected):
    predictions = Predictions(None, ["can", "carton"], np.array([[0.9, 0.1], [0.5, 0.7]]), y_true)
    assert predictions.y_pred.tolist() == expected
    assert predictions.y_pred.shape == y_true.shape


def test_wrong_split_and_wrong_size_say_what_there_is(small_images, small_probe):
    with pytest.raises(ValueError, match="split='exam'; the table has"):
        predict_images(small_probe, small_images, split="exam")
    smaller = dataclasses.replace(small_images, pixels=small_images.pixels[:, :48, :48])
    with pytest.raises(ValueError, match=r"load_table_images\(table, 64\)"):
        predict_images(small_probe, smaller)


@pytest.fixture(scope="module")
def folder(tiny_start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "march"
    save_classifier(tiny_start, folder, onnx=False)
    return folder


def test_a_loaded_model_predicts_as_before_and_can_be_saved_again(folder, tiny_start, small_images, tmp_path):
    start = load_trained(folder)
    expected = predict_images(tiny_start, small_images, split="valid").probabilities
    np.testing.assert_allclose(predict_images(start, small_images, split="valid").probabilities, expected, atol=1e-6)
    facts = ("class_names", "backbone", "im_size_px", "fit", "is_multilabel", "value_range")
    assert [getattr(start, name) for name in facts] == [getattr(tiny_start, name) for name in facts]
    files = save_classifier(start, tmp_path / "again", onnx=False).files
    assert files == load_classifier(folder).info.files


def test_training_goes_on_and_old_and_new_are_compared_on_the_same_images(folder, small_images, tmp_path):
    start = load_trained(folder)
    before = {name: value.clone() for name, value in start.learn.model.state_dict().items()}
    tuned = fine_tune(small_images, start=start, **QUIET)
    assert all(torch.equal(before[name], value) for name, value in start.learn.model.state_dict().items())
    assert not torch.equal(tuned.learn.model.head.weight, start.learn.model.head.weight)
    save_classifier(tuned, tmp_path / "april", onnx=False)
    test = small_images.table[small_images.table["split"] == "test"]
    old, new = (load_classifier(place).predict_labels(test["path"]) for place in (folder, tmp_path / "april"))
    change = compare_accuracy(test["label"], new, old)
    assert change.n == len(test) and change.low <= change.value <= change.high


def test_a_loaded_classifier_is_a_start_too(folder, small_images):
    starts = load_trained(folder), load_classifier(folder)
    heads = [linear_probe(small_images, start=start).learn.model.head.weight for start in starts]
    assert torch.equal(*heads)
    tuned = [fine_tune(small_images, start=start, **QUIET).learn.model.head.weight for start in starts]
    assert torch.equal(*tuned)


@pytest.mark.parametrize("train", [fine_tune, linear_probe])
def test_a_start_for_other_images_or_of_another_backbone_is_refused(folder, small_images, train):
    start = load_trained(folder)
    smaller = dataclasses.replace(small_images, pixels=small_images.pixels[:, ::2, ::2])
    padded = dataclasses.replace(small_images, fit="pad")
    for images, words in ((smaller, "px, fit='squash'; these have"), (padded, "")):
        with pytest.raises(ValueError, match=rf"{words}.*load_table_images\(table, start\.im_size_px"):
            train(images, start=start)
    with pytest.raises(ValueError, match="a start with 'test_efficientnet'"):
        train(small_images, start=start, backbone="efficientnet_lite0")
    with pytest.raises(TypeError, match=r"type PosixPath, expected a model: start=load_trained\(folder\)"):
        train(small_images, start=folder)


def test_a_class_is_added_by_a_new_head_on_the_features_of_the_model(folder, small_images):
    table = small_images.table.assign(label=small_images.table["label"].where(small_images.table.index % 4 != 0, "cup"))
    more = dataclasses.replace(small_images, table=table, class_names=["can", "carton", "cup"])
    start = load_trained(folder)
    with pytest.raises(ValueError, match=r"'carton'\], the images .*linear_probe\(images, start=start\)"):
        fine_tune(more, start=start, **QUIET)
    probe = linear_probe(more, start=start)
    assert probe.class_names == ["can", "carton", "cup"] and probe.backbone == start.backbone
    own = start.learn.model.state_dict()
    for name, value in probe.learn.model.state_dict().items():
        assert name.startswith("head.") or torch.equal(value, own[name])
    assert len(own["head.bias"]) == 2 and fine_tune(more, start=probe, **QUIET).class_names[2] == "cup"


@pytest.fixture(scope="module")
def rare(small_images):
    """Nine train images of one class, three of the other."""
    table = small_images.table
    is_left_out = (table["split"] == "train") & (table["label"] == "can") & (table.groupby("label").cumcount() % 5 > 1)
    return dataclasses.replace(small_images, table=table.assign(split=table["split"].where(~is_left_out, "test")))


@pytest.fixture(scope="module")
def model(rare):
    return linear_probe(rare)


def test_the_shift_is_the_log_of_the_shares_and_the_given_model_stays(rare, model):
    before = compute_logits(model.learn.model, rare.pixels)
    adjusted = predict_images(adjust_model(model), rare).probabilities
    test = rare.table["split"] == "test"
    counts = rare.table.query("split == 'train'")["label"].value_counts()[rare.class_names].to_numpy()
    np.testing.assert_allclose(adjusted, softmax(before[test] - np.log(counts), axis=1), atol=1e-5)
    np.testing.assert_array_equal(compute_logits(model.learn.model, rare.pixels), before)
    plain = predict_images(model, rare).probabilities
    code = rare.class_names.index("can")
    assert (adjusted[:, code] > plain[:, code]).all()


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_saved_model_answers_as_the_adjusted_one(rare, model, tmp_path, runtime):
    adjusted = adjust_model(model)
    save_classifier(adjusted, tmp_path / "model", images=rare)
    paths = rare.table["path"][rare.table["split"] == "test"].tolist()
    expected = predict_images(adjusted, rare).probabilities
    np.testing.assert_allclose(load_classifier(tmp_path / "model", runtime=runtime).predict(paths), expected, atol=1e-4)


def test_models_that_need_no_adjustment_or_have_no_images_are_refused(rare, model, folder):
    with pytest.raises(ValueError, match="Adjust it after its training"):
        adjust_model(load_trained(folder))
    with pytest.raises(ValueError, match="select_thresholds"):
        adjust_model(dataclasses.replace(model, is_multilabel=True))
    learn = make_learner(make_dataloaders(rare, balance="sampling"), "test_efficientnet", pretrained=False)
    with pytest.raises(ValueError, match="balance='sampling'"):
        adjust_model(dataclasses.replace(model, learn=learn))
