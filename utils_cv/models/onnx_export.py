"""A trained network as files: safetensors for PyTorch, ONNX for ONNX Runtime. No fastai, no pickle."""

import copy
import hashlib
import importlib.metadata
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from utils_cv.system.files import get_cache_dir, write_atomic

from .backbones import count_outputs, describe_backbone, load_backbone
from .model_files import ModelFileError, ModelInfo
from .unknown import ARRAY_PREFIX


class Normalized(nn.Module):
    """A network that normalizes its images itself; without a head it gives features."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        body: nn.Module,
        mean: Sequence[float] | torch.Tensor,
        std: Sequence[float] | torch.Tensor,
        head: nn.Module | None = None,
        *,
        weights_license: str = "",
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.as_tensor(std).view(1, 3, 1, 1))
        self.body = body
        self.head = head or nn.Identity()
        self.weights_license = weights_license

    @classmethod
    def load(cls, backbone: str, im_size_px: int, *, n_classes: int = 0, pretrained: bool = True) -> "Normalized":
        """Load a backbone and put it together with its facts and, for classes, a new head."""
        facts = describe_backbone(backbone)
        body = load_backbone(backbone, n_classes=0, im_size_px=im_size_px, pretrained=pretrained)
        head = nn.Linear(count_outputs(body, im_size_px), n_classes) if n_classes else None
        return cls(body, facts.mean, facts.std, head, weights_license=facts.license if pretrained else "")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Take bytes (n, size, size, 3), as images are stored, or floats in [0, 1], (n, 3, size, size), in training."""
        return self.head(self.body(self.normalize(images)))

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Turn images into what the body takes, (n, 3, size, size); bytes stay with channels last in memory."""
        if images.dtype != torch.uint8:
            return (images - self.mean) / self.std
        scale, shift = 1 / (255 * self.std), -(self.mean / self.std)  # one multiplication per pixel, not two divisions
        images = images.permute(0, 3, 1, 2)
        if torch.compiler.is_exporting():  # else ONNX gets the strides as operations; some OpenVINO cannot load
            images = images.contiguous()
        return images.float() * scale + shift


def export_to_cache(network: Normalized, im_size_px: int, *, name: str) -> Path:
    """Export a network to ONNX in the user's cache folder, unless it is there already."""
    path = _name_export(network, im_size_px, name=name)
    if not path.is_file():
        _export(network, im_size_px, path)
    return path


def export_classifier(network: Normalized, im_size_px: int, path: Path, *, backbone: str) -> None:
    """Export a network with a linear head: bytes in, logits out; the head alone where the body was exported before."""
    exported = _name_export(Normalized(network.body, network.mean, network.std), im_size_px, name=backbone)
    if exported.is_file():
        _append_head(exported, network.head, path)
    else:
        _export(network, im_size_px, path)


def write_network_weights(network: Normalized, path: Path, arrays: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Write body and head as safetensors, and the `arrays` that the score of unknown images needs; it appears whole."""
    from safetensors.torch import save_file

    weights = {name: value for name, value in network.state_dict().items() if name.startswith(("body.", "head."))}
    weights = {name: value.detach().contiguous().clone() for name, value in weights.items()}
    weights |= {f"{ARRAY_PREFIX}{name}": torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    with write_atomic(path) as temporary_path:
        temporary_path.touch()
        mode = temporary_path.stat().st_mode
        save_file(weights, temporary_path, metadata={"format": "pt"})
        temporary_path.chmod(mode)  # safetensors leaves it to its owner alone, whatever the umask


def read_network(info: ModelInfo, content: bytes, path: Path) -> Normalized:
    """Build the network that `info` describes, in evaluation mode, with the weights of a file's content."""
    from safetensors.torch import load

    try:
        weights = {name: value for name, value in load(content).items() if not name.startswith(ARRAY_PREFIX)}
        head = weights["head.weight"]
        if head.ndim != 2 or len(head) != len(info.class_names):
            raise ValueError(f"it has no head for the {len(info.class_names)} classes of its model.json")
        if wrong := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
            raise ValueError(f"{wrong[0]} holds NaN")
        body = load_backbone(info.backbone, n_classes=0, im_size_px=info.im_size_px, pretrained=False)
        parts = OrderedDict(body=body, head=nn.Linear(head.shape[1], len(head)))
        own = nn.Sequential(parts).state_dict()
        if wrong := [name for name, value in weights.items() if name in own and value.dtype != own[name].dtype]:
            raise ValueError(f"{wrong[0]} is {weights[wrong[0]].dtype}, expected {own[wrong[0]].dtype}")
        nn.Sequential(parts).load_state_dict(weights)
    except Exception as error:  # safetensors, torch and timm raise a dozen unrelated kinds
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        raise ModelFileError(f"{path} does not fit {info.backbone} ({reason}). Save the model again.") from error
    license = info.weights_license
    return Normalized(parts["body"], info.mean, info.std, parts["head"], weights_license=license).eval()


def _export(model: nn.Module, im_size_px: int, path: Path) -> None:
    """Export a network that takes bytes, (n, size, size, 3), for any number of images; the file appears whole."""
    example = torch.zeros(2, im_size_px, im_size_px, 3, dtype=torch.uint8)
    model = copy.deepcopy(model).cpu().eval()
    attention: list[Any] = [module for module in model.modules() if hasattr(module, "fused_attn")]
    for module in attention:  # timm's attention in one call, which the exporter refuses where it has a bias
        module.fused_attn = False
    with write_atomic(path) as temporary_path, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        torch.onnx.export(
            model,
            (example,),
            str(temporary_path),
            input_names=["pixels"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _name_export(network: Normalized, im_size_px: int, *, name: str) -> Path:
    """Name the file in the user's cache folder for the export of a network; it changes with weights and versions."""
    return get_cache_dir("onnx") / f"{name.replace('/', '_')}_{im_size_px}px_{make_fingerprint(network)}.onnx"


def make_fingerprint(model: nn.Module) -> str:
    """Hash the structure, the weights and the versions that an export depends on."""
    digest = hashlib.sha256(str(model).encode())
    for package in ("torch", "onnx", "onnxscript", "timm"):
        digest.update(importlib.metadata.version(package).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _append_head(exported: Path, head: Any, path: Path) -> None:
    """Add a linear layer to an exported network; by hand, because skl2onnx would be one more dependency."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(exported))
    (output,) = model.graph.output
    for node in model.graph.node:  # the features take another name, the logits theirs
        node.output[:] = ["features" if name == output.name else name for name in node.output]
    weights = {"head.weight": head.weight, "head.bias": head.bias}
    model.graph.initializer.extend(
        numpy_helper.from_array(value.detach().cpu().numpy(), name) for name, value in weights.items()
    )
    model.graph.node.append(helper.make_node("Gemm", ["features", *weights], [output.name], name="head", transB=1))
    output.type.tensor_type.shape.dim[1].dim_value = len(head.bias)
    with write_atomic(path) as temporary_path:
        onnx.save(model, str(temporary_path))
