"""Networks in 8-bit integers: smaller and often faster, never assumed to be as good.

Weights and activations become integers; the range of each activation is calibrated on training images.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from utils_cv.system.files import write_atomic

from .runtimes import INPUT_NAME

Calibration = Literal["minmax", "percentile", "entropy"]
CALIBRATION_BATCH_SIZE = 8
WEIGHTED = ("Conv", "Gemm", "MatMul")
FLOAT_SHARE = 1 / 8


def quantize_onnx(
    path: str | Path,
    out_path: str | Path,
    pixels: np.ndarray,
    *,
    calibration: Calibration = "minmax",
    per_channel: bool = True,
    reduce_range: bool = False,
    float_share: float = FLOAT_SHARE,
    keep_float: Sequence[str] = (),
) -> None:
    """Write an 8-bit copy of an exported network; the file appears whole.

    Args:
        path: The network, as `utils_cv.models.features.export_onnx` writes it.
        out_path: The file to write.
        pixels: Images to calibrate on, uint8 (n, size, size, 3): 50 to 200 that resemble those to come. Take training
            images, so that the scores on all others stay honest.
        calibration: What the range of an activation is: "minmax" of all values, "percentile" 99.99 of their
            magnitudes, or "entropy", the range that loses least information.
        per_channel: Whether each output channel of a weight has its own scale.
        reduce_range: Use 7 bits for weights. Processors without VNNI instructions add two products of 8-bit numbers in
            16 bits, which can overflow silently with 8-bit weights; with a scale per channel neither was better.
        float_share: Share of the operations that stay in 32-bit floats, counted from the image on: there an error
            spreads furthest. The first operation always does, and so does the head, because a linear probe's weights
            differ too much in size for one scale. What other shares lose: `benchmarks/int8_calibration.py`.
        keep_float: Names of further operations that stay in floats, see `list_operations`.

    Raises:
        ValueError: There are no images, `calibration` is unknown, or `float_share` is no fraction.

    Example:
        >>> quantize_onnx("model.onnx", "model.int8.onnx", images.pixels[:100])  # doctest: +SKIP

    Source:
        Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference"; on overflow, ONNX Runtime's page "Quantize ONNX models", section on U8S8.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    if calibration not in methods or not len(pixels):
        raise ValueError(
            f"Got calibration={calibration!r} on {len(pixels)} images; expected {', '.join(methods)} on 1+."
        )
    if not 0 <= float_share < 1:
        raise ValueError(f"Got float_share={float_share}; expected a fraction in [0, 1).")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the quantizer warns about its own internals
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        with write_atomic(out_path) as temporary_path:
            quantize_static(
                str(prepared),
                str(temporary_path),
                _Reader(pixels),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=per_channel,
                reduce_range=reduce_range,
                calibrate_method=methods[calibration],
                nodes_to_exclude=[*_list_ends(prepared, float_share), *keep_float],
                extra_options={"CalibPercentile": 99.99},
            )


def list_operations(path: str | Path) -> list[tuple[str, str]]:
    """List the operations with weights of an exported network, from the image to the logits, as (name, kind)."""
    import onnx

    return [(node.name, node.op_type) for node in onnx.load(str(path)).graph.node if node.op_type in WEIGHTED]


def _list_ends(path: str | Path, float_share: float) -> list[str]:
    """List the operations up to the end of a share of those with weights, and the last one with weights."""
    import onnx

    nodes = onnx.load(str(path)).graph.node
    weighted = [i for i, node in enumerate(nodes) if node.op_type in WEIGHTED]
    last_float = weighted[int(float_share * len(weighted))]
    return [node.name for node in nodes[: last_float + 1]] + [nodes[weighted[-1]].name]


class _Reader:
    """Gives the images to the calibration, batch by batch."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._batches = self._split(pixels)

    def _split(self, pixels: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(pixels), CALIBRATION_BATCH_SIZE):
            yield {INPUT_NAME: np.ascontiguousarray(pixels[start : start + CALIBRATION_BATCH_SIZE])}

    def get_next(self) -> Any:
        return next(self._batches, None)


def choose_calibration_rows(split: np.ndarray, *, n: int, seed: int = 0) -> np.ndarray:
    """Choose images to calibrate on: a sample of those that were trained on, so that no score is touched.

    Args:
        split: (n_images,) the split of each image.
        n: How many, or all if there are fewer.
        seed: Seed of the sample.

    Returns:
        Row numbers, sorted.
    """
    rows = np.flatnonzero(split == "train")
    return np.sort(np.random.default_rng(seed).permutation(rows)[:n])
