"""The same finished model in several runtimes, for studies that compare them: bytes in, logits out.

To predict with a finished model, use `utils_cv.models.saved_classifier.load_classifier`.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from utils_cv.system.machine import count_cpus

from .model_files import ONNX_NAME, WEIGHTS_NAME, find_model_file, read_model_info
from .runtimes import load_onnx, load_openvino

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
