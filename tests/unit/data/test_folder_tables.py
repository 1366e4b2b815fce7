"""Tests of utils_cv.data.folder_tables: layouts of folders, and what is said of those that fit none."""

import warnings

import pytest

from tests.conftest import touch
from utils_cv.data.image_table import load_image_table
from utils_cv.data.images import find_path
from utils_cv.data.splits import complete_splits


def make_classes(folder, *parents, classes=("cat", "dog"), n=4):
    touch(folder, *(f"{parent}{label}/{i}.jpg" for parent in parents or [""] for label in classes for i in range(n)))
    return folder


def count(table):
    return table.groupby(["split", "label"]).size().to_dict()


@pytest.mark.parametrize(
    ("parents", "splits"),
    [
        pytest.param(["train/", "val/", "test/"], ["train", "valid", "test"], id="train val test"),
        pytest.param(["training_set/", "test_set/"], ["train", "test"], id="training_set"),
        pytest.param(["seg_train/", "seg_test/"], ["train", "test"], id="seg_train"),
        pytest.param(["seg_train/seg_train/", "seg_test/seg_test/"], ["train", "test"], id="nested seg_train"),
        pytest.param(["train/images/", "val/images/"], ["train", "valid"], id="images between"),
        pytest.param(["Train_images/", "dev/"], ["train", "valid"], id="dev"),
        pytest.param(["val/", "test/"], ["valid", "test"], id="no train"),
        pytest.param(["tr/", "va/", "te/"], ["train", "valid", "test"], id="short"),
        pytest.param(["trn/", "hold-out/"], ["train", "test"], id="hold-out"),
        pytest.param(["entrenamiento/", "测试集/"], ["train", "test"], id="other languages"),
        pytest.param(["test/"], ["test"], id="only test"),
    ],
)
def test_folders_of_splits_are_recognized(tmp_path, parents, splits):
    table = load_image_table(make_classes(tmp_path, *parents))
    assert count(table) == {(split, label): 4 for split in splits for label in ("cat", "dog")}
    assert list(table["split"].unique()) == splits


def test_only_train_is_split_and_splits_below_the_classes_count(tmp_path):
    table = load_image_table(make_classes(tmp_path / "a", "train/", n=20))
    assert set(complete_splits(table)["split"]) == {"train", "valid", "test"}
    touch(tmp_path / "b", *(f"{label}/{split}/{i}.jpg" for label in "xy" for split in ("train", "test") for i in "12"))
    assert count(load_image_table(tmp_path / "b")) == {(s, label): 2 for s in ("train", "test") for label in "xy"}


def test_a_vehicle_called_train_is_a_class(tmp_path):
    assert count(load_image_table(make_classes(tmp_path, classes=["bus", "car", "train"]))) == {
        ("", label): 4 for label in ("bus", "car", "train")
    }


@pytest.mark.parametrize(
    "classes",
    [
        *(["de", "tr", "us"], ["part 1", "part 2"], ["cv", "job letter"], ["007", "7"], ["1", "02", "2", "10"]),
        *(["mask", "no mask"], ["images", "drawings"], ["true", "false"], ["2024-01-01", "2024-01-02"]),
    ],
    ids=", ".join,
)
def test_names_that_could_be_splits_or_parts_are_classes_beside_others(tmp_path, classes):
    assert count(load_image_table(make_classes(tmp_path, classes=classes))) == {("", label): 4 for label in classes}


@pytest.mark.parametrize("place", ["", "cat/", "train/"], ids=["beside classes", "in a class", "in train"])
@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "lost+found", ".ipynb_checkpoints", "$RECYCLE.BIN"])
def test_folders_of_systems_and_tools_are_passed_over(tmp_path, place, name):
    make_classes(tmp_path, "train/" if place == "train/" else "")
    expected = load_image_table(tmp_path)
    touch(tmp_path, f"{place}{name}/0.jpg", f"{place}{name}/0.jpg.d/SYNOPHOTO_THUMB_M.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image_table(tmp_path).equals(expected)


def test_loose_images_beside_classes_are_counted(tmp_path):
    touch(make_classes(tmp_path), *(f"loose{i}.jpg" for i in range(20)), "cat/a.jpg_large", "cat/b")
    with pytest.warns(UserWarning, match="left out 22: 20 × beside the folders, 1 × extension .jpg_large, 1 × no ext"):
        assert len(load_image_table(tmp_path)) == 8


def test_folders_of_the_same_names_in_all_classes_are_said(tmp_path):
    with pytest.warns(UserWarning, match="each of day1, day2 holds folders cat, dog. If these are the classes, move"):
        load_image_table(make_classes(tmp_path / "a", "day1/", "day2/"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image_table(make_classes(tmp_path / "b", classes=["cat/left", "cat/right", "dog/left", "dog/other"]))
        load_image_table(make_classes(tmp_path / "c", classes=["cat/train", "cat/test", "dog/train", "dog/test"]))


def test_a_link_gives_no_image_a_second_label(tmp_path):
    make_classes(tmp_path)
    (tmp_path / "puppy").symlink_to("dog", target_is_directory=True)
    with pytest.warns(UserWarning, match="left out 1: 1 × link to a folder of the set"):
        assert set(load_image_table(tmp_path)["label"]) == {"cat", "dog"}


def test_what_lies_beside_the_classes_is_left_out_and_said(tmp_path):
    make_classes(tmp_path, "train/", "test/")
    touch(tmp_path, "loose.jpg", "train/loose.jpg", "unlabeled/1.jpg", "seg_pred/seg_pred/1.jpg", "README.md")
    touch(tmp_path, "runs/model.pth", "train/cat/5", "test/@eaDir/1.jpg/2.jpg", "__MACOSX/cat/1.jpg")
    (tmp_path / "outputs").mkdir()
    with pytest.warns(UserWarning, match="left out 7: ") as caught:
        table = load_image_table(tmp_path)
    assert len(table) == 16 and set(table["label"]) == {"cat", "dog"}
    for why in ("beside the folders", "in train/, but in no class folder", "in unlabeled/, beside test/, train/",
                "in seg_pred/, beside test/, train/", "no extension", "empty folder 'outputs'",
                "folder without images 'runs'"):  # fmt: skip
        assert f"1 × {why}" in str(caught[0].message)


@pytest.mark.linux
def test_names_are_compared_composed_and_without_blanks(tmp_path):
    make_classes(tmp_path, "train/", classes=["caf\u00e9", "dog"])
    make_classes(tmp_path, "val/", classes=["cafe\u0301", "dog "])
    assert count(load_image_table(tmp_path)) == {(s, c): 4 for s in ("train", "valid") for c in ("caf\u00e9", "dog")}


@pytest.mark.linux
def test_names_that_are_not_text_can_be_printed_and_opened(tmp_path):
    touch(tmp_path, "caf\udce9/1\udcff.jpg", "dog/new\nline.jpg", f"dog/{'x' * 251}.jpg", "dog/a$b #%41 🐈.jpg")
    table = load_image_table(tmp_path)
    assert all(find_path(path).read_bytes() == b"" for path in table["path"])
    assert table.to_csv().encode() and table.to_html().encode() and str(table).encode()
    assert table["label"][0].encode() == b"caf\\udce9"
    assert table["image"].map(str.encode).map(len).max() == 259


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(
            ["cat|kitten/1.jpg", "dog/1.jpg"], r"'cat\|kitten' cannot name", id="bar", marks=pytest.mark.linux
        ),
        pytest.param([" /1.jpg", "dog/1.jpg"], "folder ' ' cannot name a class", id="blank", marks=pytest.mark.linux),
        pytest.param(["train/1.jpg", "test/1.jpg"], "test/, train/, but no class folders inside", id="no classes"),
        pytest.param(["trainA/cat/1.jpg", "testA/cat/1.jpg"], "trainA look like splits", id="unclear splits"),
        pytest.param(["x/train/1.jpg", "x/test/2.jpg"], "one class, 'x'", id="one folder of splits"),
        pytest.param(["all/cat/1.jpg", "all/dog/1.jpg"], "Did you mean .*all", id="one folder too high"),
        pytest.param(["fold1/cat/1.jpg", "fold2/cat/1.jpg"], "fold1, fold2 look like splits", id="folds"),
        pytest.param(["query/a/1.jpg", "gallery/a/1.jpg"], "gallery, query look like splits", id="retrieval"),
        pytest.param(["train/1.jpg", "train/pets.csv"], "no class folders.* Found pets.csv: to load", id="CSV inside"),
        pytest.param(["train/test/1.jpg", "train/dev/1.jpg"], "dev, test stand where folders of classes", id="splits"),
        pytest.param(["train/cat/1.jpg", "test/dog/1.jpg"], "classes dog have test or", id="only in test"),
        pytest.param(["train/dog/1.jpg", "test/Dog/1.jpg"], "classes Dog .* Did you mean 'dog'", id="case"),
        pytest.param(["train/cat/1.jpg", "tset/cat/1.jpg"], "and also tset.* Did you mean 'test'", id="slip"),
        pytest.param(["train/cat/1.jpg", "cat/1.jpg"], "train/ and also cat", id="class beside train"),
        pytest.param(["dog/1.jpg", "cat/1.raw"], "no image in class folder 'cat'.* below it: .raw", id="unknown"),
        pytest.param(["images/1.jpg", "masks/1.png"], "images, masks look like images and what was drawn", id="masks"),
        pytest.param(["train/images/1.jpg", "train/Annotations/1.png"], "Annotations, images look", id="in a split"),
        pytest.param(
            ["cat_train/1.jpg", "dog_train/1.jpg", "test-dog/1.jpg", "test-cat/1.jpg"],
            "cat_train, dog_train, test-cat, test-dog name classes and splits",
            id="classes and splits in one name",
        ),
        pytest.param(["pets.csv"], "Found pets.csv: to load what it lists", id="a CSV of another name"),
    ],
)
def test_layouts_that_fit_none_are_explained(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=message) as caught:
        load_image_table(tmp_path)
    assert str(tmp_path) in str(caught.value)
