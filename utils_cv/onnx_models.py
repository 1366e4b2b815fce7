"""Exported networks in ONNX Runtime. No torch: importing this file and loading a model takes a fraction of a second."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from utils_cv.runtime import count_cpus

INPUT_NAME = "pixels"


def load_onnx(path: str | Path, *, n_threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Load an exported network into ONNX Runtime.

    Args:
        path: A file that `utils_cv.features.export_onnx` or `utils_cv.quantization.quantize_onnx` wrote.
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
    names = [entry.name for entry in session.get_inputs()]
    if names != [INPUT_NAME]:
        raise ValueError(f"{path} takes the inputs {names}, expected {[INPUT_NAME]}: images as bytes.")
    return lambda batch: session.run(None, {INPUT_NAME: batch})[0]
