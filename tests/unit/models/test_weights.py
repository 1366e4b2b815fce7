"""Weights over the network: a hub and a file server of our own, a cache from elsewhere, and no network at all."""

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
import torch
import torchvision
from huggingface_hub import constants
from safetensors.torch import save_file

from tests.conftest import ROOT
from utils_cv.models import weights
from utils_cv.models.backbones import load_backbone

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
from utils_cv.models.backbones import load_backbone
for name in ("test_vit", "test_vit2"):
    print(name, "sum", load_backbone(name, im_size_px=64).head.weight.sum().item())
"""


class Server(http.server.BaseHTTPRequestHandler):
    """Hands out the files of a dictionary, with the headers that a client of the hub asks for."""

    files: dict[str, bytes]
    asked: list[tuple[str, str]]

    def do_HEAD(self):  # noqa: D102
        self.do_GET()

    def do_GET(self):  # noqa: D102
        self.asked.append((self.command, self.path))
        content = self.files.get(self.path)
        self.send_response(200 if content or self.path == "/" else 404)
        content = content or b""
        if self.path != "/" and not content:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):  # noqa: D102
        pass


@pytest.fixture
def serve():
    """Start servers on this machine; gives their address and what they were asked."""
    servers = []

    def start(files):
        handler = type("Handler", (Server,), {"files": files, "asked": []})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", handler.asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def to_bytes(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path.read_bytes()


def test_weights_of_a_hub_are_downloaded_and_a_copied_cache_needs_none(serve, tmp_path, monkeypatch, capsys):
    sums, files = {}, {}
    for name, file in {"test_vit": "model.safetensors", "test_vit2": "pytorch_model.bin"}.items():
        state = load_backbone(name, pretrained=False).state_dict()
        sums[name] = f"{name} sum {state['head.weight'].sum().item()}"
        files[f"/timm/{name}.r160_in1k/resolve/main/{file}"] = to_bytes(state, tmp_path / file)
    address, asked = serve(files)
    # A process of its own reads the address of the hub when it starts, as a reader's does.
    given = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "*"}
    command = [sys.executable, "-c", LOAD]
    environment = os.environ | given | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert all(line in done.stdout for line in sums.values()), done.stderr
    assert "test_vit: pretrained weights of timm/test_vit.r160_in1k, license: apache-2.0" in done.stdout
    assert {("GET", path) for path in files} <= set(asked)

    asked.clear()
    shutil.copytree(tmp_path / "home", tmp_path / "other machine", symlinks=False)  # as a stick or a share copies it
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other machine" / "hub"))
    exec(LOAD, {})
    shown = capsys.readouterr().out
    assert all(line in shown for line in sums.values()) and not asked


def patch_torchvision(monkeypatch, tmp_path, address, file):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    value = torchvision.models.get_model_weights("mobilenet_v3_small").DEFAULT.value
    monkeypatch.setattr(value, "url", f"{address}/{file}")


@pytest.fixture(autouse=True)
def forget_facts():
    from utils_cv.models.backbones import describe_backbone

    describe_backbone.cache_clear()
    yield
    describe_backbone.cache_clear()


def test_weights_of_torchvision_are_downloaded_once_and_checked(serve, monkeypatch, tmp_path):
    known = load_backbone("mobilenet_v3_small", pretrained=False)
    content = to_bytes(known.state_dict(), tmp_path / "a.pth")
    file = f"mobilenet_v3_small-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    address, asked = serve({f"/{file}": content})
    patch_torchvision(monkeypatch, tmp_path, address, file)
    for _ in range(2):
        assert torch.equal(load_backbone("mobilenet_v3_small").classifier[3].weight, known.classifier[3].weight)
    assert [command for command, _ in asked] == ["HEAD", "GET"]

    wrong = "mobilenet_v3_small-00000000.pth"
    patch_torchvision(monkeypatch, tmp_path, serve({f"/{wrong}": content})[0], wrong)
    with pytest.raises(ConnectionError, match=r"invalid hash value"):
        load_backbone("mobilenet_v3_small")
    assert not (tmp_path / "home" / "hub" / "checkpoints" / wrong).exists()


def test_a_file_that_a_server_does_not_have_is_named(serve, monkeypatch, tmp_path):
    patch_torchvision(monkeypatch, tmp_path, serve({})[0], "gone.pth")
    with pytest.raises(ConnectionError, match=r"needs gone\.pth.*Not Found.*weights_path.*need no download"):
        load_backbone("mobilenet_v3_small")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"], ids=["of timm", "of torchvision"])
def test_no_network_names_the_file_the_folder_and_what_needs_none(monkeypatch, tmp_path, name):
    file = "model.safetensors" if name == "resnet18" else "mobilenet_v3_small.pth"
    patch_torchvision(monkeypatch, tmp_path, "http://127.0.0.1:9", "mobilenet_v3_small.pth")  # nobody listens there
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ConnectionError) as caught:
        load_backbone(name)
    words = [f"{name} needs {file}", str(tmp_path), "127.0.0.1:9", "refused", "weights_path", "efficientnet_lite0"]
    assert all(word in str(caught.value) for word in words), caught.value
    assert str(caught.value).count(". ") == 0 and caught.value.__cause__ is None, "one sentence, without a chain"


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(weights, "PATIENCE_S", 0.05)
    monkeypatch.setattr(weights, "urlopen", functools.partial(lambda *_, **__: time.sleep(30)))
    assert weights._find_obstacle("https://example.org") == "no answer within 0 s"
