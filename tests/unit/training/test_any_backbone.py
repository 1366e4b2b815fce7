"""Whatever network a reader names trains in every recipe, is saved, exported, loaded and looked into."""

from functools import partial

import numpy as np
import pytest
import timm
import torch

from utils_cv.models import backbones, features, linear_heads
from utils_cv.models.grad_cam import compute_grad_cam
from utils_cv.models.saved_classifier import load_classifier, save_classifier
from utils_cv.models.splitting import CannotSplitError
from utils_cv.training import fine_tuning
from utils_cv.training.learner import make_dataloaders, make_learner
from utils_cv.training.model_selection import RECIPES, select_recipe
from utils_cv.training.trained_models import compute_logits, make_trained_model

# What each library calls the networks of the issue, and how many blocks are enough where it takes a number.
SHALLOW, STAGES = {"depth": 4}, {"depths": (1, 1, 2, 1)}
NETWORKS = {
    "resnet18": {},
    "resnet50": {"layers": (1, 1, 1, 1)},
    "convnext_atto": STAGES,
    "convnext_tiny": STAGES,
    "efficientnet_b0": {},
    "efficientnetv2_rw_t": {},
    "regnety_004": {},
    "mobilenetv3_large_100": {},
    "mobilenetv4_conv_small": {},
    "mobilenetv4_conv_medium": {},
    "repvit_m0_9": {},
    "fastvit_t8": {},
    "tiny_vit_5m_224": {"depths": (1, 1, 1, 1)},
    "edgenext_small": STAGES,
    "mobilevitv2_100": {},
    "vit_tiny_patch16_224": SHALLOW,
    "vit_small_patch14_dinov2": SHALLOW,
    "vit_small_patch16_dinov3": SHALLOW,
    "vit_base_patch32_clip_224": SHALLOW | {"embed_dim": 192, "num_heads": 3},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1)},
    "beit_base_patch16_224": SHALLOW | {"embed_dim": 192, "num_heads": 3},
    "torchvision/resnet18": {},
    "mobilenet_v3_small": {},
}


@pytest.fixture(autouse=True)
def random_weights(monkeypatch):
    """Build networks with the same random weights each time, of few blocks, without looking for pretrained ones."""

    def build(name, config, im_size_px, given):
        torch.manual_seed(0)
        return backbones._build(config, im_size_px)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **NETWORKS[name] | options))
    monkeypatch.setattr(backbones, "_build_from_file", build)
    # One export per network is enough, that of the whole: the frozen part runs in torch.
    run = partial(features.run_in_torch, runtime="torch", device="cpu")
    monkeypatch.setattr(fine_tuning, "prepare_network", lambda network, size, name: run(network))
    monkeypatch.setattr(linear_heads, "C_GRID", (0.01, 0.1))
    features._find_source_for.cache_clear()
    yield
    features._find_source_for.cache_clear()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_works_with_any_network(name, small_images, tmp_path):
    options = {"n_folds": 2, "epochs": 1, "show_progress": False}
    selection = select_recipe(small_images, recipes=RECIPES, backbone=name, **options)
    assert selection.scores["recipe"].tolist() == list(RECIPES) and (selection.scores["n"] == 24).all()

    # A head of random weights: that of a probe magnifies the tiny differences between images of a random network.
    model = make_trained_model(make_learner(make_dataloaders(small_images), name))
    weight = model.learn.model.head.weight.data
    weight[1] = -weight[0]  # what does not speak for one class speaks for the other
    info = save_classifier(model, tmp_path / "model", images=small_images)
    logits = compute_logits(model.learn.model, small_images.pixels)
    for runtime in ("torch", "onnx"):
        answers = load_classifier(tmp_path / "model", runtime=runtime).run(small_images.pixels)
        np.testing.assert_allclose(answers, logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    assert info.weights_license == backbones.describe_backbone(name).license
    assert f"license: {info.weights_license}" in (tmp_path / "model" / "README.md").read_text()

    heat = compute_grad_cam(model.learn.model, small_images.pixels[[0, 0]], [0, 1])
    assert heat.shape == (2, 64, 64) and np.isfinite(heat).all() and 0 <= heat.min() <= heat.max() <= 1
    assert heat.max() == pytest.approx(1) and np.ptp(heat, axis=(1, 2)).max() > 0.05, "no place speaks for either class"


def test_networks_side_by_side_are_one_backbone_that_cannot_be_cut(small_images, tmp_path):
    name = "mobilenet_v3_small+torchvision/resnet18"
    with pytest.warns(UserWarning, match="averaged left out"):
        selection = select_recipe(small_images, backbone=name, n_folds=2, recipes=("averaged", "probe"))
    save_classifier(selection.model, tmp_path / "model", images=small_images)
    network = selection.model.learn.model
    answers = load_classifier(tmp_path / "model").run(small_images.pixels)
    np.testing.assert_allclose(answers, compute_logits(network, small_images.pixels), rtol=1e-4, atol=1e-3)
    heat = compute_grad_cam(network, small_images.pixels[[0, 0]], [0, 1])
    assert heat.shape == (2, 64, 64) and heat.max() == pytest.approx(1)


@pytest.mark.parametrize("problem", ["cannot be cut", "MB of activations, 0 MB free"])
def test_a_recipe_that_needs_a_cut_or_memory_is_left_out_where_there_is_none(small_images, monkeypatch, problem):
    def refuse(*_):
        raise CannotSplitError("This backbone cannot be cut.")

    name, fake = ("split_backbone", refuse) if "cut" in problem else ("measure_free_memory_mb", lambda: 0.0)
    monkeypatch.setattr(fine_tuning, name, fake)
    given = {"backbone": "mobilenet_v3_small", "n_folds": 2, "show_progress": False}
    with pytest.warns(UserWarning, match=f"mobilenet_v3_small: averaged, last_stage left out.*{problem}"):
        selection = select_recipe(small_images, recipes=("probe", "averaged", "last_stage"), **given)
    scores = selection.scores.set_index("recipe")
    assert selection.recipe == "probe" and scores["n"].to_dict() == {"probe": 24, "averaged": 0, "last_stage": 0}
    assert scores["is_selected"].tolist() == scores["loss"].notna().tolist() == [True, False, False]
    with pytest.warns(UserWarning, match="left out"):
        assert select_recipe(small_images, recipes=("last_stage",), **given).recipe == "probe"
