"""Features of a frozen backbone, as fast as the machine gives them: ONNX Runtime on a CPU, torch on a GPU."""

import hashlib
import importlib.metadata
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from utils_cv.backbones import DEFAULT_BACKBONE, describe_backbone, fix_padding, load_backbone
from utils_cv.files import get_cache_dir, write_atomic
from utils_cv.runtime import choose_device, count_cpus, keep_memory


class Normalized(nn.Module):
    """A network that takes images as bytes, (n, size, size, 3), and normalises them itself."""

    def __init__(self, body: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)))
        self.register_buffer("shift", -(torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1))
        self.body = body

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn bytes into what the body gives."""
        return self.body(pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift)


def compute_features(
    pixels: np.ndarray,
    *,
    backbone: str = DEFAULT_BACKBONE,
    mirror: bool = False,
    batch_size: int = 16,
    runtime: str = "auto",
    show_progress: bool = False,
) -> np.ndarray:
    """Compute what a frozen backbone sees in each image: the values in front of its ImageNet classifier.

    On a CPU the backbone runs in ONNX Runtime, exported once for each backbone and size into the user's cache
    folder (seconds, once).

    Args:
        pixels: uint8 RGB images, (n, size, size, 3), as `utils_cv.images.load_images` gives them.
        backbone: Any name that `utils_cv.backbones.load_backbone` takes.
        mirror: Average with the features of the mirror image; twice the time.
        batch_size: Images a step; changes nothing but time and memory.
        runtime: "onnx", "torch", or "auto": torch on a GPU, else ONNX.
        show_progress: Show a bar that counts images.

    Returns:
        float32, (n, n_features).

    Raises:
        ValueError: If `pixels` is not of that shape and type, or the runtime is unknown.

    Example:
        >>> compute_features(np.zeros((2, 224, 224, 3), np.uint8)).shape  # doctest: +SKIP
        (2, 1280)
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.shape[1] != pixels.shape[2] or pixels.dtype != np.uint8:
        raise ValueError(
            f"Got pixels of shape {pixels.shape} and type {pixels.dtype}; expected uint8 (n, size, size, 3). "
            "Open images with utils_cv.images.load_images."
        )
    if runtime not in ("auto", "onnx", "torch"):
        raise ValueError(f"Got runtime {runtime!r}; expected 'auto', 'onnx' or 'torch'.")
    if runtime == "auto":
        runtime = "torch" if choose_device() != "cpu" else "onnx"
    run = _make_runner(backbone, pixels.shape[1], runtime)
    parts = []
    with tqdm(total=len(pixels), desc="features", unit="image", disable=not show_progress) as bar:
        for start in range(0, len(pixels), batch_size):
            batch = np.ascontiguousarray(pixels[start : start + batch_size])
            features = run(batch)
            if mirror:
                features = (features + run(np.ascontiguousarray(batch[:, :, ::-1]))) / 2
            parts.append(features)
            bar.update(len(batch))
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def export_backbone(backbone: str, im_size_px: int) -> Path:
    """Export a frozen backbone to ONNX in the user's cache folder, unless it is there already.

    Args:
        backbone: Any name that `utils_cv.backbones.load_backbone` takes.
        im_size_px: Side of the images it will take.

    Returns:
        The file; its name changes with weights and versions, so that it is never stale.
    """
    model = load_backbone(backbone, n_classes=0)
    path = get_cache_dir("onnx") / f"{backbone.replace('/', '_')}_{im_size_px}px_{_fingerprint(model)}.onnx"
    if not path.is_file():
        facts = describe_backbone(backbone)
        export_onnx(Normalized(fix_padding(model, im_size_px), facts.mean, facts.std), im_size_px, path)
    return path


def export_onnx(model: nn.Module, im_size_px: int, path: Path) -> None:
    """Export a network that takes bytes, (n, size, size, 3), for any number of images; the file appears whole."""
    example = torch.zeros(2, im_size_px, im_size_px, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        temporary = Path(folder) / "model.onnx"
        torch.onnx.export(
            model.eval(),
            (example,),
            str(temporary),
            input_names=["pixels"],
            output_names=["output"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("n")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        with write_atomic(path) as out_path:
            out_path.write_bytes(temporary.read_bytes())


def _make_runner(backbone: str, im_size_px: int, runtime: str) -> Any:
    if runtime == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = count_cpus()
        options.log_severity_level = 3
        path = export_backbone(backbone, im_size_px)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(None, {"pixels": batch})[0]
    keep_memory()
    facts, device = describe_backbone(backbone), choose_device()
    model = Normalized(load_backbone(backbone, n_classes=0), facts.mean, facts.std).eval().to(device)

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(batch).to(device)).float().cpu().numpy()

    return run


def _fingerprint(model: nn.Module) -> str:
    """Hash the weights and the versions that an export depends on."""
    digest = hashlib.sha256()
    for package in ("torch", "onnx", "onnxscript", "timm"):
        digest.update(importlib.metadata.version(package).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
