"""A model adjusted for rare classes gives the same answers wherever it is used."""

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax

from utils_cv.models.saved_classifier import load_classifier, save_classifier
from utils_cv.training.imbalance import adjust_model
from utils_cv.training.learner import compute_logits, make_dataloaders, make_learner, predict_images
from utils_cv.training.linear_probe import linear_probe


@pytest.fixture(scope="module")
def rare(small_images):
    """Nine train images of one class, three of the other."""
    table = small_images.table
    is_left_out = (table["split"] == "train") & (table["label"] == "can") & (table.groupby("label").cumcount() % 5 > 1)
    return dataclasses.replace(small_images, table=table.assign(split=table["split"].where(~is_left_out, "test")))


@pytest.fixture(scope="module")
def model(rare):
    return linear_probe(rare)


def count(images):
    labels = images.table["label"][images.table["split"] == "train"]
    return np.array([(labels == name).sum() for name in images.class_names])


def test_the_shift_is_the_log_of_the_shares_and_the_given_model_stays(rare, model):
    before = compute_logits(model.learn.model, rare.pixels)
    adjusted = predict_images(adjust_model(model), rare).probabilities
    test = rare.table["split"] == "test"
    np.testing.assert_allclose(adjusted, softmax(before[test] - np.log(count(rare)), axis=1), atol=1e-5)
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


def test_models_that_need_no_adjustment_are_refused(rare, model):
    with pytest.raises(ValueError, match="select_thresholds"):
        adjust_model(dataclasses.replace(model, is_multilabel=True))
    learn = make_learner(make_dataloaders(rare, balance="sampling"), "test_efficientnet", pretrained=False)
    with pytest.raises(ValueError, match="balance='sampling'"):
        adjust_model(dataclasses.replace(model, learn=learn))
