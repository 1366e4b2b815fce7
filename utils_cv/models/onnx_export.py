"""A trained network as files: safetensors for PyTorch, ONNX for ONNX Runtime. No fastai, no pickle."""

import copy
import hashlib
import importlib.metadata
import math
import tempfile
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from utils_cv.system.files import get_cache_dir, write_atomic

from .backbones import describe_backbone, load_backbone, read_weights
from .model_files import ModelFileError, ModelInfo


class Normalized(nn.Module):
    """A network that takes images as bytes, (n, size, size, 3), and normalizes them itself."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, body: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)))
        self.register_buffer("shift", -(torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1))
        self.body = body

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn bytes into what the body gives."""
        return self.body(pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift)


def export_backbone(backbone: str, im_size_px: int) -> Path:
    """Export a frozen backbone to ONNX in the user's cache folder, unless it is there already.

    Args:
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        im_size_px: Side of the images it will take.

    Returns:
        The file; its name changes with weights and versions, so that it is never stale.
    """
    return export_to_cache(_load_normalized(backbone), im_size_px, name=backbone)


def export_to_cache(network: Normalized, im_size_px: int, *, name: str) -> Path:
    """Export a network to ONNX in the user's cache folder, unless it is there already.

    Args:
        network: Takes bytes; it is not changed.
        im_size_px: Side of the images it will take.
        name: The beginning of the file's name.

    Returns:
        The file; its name changes with weights and versions, so that it is never stale.
    """
    path = name_export(network, im_size_px, name=name)
    if not path.is_file():
        export_onnx(_fix_padding(network, im_size_px), im_size_px, path)
    return path


def name_export(network: Normalized, im_size_px: int, *, name: str) -> Path:
    """Name the file in the user's cache folder that a network is exported to; it need not exist yet."""
    return get_cache_dir("onnx") / f"{name.replace('/', '_')}_{im_size_px}px_{_fingerprint(network)}.onnx"


def export_onnx(model: nn.Module, im_size_px: int, path: Path) -> None:
    """Export a network that takes bytes, (n, size, size, 3), for any number of images; the file appears whole."""
    example = torch.zeros(2, im_size_px, im_size_px, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        temporary = Path(folder) / "model.onnx"
        torch.onnx.export(
            model.eval(),
            (example,),
            str(temporary),
            input_names=["pixels"],
            output_names=["output"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("n")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        with write_atomic(path) as out_path:
            out_path.write_bytes(temporary.read_bytes())


def _load_normalized(backbone: str) -> Normalized:
    facts = describe_backbone(backbone)
    return Normalized(load_backbone(backbone, n_classes=0), facts.mean, facts.std)


def _fix_padding(network: Normalized, im_size_px: int) -> Normalized:
    fixed = Normalized(fix_padding(network.body, im_size_px), (0.0,) * 3, (1.0,) * 3)
    fixed.scale, fixed.shift = network.scale, network.shift
    return fixed.eval()


def _fingerprint(model: nn.Module) -> str:
    """Hash the structure, the weights and the versions that an export depends on."""
    digest = hashlib.sha256(str(model).encode())
    for package in ("torch", "onnx", "onnxscript", "timm"):
        digest.update(importlib.metadata.version(package).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def copy_network(model: Any) -> Normalized:
    """Copy a trained model (`learn.model`) as a network that takes bytes, (n, size, size, 3), and gives logits.

    Args:
        model: A `utils_cv.training.learners.Classifier`; it is not changed.

    Returns:
        The copy, on the CPU, in evaluation mode, with `body` of a body and a head.
    """
    parts = OrderedDict((name, copy.deepcopy(getattr(model, name)).cpu()) for name in ("body", "head"))
    mean, std = (tuple(getattr(model, name).flatten().tolist()) for name in ("mean", "std"))
    return Normalized(nn.Sequential(parts), mean, std).eval()


def write_network_weights(network: Normalized, path: Path) -> None:
    """Write the weights of a network as safetensors; the file appears whole."""
    from safetensors.torch import save_file

    weights = {name: value.detach().contiguous().clone() for name, value in network.body.state_dict().items()}
    with write_atomic(path) as temporary_path:
        save_file(weights, temporary_path, metadata={"format": "pt"})


def read_network(info: ModelInfo, path: Path) -> Normalized:
    """Build the network that `info` describes and give it the weights of a file.

    Args:
        info: The facts of a finished model.
        path: Its safetensors file.

    Returns:
        The network, in evaluation mode: bytes in, logits out.

    Raises:
        ModelFileError: The weights do not fit the network.
    """
    weights = read_weights(path)
    if "head.weight" not in weights or len(weights["head.weight"]) != len(info.class_names):
        raise ModelFileError(f"{path} has no head for the {len(info.class_names)} classes of its model.json.")
    head = nn.Linear(weights["head.weight"].shape[1], len(info.class_names))
    parts = OrderedDict(body=load_backbone(info.backbone, n_classes=0, pretrained=False), head=head)
    body = nn.Sequential(parts)
    try:
        body.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise ModelFileError(f"{path} does not fit {info.backbone}: {reason} Save the model again.") from error
    return Normalized(body, tuple(info.mean), tuple(info.std)).eval()


def export_network(network: Normalized, im_size_px: int, path: Path, *, backbone: str) -> None:
    """Export a network from `copy_network` to ONNX: bytes in, logits out; the file appears whole.

    The body of a linear probe is the pretrained one, which was exported when its features were computed: then only the
    head is added to that file, in a moment.

    Args:
        network: From `copy_network`; it is not changed.
        im_size_px: Side of the images.
        path: The file to write.
        backbone: Name of the backbone.
    """
    bare = copy.copy(network)
    bare._modules = {"body": network.body.get_submodule("body")}
    exported = name_export(bare, im_size_px, name=backbone)
    if exported.is_file():
        _append_head(exported, network.body.get_submodule("head"), path)
        return
    fixed = copy.deepcopy(network)
    fixed.body = fix_padding(fixed.body, im_size_px)
    export_onnx(fixed.eval(), im_size_px, path)


def _append_head(exported: Path, head: Any, path: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(exported))
    (output,) = model.graph.output
    for node in model.graph.node:  # the features take another name, the logits theirs
        node.output[:] = ["features" if name == output.name else name for name in node.output]
    weights = {"head.weight": head.weight, "head.bias": head.bias}
    model.graph.initializer.extend(
        numpy_helper.from_array(value.detach().numpy(), name) for name, value in weights.items()
    )
    model.graph.node.append(helper.make_node("Gemm", ["features", *weights], [output.name], name="head", transB=1))
    output.type.tensor_type.shape.dim[1].dim_value = len(head.bias)
    with write_atomic(path) as temporary_path:
        onnx.save(model, str(temporary_path))


def hash_table(table: pd.DataFrame) -> str:
    """Hash which images were trained on, with which labels: SHA-256 of image, label and split of every row."""
    columns = table[["image", "label", "split"]].astype(str)
    rows = sorted("\t".join(row) for row in columns.itertuples(index=False))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def fix_padding(model: nn.Module, im_size_px: int) -> nn.Module:
    """Replace padding that depends on the input by the same amount as a constant.

    TensorFlow pads a strided convolution by what its input's size asks for; networks that come from there
    (`tf_efficientnet_...` in timm) compute it at every call. For one size of image it is always the same.

    Args:
        model: A network; it is not changed.
        im_size_px: Side of the square images that the copy will take.

    Returns:
        A copy with the same outputs at this size.

    Example:
        >>> fixed = fix_padding(load_backbone("efficientnet_lite0"), 224)  # doctest: +SKIP
    """
    from timm.layers import Conv2dSame

    fixed = copy.deepcopy(model).eval()
    sizes: dict[str, tuple[int, int]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: sizes.__setitem__(name, inputs[0].shape[-2:]))
        for name, module in fixed.named_modules()
        if isinstance(module, Conv2dSame)
    ]
    if hooks:
        parameter = next(fixed.parameters())
        with torch.inference_mode():
            fixed(torch.zeros(1, 3, im_size_px, im_size_px, device=parameter.device, dtype=parameter.dtype))
    for hook in hooks:
        hook.remove()
    for name, size in sizes.items():
        parent, _, child = name.rpartition(".")
        setattr(fixed.get_submodule(parent), child, _pad_statically(fixed.get_submodule(name), size))
    return fixed


def _pad_statically(convolution: Any, size: tuple[int, int]) -> nn.Sequential:
    (top, bottom), (left, right) = (
        _split_padding(size[i], convolution.kernel_size[i], convolution.stride[i], convolution.dilation[i])
        for i in (0, 1)
    )
    plain = nn.Conv2d(
        convolution.in_channels, convolution.out_channels, convolution.kernel_size, convolution.stride,
        dilation=convolution.dilation, groups=convolution.groups, bias=convolution.bias is not None,
    ).to(convolution.weight)  # fmt: skip
    plain.load_state_dict(convolution.state_dict())
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain).eval()


def _split_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's rule: as much as the last window needs, the odd pixel at the end."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
