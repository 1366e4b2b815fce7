"""Networks in the runtimes that can run them. Only PyTorch's import torch; others load in a fraction of a second."""

import copy
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utils_cv.evaluation.out_of_distribution import OodDetector
from utils_cv.system.machine import count_cpus, tune_allocator

from .model_files import INFO_NAME, INT8_NAME, ONNX_NAME, WEIGHTS_NAME, ModelFileError, ModelInfo, read_model
from .unknown import SCORE_NAME, read_detector

if TYPE_CHECKING:
    from .onnx_export import Normalized

# uint8 images (n, size, size, 3) to what the network gives, float32. Where a finished model has a score of unknown
# images, `run(images, scored=True)` gives the logits and the scores (n,).
Network = Callable[..., Any]
INPUT_NAME = "pixels"
_EXTERNAL = b"\x0a\x08location\x12"  # how an ONNX file says that weights are in another file
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


def load_network(folder: str | Path, runtime: str, *, n_threads: int | None = None) -> Network:
    """Load the network of a finished model into a runtime; nothing is run before the hash of its file fits.

    Args:
        folder: Where `save_classifier` wrote it.
        runtime: A name of `RUNTIME_FILES`.
        n_threads: Threads of one call. Default: as many as this process may use. PyTorch has one number for the whole
            process, which is changed only if a number is given.

    Returns:
        On the CPU, a function of uint8 images (n, size, size, 3) that gives logits (n, n_classes). Several threads may
        call it.
    """
    info, name, content = read_model(folder, [find_runtime_file(runtime)])
    return make_network(info, runtime, content, Path(folder) / name, n_threads=n_threads)


def find_runtime_file(runtime: str) -> str:
    """Find which file of a model a runtime loads; a ValueError lists the runtimes that are installed here."""
    if runtime not in RUNTIME_FILES:
        raise ValueError(f"Got runtime {runtime!r}; here there are {', '.join(map(repr, list_runtimes()))}.")
    return RUNTIME_FILES[runtime]


def make_network(
    info: ModelInfo, runtime: str, content: bytes, path: Path, *, n_threads: int | None = None, device: str = "cpu"
) -> Network:
    """Make the network of a finished model from the content of its file; `path` is its name in a ModelFileError."""
    if runtime not in TORCH_RUNTIMES:
        return load_onnx(path, runtime=runtime, n_threads=n_threads, content=content, info=info)
    from .onnx_export import read_network

    if n_threads:
        import torch

        torch.set_num_threads(n_threads)
    detector = read_detector(info, content, path)
    return run_in_torch(read_network(info, content, path), runtime=runtime, device=device, detector=detector)


def load_onnx(
    path: str | Path,
    *,
    runtime: str = "onnx",
    n_threads: int | None = None,
    content: bytes | None = None,
    info: ModelInfo | None = None,
) -> Network:
    """Load an exported network into ONNX Runtime, or into OpenVINO, which is faster on some processors.

    It is loaded from `content`, by default that of the file: what was checked is what is run. With `info` it must take
    images of the model's size and give a logit per class. What does not fit is a ModelFileError.
    """
    is_openvino = runtime.startswith("openvino")
    load = _load_openvino if is_openvino else _load_onnxruntime
    try:
        content = Path(path).read_bytes() if content is None else content
        if _EXTERNAL in content:
            raise ValueError("its weights are in other files")  # which nobody hashed
        run, signature = load(content, n_threads or count_cpus())
    except ModuleNotFoundError:
        raise
    except Exception as error:  # the errors of both share no base class but Exception
        reason = (str(error).strip().splitlines() or [""])[-1 if is_openvino else 0]
        engine = "OpenVINO" if is_openvino else "ONNX Runtime"
        message = f"{path} cannot be loaded by {engine} ({reason}). Is it damaged? Export it again."
        raise ModelFileError(message) from error
    _check_signature(path, signature, info)
    if info and not _is_normalized(content, info):
        raise ModelFileError(f"{path} normalizes images by another mean and std than {INFO_NAME} says; save it again.")
    run.n_threads = n_threads  # type: ignore[attr-defined]  # `run_in_batches` calls one of 1 in several threads
    return run


def _is_normalized(content: bytes, info: ModelInfo) -> bool:
    """Tell whether the constants by which `Normalized` normalizes images lie in an exported network."""
    mean, std = np.array([info.mean, info.std], np.float32)
    constants = (1 / (np.float32(255) * std), -(mean / std))
    return all(content.rfind(values.tobytes()) >= 0 for values in constants)  # they lie near the end


class _Signature(NamedTuple):
    """What a network takes and gives: its inputs, the sizes of the first input and output, and other outputs."""

    inputs: list[tuple[str, str]]
    input_shape: list[Any]
    output_shape: list[Any]
    further: list[str]


def _check_signature(path: str | Path, signature: _Signature, info: ModelInfo | None) -> None:
    inputs, input_shape, output_shape, further = signature
    if [name for name, _ in inputs] != [INPUT_NAME]:
        names = [name for name, _ in inputs]
        raise ModelFileError(f"{path} takes the inputs {names}, expected {[INPUT_NAME]}: images as bytes.")
    if "uint8" not in inputs[0][1] or len(input_shape) != 4 or input_shape[3] != 3:
        raise ModelFileError(f"{path} takes {inputs[0][1]} {input_shape}, expected uint8 images (n, size, size, 3).")
    if info and (input_shape[1:3] != [info.im_size_px] * 2 or output_shape[1:] != [len(info.class_names)]):
        raise ModelFileError(
            f"{path} takes images of {input_shape[1:3]} px and gives {output_shape[1:]} logits; its {INFO_NAME} has "
            f"{info.im_size_px} px and {len(info.class_names)} classes. They are of different models; save it again."
        )
    if info and info.unknown and str(path).endswith(ONNX_NAME) and further != [SCORE_NAME]:
        raise ModelFileError(f"{path} does not give the {SCORE_NAME} that its {INFO_NAME} promises. Save it again.")


def run_in_torch(network: "Normalized", *, runtime: str, device: str, detector: OodDetector | None = None) -> Network:
    """Make the function that runs a copy of a network in PyTorch, on a device and in evaluation mode."""
    import torch

    tune_allocator()
    # Images arrive with channels last in memory; eager PyTorch's own order is channels first.
    order = torch.contiguous_format if runtime == "torch" else torch.channels_last
    network = copy.deepcopy(network).eval().to(device).to(memory_format=order)

    def answer(images: Any) -> Any:
        features = network.body(images)
        return network.head(features), features

    answer = torch.compile(answer, dynamic=False) if runtime == "compile" else answer

    def run(batch: np.ndarray, *, scored: bool = False) -> Any:
        batch = np.require(batch, requirements="W")  # torch warns about arrays that it must not change
        with torch.inference_mode():
            images = network.normalize(torch.from_numpy(batch).to(device))
            logits, features = answer(images.contiguous(memory_format=order))
        logits = logits.float().cpu().numpy()
        return (logits, detector.score(features.float().cpu().numpy(), logits)) if scored and detector else logits

    return run


def _load_onnxruntime(content: bytes, n_threads: int) -> tuple[Network, _Signature]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4  # an error is raised, and need not be printed as well
    # A session otherwise keeps its largest batch's memory for itself, beside what torch then needs for the same images.
    options.enable_cpu_mem_arena = not tune_allocator()
    # Threads would otherwise spin while they wait, at the expense of whatever else runs: beside other work a call then
    # takes twice as long, and alone it is at most a tenth shorter.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [entry.name for entry in outputs]
    signature = _Signature([(e.name, e.type) for e in inputs], inputs[0].shape, outputs[0].shape, names[1:])

    def run(batch: np.ndarray, *, scored: bool = False) -> Any:
        answers = session.run(names if scored else names[:1], {INPUT_NAME: batch})
        return tuple(answers) if scored else answers[0]

    return run, signature


def _load_openvino(content: bytes, n_threads: int) -> tuple[Network, _Signature]:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("OpenVINO is not installed: pip install 'utils_cv[openvino]'.") from error
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": n_threads, "PERFORMANCE_HINT": "LATENCY"}
    # OpenVINO otherwise rounds to bfloat16 where the processor has it, and answers would no longer be equal.
    options["INFERENCE_PRECISION_HINT"] = "f32"
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", options)
    own = threading.local()  # a request holds the images and the answers of one call: no two threads may share it

    def run(batch: np.ndarray, *, scored: bool = False) -> Any:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        answers = own.request.infer(batch, share_inputs=True)
        return (answers[0], answers[1]) if scored else answers[0]

    inputs = [(entry.any_name, str(entry.element_type)) for entry in compiled.inputs]
    ports = compiled.inputs[0], compiled.outputs[0]
    shapes = [[size.get_length() if size.is_static else None for size in port.partial_shape] for port in ports]
    return run, _Signature(inputs, shapes[0], shapes[1], [port.any_name for port in compiled.outputs[1:]])
