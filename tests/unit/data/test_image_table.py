"""Tests of utils_cv.data.image_table: the table of a folder, random folders and CSV files, the pixels of a table."""

import contextlib
import csv
import io
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from utils_cv.data.csv_tables import save_image_table
from utils_cv.data.image_table import describe_table, load_image_table, load_table_images
from utils_cv.data.images import find_path, load_pixels
from utils_cv.data.splits import complete_splits


def test_each_folder_is_a_class_and_one_will_do_on_request(image_dir):
    shutil.copytree(image_dir / "can", image_dir / ".ipynb_checkpoints")  # left out
    table = load_image_table(image_dir)
    assert list(table.columns) == ["image", "path", "label", "split"]
    assert table["label"].value_counts().to_dict() == {"can": 10, "carton": 10}
    assert table["image"].iloc[0] == "can/0.png" and Path(table["path"].iloc[0]) == image_dir / "can" / "0.png"
    assert set(table["split"]) == {""}
    shutil.rmtree(image_dir / "can")
    assert set(load_image_table(image_dir, min_classes=1)["label"]) == {"carton"}
    (image_dir / "Labels.CSV").write_text("image,label\ncarton/0.png,a\ncarton/1.png,b\n")  # the same on all systems
    assert load_image_table(f"{image_dir}/../{image_dir.name}/")["label"].tolist() == ["a", "b"]


def replace_content(folder, *paths):
    shutil.rmtree(folder)
    folder.mkdir()
    for path in paths:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).touch()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(replace_content, "The folder is empty", id="empty folder"),
        pytest.param(
            lambda d: replace_content(d, "notes/a.txt"), r"1 folders: notes\. Ext.* below it: \.txt", id="texts"
        ),
        pytest.param(
            lambda d: [path.unlink() for path in d.glob("*/*")],
            "No file lies in any of them",
            id="folders without files",
        ),
        pytest.param(lambda d: shutil.rmtree(d / "can"), "one class, 'carton'; expected at least two", id="one class"),
        pytest.param(
            lambda d: replace_content(d, "0.png", "1.png"), "2 images beside each other", id="no class folders"
        ),
    ],
)
def test_wrong_folders_are_explained(image_dir, change, message):
    change(image_dir)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_image_table(image_dir)


def test_a_missing_folder_names_the_similar_one(image_dir):
    with pytest.raises(FileNotFoundError, match=r"looked for .*my imagse\. Did you mean .*my images"):
        load_image_table(image_dir.parent / "my imagse")


def test_relative_paths_count_from_here_and_from_the_repository(image_dir, monkeypatch):
    monkeypatch.chdir(image_dir.parent)
    assert Path(load_image_table("my images")["path"].iloc[0]) == image_dir / "can" / "0.png"
    path = Path(load_image_table("data/fridge_objects")["path"].iloc[0])
    assert path.is_file() and path.is_relative_to(ROOT / "data" / "fridge_objects")


def test_pixels_are_those_of_the_rows(image_dir):
    table = load_image_table(image_dir)
    images = load_table_images(table, 32, fit="pad")
    assert images.table["image"].tolist() == table["image"].tolist()
    assert (images.class_names, images.is_multilabel, images.fit) == (["can", "carton"], False, "pad")
    for path, pixels in zip(images.table["path"], images.pixels, strict=True):
        np.testing.assert_array_equal(pixels, load_pixels(path, 32, fit="pad"))


def test_bad_files_are_skipped_counted_and_listed(image_dir):
    table = load_image_table(image_dir)
    (image_dir / "can" / "3.png").write_bytes(b"")
    (image_dir / "carton" / "5.png").write_text("notes")
    with pytest.warns(UserWarning, match=r"Skipped 2 of 20 images: can/3.png \(the file is empty\)"):
        images = load_table_images(table, 32)
    assert images.skipped["image"].tolist() == ["can/3.png", "carton/5.png"]
    assert images.skipped["cause"].str.contains("empty|not an image").all()
    assert describe_table(images.table).endswith("; 2 of 20 could not be opened.") and not table.attrs["left_out"]
    assert len(images.table) == len(images.pixels) == 18
    assert "can/3.png" not in set(images.table["image"])
    np.testing.assert_array_equal(images.pixels[3], load_pixels(image_dir / "can" / "4.png", 32))
    assert (image_dir / "can" / "3.png").exists()


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        pytest.param("can/*", "Of 20 images 10 could not be opened, among them all of class can; .*0.png", id="class"),
        pytest.param("*/*", "Of 20 images 20 could not be opened, among them all; the first", id="every image"),
        pytest.param("can/[3-9].png", "7 could not be .* all train images of class can; .*3.png", id="to learn from"),
    ],
)
def test_a_class_of_which_nothing_opens_is_an_error(image_dir, spoilt, message):
    table = load_image_table(image_dir)
    table["split"] = np.where(table["image"].str.contains("[012].png"), "test", "train")
    for path in image_dir.glob(spoilt):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        load_table_images(table, 32)


def test_hand_made_tables_need_no_names_but_labels(image_dir):
    table = load_image_table(image_dir).drop(columns="image")
    assert load_table_images(table, 32).table["image"].tolist() == table["path"].tolist()
    table.loc[2, "label"] = None
    with pytest.raises(ValueError, match=r"no label for 1 of 20 images: .*2.png \(row 3\)"):
        load_table_images(table, 32)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: t.astype({"label": "category", "split": "category"}), id="categories"),
        pytest.param(lambda t: t.astype(object), id="objects"),
        pytest.param(lambda t: t.assign(path=t["path"].map(Path)), id="paths"),
        pytest.param(lambda t: pd.concat([t[:9], t[9:].reset_index(drop=True)]), id="two tables with the same index"),
    ],
)
def test_tables_of_other_types_give_the_same_images(image_dir, change):
    table = complete_splits(load_image_table(image_dir))
    images, changed = load_table_images(table, 16), change(table)
    np.testing.assert_array_equal(load_table_images(changed, 16).pixels, images.pixels)
    assert describe_table(changed) == describe_table(table)
    assert complete_splits(changed)["split"].tolist() == table["split"].tolist()


def test_a_table_is_described_with_what_is_left_out(image_dir):
    assert describe_table(load_image_table(image_dir)) == (
        "20 images of 2 classes, one label per image; without a split 20; nothing left out."
    )
    (image_dir / "can" / "notes.txt").touch()
    with pytest.warns(UserWarning, match=r"my images: left out 1: 1 × extension .txt\."):
        table = load_image_table(image_dir)
    table = complete_splits(table.assign(label=table["label"] + "|new"))
    first_line = describe_table(table[5:]).splitlines()[0]
    assert first_line.startswith("15 images of 3 classes, any number of labels per image; test ")
    assert first_line.endswith("left out 1: 1 × extension .txt.")


@pytest.mark.parametrize(
    ("n_test", "n_groups", "messages"),
    [
        pytest.param(
            {"can": 1, "carton": 2}, 3, ["TOO FEW TEST IMAGES, n = 3: nothing", "can (1), carton (2)"], id="3 images"
        ),
        pytest.param({"can": 4, "carton": 5}, 9, ["TOO FEW TEST IMAGES, n = 9", "PER CLASS"], id="9 images"),
        pytest.param({"can": 9, "carton": 11}, 20, ["FEW TEST IMAGES, n = 20: differences below 25 points"], id="20"),
        pytest.param({"can": 20, "carton": 20}, 6, ["TOO FEW TEST IMAGES, n = 6 groups"], id="6 groups"),
        pytest.param({"can": 7, "carton": 80}, 87, ["PER CLASS, below 8: can (7)."], id="rare class"),
        pytest.param({"can": 8, "carton": 80}, 88, [], id="enough"),
    ],
)
def test_it_is_said_what_test_images_are_too_few_for(n_test, n_groups, messages):
    table = pd.DataFrame({"label": [name for name, n in n_test.items() for _ in range(n)], "split": "test"})
    table["path"] = table.index.astype(str)
    if n_groups < len(table):
        table["group"] = table.index % n_groups
    first, *lines = describe_table(table).splitlines()
    assert (f"test {len(table)} in {n_groups} groups" in first) == ("group" in table)
    assert len(lines) == len(messages)
    assert all(message in line for message, line in zip(messages, lines, strict=True))


FOLDERS = (
    "cat,dog,dog ,Dog,caf\u00e9,cafe\u0301,cat|kitten,train,val,test,Training,seg_train,trian,unlabeled,@eaDir,"
    "__MACOSX,tr,te,fold1,cv_2,query,hold-out,images,1,10"
)
FOLDERS = [*FOLDERS.split(","), "a$b", "翘头剪", "caf\udce9", "_bg_", " ", "new\nline", "#1", "x" * 255, "🐈"]
FILES = ["1.jpg", "2.JPG", "3", "4.jpg?w=4", "5.txt", "caf\udce9.jpg", "e\u0301.jpg", "\u00e9.jpg", "new\nline.jpg"]
FILES += ["a,b.png", "$a$.jpg", " 7.jpg", "8.jpg ", "Thumbs.db", "y" * 251 + ".jpg", "a\\b.jpg", 'a"b.jpg', "pipe.jpg"]
NAMES = ["cat/1.jpg", "dog/2.jpg", "a,b.png", "caf\u00e9.jpg", "new\nline.jpg", "x.png", "z 1.jpg", 'q".jpg', "$5$.jpg"]
LABELS = ["cat", "dog", " cat ", "Dog", "cafe\u0301", "cat|dog", "['cat', 'dog']", "[]", "", "|", "1", "NA", "a,b"]
LABELS += ["cat;dog", "1.0", "('cat', 'dog')", '"']
CELLS = {
    "image": [*NAMES, "X.PNG", "cat/1", "cat\\1.jpg", "./x.png", "missing.jpg", "", " x.png ", "x" * 300, "/far/x.png"],
    "label": LABELS,
    "split": ["", "", "train", "val", "Test", "tset", "te", "nan"],
    "is_valid": ["True", "False", ""],
    "group": ["", "a", "b", "NaN"],
    "can": ["0", "1", "", "yes", "nan"],
    "jar": ["0", "1", "x", "1.0"],
    "": ["", "1"],
}
HEADERS = [["image", "label"], ["label", "image", "split", "group"], ["image", "can", "jar"], ["", "image", "label"]]
HEADERS += [["image", "can", "is_valid"], ["image", "can"], ["image", "can", "jar", "group"]]
folders = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from(FILES), st.integers(1, 4))


@st.composite
def make_csv(draw):
    """A CSV file of random cells, more often with images that exist."""
    header, are_right = draw(st.sampled_from([*HEADERS, ["label"], [*HEADERS[0], "label"]])), draw(st.booleans())
    cells = {name: st.sampled_from(values) for name, values in CELLS.items()}
    rows = [
        [NAMES[i] if are_right and name == "image" else draw(cells[name]) for name in header]
        for i in range(draw(st.integers(0, 8)))
    ]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=draw(st.sampled_from(",;\t"))).writerows([header, *rows])
    changes = [
        lambda t: t,
        lambda t: f"\n{t},\n",
        lambda t: f"# a remark\n{t}",
        lambda t: t + t,
        lambda t: t.replace('"', ""),
        lambda t: t.replace("\r\n", ",\n"),
    ]
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]))
    return draw(st.sampled_from(changes))(text.getvalue()).encode(encoding, "replace")


def check_intake(root, min_classes):
    """A table that can be printed and loads again as the same, or an error of ours that names a file or row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            table = load_image_table(root, min_classes=min_classes)
        except (ValueError, FileNotFoundError) as error:
            assert type(error) in (ValueError, FileNotFoundError) and str(root) in str(error)
            return
        assert len(table) and all(find_path(path).is_file() for path in table["path"])
        (describe_table(table) + table.to_string()).encode("utf-8")
        save_image_table(table, root / "saved.csv")
        pd.testing.assert_frame_equal(load_image_table(root / "saved.csv", min_classes=1), table, check_like=True)
        with contextlib.suppress(ValueError):  # a class of few
            parts = set(complete_splits(table)["split"])
            assert parts == {"train", "valid", "test"} or (table["split"].any() and "" not in parts)


@pytest.mark.linux
@settings(max_examples=150)
@given(st.lists(folders, max_size=12), st.sampled_from([1, 2]))
def test_random_folders_end_in_a_table_or_an_error_that_names_them(entries, min_classes):
    with tempfile.TemporaryDirectory() as name:
        for parents, file_name, n in entries:
            folder = Path(name, *parents)
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                folder.mkdir(parents=True, exist_ok=True)
                for path in (folder / f"{i or ''}{file_name}"[:255] for i in range(n)):
                    os.mkfifo(path) if file_name == "pipe.jpg" else path.touch()
                (folder / "up").symlink_to(folder.parent, target_is_directory=True)
        check_intake(Path(name), min_classes)


@pytest.mark.linux
@settings(max_examples=150)
@given(make_csv(), st.sampled_from([1, 2]))
def test_random_csv_files_end_in_a_table_or_an_error_that_names_them(content, min_classes):
    with tempfile.TemporaryDirectory() as name:
        for image in NAMES:
            Path(name, image).parent.mkdir(exist_ok=True)
            Path(name, image).touch()
        Path(name, "labels.csv").write_bytes(content)
        check_intake(Path(name), min_classes)
