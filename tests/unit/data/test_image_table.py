"""Tests of utils_cv.data.image_table: the table from every layout, label coding, and the pixels of a table."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from utils_cv.data.image_table import (
    encode_labels,
    is_multilabel,
    list_class_names,
    load_image_table,
    load_table_images,
    split_labels,
)
from utils_cv.data.images import load_pixels


def write_csv(folder, **columns):
    pd.DataFrame(columns).to_csv(folder / "labels.csv", index=False)


def test_each_folder_is_a_class_and_one_will_do_on_request(image_dir):
    shutil.copytree(image_dir / "can", image_dir / ".ipynb_checkpoints")  # left out
    table = load_image_table(image_dir)
    assert list(table.columns) == ["image", "path", "label", "split"]
    assert table["label"].value_counts().to_dict() == {"can": 10, "carton": 10}
    assert table["image"].iloc[0] == "can/0.png" and Path(table["path"].iloc[0]) == image_dir / "can" / "0.png"
    assert set(table["split"]) == {""}
    shutil.rmtree(image_dir / "can")
    assert set(load_image_table(image_dir, min_classes=1)["label"]) == {"carton"}


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_folders_give_the_splits(image_dir, tmp_path, name):
    for split in ("train", name, "test"):
        shutil.copytree(image_dir, tmp_path / "split" / split)
    table = load_image_table(tmp_path / "split")
    assert table["split"].value_counts().to_dict() == {"train": 20, "valid": 20, "test": 20}
    assert list(table["split"].unique()) == ["train", "valid", "test"]


def test_a_csv_file_may_name_its_columns_otherwise_and_numbers_stay_text(image_dir):
    labels = {" Labels ": ["carton | can", "can"], "weight_g": [1.5, 2], "Group_ID": ["01", "2"]}
    write_csv(image_dir, filename=["can\\0.png", "carton/0.png"], subset=[" Val ", ""], **labels)
    table = load_image_table(image_dir)
    assert list(table.columns) == ["image", "path", "label", "split", "group", "weight_g"]
    assert table.drop(columns="path").to_numpy().tolist() == [
        ["can/0.png", "can|carton", "valid", "01", 1.5],
        ["carton/0.png", "can", "", "2", 2.0],
    ]
    write_csv(image_dir, image=["can/0.png", "carton/0.png"], label=["01", "2"])
    assert list(load_image_table(image_dir / "labels.csv")["label"]) == ["01", "2"]


def replace_content(folder, *paths):
    shutil.rmtree(folder)
    folder.mkdir()
    for path in paths:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).touch()


def make_split_folders(folder, *, without_train=(), strays=()):
    for split in ("train", "test"):
        for label in ("can", "carton"):
            if split == "test" or label not in without_train:
                shutil.copytree(folder / label, folder / split / label)
    for label in {"can", "carton"} - set(strays):
        shutil.rmtree(folder / label)


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
        pytest.param(lambda d: (d / "bottle").mkdir(), "no image in class folder 'bottle'", id="empty class"),
        pytest.param(
            lambda d: replace_content(d, "0.png", "1.png"), "2 images beside each other", id="no class folders"
        ),
        pytest.param(lambda d: make_split_folders(d, strays=["can"]), "train/ and also can", id="class beside train"),
        pytest.param(lambda d: make_split_folders(d, without_train=["can"]), "classes can have test", id="no train"),
        pytest.param(lambda d: write_csv(d, image=["a.png"], label=["can"]), "lists 1 of 1 images", id="no file"),
        pytest.param(lambda d: write_csv(d, image=["can/0.png"]), "no column for label", id="CSV without labels"),
        pytest.param(lambda d: write_csv(d, image=[], label=[]), "has no rows", id="CSV without rows"),
        pytest.param(lambda d: write_csv(d, image=["can/0.png"] * 2, label="can"), "1 images twice", id="twice"),
        pytest.param(lambda d: write_csv(d, image=["a"], label="a", split="dev"), "got split 'dev'", id="split"),
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


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("can", ["can"]), ("can|carton", ["can", "carton"]), (" milk bottle | | can", ["milk bottle", "can"]), (" ", [])],
)
def test_labels_are_split_and_blanks_around_them_do_not_count(labels, expected):
    assert split_labels(labels) == expected


@pytest.mark.parametrize(("labels", "expected"), [(["b", "a"], False), (["b", "a|b"], True), (["b", ""], True)])
def test_several_labels_or_none_make_a_table_multilabel(labels, expected):
    table = pd.DataFrame({"label": labels})
    assert is_multilabel(table) is expected
    assert list_class_names(table) == (["b"] if "" in labels else ["a", "b"])


def test_labels_become_codes_or_zeros_and_ones():
    codes = encode_labels(pd.Series(["c", "a"], index=[7, 3]), ["a", "b", "c"])
    assert (codes.tolist(), codes.dtype) == ([2, 0], np.int64)
    table = encode_labels(["c | a", "b", ""], ["a", "b", "c"], multilabel=True)
    assert (table.tolist(), table.dtype) == ([[1, 0, 1], [0, 1, 0], [0, 0, 0]], np.float32)


@pytest.mark.parametrize("multilabel", [False, True])
def test_an_unknown_label_names_the_similar_class(multilabel):
    with pytest.raises(ValueError, match=r"Got labels \['cann'\].* Did you mean 'can'"):
        encode_labels(["carton", "cann"], ["can", "carton"], multilabel=multilabel)


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
    assert len(images.table) == len(images.pixels) == 18
    assert "can/3.png" not in set(images.table["image"])
    np.testing.assert_array_equal(images.pixels[3], load_pixels(image_dir / "can" / "4.png", 32))
    assert (image_dir / "can" / "3.png").exists()


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        pytest.param("can/*", "Of 20 images 10 could not be opened, among them all of class can; .*0.png", id="class"),
        pytest.param("*/*", "Of 20 images 20 could not be opened", id="every image"),
    ],
)
def test_a_class_of_which_nothing_opens_is_an_error(image_dir, spoilt, message):
    table = load_image_table(image_dir)
    for path in image_dir.glob(spoilt):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        load_table_images(table, 32)
