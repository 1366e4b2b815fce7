"""A network with a head of random weights, as training would give it, and the finished model made of it."""

from types import SimpleNamespace

import pytest
import torch

from utils_cv.evaluation.intervals import make_fraction_score
from utils_cv.models.backbones import load_backbone
from utils_cv.models.onnx_export import Normalized
from utils_cv.models.saved_classifier import save_classifier


@pytest.fixture(scope="package")
def trained(small_images):
    """What `save_classifier` takes; its answers are spread over both classes."""
    torch.manual_seed(0)
    head = torch.nn.Linear(1280, 2)
    network = Normalized(load_backbone(n_classes=0), (0.5, 0.4, 0.3), (0.5, 0.6, 0.7), head).eval()
    return SimpleNamespace(
        learn=SimpleNamespace(model=network), class_names=["can", "carton"], backbone="efficientnet_lite0",
        fit=small_images.fit, im_size_px=64, is_multilabel=False, seconds=1.0, value_range=65535,
    )  # fmt: skip


@pytest.fixture(scope="package")
def saved_folder(trained, small_images, tmp_path_factory):
    """The finished model; 8 bits were asked for, but the few validation images cannot show that they are as good."""
    folder = tmp_path_factory.mktemp("models") / "shapes"
    save_classifier(trained, folder, images=small_images, scores={"accuracy": make_fraction_score(5, 6)}, int8=True)
    return folder
