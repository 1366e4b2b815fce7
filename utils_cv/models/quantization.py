"""Networks in 8-bit integers: smaller and often faster, never assumed to be as good.

Weights and activations become integers; the range of each activation is calibrated on training images.
"""

import dataclasses
import functools
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from utils_cv.data.splits import list_groups
from utils_cv.evaluation.metrics import compare_accuracy, measure_accuracy
from utils_cv.system.files import write_atomic
from utils_cv.system.timing import measure_in_turn

from .features import run_in_batches
from .model_files import INT8_NAME, LABEL_SEPARATOR, ONNX_NAME, ModelInfo, commit_model, read_model_info, stage_model
from .runtimes import INPUT_NAME, RUNTIME_FILES, Network, list_runtimes, load_network, load_onnx

if TYPE_CHECKING:
    from utils_cv.data.image_table import TableImages

Labels = Sequence[str] | np.ndarray
CALIBRATION_BATCH_SIZE = 8
WEIGHTED = ("Conv", "Gemm", "MatMul")
FLOAT_SHARE = 1 / 8
MAX_LOSS = 0.01  # of accuracy, by the lower end of the paired interval
N_TO_JUDGE = 276  # images that it takes to show that, where all answers agree
# For fewer images: the least agreement of answers, by the lower end of its interval (35 equal answers show it), and the
# largest error of logits. In `benchmarks/README.md` copies with an error of up to 0.1 lost no accuracy that 780 images
# show, and the one with 0.18 lost 2.6 points.
MIN_AGREEMENT, MAX_LOGIT_ERROR = 0.9, 0.1
N_CALIBRATION = 96  # images: more change the ranges of activations little


def add_int8(folder: Path, images: "TableImages", *, is_checked: bool = True) -> ModelInfo:
    """Add `model.int8.onnx` to a finished model, calibrated on train images, if split `valid` passes `check_int8`."""
    rows = choose_calibration_rows(images.table["split"].to_numpy(), n=N_CALIBRATION)
    found: dict[str, Any] = {"n_calibration": len(rows)}
    with stage_model(folder) as stage:
        info, path = read_model_info(folder), stage / INT8_NAME
        quantize_onnx(folder / ONNX_NAME, path, images.pixels[rows])
        if is_checked:
            found |= _compare(load_onnx(folder / ONNX_NAME), load_onnx(path), images)
        files = {name: digest for name, digest in info.files.items() if name != INT8_NAME}
        files |= {INT8_NAME: ""} if found.get("is_offered", True) else {}
        return commit_model(dataclasses.replace(info, int8=found, files=files), folder, stage)


def check_int8(
    y_true: Labels,
    float_labels: Labels,
    int8_labels: Labels,
    *,
    logit_error: float,
    float_ms: float,
    int8_ms: float,
    groups: Any = None,
) -> dict[str, Any]:
    """Check that an 8-bit network is faster and as good as that in floats, on images that it was not made from.

    With at least `N_TO_JUDGE` images (or groups) it must be shown to lose at most `MAX_LOSS` of accuracy, 8 bits minus
    floats; fewer must agree, see `MIN_AGREEMENT` and `MAX_LOGIT_ERROR`.
    """
    value, low, high, n = compare_accuracy(y_true, int8_labels, float_labels, groups=groups)
    agreement = measure_accuracy(float_labels, int8_labels, groups=groups)
    if int8_ms >= float_ms:
        is_offered, reason = False, f"not faster: {int8_ms:.1f} ms against {float_ms:.1f} ms"
    elif n < N_TO_JUDGE:
        is_offered = agreement.low >= MIN_AGREEMENT and logit_error <= MAX_LOGIT_ERROR
        limits = "" if is_offered else f"; expected at least {MIN_AGREEMENT} from the lower end and {MAX_LOGIT_ERROR}"
        reason = (
            f"{float_ms / int8_ms:.1f} times as fast; too few images to judge accuracy ({N_TO_JUDGE} needed), so by "
            f"agreement: answers equal in {agreement}, error of logits {logit_error:.3f}{limits}"
        )
    elif low < -MAX_LOSS:
        is_offered = False
        reason = (
            f"{n} images do not show that at most {MAX_LOSS:.3f} of accuracy is lost: the difference is "
            f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
        )
    else:
        is_offered, reason = True, f"{float_ms / int8_ms:.1f} times as fast, at most {-low:.3f} of accuracy lost"
    found = {"is_offered": is_offered, "reason": reason, "max_loss": MAX_LOSS, "n": n, "difference": value}
    found |= {"agreement": agreement.value, "agreement_low": agreement.low, "logit_error": logit_error}
    return found | {"difference_low": low, "difference_high": high, "float_ms": float_ms, "int8_ms": int8_ms}


def compare_runtimes(folder: str | Path, pixels: np.ndarray) -> "pd.DataFrame":
    """Compare a finished model in the runtimes that are installed here: size, answers, and time.

    Args:
        folder: Where `utils_cv.models.saved_classifier.save_classifier` wrote it.
        pixels: Images of its size, uint8 (n, size, size, 3), such as the validation images. No labels are needed.

    Returns:
        One row per runtime that has its file in the folder, without "compile", which takes a minute to set up:
        `runtime`; `size_mb`, of the file, in 10**6 bytes; `agreement`, the fraction of images with the same answer as
        in eager PyTorch, `agreement_low` and `agreement_high` (95 %), `n`; `logit_error`, see `measure_logit_error`;
        `median_ms` for one image, the runtimes in turn, and `busy`: something else was running.
    """
    info = read_model_info(folder)
    runtimes = [name for name in list_runtimes() if name != "compile" and RUNTIME_FILES[name] in info.files]
    networks, one = {name: load_network(folder, name) for name in runtimes}, np.ascontiguousarray(pixels[:1])
    logits = {name: run_in_batches(network, pixels) for name, network in networks.items()}
    answers = {
        name: [str(row) for row in (part > 0).tolist()] if info.is_multilabel else part.argmax(axis=1)
        for name, part in logits.items()
    }
    times = measure_in_turn({name: functools.partial(run, one) for name, run in networks.items()}, warn=False)
    rows = []
    for name in runtimes:
        agreement = measure_accuracy(answers[runtimes[0]], answers[name])
        row = {"runtime": name, "size_mb": (Path(folder) / RUNTIME_FILES[name]).stat().st_size / 1e6}
        row |= agreement.name_limits("agreement") | {"n": agreement.n}
        rows.append(row | {"logit_error": measure_logit_error(logits[runtimes[0]], logits[name])})
    return pd.DataFrame(rows).assign(median_ms=times["median_ms"].to_numpy(), busy=times["busy"].to_numpy())


def measure_logit_error(float_logits: np.ndarray, int8_logits: np.ndarray) -> float:
    """Measure how far logits in 8 bits are from those in floats: root mean square, relative to the floats' spread."""
    return float(np.sqrt(((int8_logits - float_logits) ** 2).mean() / max(float_logits.var(), 1e-12)))


def quantize_onnx(
    path: Path, out_path: Path, pixels: np.ndarray, *, float_share: float = FLOAT_SHARE, **options: Any
) -> None:
    """Write an 8-bit copy of an exported network (Jacob et al. 2018); the file appears whole.

    `pixels`, 50 to 200 train images (n, size, size, 3), calibrate it. The first operations, a share of all in [0, 1),
    stay in floats, because an error spreads furthest from there (`benchmarks/int8_calibration.py` compares shares); and
    so does the head, because a linear probe's weights differ too much in size for one scale. `options` are others of
    ONNX Runtime's `quantize_static`, such as `reduce_range` for processors without VNNI, which overflow otherwise.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not len(pixels):
        raise ValueError("Got 0 images to calibrate 8 bits on; expected 50 to 200 of split 'train'.")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the quantizer warns about its own internals
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        options = {
            "quant_format": QuantFormat.QDQ,
            "activation_type": QuantType.QUInt8,
            "weight_type": QuantType.QInt8,
            "per_channel": True,
            "nodes_to_exclude": _list_ends(prepared, float_share),
            **options,
        }
        with write_atomic(out_path) as temporary_path:
            quantize_static(str(prepared), str(temporary_path), _give(pixels), **options)


def choose_calibration_rows(split: np.ndarray, *, n: int) -> np.ndarray:
    """Choose n images to calibrate on, as sorted row numbers, from split `train`, so that no score is touched."""
    rows = np.flatnonzero(split == "train")
    return np.sort(np.random.default_rng(0).permutation(rows)[:n])


def _list_ends(path: Path, float_share: float) -> list[str]:
    """List the operations up to the end of a share of those with weights, and the last one with weights."""
    import onnx

    nodes = onnx.load(str(path)).graph.node
    weighted = [i for i, node in enumerate(nodes) if node.op_type in WEIGHTED]
    last_float = weighted[int(float_share * len(weighted))]
    return [node.name for node in nodes[: last_float + 1]] + [nodes[weighted[-1]].name]


def _give(pixels: np.ndarray) -> SimpleNamespace:
    """Give images to the calibration batch by batch, as ONNX Runtime asks for them."""
    starts = range(0, len(pixels), CALIBRATION_BATCH_SIZE)
    parts = ({INPUT_NAME: np.ascontiguousarray(pixels[i : i + CALIBRATION_BATCH_SIZE])} for i in starts)
    return SimpleNamespace(get_next=lambda: next(parts, None))


def _compare(float_network: Network, int8_network: Network, images: "TableImages") -> dict[str, Any]:
    """Compare both networks on the validation images."""
    rows = np.flatnonzero(images.table["split"] == "valid")
    if not len(rows):
        return {"is_offered": False, "reason": "no image of split 'valid' to compare on", "n": 0}
    y_true = [_sort(label) for label in images.table["label"].iloc[rows]]
    logits = [run_in_batches(network, images.pixels, rows) for network in (float_network, int8_network)]
    labels = [_name(part, images) for part in logits]
    one = images.pixels[rows[:1]]
    times = measure_in_turn({"float": lambda: float_network(one), "int8": lambda: int8_network(one)}, warn=False)
    float_ms, int8_ms = times["median_ms"].tolist()
    options = {"float_ms": float_ms, "int8_ms": int8_ms, "groups": list_groups(images.table.iloc[rows])}
    return check_int8(y_true, *labels, logit_error=measure_logit_error(*logits), **options)


def _name(logits: np.ndarray, images: "TableImages") -> list[str]:
    """Answers as names; several labels joined, so that an image counts as right when all of them are."""
    names = np.array(images.class_names)
    if not images.is_multilabel:
        return names[logits.argmax(axis=1)].tolist()
    return [_sort(LABEL_SEPARATOR.join(names[row > 0])) for row in logits]


def _sort(label: str) -> str:
    """Several labels of an image in one order, so that equal sets are equal texts."""
    return LABEL_SEPARATOR.join(sorted(label.split(LABEL_SEPARATOR)))
