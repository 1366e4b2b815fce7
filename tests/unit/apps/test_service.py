"""The service: what it answers, what it refuses, and that it goes on while its model is replaced."""

import dataclasses
import math
import re
import shutil
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from tests.conftest import ROOT, draw_image
from utils_cv.apps.service import make_app, open_socket, run_service
from utils_cv.evaluation.intervals import make_fraction_score
from utils_cv.models.saved_classifier import load_classifier, save_classifier


@pytest.fixture(scope="module")
def url(model_dir):
    """The address of a service with small limits."""
    with run_service(model_dir, max_file_mb=0.1, max_total_mb=0.25) as address:
        yield address


def list_uploads(*contents):
    return [("files", (f"{i}.png", content)) for i, content in enumerate(contents)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The bytes of a disc, a square, and of no image."""
    folder = tmp_path_factory.mktemp("uploads")
    for label in ("can", "carton"):
        draw_image(label, seed=910).save(folder / f"{label}.png")
    return [(folder / "can.png").read_bytes(), (folder / "carton.png").read_bytes(), b"no image"]


def test_answers_are_those_of_the_classifier_in_order(url, model_dir, images):
    answers = httpx.post(f"{url}/predict", files=list_uploads(*images)).json()["predictions"]
    expected = load_classifier(model_dir).predict(images[:2])
    assert [(row["file"], row["label"]) for row in answers] == [("0.png", "can"), ("1.png", "carton"), ("2.png", "")]
    for row, probabilities in zip(answers, expected, strict=False):
        assert list(row["probabilities"]) == ["can", "carton"]
        assert list(row["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=1e-6)
        assert row["probability"] == max(row["probabilities"].values()) and row["problem"] == ""
    assert answers[2]["problem"].startswith("not an image") and answers[2]["probability"] is None


BEGIN = b'--x\r\nContent-Disposition: form-data; name="files"; filename="0.png"\r\n\r\n'
BIG, FORM = b"0" * 150_000, {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        pytest.param({"files": list_uploads(b"no image")}, 422, "0.png: not an image of a known format", id="no image"),
        pytest.param({"files": list_uploads(b"")}, 422, "0.png: the file is empty", id="an empty file"),
        pytest.param({"files": list_uploads(BIG)}, 413, "0.png is larger than 0.1 MB", id="one too large"),
        pytest.param({"files": list_uploads(BIG, BIG)}, 413, "upload is larger than 0.25 MB", id="all too large"),
        pytest.param({"files": [("image", ("a.png", b"x"))]}, 422, "in the field 'files'", id="another field"),
        pytest.param({"data": {"files": "text"}}, 422, "in the field 'files'", id="text"),
        pytest.param({"content": b"x", "headers": {"content-type": "image/png"}}, 422, "curl -F files=@", id="no form"),
        pytest.param({"files": list_uploads(*[b"x"] * 1001)}, 400, "Too many files", id="too many files"),
        pytest.param({"content": b"garbage", "headers": FORM}, 400, "curl -F files=@", id="a broken form"),
        pytest.param({"content": [BEGIN, BIG, BIG], "headers": FORM}, 413, "larger than 0.25 MB", id="no length"),
    ],
)
def test_bad_uploads_are_told_what_is_wrong_and_stop_nothing(url, images, request_, status, message):
    answer = httpx.post(f"{url}/predict", **request_)
    assert (answer.status_code, message in answer.json()["detail"]) == (status, True), answer.text
    assert httpx.post(f"{url}/predict", files=list_uploads(images[0])).status_code == 200


def test_a_body_that_will_be_too_large_is_refused_before_it_is_sent(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_model_and_health_tell_what_is_there(url):
    model = httpx.get(f"{url}/model").json()
    assert (model["class_names"], model["license"], model["runtime"]) == (["can", "carton"], "mit", "onnx")
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "problem": ""}
    assert "curl -F files=@image.jpg" in httpx.get(url).json()["/predict"]


def test_a_replaced_model_answers_soon_and_no_request_is_lost(model_dir, images, small_probe, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    seen, stop = [], threading.Event()

    def ask(address):
        while not stop.is_set():
            answer = httpx.post(f"{address}/predict", files=list_uploads(images[0]))
            seen.append((answer.status_code, answer.json()["predictions"][0]["label"]))

    with run_service(folder) as address:
        threads = [threading.Thread(target=ask, args=(address,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for name in ("first", "second"):
            model = dataclasses.replace(small_probe, class_names=[name, "carton"])
            save_classifier(model, folder, scores={"accuracy": make_fraction_score(5, 6)}, overwrite=True)
        while (200, "second") not in seen:
            stop.wait(0.05)
        stop.set()
        for thread in threads:
            thread.join()
        (folder / "model.json").write_text("damaged")
        health = httpx.get(f"{address}/health").json()
        assert health["status"] == "old model" and "model.json" in health["problem"]
        assert httpx.post(f"{address}/predict", files=list_uploads(images[0])).status_code == 200
    assert {status for status, _ in seen} == {200}
    assert {label for _, label in seen} <= {"can", "first", "second"}


def test_a_port_that_is_taken_is_named():
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port}: Address already in use. --port 0 takes any free port"):
            open_socket("127.0.0.1", port)


def test_a_missing_model_and_impossible_limits_are_told_at_the_start(model_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="No finished model"):
        make_app(tmp_path)
    for limits in ({"max_file_mb": -3}, {"max_total_mb": 0}, {"max_file_mb": math.nan}):
        with pytest.raises(ValueError, match="expected more than 0"):
            make_app(model_dir, **limits)


def read_extra(name):
    """The packages of an extra of setup.py, or of its core."""
    found = re.search(rf"^{name} = \[(.+?)^\]", (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL)
    return set(re.findall(r'^    "([\w-]+)', found[1], re.MULTILINE))


def test_the_image_installs_the_extra_and_runs_without_the_administrator():
    steps = (ROOT / "deploy/Dockerfile").read_text()
    (installed,) = re.findall(r"^RUN pip install (.+)$", steps, re.MULTILINE)
    assert installed.endswith('-c requirements/constraints.txt ".[serve]"')
    assert re.findall(r"^USER (.+)$", steps, re.MULTILINE) == ["10001"]
    assert steps.index("USER") < steps.index("\nCMD")
    copied = {name.rstrip("/") for line in re.findall(r"^COPY (.+) \S+$", steps, re.MULTILINE) for name in line.split()}
    sent = re.findall(r"^!(\S+)$", (ROOT / "deploy/Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert copied == set(sent)


def test_service_and_command_run_with_nothing_but_the_extra(model_dir, tmp_path):
    """Of all packages that setup.py names, those of the extra `serve` are enough."""
    draw_image("can", seed=1).save(tmp_path / "a.png")
    names = {"pillow": "PIL", "scikit-learn": "sklearn", "python-multipart": "multipart"}
    missing = {names.get(name, name) for name in read_extra("NOTEBOOKS")} | {"IPython", "openvino", "dask"}
    code = f"""
import sys
for name in {sorted(missing)!r}:
    sys.modules[name] = None  # importing it fails
from utils_cv.__main__ import main
assert main(["predict", {str(model_dir)!r}, {str(tmp_path / "a.png")!r}]) == 0
import urllib.request
from utils_cv.apps.service import run_service
with run_service({str(model_dir)!r}) as url:
    print(urllib.request.urlopen(url + "/health").read().decode())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith('{"status":"ok","problem":""}\n'), done.stderr[-1000:]
    assert not missing & (read_extra("CORE") | read_extra("SERVE"))
