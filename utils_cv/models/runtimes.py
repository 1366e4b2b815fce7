"""Exported networks in ONNX Runtime or OpenVINO, without torch: to import and load takes a fraction of a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from utils_cv.system.machine import count_cpus

INPUT_NAME = "pixels"


def load_onnx(path: str | Path, *, n_threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Load an exported network into ONNX Runtime.

    Args:
        path: A file that `utils_cv.models.features.export_onnx` or `utils_cv.models.quantization.quantize_onnx` wrote.
        n_threads: Threads of one call. Default: as many as this process may use.

    Returns:
        A function that takes uint8 images (n, size, size, 3) and returns what the network gives, float32.

    Raises:
        ValueError: The file is damaged, or no network that takes such images.

    Example:
        >>> run = load_onnx("models/fridge/model.onnx")  # doctest: +SKIP
        >>> logits = run(np.zeros((1, 224, 224, 3), np.uint8))  # doctest: +SKIP
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads or count_cpus()
    options.log_severity_level = 3
    # Idle threads would otherwise spin for a while after each call, at the expense of whatever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no base class but Exception
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{path} cannot be loaded by ONNX Runtime ({reason}). Is it damaged? Export it again."
        ) from error
    _check_inputs(path, [entry.name for entry in session.get_inputs()])
    return lambda batch: session.run(None, {INPUT_NAME: batch})[0]


def load_openvino(path: str | Path, *, n_threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Load an exported network into OpenVINO, whatever files ONNX Runtime takes; on some processors it is faster.

    Args:
        path: As in `load_onnx`.
        n_threads: As in `load_onnx`.

    Returns:
        As `load_onnx` does, with equal answers in floats to 1e-4.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
        ValueError: The file is damaged, or no network that takes such images.

    Example:
        >>> run = load_openvino("models/fridge/model.onnx")  # doctest: +SKIP
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("OpenVINO is not installed: pip install 'utils_cv[openvino]'.") from error
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": n_threads or count_cpus(), "PERFORMANCE_HINT": "LATENCY"}
    # OpenVINO otherwise rounds to bfloat16 where the processor has it, and answers would no longer be equal.
    options["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [""])[-1]
        raise ValueError(f"{path} cannot be loaded by OpenVINO ({reason}). Is it damaged? Export it again.") from error
    _check_inputs(path, [entry.any_name for entry in compiled.inputs])
    return lambda batch: compiled(batch)[0]


def _check_inputs(path: str | Path, names: list[str]) -> None:
    if names != [INPUT_NAME]:
        raise ValueError(f"{path} takes the inputs {names}, expected {[INPUT_NAME]}: images as bytes.")
