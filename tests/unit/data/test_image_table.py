"""The image table from every layout, and what a user reads when a folder is wrong."""

import shutil

import pandas as pd
import pytest

from utils_cv.data.image_table import complete_splits, find_dir, find_repository, list_demo_sets, load_image_table


def test_folder_of_folders(image_dir):
    table = load_image_table(image_dir)
    assert list(table.columns) == ["image", "path", "label", "split"]
    assert table["label"].value_counts().to_dict() == {"can": 10, "carton": 10}
    assert table["image"].iloc[0] == "can/0.png"
    assert set(table["split"]) == {""}


def test_dot_folders_are_ignored(image_dir):
    shutil.copytree(image_dir / "can", image_dir / ".ipynb_checkpoints")
    assert set(load_image_table(image_dir)["label"]) == {"can", "carton"}


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_split_folders(image_dir, tmp_path, name):
    for split in ("train", name, "test"):
        shutil.copytree(image_dir, tmp_path / "split" / split)
    table = load_image_table(tmp_path / "split")
    assert table["split"].value_counts().to_dict() == {"train": 20, "valid": 20, "test": 20}
    assert list(table["split"].unique()) == ["train", "valid", "test"]


def test_csv_with_several_labels(image_dir):
    rows = {"filename": ["can/0.png", "carton/0.png"], "labels": ["carton|can", "can"], "weight_g": [1.5, 2]}
    pd.DataFrame(rows).to_csv(image_dir / "labels.csv", index=False)
    table = load_image_table(image_dir)
    assert list(table["label"]) == ["can|carton", "can"]
    assert list(table["weight_g"]) == [1.5, 2.0]


def test_labels_that_look_like_numbers_stay_text(image_dir):
    rows = {"image": ["can/0.png", "carton/0.png"], "label": ["01", "2"]}
    pd.DataFrame(rows).to_csv(image_dir / "labels.csv", index=False)
    assert list(load_image_table(image_dir)["label"]) == ["01", "2"]


def _empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def _only_texts(folder):
    _empty(folder)
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("no image")


def _only_folders(folder):
    _empty(folder)
    (folder / "can").mkdir()


def _one_class(folder):
    shutil.rmtree(folder / "can")


def _empty_class(folder):
    (folder / "bottle").mkdir()


def _missing_image(folder):
    pd.DataFrame({"image": ["a.png"], "label": ["can"]}).to_csv(folder / "labels.csv", index=False)


def _no_label_column(folder):
    pd.DataFrame({"image": ["can/0.png"]}).to_csv(folder / "labels.csv", index=False)


def _twice(folder):
    rows = {"image": ["can/0.png", "can/0.png"], "label": ["can", "carton"]}
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)


def _loose_images(folder):
    for path in (folder / "can").iterdir():
        shutil.copy(path, folder / path.name)
    shutil.rmtree(folder / "can")
    shutil.rmtree(folder / "carton")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_empty, "The folder is empty", id="empty folder"),
        pytest.param(_only_texts, r"1 folders: notes\. Extensions of the 1 files below it: \.txt", id="text files"),
        pytest.param(_only_folders, "No file lies in any of them", id="folders without files"),
        pytest.param(_one_class, "at least two classes", id="one class"),
        pytest.param(_empty_class, "no image in class folder 'bottle'", id="empty class"),
        pytest.param(_missing_image, "lists 1 of 1 images that do not exist", id="CSV lists a missing image"),
        pytest.param(_no_label_column, "no column for label", id="CSV without labels"),
        pytest.param(_twice, "lists 1 images twice", id="CSV lists an image twice"),
        pytest.param(_loose_images, "10 images beside each other", id="images without class folders"),
    ],
)
def test_wrong_folders_are_explained(image_dir, damage, message):
    damage(image_dir)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_image_table(image_dir)


def test_missing_folder_names_the_similar_one(image_dir):
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*my images"):
        find_dir(image_dir.parent / "my imagse")


def test_relative_paths_count_from_the_repository_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_dir("notebooks") == find_repository() / "notebooks"


def test_no_splits_become_three_with_every_class(image_dir):
    table = complete_splits(load_image_table(image_dir), seed=1)
    assert table.groupby("split")["label"].nunique().to_dict() == {"test": 2, "train": 2, "valid": 2}


def test_two_parts_keep_the_second_for_the_test(image_dir):
    table = load_image_table(image_dir)
    table["split"] = ["valid" if i % 2 else "train" for i in range(len(table))]
    done = complete_splits(table, seed=0)
    assert set(done.loc[done["split"] == "test", "image"]) == set(table.loc[table["split"] == "valid", "image"])
    assert (done["split"] == "valid").sum() == 2


def test_half_a_split_is_refused(image_dir):
    table = load_image_table(image_dir)
    table.loc[0, "split"] = "train"
    with pytest.raises(ValueError, match="expected none at all"):
        complete_splits(table)


def test_a_class_with_one_image_is_refused_when_splitting(image_dir):
    for path in sorted((image_dir / "can").iterdir())[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="can"):
        complete_splits(load_image_table(image_dir))


def test_a_set_of_one_kind_loads_on_request(image_dir):
    shutil.rmtree(image_dir / "can")
    assert set(load_image_table(image_dir, min_classes=1)["label"]) == {"carton"}


def test_demo_sets_are_those_of_the_data_folder():
    sets = list_demo_sets().set_index("name")
    folders = {path.parent.name for path in (find_repository() / "data").glob("*/labels.csv")}
    assert folders <= set(sets.index)
    assert folders >= set(sets.index[sets["is_here"]])
    assert sets.loc["fridge_objects", "n_images"] == len(load_image_table(sets.loc["fridge_objects", "source"])) == 480


def test_a_missing_demo_set_is_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("utils_cv.data.image_table.find_repository", lambda: tmp_path)
    assert list_demo_sets()["n_images"].tolist() == [0] * len(list_demo_sets())
    assert not list_demo_sets()["is_here"].any()
