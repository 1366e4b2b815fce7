"""The gate in front of 8-bit networks: offered only where they are measured to be faster and hardly worse."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils_cv.evaluation.intervals import Score
from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.system.files import write_atomic
from utils_cv.system.timing import measure_in_turn

from .quantization import choose_calibration_rows, quantize_onnx
from .runtimes import load_onnx

if TYPE_CHECKING:
    from utils_cv.data.table_images import TableImages

MAX_LOSS = 0.01  # of accuracy, by the lower end of the paired interval
N_CALIBRATION = 96  # images: more change the ranges of activations little
Run = Callable[[np.ndarray], np.ndarray]


def make_int8(float_path: Path, out_path: Path, images: "TableImages", *, max_loss: float = MAX_LOSS) -> dict[str, Any]:
    """Make an 8-bit network and keep it only where the validation images show that it is worth having.

    Args:
        float_path: The exported network.
        out_path: Where the 8-bit network goes, if it is kept.
        images: Opened images: a sample of split `train` calibrates, split `valid` judges.
        max_loss: See `judge_int8`.

    Returns:
        What `judge_int8` measured, and `n_calibration`.
    """
    rows = choose_calibration_rows(images.table["split"].to_numpy(), n=N_CALIBRATION)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / out_path.name
        quantize_onnx(float_path, candidate, images.pixels[rows])
        verdict = judge_int8(load_onnx(float_path), load_onnx(candidate), images, max_loss=max_loss)
        if verdict["is_offered"]:
            with write_atomic(out_path) as temporary_path:
                shutil.copyfile(candidate, temporary_path)
    return {**verdict, "n_calibration": len(rows)}


def judge_int8(
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
