"""A trained network as files: safetensors for PyTorch, ONNX for ONNX Runtime. No fastai, no pickle."""

import copy
import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from utils_cv.backbones import load_backbone
from utils_cv.features import Normalized, export_onnx
from utils_cv.files import write_atomic
from utils_cv.model_files import ModelFileError, ModelInfo
from utils_cv.padding import fix_padding
from utils_cv.weights import read_weights


def copy_network(model: Any) -> Normalized:
    """Copy a trained model (`learn.model`) as a network that takes bytes, (n, size, size, 3), and gives logits.

    Args:
        model: A `utils_cv.learners.Classifier`; it is not changed.

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


def export_network(network: Normalized, im_size_px: int, path: Path) -> None:
    """Export a network from `copy_network` to ONNX: bytes in, logits out; the file appears whole."""
    fixed = copy.deepcopy(network)
    fixed.body = fix_padding(fixed.body, im_size_px)
    export_onnx(fixed.eval(), im_size_px, path)


def hash_table(table: pd.DataFrame) -> str:
    """Hash which images were trained on, with which labels: SHA-256 of image, label and split of every row."""
    columns = table[["image", "label", "split"]].astype(str)
    rows = sorted("\t".join(row) for row in columns.itertuples(index=False))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
