"""Finished models of a few bytes, made without torch: they are saved, broken and replaced in milliseconds."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from utils_cv.models.model_files import HASH_KEY, ModelInfo, _hash_content, commit_model, stage_model

SIZE_PX = 8


def make_tiny_network(bias=(0.0, 1.0), *, size_px=SIZE_PX, input_name="pixels", dtype=TensorProto.UINT8):
    """A network that gives the mean of the red values, plus this bias, as the logits of its classes."""
    pixels = helper.make_tensor_value_info(input_name, dtype, ["n", size_px, size_px, 3])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", len(bias)])
    weight = np.zeros((3, len(bias)), np.float32)
    weight[0, 0] = 0.1
    values = {"weight": weight, "bias": np.array(bias, np.float32)}
    values |= {"scale": np.full(3, 2 / 255, np.float32), "shift": np.full(3, -1, np.float32)}  # of mean and std 0.5
    nodes = [
        helper.make_node("Cast", [input_name], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Gemm", ["means", "weight", "bias"], ["output"]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "tiny", [pixels], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save_tiny_model(folder, bias=(0.0, 1.0), *, network=None, **changes):
    """Save a finished model around such a network; `changes` are other facts than these."""
    facts = {"class_names": [f"class {value:g}" for value in bias], "is_multilabel": False, "backbone": "tiny"}
    facts |= {"im_size_px": SIZE_PX, "fit": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}
    with stage_model(Path(folder)) as stage:
        onnx.save(network or make_tiny_network(bias), str(stage / "model.onnx"))
        (stage / "README.md").write_text(f"# {bias}")
        return commit_model(ModelInfo(**facts | changes, files={"model.onnx": ""}), Path(folder), stage)


def change_info(folder, *, without="", is_hashed=True, version=2, **changes):
    """Change `model.json`, with a hash that fits the change or the hash of before; version 1 had none."""
    path = Path(folder) / "model.json"
    content = json.loads(path.read_text(encoding="utf-8")) | {"schema_version": version} | changes
    content.pop(without, None)
    before = content.pop(HASH_KEY, "")
    if version > 1:
        content[HASH_KEY] = _hash_content(content) if is_hashed else before
    path.write_text(json.dumps(content), encoding="utf-8")
