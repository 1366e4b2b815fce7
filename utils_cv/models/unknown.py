"""What a finished model needs to say "none of these": the score of unknown images, as a part of its files.

The arrays of the score lie beside the weights in `model.safetensors`. `model.onnx` computes the score itself, as its
second output, so that any program that runs it can compare it with the threshold in `model.json`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils_cv.evaluation.out_of_distribution import HIGHEST_LOGIT, MAHALANOBIS, OodDetector
from utils_cv.system.files import write_atomic

from .model_files import ModelFileError, ModelInfo

if TYPE_CHECKING:
    import pandas as pd

    from utils_cv.data.image_table import TableImages

SCORE_NAME = "unknown_score"  # of the second output, float32 (n,): higher is more unusual
ARRAY_PREFIX = "unknown."  # of the names of arrays among the weights
EIGHT_BITS = (
    "The 8-bit network cannot reject images: its scores are not those that set the threshold. Load the model with "
    "another runtime, such as 'onnx'."
)
NO_DETECTOR = "This model cannot reject images. Save it with a detector, as notebook 15 does."
_N_CHECKED = 16


def describe_detector(detector: OodDetector, left_out: "pd.DataFrame | None") -> dict[str, Any]:
    """Gather what `model.json` says of a score; `left_out` holds its rows of `compare_left_out`."""
    facts = {"score": detector.name, "threshold": float(detector.threshold)}
    facts |= {"expected": float(detector.expected), "n_known": int(detector.n_known)}
    if left_out is None or left_out.empty:
        return facts | {"left_out": []}
    names = ["name", "rejected", "rejected_low", "rejected_high", "rejected_n"]
    return facts | {"left_out": left_out[names].to_dict("records")}


def read_detector(info: ModelInfo, content: bytes, path: Path) -> OodDetector | None:
    """Read the score of a model from the content of its weights file; None where it has none."""
    if not info.unknown:
        return None
    from safetensors.numpy import load

    arrays = {name.removeprefix(ARRAY_PREFIX): a for name, a in load(content).items() if name.startswith(ARRAY_PREFIX)}
    name, n_classes = info.unknown["score"], len(info.class_names)
    detector = OodDetector(name, arrays, info.unknown["threshold"])
    n_features = arrays["mean"].shape[-1] if "mean" in arrays else 1
    try:
        score = detector.score(np.ones((1, n_features)), np.zeros((1, n_classes)))
        is_good = name in (HIGHEST_LOGIT, MAHALANOBIS) and score.shape == (1,)
    except (KeyError, ValueError, IndexError):
        is_good = False
    if not is_good or not all(np.isfinite(array).all() for array in arrays.values()):
        raise ModelFileError(
            f"{path} does not hold what the score {name!r} of unknown images needs: it may be of a version before. "
            f"Load it with runtime='onnx', whose file holds its own score, or save it again."
        )
    return detector


def find_misfit(detector: OodDetector, network: Any, images: "TableImages | None") -> str:
    """Say why a score was not fitted to a network: other features, or it rejects most of what was learned; or ""."""
    n_features = network.head.weight.shape[1]
    if (n_own := detector.arrays.get("mean", network.head.weight).shape[1]) != n_features:
        return f"Got a detector of {n_own} features, expected {n_features}: those of this network."
    if images is None:
        return ""
    import torch

    rows = np.flatnonzero(images.table["split"] == "train")[:: max(1, len(images.table) // _N_CHECKED)]
    with torch.inference_mode():
        features = network.body(network.normalize(torch.from_numpy(images.pixels[rows])))
        logits = network.head(features).numpy()
    is_rejected = detector.score(features.numpy(), logits) > detector.threshold
    return "The detector rejects more than half of the images learned." if is_rejected.mean() > 0.5 else ""


def append_score(path: Path, detector: OodDetector) -> None:
    """Let an exported classifier compute the score as well, as its second output; the logits stay the first."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(path))
    (output,) = model.graph.output
    last = next(node for node in model.graph.node if output.name in node.output)
    if last.op_type != "Gemm":
        raise ValueError(f"{path} ends in {last.op_type}, expected a linear layer.")
    graph = _Graph()
    graph.add("Reshape", _append(graph, detector, last.input[0], output.name), graph.hold(np.array([-1])))
    graph.nodes[-1].output[:] = [SCORE_NAME]
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(graph.constants)
    n = output.type.tensor_type.shape.dim[0].dim_param or "n"
    model.graph.output.append(helper.make_tensor_value_info(SCORE_NAME, TensorProto.FLOAT, [n]))
    with write_atomic(path) as temporary_path:
        onnx.save(model, str(temporary_path))


class _Graph:
    """Nodes and constants that are added to a network, under names that it does not have."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def hold(self, array: Any) -> str:
        from onnx import numpy_helper

        array = np.asarray(array)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        name = f"{SCORE_NAME}.constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> str:
        from onnx import helper

        names = [f"{SCORE_NAME}.{kind}_{len(self.nodes)}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def sum_squares(self, name: str) -> str:
        return self.add("ReduceSum", self.add("Mul", name, name), self.hold(np.array([1])), keepdims=1)

    def find_lowest(self, name: str) -> str:
        """The lowest value of each row, by TopK, which is written alike in all versions of ONNX."""
        return self.add("TopK", name, self.hold(np.array([1])), n_outputs=2, largest=0)


def _append(graph: _Graph, detector: OodDetector, features: str, logits: str) -> str:
    """Add the nodes of `OodDetector.score`, for features (n, n_features) and logits (n, n_classes); it is (n, 1)."""
    if detector.name == HIGHEST_LOGIT:
        return graph.find_lowest(graph.add("Neg", logits))
    roots = graph.add("Mul", graph.add("Sign", features), graph.add("Sqrt", graph.add("Abs", features)))
    length = graph.add("Max", graph.add("Sqrt", graph.sum_squares(roots)), graph.hold(1e-12))
    centered = graph.add("Sub", graph.add("Div", roots, length), graph.hold(detector.arrays["mean"]))
    nearest = graph.find_lowest(_append_distances(graph, detector.arrays, "within", centered))
    return graph.add("Sub", nearest, _append_distances(graph, detector.arrays, "total", centered))


def _append_distances(graph: _Graph, arrays: Any, name: str, centered: str) -> str:
    """Add squared Mahalanobis distances: of the overall mean, or of each class, (n, 1) or (n, n_classes)."""
    directions, ridge = arrays[f"{name}_directions"].astype(float), float(arrays[f"{name}_ridge"])
    along = graph.sum_squares(graph.add("MatMul", centered, graph.hold(directions.T)))
    distances = graph.add("Sub", graph.sum_squares(centered), along)
    if name == "within":
        centers = (arrays["class_roots"] - arrays["mean"]).astype(float)
        center_along = centers @ directions.T
        constants = (centers**2).sum(axis=1) - (center_along**2).sum(axis=1)
        mixed = graph.add("MatMul", centered, graph.hold(-2 * (centers - center_along @ directions).T))
        distances = graph.add("Add", graph.add("Add", distances, mixed), graph.hold(constants))
    return graph.add("Div", distances, graph.hold(ridge))
