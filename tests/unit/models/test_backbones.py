"""Backbones: the weights are the package's, bit by bit, and what cannot be had is said so."""

import numpy as np
import pytest
import torch
from timm.data import ImageNetInfo

from tests.conftest import ROOT
from utils_cv.data.images import load_pixels
from utils_cv.models.backbones import PACKAGED, describe_backbone, find_packaged_weights, list_backbones, load_backbone

DEMO_DIR = ROOT / "data" / "fridge_objects"


@pytest.fixture(scope="module")
def lite0():
    return load_backbone("efficientnet_lite0")


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_are_bit_equal_to_their_file(name):
    given = torch.load(find_packaged_weights(name), weights_only=True)
    loaded = load_backbone(name).state_dict()
    assert len(loaded) == len(given)
    # The package calls them otherwise, so that only their order can tell which is which.
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(loaded.values(), given.values(), strict=True))


def name_top_class(model, path):
    facts = describe_backbone("efficientnet_lite0")
    pixels = torch.tensor(load_pixels(path, facts.im_size_px)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (facts.mean, facts.std))
    with torch.inference_mode():
        code = model((pixels - mean) / std).argmax().item()
    return ImageNetInfo().index_to_description(code).split(",")[0]


@pytest.mark.parametrize(
    ("image", "class_name"),
    [
        ("carton/carton_081.jpg", "carton"),
        ("water_bottle/water_bottle_021.jpg", "pop bottle"),
        ("water_bottle/water_bottle_046.jpg", "pop bottle"),
    ],
)
def test_a_known_image_gets_its_imagenet_class(lite0, image, class_name):
    assert name_top_class(lite0, DEMO_DIR / image) == class_name


def test_models_come_in_evaluation_mode_and_give_features_or_classes(lite0):
    features = load_backbone("efficientnet_lite0", n_classes=0)
    image = torch.zeros(2, 3, 64, 64)
    with torch.inference_mode():
        assert lite0(image).shape == (2, 1000) and features(image).shape == (2, 1280)
        assert load_backbone("efficientnet_lite0", n_classes=4)(image).shape == (2, 4)
    assert not any(module.training for module in features.modules())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "resnet18"])
def test_any_architecture_gives_features_and_classes(name):
    image = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        features = load_backbone(name, n_classes=0, pretrained=False)(image)
        classes = load_backbone(name, n_classes=5, pretrained=False)(image)
    assert features.ndim == 2 and features.shape[1] >= 500 and classes.shape == (1, 5)


def test_weights_from_a_torchvision_cache_are_found(monkeypatch, tmp_path):
    import torchvision

    known = torchvision.models.mobilenet_v3_small(weights=None)
    url = torchvision.models.get_model_weights("mobilenet_v3_small").DEFAULT.url
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(known.state_dict(), folder / url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    loaded = load_backbone("mobilenet_v3_small")
    assert torch.equal(loaded.classifier[3].weight, known.classifier[3].weight)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"], ids=["from timm", "from torchvision"])
def test_no_network_says_where_the_file_may_lie_and_what_needs_none(monkeypatch, tmp_path, name):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ConnectionError, match=r"could not be downloaded.*weights_path.*efficientnet_lite0") as caught:
        load_backbone(name)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "close"), [("efficientnet_lite", "efficientnet_lite0"), ("resnet-18", "resnet18")], ids=str
)
def test_an_unknown_name_gets_close_names(name, close):
    with pytest.raises(ValueError, match=f"Close names: .*{close}"):
        load_backbone(name)


def test_weights_of_a_file_replace_those_of_the_package(tmp_path, lite0):
    other = {key: value + 1 if value.is_floating_point() else value for key, value in lite0.state_dict().items()}
    torch.save(other, tmp_path / "other.pth")
    loaded = load_backbone("efficientnet_lite0", weights_path=tmp_path / "other.pth").state_dict()
    assert all(torch.equal(loaded[key], other[key]) for key in other)


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = find_packaged_weights("efficientnet_lite1")
    with pytest.raises(ValueError, match=r"does not fit.*another architecture"):
        load_backbone("efficientnet_lite0", weights_path=path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "short.pth"
    path.write_bytes(find_packaged_weights("efficientnet_lite0").read_bytes()[:100_000])
    with pytest.raises(ValueError, match="cut short"):
        load_backbone("efficientnet_lite0", weights_path=path)


def test_a_package_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(
        "utils_cv.models.backbones.find_packaged_weights", lambda name: find_packaged_weights("efficientnet_lite1")
    )
    with pytest.raises(ValueError, match="shapes differ"):
        load_backbone("efficientnet_lite0")


def test_facts_of_the_packaged_backbones():
    table = list_backbones().set_index("name")
    assert table["im_size_px"].tolist() == [224, 240, 260]
    # Published: 4.7, 5.4 and 6.1 million parameters, 407, 631 and 899 million multiply-adds (the lites' model card).
    assert (table["n_parameters"] / 1e6).round(1).tolist() == [4.7, 5.4, 6.1]
    np.testing.assert_allclose(table["n_multiply_adds"] / 1e6, [407, 631, 899], rtol=0.07)
    assert set(table["license"]) == {"Apache-2.0"} and not table["needs_download"].any()


def test_multiply_adds_follow_the_asked_size():
    native, half = (describe_backbone("efficientnet_lite0", im_size_px=size).n_multiply_adds for size in (0, 112))
    assert 0.2 < half / native < 0.3


def test_facts_of_a_network_that_needs_a_download():
    facts = describe_backbone("mobilenet_v3_small")
    assert facts.needs_download and facts.source.startswith("https://") and facts.n_parameters == 2_542_856
