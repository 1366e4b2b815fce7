"""Exported networks in ONNX Runtime or OpenVINO, without torch: to import and load takes a fraction of a second."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from utils_cv.system.machine import count_cpus

from .model_files import ONNX_NAME, WEIGHTS_NAME, find_model_file, read_model_info

INPUT_NAME = "pixels"
Run = Callable[[np.ndarray], np.ndarray]
STUDY_INT8_NAME = "study.int8.onnx"  # beside the model, not part of it: nobody has judged it yet
RUNTIMES = {
    "torch": "PyTorch, eager",
    "channels_last": "PyTorch, eager, channels last in memory",
    "compile": "PyTorch, torch.compile (a minute to set up)",
    "onnx": "ONNX Runtime, 32-bit floats",
    "int8": "ONNX Runtime, 8-bit integers",
    "openvino": "OpenVINO, 32-bit floats",
    "openvino_int8": "OpenVINO, 8-bit integers",
}
INT8_RUNTIMES = ("int8", "openvino_int8")
_ONNX_FILES = {"onnx": ONNX_NAME, "openvino": ONNX_NAME, **dict.fromkeys(INT8_RUNTIMES, STUDY_INT8_NAME)}


def load_onnx(path: str | Path, *, n_threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Load an exported network into ONNX Runtime.

    Args:
        path: A file that `models.onnx_export.export_onnx` or `models.quantization.quantize_onnx` wrote.
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


def list_runtimes() -> list[str]:
    """List the runtimes that are installed here, from the slowest as a rule to the fastest."""
    has_openvino = find_spec("openvino") is not None
    return [name for name in RUNTIMES if has_openvino or not name.startswith("openvino")]


def make_run(folder: str | Path, runtime: str, *, n_threads: int | None = None) -> Run:
    """Load a finished model into one runtime, on the CPU.

    Args:
        folder: Where `save_classifier` wrote it, with `onnx=True`.
        runtime: One of `RUNTIMES`.
        n_threads: Threads of one call. Default: as many as this process may use. PyTorch has one number for the whole
            process, which is set here.

    Returns:
        The network: uint8 images (n, size, size, 3) to logits (n, n_classes).

    Raises:
        ValueError: Another runtime, or one that is not installed.
        utils_cv.models.model_files.ModelFileError: A file of the model is damaged.
    """
    if runtime not in list_runtimes():
        raise ValueError(f"Got runtime {runtime!r}; here there are {', '.join(list_runtimes())}.")
    folder, n_threads = Path(folder), n_threads or count_cpus()
    name, info = _name_file(runtime), read_model_info(folder)
    # Nobody has put the study's own file into model.json, so that it has no hash to check.
    path = folder / name if name == STUDY_INT8_NAME else find_model_file(folder, name, info)
    if name == WEIGHTS_NAME:
        from .onnx_export import read_network

        return _make_torch_run(read_network(info, path), runtime, n_threads)
    load = load_openvino if runtime.startswith("openvino") else load_onnx
    return load(path, n_threads=n_threads)


def measure_file_mb(folder: str | Path, runtime: str) -> float:
    """Measure the file that a runtime loads, in units of 10**6 bytes."""
    return (Path(folder) / _name_file(runtime)).stat().st_size / 1e6


def _name_file(runtime: str) -> str:
    return _ONNX_FILES.get(runtime, WEIGHTS_NAME)


def _make_torch_run(network: Any, runtime: str, n_threads: int) -> Run:
    import torch

    torch.set_num_threads(n_threads)
    # Images arrive with channels last in memory; eager PyTorch's own order is channels first.
    order = torch.contiguous_format if runtime == "torch" else torch.channels_last
    network = network.to(memory_format=order)
    body = torch.compile(network.body, dynamic=False) if runtime == "compile" else network.body

    def run(batch: np.ndarray) -> np.ndarray:
        batch = np.require(batch, requirements="W")  # torch warns about arrays that it must not change
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float() * network.scale + network.shift
            return body(pixels.contiguous(memory_format=order)).numpy()

    return run
