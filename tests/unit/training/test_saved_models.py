"""Finished models as a start: the same answers, training that goes on, and a new class in a new head."""

import dataclasses

import numpy as np
import pytest
import torch

from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.models.saved_classifier import load_classifier, save_classifier
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.learner import predict_images
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.saved_models import load_trained

QUIET = {"epochs": 1, "batch_size": 8, "augment": "none", "show_progress": False}


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
    for images, words in (
        (smaller, "px, fit='squash'; these have"),
        (dataclasses.replace(small_images, fit="pad"), ""),
    ):
        with pytest.raises(ValueError, match=rf"{words}.*load_table_images\(table, start\.im_size_px"):
            train(images, start=start)
    with pytest.raises(ValueError, match="a start with 'test_efficientnet'"):
        train(small_images, start=start, backbone="efficientnet_lite0")
    with pytest.raises(TypeError, match=r"type PosixPath, expected a model: start=load_trained\(folder\)"):
        train(small_images, start=folder)


def test_a_class_is_added_by_a_new_head_on_the_features_of_the_model(folder, small_images):
    table = small_images.table.assign(label=small_images.table["label"].where(small_images.table.index % 4 != 0, "cup"))
    more, start = (
        dataclasses.replace(small_images, table=table, class_names=["can", "carton", "cup"]),
        load_trained(folder),
    )
    with pytest.raises(ValueError, match=r"'carton'\], the images .*linear_probe\(images, start=start\)"):
        fine_tune(more, start=start, **QUIET)
    probe = linear_probe(more, start=start)
    assert probe.class_names == ["can", "carton", "cup"] and probe.backbone == start.backbone
    own = start.learn.model.state_dict()
    for name, value in probe.learn.model.state_dict().items():
        assert name.startswith("head.") or torch.equal(value, own[name])
    assert len(own["head.bias"]) == 2 and fine_tune(more, start=probe, **QUIET).class_names[2] == "cup"
