"""The command `predict`: rows of every image, copies sorted by label, and nothing of the user's is touched."""

import csv
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, draw_image
from utils_cv.__main__ import _make_parser, main
from utils_cv.apps.commands import _copy_image
from utils_cv.evaluation.out_of_distribution import OodDetector
from utils_cv.models.saved_classifier import save_classifier
from utils_cv.training.trained_models import compute_logits

from .conftest import read_lines


def list_files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_csv_has_a_row_for_every_file_and_the_code_tells_of_those_that_do_not_open(model_dir, new_images, run):
    before = list_files(new_images)
    code, printed, said = run("predict", model_dir, new_images)
    assert "predicting" in said and "predicting" not in printed
    rows = list(csv.DictReader(printed.splitlines()))
    assert list(rows[0])[:5] == ["image", "label", "probability", "can", "carton"]
    labels = {row["image"].removeprefix(f"{new_images}/"): row["label"] for row in rows}
    assert labels == {"a.png": "can", "more/a.png": "carton", "more/b.png": "carton", "text.jpg": ""}
    assert rows[3]["problem"].startswith("not an image") and rows[3]["can"] == ""
    assert code == 1 and f"\r{new_images}/text.jpg: not an image" in said  # on a line without the bar
    assert "3 images labeled (2 carton, 1 can), 1 with problems" in said
    assert list_files(new_images) == before


def test_labels_that_are_not_listed_are_counted(model_dir, new_images, run, monkeypatch):
    monkeypatch.setattr("utils_cv.apps.commands._N_LISTED", 1)
    assert "3 images labeled (2 carton, 1 others), 1 with problems" in run("predict", model_dir, new_images)[2]


def test_rejected_images_get_no_label_on_request(small_probe, small_images, tmp_path, run):
    scores = -compute_logits(small_probe.learn.model, small_images.pixels).max(axis=1)
    detector = OodDetector("highest logit", {}, float(np.quantile(scores, 0.7)), expected=0.3, n_known=30)
    save_classifier(small_probe, tmp_path / "model", images=small_images, detector=detector)
    images = Path(small_images.table["path"][0]).parents[1]
    plain, rejecting = (run("predict", tmp_path / "model", images, "--json", *words)[1] for words in ([], ["--reject"]))
    assert all(line["label"] for line in read_lines(plain))
    kinds = {(line["label"] == "", line["is_unknown"]) for line in read_lines(rejecting)}
    assert kinds == {(True, True), (False, False)}


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_file_holds_what_would_be_printed(model_dir, new_images, tmp_path, run, name):
    (new_images / "text.jpg").unlink()
    _, printed, _ = run("predict", model_dir, new_images, *(["--json"] if name.endswith("jsonl") else []))
    code, summary, _ = run("predict", model_dir, new_images, "--output", tmp_path / name, "--json")
    assert code == 0
    assert (tmp_path / name).read_text() == printed
    assert read_lines(summary) == [{"output": str(tmp_path / name), "n_labeled": 3, "n_problems": 0}]


def test_json_lines_are_the_same_rows_as_csv(model_dir, new_images, run):
    rows = list(csv.DictReader(run("predict", model_dir, new_images)[1].splitlines()))
    lines = read_lines(run("predict", model_dir, new_images, "--json")[1])
    assert [{name: "" if value is None else str(value) for name, value in line.items()} for line in lines] == rows
    assert all(line["can"] + line["carton"] == pytest.approx(1, abs=1e-5) for line in lines[:3])


def test_an_existing_file_is_replaced_only_on_request(model_dir, new_images, tmp_path, run):
    output = tmp_path / "labels.csv"
    output.write_text("mine")
    code, _, said = run("predict", model_dir, new_images, "--output", output)
    assert (code, output.read_text()) == (2, "mine") and "--overwrite" in said
    assert run("predict", model_dir, new_images, "--output", output, "--overwrite")[0] == 1
    assert output.read_text().startswith("image,label")


def test_copies_are_sorted_by_label_and_replace_nothing(model_dir, new_images, tmp_path, run):
    copies = tmp_path / "sorted"
    for _ in range(2):  # the second time all copies are there already
        run("predict", model_dir, new_images, "--copy-to", copies)
        assert set(list_files(copies)) == {"can/a.png", "carton/more/a.png", "carton/more/b.png"}
    assert list_files(copies)["can/a.png"] == (new_images / "a.png").read_bytes()
    (copies / "can/a.png").write_bytes(b"mine")
    (new_images / "text.jpg").unlink()
    code, _, said = run("predict", model_dir, new_images, "--copy-to", copies)
    assert code == 1 and "not copied, another file lies at" in said
    assert (copies / "can/a.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("label", "folder"),
    [("can", "can"), ("", "no label"), ("../up", "%2E.%2Fup"), ("a/b", "a%2Fb"), ("a%2Fb", "a%252Fb"), ("d.", "d%2E")],
    ids=["plain", "no label", "a way out", "a slash", "as if quoted", "a dot at the end"],
)
def test_every_label_has_a_folder_of_its_own(tmp_path, label, folder):
    draw_image("can", seed=0).save(tmp_path / "a.png")
    assert _copy_image(str(tmp_path / "a.png"), label, tmp_path / "a.png", tmp_path / "copies") == ""
    assert set(list_files(tmp_path / "copies")) == {f"{folder}/a.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["{model}", "{images}/nowhere"], "there is no such file or folder", id="no folder"),
        pytest.param(["{images}", "{images}"], "No finished model at", id="no model"),
        pytest.param(["{model}", "{images}/none"], "holds no images", id="an empty folder"),
        pytest.param(["{model}", "{images}", "--copy-to", "{images}/more/x"], "labeled next time", id="copies inside"),
        pytest.param(["{model}", "{images}", "--runtime", "fast"], "'onnx'", id="no such runtime"),
        pytest.param(["{model}", "{images}", "--reject"], "cannot reject images", id="no detector"),
        pytest.param(["{model}", "{images}", "--output", "{images}"], "is a folder", id="output is a folder"),
    ],
)
def test_wrong_use_is_told_before_anything_is_written(model_dir, new_images, run, words, message):
    (new_images / "none").mkdir()
    before = list_files(new_images)
    code, printed, said = run("predict", *(word.format(model=model_dir, images=new_images) for word in words))
    assert (code, printed) == (2, "") and message in said
    assert list_files(new_images) == before


def start(code, **options):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, **options)


def test_help_and_predict_need_neither_torch_nor_a_notebook(model_dir, new_images):
    heavy = "{'torch', 'timm', 'fastai', 'matplotlib', 'IPython', 'nbformat', 'pandas', 'scipy'}"
    code = (
        "import sys; from utils_cv.__main__ import main\n"
        f"assert main(['predict', {str(model_dir)!r}, {str(new_images / 'a.png')!r}]) == 0\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    assert start(code).stdout.splitlines()[-1] == "[]"


def test_a_reader_who_has_seen_enough_is_no_error(model_dir, new_images):
    words = [sys.executable, "-m", "utils_cv", "predict", str(model_dir), str(new_images / "a.png")]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()  # before anything is printed
    said = process.stderr.read()
    assert process.wait() == 0 and "Error" not in said and "Traceback" not in said


@pytest.mark.parametrize(
    "words",
    [
        "train a b --size -3",
        "train a b --size big",
        "train a b --seed -1",
        "serve m --port 65536",
        "run 01 --timeout-s nan",
    ],
)
def test_numbers_out_of_range_are_told_before_anything_runs(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2 and "expected a number from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "extra"),
    [("fastapi", "serve"), ("papermill", "notebooks"), ("torch", "train"), ("scipy.special", "train")],
)
def test_the_smallest_extra_that_brings_a_missing_package_is_named(model_dir, run, monkeypatch, name, extra):
    def fail(*_, **__):
        raise ModuleNotFoundError("missing", name=name)

    monkeypatch.setattr("utils_cv.models.saved_classifier.load_classifier", fail)
    code, _, said = run("predict", model_dir, ".")
    assert code == 2 and f"needs the package {name}: pip install 'utils_cv[{extra}]'" in said
    assert f'"{name.split(".")[0]}' in (ROOT / "setup.py").read_text()


def test_a_large_photograph_is_labeled_without_a_warning(model_dir, tmp_path, run, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 5000)
    draw_image("can", seed=1).resize((90, 90)).save(tmp_path / "a.png")
    code, _, said = run("predict", model_dir, tmp_path)
    assert code == 0 and "bomb" not in said


def list_examples():
    """The examples in the help of each command, without `python -m utils_cv`."""
    (commands,) = (action for action in _make_parser()._actions if hasattr(action, "choices") and action.choices)
    lines = [line for command in commands.choices.values() for line in command.epilog.splitlines()]
    return [shlex.split(line)[3:] for line in lines if line.startswith("  python -m utils_cv ")]


def test_every_example_of_the_help_is_understood_and_those_of_predict_and_run_work(
    model_dir, new_images, tmp_path, run, monkeypatch
):
    examples = list_examples()
    assert {words[0] for words in examples} >= {"predict", "serve", "train", "audit", "annotate", "run"}
    for words in examples:
        assert _make_parser().parse_args(words)
        if words[0] == "run":
            assert run(*words, "--list-parameters")[0] == 0
    (new_images / "text.jpg").unlink()
    new_images.rename(tmp_path / "new_images")
    shutil.copytree(model_dir, tmp_path / "my_classifier")
    draw_image("can", seed=1).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    assert [run(*words)[0] for words in examples if words[0] == "predict"] == [0, 0, 0]
