"""Networks in the runtimes that can run them. Only PyTorch's import torch; others load in a fraction of a second."""

import copy
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils_cv.system.machine import count_cpus, tune_allocator

from .model_files import INT8_NAME, ONNX_NAME, WEIGHTS_NAME, find_model_file, read_model_info

if TYPE_CHECKING:
    from .onnx_export import Normalized

Network = Callable[[np.ndarray], np.ndarray]  # uint8 images (n, size, size, 3) to what the network gives, float32
INPUT_NAME = "pixels"
RUNTIME_FILES = {
    "torch": WEIGHTS_NAME,  # PyTorch, eager
    "channels_last": WEIGHTS_NAME,  # the same, with channels last in memory
    "compile": WEIGHTS_NAME,  # torch.compile, a minute to set up
    "onnx": ONNX_NAME,  # ONNX Runtime, 32-bit floats
    "int8": INT8_NAME,  # ONNX Runtime, 8-bit integers
    "openvino": ONNX_NAME,  # OpenVINO, 32-bit floats
    "openvino_int8": INT8_NAME,  # OpenVINO, 8-bit integers
}
TORCH_RUNTIMES, INT8_RUNTIMES = ("torch", "channels_last", "compile"), ("int8", "openvino_int8")


def list_runtimes() -> list[str]:
    """List the runtimes that are installed here, from the slowest as a rule to the fastest."""
    has_openvino = find_spec("openvino") is not None
    return [name for name in RUNTIME_FILES if has_openvino or not name.startswith("openvino")]


def load_network(folder: str | Path, runtime: str, *, n_threads: int | None = None, device: str = "cpu") -> Network:
    """Load the network of a finished model into a runtime; nothing is run before the hash of its file fits.

    Args:
        folder: Where `save_classifier` wrote it.
        runtime: A name of `RUNTIME_FILES`.
        n_threads: Threads of one call. Default: as many as this process may use. PyTorch has one number for the whole
            process, which is changed only if a number is given.
        device: Where PyTorch runs it, see `utils_cv.system.machine.choose_device`; other runtimes use the CPU.

    Returns:
        A function of uint8 images (n, size, size, 3) that gives logits (n, n_classes). Several threads may call it.
    """
    if runtime not in RUNTIME_FILES:
        raise ValueError(f"Got runtime {runtime!r}; here there are {', '.join(map(repr, list_runtimes()))}.")
    info = read_model_info(folder)
    path = find_model_file(folder, RUNTIME_FILES[runtime], info)
    if runtime not in TORCH_RUNTIMES:
        return load_onnx(path, runtime=runtime, n_threads=n_threads)
    from .onnx_export import read_network

    if n_threads:
        import torch

        torch.set_num_threads(n_threads)
    return run_in_torch(read_network(info, path), runtime=runtime, device=device)


def load_onnx(path: str | Path, *, runtime: str = "onnx", n_threads: int | None = None) -> Network:
    """Load an exported network into ONNX Runtime, or into OpenVINO, which is faster on some processors."""
    is_openvino = runtime.startswith("openvino")
    load = _load_openvino if is_openvino else _load_onnxruntime
    try:
        run, names = load(str(path), n_threads or count_cpus())
    except ModuleNotFoundError:
        raise
    except Exception as error:  # the errors of both share no base class but Exception
        reason = (str(error).strip().splitlines() or [""])[-1 if is_openvino else 0]
        engine = "OpenVINO" if is_openvino else "ONNX Runtime"
        raise ValueError(f"{path} cannot be loaded by {engine} ({reason}). Is it damaged? Export it again.") from error
    if names != [INPUT_NAME]:
        raise ValueError(f"{path} takes the inputs {names}, expected {[INPUT_NAME]}: images as bytes.")
    return run


def run_in_torch(network: "Normalized", *, runtime: str, device: str) -> Network:
    """Make the function that runs a copy of a network in PyTorch, on a device and in evaluation mode."""
    import torch

    tune_allocator()
    # Images arrive with channels last in memory; eager PyTorch's own order is channels first.
    order = torch.contiguous_format if runtime == "torch" else torch.channels_last
    network = copy.deepcopy(network).eval().to(device).to(memory_format=order)
    logits: Any = torch.nn.Sequential(network.body, network.head)
    if runtime == "compile":
        logits = torch.compile(logits, dynamic=False)

    def run(batch: np.ndarray) -> np.ndarray:
        batch = np.require(batch, requirements="W")  # torch warns about arrays that it must not change
        with torch.inference_mode():
            images = network.normalize(torch.from_numpy(batch).to(device))
            return logits(images.contiguous(memory_format=order)).float().cpu().numpy()

    return run


def _load_onnxruntime(path: str, n_threads: int) -> tuple[Network, list[str]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 3
    # Idle threads would otherwise spin for a while after each call, at the expense of whatever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {INPUT_NAME: batch})[0], [entry.name for entry in session.get_inputs()]


def _load_openvino(path: str, n_threads: int) -> tuple[Network, list[str]]:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("OpenVINO is not installed: pip install 'utils_cv[openvino]'.") from error
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": n_threads, "PERFORMANCE_HINT": "LATENCY"}
    # OpenVINO otherwise rounds to bfloat16 where the processor has it, and answers would no longer be equal.
    options["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(path, "CPU", options)
    own = threading.local()  # a request holds the images and the answers of one call: no two threads may share it

    def run(batch: np.ndarray) -> np.ndarray:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer(batch, share_inputs=True)[0]

    return run, [entry.any_name for entry in compiled.inputs]
