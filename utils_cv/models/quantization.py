"""Networks in 8-bit integers: smaller and often faster, never assumed to be as good.

Weights and activations become integers; the range of each activation is calibrated on training images.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from utils_cv.evaluation.intervals import Score
from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.system.files import write_atomic
from utils_cv.system.timing import measure_in_turn

from .runtimes import INPUT_NAME, load_onnx

if TYPE_CHECKING:
    from utils_cv.data.image_table import TableImages

Calibration = Literal["minmax", "percentile", "entropy"]
CALIBRATION_BATCH_SIZE = 8
WEIGHTED = ("Conv", "Gemm", "MatMul")
FLOAT_SHARE = 1 / 8
MAX_LOSS = 0.01  # of accuracy, by the lower end of the paired interval
N_CALIBRATION = 96  # images: more change the ranges of activations little
Run = Callable[[np.ndarray], np.ndarray]


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
        path: The network, as `utils_cv.models.onnx_export.export_onnx` writes it.
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


def make_int8(float_path: Path, out_path: Path, images: "TableImages", *, max_loss: float = MAX_LOSS) -> dict[str, Any]:
    """Make an 8-bit network and keep it only where the validation images show that it is worth having.

    Args:
        float_path: The exported network.
        out_path: Where the 8-bit network goes, if it is kept.
        images: Opened images: a sample of split `train` calibrates, split `valid` judges.
        max_loss: See `compare_int8`.

    Returns:
        What `compare_int8` measured, and `n_calibration`.
    """
    rows = choose_calibration_rows(images.table["split"].to_numpy(), n=N_CALIBRATION)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / out_path.name
        quantize_onnx(float_path, candidate, images.pixels[rows])
        verdict = compare_int8(load_onnx(float_path), load_onnx(candidate), images, max_loss=max_loss)
        if verdict["is_offered"]:
            with write_atomic(out_path) as temporary_path:
                shutil.copyfile(candidate, temporary_path)
    return {**verdict, "n_calibration": len(rows)}


def compare_int8(
    float_run: Run, int8_run: Run, images: "TableImages", *, split: str = "valid", max_loss: float = MAX_LOSS
) -> dict[str, Any]:
    """Compare an 8-bit network with the one it was made from, on images that neither was made from.

    Args:
        float_run: The network in 32-bit floats: uint8 images to logits.
        int8_run: The 8-bit network.
        images: Opened images.
        split: Which of them to compare on.
        max_loss: The accuracy that may be lost, a fraction, by the lower end of the paired 95 % interval.

    Returns:
        `is_offered` and `reason`; `difference` (8 bits minus float) with `difference_low` and `difference_high`, `n`
        images; `float_ms` and `int8_ms`, medians of one image.
    """
    pixels = images.pixels[(images.table["split"] == split).to_numpy()]
    labels = images.table.loc[images.table["split"] == split, "label"].to_numpy(dtype=str)
    if not len(pixels):
        return {"is_offered": False, "reason": f"no image of split {split!r} to compare on", "n": 0}
    answers = [_decide(run, pixels, images) for run in (float_run, int8_run)]
    difference = compare_accuracy(labels, answers[1], answers[0])
    one = np.ascontiguousarray(pixels[:1])
    times = measure_in_turn({"float": lambda: float_run(one), "int8": lambda: int8_run(one)}, warn=False)
    float_ms, int8_ms = times["median_ms"].tolist()
    is_offered, reason = decide_offer(difference, float_ms=float_ms, int8_ms=int8_ms, max_loss=max_loss)
    measured = {"difference": difference.value, "difference_low": difference.low, "difference_high": difference.high}
    verdict = {"is_offered": is_offered, "reason": reason, "max_loss": max_loss, "n": difference.n}
    return {**verdict, **measured, "float_ms": float_ms, "int8_ms": int8_ms}


def decide_offer(difference: Score, *, float_ms: float, int8_ms: float, max_loss: float) -> tuple[bool, str]:
    """Decide whether an 8-bit network is worth having, and say why.

    Args:
        difference: Accuracy of 8 bits minus that of float, with its paired interval.
        float_ms: Time of one image in floats.
        int8_ms: Time of one image in 8 bits.
        max_loss: The accuracy that may be lost.

    Returns:
        The decision and its reason.

    Example:
        >>> decide_offer(Score(0.0, -0.005, 0.005, 500), float_ms=8, int8_ms=5, max_loss=0.01)[0]
        True
    """
    if int8_ms >= float_ms:
        return False, f"not faster: {int8_ms:.1f} ms against {float_ms:.1f} ms"
    if difference.low < -max_loss:
        return False, (
            f"{difference.n} images do not show that at most {max_loss:.3f} of accuracy is lost: the difference is "
            f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
        )
    return True, f"{float_ms / int8_ms:.1f} times as fast, at most {-difference.low:.3f} of accuracy lost"


def _decide(run: Run, pixels: np.ndarray, images: "TableImages") -> np.ndarray:
    """Answers as names; several labels joined, so that an image counts as right when all of them are."""
    logits = np.concatenate([run(np.ascontiguousarray(pixels[i : i + 16])) for i in range(0, len(pixels), 16)])
    names = np.array(images.class_names)
    if not images.is_multilabel:
        return names[logits.argmax(axis=1)]
    return np.array(["|".join(names[row > 0]) for row in logits])
