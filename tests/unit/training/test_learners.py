"""Losses against torch, parameter groups that leave nothing out, and predictions that do not depend on the batch."""

import numpy as np
import pytest
import torch
from torch import nn

from utils_cv.training.learners import make_loss, predict_pixels, split_parameters

LOGITS = torch.tensor([[2.0, 0.5], [0.1, 1.0], [1.5, 0.2], [0.3, 0.2]])
CODES = np.array([0, 0, 0, 1])


def test_the_plain_loss_is_cross_entropy():
    ours = make_loss(CODES, 2)(LOGITS, torch.as_tensor(CODES))
    assert float(ours) == pytest.approx(float(nn.functional.cross_entropy(LOGITS, torch.as_tensor(CODES))))


def test_balanced_classes_count_alike():
    ours = make_loss(CODES, 2, class_weights="balanced")(LOGITS, torch.as_tensor(CODES))
    each = nn.functional.cross_entropy(LOGITS, torch.as_tensor(CODES), reduction="none")
    assert float(ours) == pytest.approx(float((each[:3].mean() + each[3]) / 2))


def test_smoothing_is_that_of_torch():
    ours = make_loss(CODES, 2, label_smoothing=0.2)(LOGITS, torch.as_tensor(CODES))
    expected = nn.functional.cross_entropy(LOGITS, torch.as_tensor(CODES), label_smoothing=0.2)
    assert float(ours) == pytest.approx(float(expected))


def test_several_labels_an_image_are_one_sigmoid_each():
    targets = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], np.float32)
    ours = make_loss(targets, 2)(LOGITS, torch.as_tensor(targets))
    expected = nn.functional.binary_cross_entropy_with_logits(LOGITS, torch.as_tensor(targets))
    assert float(ours) == pytest.approx(float(expected))


def test_a_class_without_images_does_not_divide_by_zero():
    assert torch.isfinite(make_loss(CODES, 3, class_weights="balanced").func.weight).all()


@pytest.mark.parametrize(
    ("targets", "arguments"),
    [
        pytest.param(CODES, {"class_weights": "equal"}, id="weights"),
        pytest.param(CODES, {"label_smoothing": 1.5}, id="smoothing"),
        pytest.param(np.eye(2, dtype=np.float32), {"label_smoothing": 0.1}, id="smoothing of several labels"),
    ],
)
def test_wrong_arguments_are_refused(targets, arguments):
    with pytest.raises(ValueError, match="expected"):
        make_loss(targets, 2, **arguments)


def test_every_parameter_is_in_one_group(small_probe):
    model = small_probe.learn.model
    groups = split_parameters(model)
    assert len(groups) == 3
    assert sorted(id(parameter) for group in groups for parameter in group) == sorted(map(id, model.parameters()))


def test_the_batch_does_not_change_predictions(small_images, small_probe):
    one, all_ = (predict_pixels(small_probe.learn, small_images.pixels[:5], batch_size=n) for n in (2, 32))
    np.testing.assert_allclose(one, all_, atol=1e-4)
