"""A trained network as files: safetensors for PyTorch, ONNX for ONNX Runtime. No fastai, no pickle."""

import copy
import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from utils_cv.system.files import write_atomic

from .backbones import load_backbone
from .features import Normalized, export_onnx, name_export
from .model_files import ModelFileError, ModelInfo
from .padding import fix_padding
from .weights import read_weights


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
