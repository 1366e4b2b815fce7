"""The CSV file of annotators' choices: nothing is lost, a torn line is told, and what it says in the end."""

import multiprocessing
import os
import threading

import pytest

from tests.conftest import draw_image
from utils_cv.data.choices import append_choices, load_choices, name_image
from utils_cv.data.image_headers import make_printable
from utils_cv.data.image_table import load_image_table
from utils_cv.data.labels import is_multilabel

ODD_NAMES = ["plain.png", "a b.png", " lead.png", "line\nbreak.png", 'quo"te, comma.png', "100%25 #1?.png", "50%.png"]
ODD_NAMES += ["größe 😀.png", "narrow\u202fspace.png", "tab\t\\back.png", "caf\udce9.png"]


@pytest.fixture
def csv_path(tmp_path):
    """Where choices go, beside three images."""
    for i, name in enumerate("abc"):
        draw_image("can", seed=i).save(tmp_path / f"{name}.png")
    return tmp_path / "labels.csv"


@pytest.mark.parametrize(
    "label", ["two\nlines", "tab\tbed", "a\r|\x00b", "n\u00a0b %41", "50%", "100%25", "a%0Ab", "a%250Ab %"], ids=repr
)
def test_any_label_comes_back_and_takes_one_line(tmp_path, label):
    append_choices(tmp_path / "labels.csv", [("a.png", label, "label")], "Ann")
    assert load_choices(tmp_path / "labels.csv")["label"].tolist() == [label]
    assert len((tmp_path / "labels.csv").read_bytes().splitlines()) == 2


def choose(csv_path, annotator="Ann", **labels):
    """Make choices of one person at once: names without extension, and "unclear" and "" for none of the classes."""
    kinds = {"": "none", "unclear": "unclear"}
    rows = [(f"{name}.png", "" if text in kinds else text, kinds.get(text, "label")) for name, text in labels.items()]
    return append_choices(csv_path, rows, annotator)


def load_labels(csv_path):
    """The labels of the image table, by the names of its images, without the warning about what is left out."""
    with pytest.warns(UserWarning, match="left out"):
        table = load_image_table(csv_path, min_classes=1)
    return dict(zip(table["image"].str.removesuffix(".png"), table["label"], strict=True)), table.attrs["left_out"]


@pytest.mark.linux
def test_images_of_any_name_in_any_folder_load_as_a_table(tmp_path):
    images = tmp_path / "some # folder"
    images.mkdir()
    for i, name in enumerate(ODD_NAMES):
        draw_image("can", seed=i).save(os.fsencode(images / name).decode(errors="surrogateescape"), "PNG")
    csv_path = tmp_path / "labels.csv"
    rows = [
        (name_image(images / name, tmp_path), "can" if i % 2 else "jar", "label") for i, name in enumerate(ODD_NAMES)
    ]
    append_choices(csv_path, rows, "Ann")
    assert len(csv_path.read_bytes().splitlines()) == 1 + len(ODD_NAMES)
    table = load_image_table(csv_path)
    assert dict(zip(table["path"], table["label"], strict=True)) == {
        make_printable(images / name): row[1] for name, row in zip(ODD_NAMES, rows, strict=True)
    }


def test_what_several_people_chose_in_the_end(csv_path):
    choose(csv_path, a="can", b="can", c="jar")
    choose(csv_path, "Bob", a="can", b="jar", c="jar")
    mistake = choose(csv_path, "Bob", a="jar")
    append_choices(csv_path, [("", mistake, "undo")], "Bob")
    choose(csv_path, "Eve", c="unclear")
    labels, left_out = load_labels(csv_path)
    assert labels == {"a": "can", "c": "jar"}
    assert "left out 1: 1 × annotators disagree." in left_out
    choose(csv_path, "Eve", b="jar", a="")
    assert load_image_table(csv_path)["label"].tolist() == ["can", "jar", "jar"]


@pytest.mark.parametrize(("choice", "why"), [("unclear", "unclear to annotators"), ("", "none of the classes")])
def test_images_without_a_label_are_counted(csv_path, choice, why):
    choose(csv_path, a="can", b="jar", c="can")
    choose(csv_path, c=choice)
    labels, left_out = load_labels(csv_path)
    assert labels == {"a": "can", "b": "jar"}
    assert f"left out 1: 1 × {why}." in left_out


def test_none_of_the_classes_is_an_answer_where_there_may_be_several(csv_path):
    append_choices(csv_path, [("a.png", "can|jar", "labels"), ("b.png", "", "none"), ("c.png", "can", "labels")], "Ann")
    table = load_image_table(csv_path)
    assert is_multilabel(table)
    assert table["label"].tolist() == ["can|jar", "", "can"]


def test_an_undo_brings_back_the_choice_before_and_no_other_persons(csv_path):
    times = [choose(csv_path, a="can"), choose(csv_path, a="jar", b="jar")]
    choose(csv_path, "Bob", a="jar")
    append_choices(csv_path, [("", times[1], "undo")], "Ann")
    assert load_choices(csv_path)[["image", "label", "annotator"]].to_numpy().tolist() == [
        ["a.png", "can", "Ann"],
        ["a.png", "jar", "Bob"],
    ]


@pytest.mark.parametrize("n_lost", [1, 2, 15, 28, 29, 34, 45, 60])
def test_a_write_that_was_cut_off_anywhere_is_told_and_costs_no_other_choice(csv_path, n_lost):
    choose(csv_path, a="can", b="jar")
    append_choices(csv_path, [("c.png", 'a "quoted", label', "label")], "Ann")
    csv_path.write_bytes(csv_path.read_bytes()[:-n_lost])
    choose(csv_path, "Bob", c="jar")
    if n_lost == 1:  # the end of the line only
        assert len(load_choices(csv_path)) == 4
        return
    choices = load_choices(csv_path)
    assert choices.attrs["torn"] == [4]
    assert choices["label"].tolist() == ["can", "jar", "jar"]
    labels, left_out = load_labels(csv_path)
    assert labels == {"a": "can", "b": "jar", "c": "jar"}
    assert "1 × line that was cut off" in left_out


@pytest.mark.parametrize("content", [b"", b"image,la", b"image,label,kind,annotator,time"])
def test_a_heading_that_was_cut_off_is_written_again(csv_path, content):
    csv_path.write_bytes(content)
    choose(csv_path, a="can")
    assert load_choices(csv_path)["label"].tolist() == ["can"]


def test_a_file_of_something_else_is_not_touched(csv_path):
    csv_path.write_text("image,label\na.png,can\n")
    with pytest.raises(FileExistsError, match=r"labels.csv exists and holds no choices"):
        choose(csv_path, a="can")
    with pytest.raises(ValueError, match=r"holds no choices\. Expected a first line 'image,label,kind"):
        load_choices(csv_path)
    assert csv_path.read_text() == "image,label\na.png,can\n"


def write_many(csv_path, annotator):
    for i in range(100):
        append_choices(csv_path, [(f"{i}.png", "can", "label"), (f"x{i}.png", "jar", "label")], annotator)


def test_writers_in_two_processes_and_two_threads_lose_nothing(csv_path):
    process = multiprocessing.get_context("spawn").Process(target=write_many, args=(csv_path, "Bob"))
    threads = [threading.Thread(target=write_many, args=(csv_path, name)) for name in ("Ann", "Eve")]
    for worker in (process, *threads):
        worker.start()
    for worker in (process, *threads):
        worker.join()
    choices = load_choices(csv_path)
    assert choices["annotator"].value_counts().to_dict() == {"Ann": 200, "Bob": 200, "Eve": 200}
    assert not choices.duplicated(["image", "annotator"]).any()
