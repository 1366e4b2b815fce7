"""The page to label images: who may ask, what is refused, and that every choice is in the file before the answer.

`tools/check_annotation_page.py` labels images by keyboard in Chromium; its result names the page that it checked.
"""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from utils_cv.apps.annotation import PAGE_DIR, AnnotationServer, sort_by_likeness
from utils_cv.apps.pages import read_page_file
from utils_cv.data.choices import append_choices, load_choices
from utils_cv.data.image_files import list_image_files
from utils_cv.data.image_table import load_image_table


@pytest.fixture
def server(new_images, tmp_path):
    """A server of three images and one that is no image; the file lies in another folder."""
    paths = list_image_files(new_images)
    server = AnnotationServer(paths, tmp_path / "out/labels.csv", ["can", "carton"], annotator="Ann").start()
    yield server
    server.close()


def ask(url, content=None, **headers):
    """Answer of the server: status and text, or JSON where it is."""
    data = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            body, kind = answer.read(), answer.headers.get_content_type()
            return answer.status, json.loads(body) if kind == "application/json" else body
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def choose(server, *choices, annotator="Ann"):
    return ask(f"{server.url}choices", {"annotator": annotator, "choices": list(choices)})


def test_choices_come_back_and_load_as_an_image_table(server):
    status, answer = choose(server, [0, "can", "label"], [1, "carton", "label"])
    assert choose(server, [2, "", "unclear"], annotator="Bob")[0] == choose(server, [0, "jar", "label"])[0] == 200
    state = ask(f"{server.url}state")[1]
    assert status == 200
    assert state["choices"] == [[1, "carton", "label"], [0, "jar", "label"]]
    assert state["actions"][0] == [answer["time"], [0, 1]]
    assert (state["people"], state["classes"]) == ({"Ann": 2, "Bob": 1}, ["can", "carton", "jar"])
    assert ask(f"{server.url}choices", {"annotator": "Ann", "undo": state["actions"][1][0]})[0] == 200
    table = load_image_table(server.csv_path)
    assert dict(zip(table["path"], table["label"], strict=True)) == {
        str(server.paths[0]): "can",
        str(server.paths[1]): "carton",
    }


def test_a_letter_typed_in_two_ways_is_one_person_and_one_class(server):
    for person, name in (("J\u00fcrgen", "Gr\u00f6\u00dfe"), ("Ju\u0308rgen", "Gro\u0308\u00dfe")):
        assert choose(server, [0, name, "label"], annotator=person)[0] == 200
    state = ask(f"{server.url}state?annotator=Ju%CC%88rgen")[1]
    assert (len(state["choices"]), len(state["people"]), len(state["classes"])) == (1, 1, 3)


def test_the_last_choice_is_undone_first_also_where_the_clock_was_set_back(server):
    with server.csv_path.open("a") as file:
        for i, hour in enumerate((12, 11)):
            file.write(f"{server.cells[i]},can,label,Ann,2030-01-01T{hour}:00:00.000000Z\n")
    assert [places for _, places in server.describe("Ann")["actions"]] == [[0], [1]]


def test_classes_of_two_lines_are_chosen_and_load_again(new_images, tmp_path):
    names = ["two\nlines", "tab\tbed"]
    server = AnnotationServer(list_image_files(new_images), tmp_path / "labels.csv", [*names, "end\n"]).start()
    assert choose(server, [0, names[0], "label"], [1, names[1], "label"], [2, names[0], "label"])[0] == 200
    assert ask(f"{server.url}state")[1]["classes"] == [*names, "end"]
    server.close()
    assert load_image_table(server.csv_path)["label"].tolist() == [*names, names[0]]


def test_images_are_shown_as_jpeg_and_broken_ones_say_why(server):
    answers = [ask(f"{server.url}image/{i}/{size}") for i in range(4) for size in ("small", "large")]
    assert [status for status, _ in answers] == [200] * 6 + [422] * 2
    assert Image.open(io.BytesIO(answers[0][1])).format == "JPEG"
    assert "no image" in answers[-1][1] or "format" in answers[-1][1]
    for path in ("image/4/small", "image/0/huge", "../x", "image/-1/small"):
        assert ask(server.url + path)[0] == 404


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        pytest.param(lambda url: url.rsplit("/", 2)[0] + "/wrong/", {}, 403, id="a wrong secret"),
        pytest.param(str, {"Origin": "http://evil.example"}, 403, id="another page"),
        pytest.param(str, {"Host": "evil.example"}, 403, id="a name that leads here"),
        pytest.param(str, {"Content-Type": "text/plain"}, 403, id="a form"),
        pytest.param(str, {"Content-Length": "2000000"}, 413, id="too large"),
    ],
)
def test_only_the_page_itself_may_save(server, change, headers, status):
    content = {"annotator": "Ann", "choices": [[0, "can", "label"]]}
    assert ask(f"{change(server.url)}choices", content, **headers)[0] == status
    assert load_choices(server.csv_path).empty


def test_only_the_secret_address_shows_anything(server):
    base = f"http://127.0.0.1:{server.server_port}/"
    assert server.server_address[0] == "127.0.0.1"
    assert [ask(base + path)[0] for path in ("", "state", "x/state", "?", f"{server.token}x/")] == [404] * 5
    assert ask(server.url, Host="evil.example")[0] == 404
    for name in ("", "page.js", "style.css", "?name=Bob"):
        assert ask(server.url + name)[0] == 200


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"\xff", id="no text"),
        pytest.param([], id="a list"),
        pytest.param({"annotator": " ", "choices": [[0, "can", "label"]]}, id="no name"),
        pytest.param({"annotator": "a\nb", "choices": [[0, "can", "label"]]}, id="a name of two lines"),
        *(
            pytest.param({"annotator": "Ann", "choices": [row]}, id=str(row))
            for row in ([4, "can", "label"], [-1, "can", "label"], [True, "can", "label"], [0, "can"], [0, "", "label"])
        ),
        *(
            pytest.param({"annotator": "Ann", "choices": [row]}, id=repr(row))
            for row in ([0, "a|b", "label"], [0, "can", "none"], [0, "a||b", "labels"], [0, "", "undo"])
        ),
    ],
)
def test_what_makes_no_sense_is_refused_as_a_whole(server, content):
    status, text = ask(f"{server.url}choices", content)
    assert status == 400, text
    assert load_choices(server.csv_path).empty


def test_a_full_disk_is_said(server):
    with mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")):
        assert choose(server, [0, "can", "label"]) == (500, "labels.csv: No space left on device.")


def test_the_labels_of_another_file_are_safe(new_images, tmp_path):
    (tmp_path / "labels.csv").write_text("image,label\n")
    with pytest.raises(FileExistsError, match="holds no choices"):
        AnnotationServer([new_images / "a.png"], tmp_path / "labels.csv")
    with pytest.raises(ValueError, match="Got 1 images and 2 labels"):
        AnnotationServer([new_images / "a.png"], tmp_path / "new.csv", labels=["can", "jar"])
    for paths, name, said in (([], "can", "no images"), ([new_images / "a.png"], "a|b", r"class 'a\|b'")):
        with pytest.raises(ValueError, match=said):
            AnnotationServer(paths, tmp_path / "new.csv", [name])


def test_look_alikes_stand_side_by_side():
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat(np.arange(5), 24))
    features = rng.normal(size=(5, 64))[kind] * 3 + rng.normal(size=(120, 64))
    order = sort_by_likeness(features, n_grid=24)
    assert sorted(order) == list(range(120))
    assert all(len(set(grid)) == 1 for grid in kind[order].reshape(5, 24))
    assert sorted(sort_by_likeness(np.ones((50, 3)), n_grid=8)) == list(range(50))
    features[7] = np.nan
    assert sort_by_likeness(features)[-1] == 7, "what cannot be opened comes last"


@pytest.mark.parametrize("end", ["killed", pytest.param("Ctrl-C", marks=pytest.mark.linux)])
def test_the_command_keeps_what_was_chosen_however_it_ends(new_images, tmp_path, end):
    csv_path = tmp_path / "labels.csv"
    command = [sys.executable, "-m", "utils_cv", "annotate", new_images, "--output", csv_path, "--by-name", "--json"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    # Whatever starts the tests in the background ignores Ctrl-C, and children would, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        signal.signal(signal.SIGINT, before)
        url = json.loads(process.stdout.readline())["url"]
        for i in range(3):
            assert ask(f"{url}choices", {"annotator": "Ann", "choices": [[i, "can", "label"]]})[0] == 200
        process.kill() if end == "killed" else process.send_signal(signal.SIGINT)
        try:
            said = process.communicate(timeout=30)[1]
        finally:
            process.kill()
    assert load_choices(csv_path)["label"].tolist() == ["can"] * 3
    if end == "Ctrl-C":
        assert process.returncode == 130
        assert said.splitlines()[-1].startswith("Stopped. Images labeled: Ann 3.")
        assert "Traceback" not in said


def test_the_command_sorts_by_likeness_and_shows_labels_to_correct(image_dir, tmp_path, run):
    (image_dir / "can/broken.png").write_text("no image")
    made = {}

    def keep(server, *_):
        made.update(server.describe(""))
        append_choices(server.csv_path, [(server.cells[0], "jar", "label")], "Bob")
        raise KeyboardInterrupt

    with mock.patch.object(AnnotationServer, "serve_forever", keep):
        words = ["--output", tmp_path / "new.csv", "--correct", "--classes", "jar", "--name", "Ann"]
        code, _, said = run("annotate", image_dir, *words)
    assert (code, made["classes"], made["annotator"]) == (130, ["jar", "can", "carton"], "Ann")
    assert made["names"][-1].endswith("broken.png")
    assert all(f"/{label}/" in name for name, label in zip(made["names"], made["given"], strict=True))
    assert len(set(made["given"][:10])) == 1, "ten look-alikes have one label"
    assert "Bob 1" in said


def test_the_command_corrects_several_labels_and_names_an_empty_folder(new_images, tmp_path, run):
    (new_images / "labels.csv").write_text("image,label\na.png,can|jar\n")
    with mock.patch.object(AnnotationServer, "serve_forever", autospec=True, side_effect=KeyboardInterrupt) as served:
        run("annotate", new_images / "labels.csv", "--correct", "--by-name", "--output", tmp_path / "new.csv")
    assert served.call_args.args[0].several
    (tmp_path / "empty").mkdir()
    assert "No images in" in run("annotate", tmp_path / "empty", "--output", tmp_path / "new.csv")[2]


def test_chromium_has_checked_this_page():
    kept = json.loads((ROOT / "benchmarks/results/annotation_page.json").read_text(encoding="utf-8"))
    pages = {p.name: hashlib.sha256(read_page_file(p)).hexdigest() for p in PAGE_DIR.iterdir()}
    assert kept["sha256"] == pages, "run tools/check_annotation_page.py again"
