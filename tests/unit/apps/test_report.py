"""The report: one page and a finished model, made step by step, and gone on with after a stop."""

import html
import json
import re
import shlex
from unittest import mock

import numpy as np
import pytest

from tests.conftest import draw_image
from utils_cv.apps import report as made
from utils_cv.apps.annotation import AnnotationServer
from utils_cv.data.image_table import load_image_table

QUICK = {"recipe": "probe", "im_size_px": 48}


@pytest.fixture
def page(image_dir, tmp_path):
    """The text of a finished report on two classes, of which one image is labeled wrong and one file is broken."""
    draw_image("carton", seed=500).save(image_dir / "can" / "R&D.png")
    (image_dir / "can" / "broken.png").write_text("no image")
    return made.make_report(image_dir, tmp_path / "report", **QUICK).read_text(encoding="utf-8")


def test_the_page_holds_what_a_decision_needs(page, tmp_path, run):
    for words in ("accuracy on the test images: ", "95 %", "Recipes, by cross-validation", "recall_low", "median_ms"):
        assert words in page
    assert "broken.png (not an image of a known format" in page
    assert f"predict {tmp_path / 'report/model'} FOLDER" in page and "license: other" in page
    words = shlex.split(html.unescape(re.search("<code>python -m utils_cv (annotate .*?)</code>", page)[1]))
    with mock.patch.object(AnnotationServer, "serve_forever", side_effect=KeyboardInterrupt):
        assert run(*words)[0] == 130 and (tmp_path / "report/corrected.csv").exists()
    assert "R&amp;D.png" in page and "R&D" not in page
    assert "<script" not in page and 'src="http' not in page and "default-src 'none'" in page  # asks and runs nothing


def test_what_finished_is_not_done_again(page, image_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(made, "train_and_save", None)
    (tmp_path / "report/steps/speed.json").unlink()  # as after a stop within the last step
    again = made.make_report(image_dir, tmp_path / "report", **QUICK).read_text(encoding="utf-8")
    kept = [text[text.index("<h2>Recipes") : text.index("<svg")] for text in (page, again)]
    assert kept[0] == kept[1] and "Speed of the finished model" in again


def test_another_set_or_version_is_refused_and_replaces_the_report_when_told_to(page, image_dir, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(FileExistsError, match="another version of utils_cv; pass"):
        patch.setattr(made, "PACKAGE", tmp_path)  # holds other files of Python
        made.make_report(image_dir, tmp_path / "report", **QUICK)
    draw_image("can", seed=501).save(image_dir / "can" / "new.png")
    with pytest.raises(FileExistsError, match="other images or settings"):
        made.make_report(image_dir, tmp_path / "report", **QUICK)
    made.make_report(image_dir, tmp_path / "report", **QUICK, overwrite=True)
    assert json.loads((tmp_path / "report/steps/audit.json").read_text())["found"]["unreadable"] == 1


def test_files_of_others_are_never_replaced(image_dir, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"):
        made.make_report(image_dir, tmp_path, overwrite=True)


def test_near_duplicates_are_not_split_apart(image_dir):
    for i in range(10):
        (image_dir / "can" / f"copy{i}.png").write_bytes((image_dir / "can" / f"{i}.png").read_bytes())
    table = load_image_table(image_dir)
    groups = dict(zip(table["image"], made._audit(table)["groups"], strict=True))
    assert all(groups[f"can/copy{i}.png"] == groups[f"can/{i}.png"] for i in range(10))


@pytest.mark.linux
def test_a_broken_link_and_any_name_are_told_apart(image_dir):
    (image_dir / "can/0.png").rename(image_dir / "can/caf\udce9.png")
    (image_dir / "can/gone.png").symlink_to("nowhere")
    keys = {made._make_key(load_image_table(image_dir), {})}
    draw_image("can", seed=501).save(image_dir / "can/caf\udce9.png")
    assert len(keys | {made._make_key(load_image_table(image_dir), {})}) == 2


def test_several_labels_are_scored_by_f1_and_the_worst_mistakes_come_first(image_dir, tmp_path, run):
    names = [path.relative_to(image_dir).as_posix() for path in sorted(image_dir.rglob("*.png"))]
    rows = [f"{name},{name.split('/')[0]}{'|both' if i % 2 else ''}" for i, name in enumerate(names)]
    (image_dir / "labels.csv").write_text("\n".join(["image,label", *rows]))
    words = ["--output", tmp_path / "out", "--recipe", "probe", "--size", 48]
    assert str(tmp_path / "out/model") in run("report", image_dir, *words)[1]
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert re.search(r"(?s)macro F1 on the test .* most wrong labels first: \d.*<br>(missed|added): both, \d+%", page)
    y_true, probabilities = np.eye(3)[[0, 0, 1, 2]], np.array([[1, 0, 0], [0.4, 0.3, 0], [0.1, 0.2, 0.8], [0, 0.9, 1]])
    found = made._list_wrong_labels(y_true, probabilities, [0.5, 0.4, 0.5], ["can", "jar", "tin"])
    assert found == [(2, "missed: jar, 20%", "added: tin, 80%"), (3, "added: jar, 90%"), (1, "missed: can, 40%")]


def test_the_command_says_how_to_replace_a_report(image_dir, tmp_path, run):
    words = ["report", image_dir, "--output", tmp_path / "out", "--recipe", "probe", "--size", 48, "--json"]
    code, printed, _ = run(*words)
    assert (code, json.loads(printed)["page"]) == (0, str(tmp_path / "out/report.html"))
    assert "pass --overwrite to replace it" in run(*words, "--seed", 1)[2]
