"""Tests of utils_cv.data.csv_tables: CSV files as spreadsheets and scripts write them, and tables that come back."""

import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from utils_cv.data.csv_tables import save_image_table
from utils_cv.data.image_table import load_image_table
from utils_cv.data.labels import is_multilabel

ROWS = [(f"{label}/{i}.jpg", label) for label in ("cat", "dog") for i in range(4)]
PLAIN = "image,label\n" + "".join(f"{image},{label}\n" for image, label in ROWS)


@pytest.fixture
def folder(tmp_path):
    """Eight files that are named like images."""
    for image, _ in ROWS:
        (tmp_path / image).parent.mkdir(exist_ok=True)
        (tmp_path / image).touch()
    return tmp_path


def load(folder, text, encoding="utf-8"):
    (folder / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return load_image_table(folder)


def write_rows(header, line):
    """A file with one line per image, made of its number, path and label."""
    return f"{header}\n" + "".join(f"{line(i, image, label)}\n" for i, (image, label) in enumerate(ROWS))


def is_cat(label, yes, no):
    return (yes, no) if label == "cat" else (no, yes)


KINDS = {
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "sep=": "sep=;\n" + PLAIN.replace(",", ";"),
    "sep= in quotes": '"sep=\t"\r\n' + PLAIN.replace(",", "\t"),
    "remark and title": f"# made by hand\nMy images,,\n{PLAIN}".replace(",", ";"),
    "end of a DOS file": PLAIN + "\x1a",
    "old Mac lines": PLAIN.replace("\n", "\r"),
    "Windows lines": PLAIN.replace("\n", "\r\n"),
    "rows end with a comma": PLAIN.replace("\n", ",\n").replace("label,", "label"),
    "blank columns": PLAIN.replace("\n", ",,\n"),
    "blank rows": f"\n{PLAIN},\n,\n",
    "blanks around the comma": PLAIN.replace(",", " , "),
    "blanks before quotes": PLAIN.replace(",", ', "').replace("\n", '"\n'),
    **{f"columns {names}": PLAIN.replace("image,label", names) for names in ("Image_Path,CLASS", "File Name,target")},
    **{f"columns {names}": PLAIN.replace("image,label", names) for names in ("path,label", "filename,breed", "id,y")},
    "no extension": PLAIN.replace(".jpg", ""),
    "another case": PLAIN.replace(".jpg", ".JPG").replace("cat/", "Cat/"),
    "backslashes": PLAIN.replace("/", "\\"),
    "./": PLAIN.replace("cat/", "./cat/"),
    "index": write_rows(",image,label", lambda i, a, b: f"{i},{a},{b}"),
    "R's index": write_rows("image,label", lambda i, a, b: f"{i},{a},{b}"),
    "1-hot": write_rows("image,cat,dog", lambda i, a, b: ",".join([a, *is_cat(b, "1", "0")])),
    "True": write_rows("image,cat,dog", lambda i, a, b: ", ".join([a, *is_cat(b, "True", "False")])),
    "Yes, no": write_rows("image,cat,dog", lambda i, a, b: ",".join([a, *is_cat(b, "Yes", "no")])),
    "x": write_rows("image,cat,dog", lambda i, a, b: ",".join([a, *is_cat(b, "x", "")])),
    "1.0 and NaN": write_rows("image,cat,dog", lambda i, a, b: ",".join([a, *is_cat(b, "1.0", "NaN")])),
    "image and path": write_rows("image,path,label", lambda i, a, b: f"{a},x/{a},{b}"),
    "id, path": write_rows("id,path,label", lambda i, a, b: f"7{i},{a},{b}"),
    "elsewhere": write_rows("image,label", lambda i, a, b: f"/home/me/pets/{a},{b}"),
    "Windows": write_rows("image,label", lambda i, a, b: f"C:\\pets\\{a},{b}".replace("/", "\\")),
    "web address": PLAIN.replace("cat/", "file://cat%2F"),
    "choice": PLAIN.replace("label", "choice").replace(",cat", ',"{""choices"":[""cat""]}"'),
}
ENCODED = {"byte order mark": "utf-8-sig", "UTF-16": "utf-16", "UTF-16 without a mark": "utf-16-le"}
ENCODED["UTF-16 of the other order"] = "utf-16-be"


@pytest.mark.parametrize("kind", [*KINDS, *ENCODED])
def test_files_of_many_kinds_give_the_same_table(folder, kind):
    table = load(folder, KINDS.get(kind, PLAIN), ENCODED.get(kind, "utf-8"))
    assert table[["image", "label"]].to_numpy().tolist() == [list(row) for row in ROWS]
    assert table["path"].tolist() == [str(folder / image) for image, _ in ROWS]
    assert list(table.columns) == ["image", "path", "label", "split"] or kind == "id, path"
    assert not is_multilabel(table) and set(table["split"]) == {""}


def test_labels_of_windows_and_names_of_two_forms_are_read(folder):
    assert set(load(folder, PLAIN.replace(",dog", ",pêche"), "cp1252")["label"]) == {"cat", "pêche"}
    two = PLAIN.replace("0.jpg,cat", "0.jpg,caf\u00e9").replace("1.jpg,cat", "1.jpg, cafe\u0301 ")
    assert set(load(folder, two)["label"]) == {"cat", "dog", "caf\u00e9"}


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        pytest.param(["image,label", "cat/0.jpg,b | a|b", "dog/0.jpg,"], ["a|b", ""], id="bars"),
        pytest.param(["image,label", "cat/0.jpg,\"['b', 'a']\"", "dog/0.jpg,['b']"], ["a|b", "b"], id="lists"),
        pytest.param(["image,label", "cat/0.jpg,\"['b, c', 'a']\"", "dog/0.jpg,[b]"], ["a|b, c", "b"], id="commas"),
        pytest.param(["image,label", "cat/0.jpg,\"('b', 'a')\"", "dog/0.jpg,(b)"], ["a|b", "(b)"], id="tuples"),
        pytest.param(["image,a,b", "cat/0.jpg,1,1", "dog/0.jpg,0,0"], ["a|b", ""], id="zeros and ones"),
        pytest.param(["image,label", "cat/0.jpg,['b']", "dog/0.jpg,[]"], ["b", "|"], id="an empty list"),
    ],
)
def test_a_file_says_that_images_have_several_labels(folder, rows, labels):
    (folder / "labels.csv").write_text("\n".join(rows))
    table = load_image_table(folder / "labels.csv", min_classes=1)
    assert is_multilabel(table) and is_multilabel(table[table["label"] == "b"])
    assert table["label"].tolist() == labels
    table.to_csv(folder / "again.csv", index=False)
    pd.testing.assert_frame_equal(load_image_table(folder / "again.csv", min_classes=1), table)


def test_columns_that_are_partly_empty_mean_what_they_say(folder):
    splits, groups = ["Train", "dev", "", "tEst", "tr", "dev", "nan", "Tst"], ["7", "7", "", "NaN", "07", "", "-", ""]
    rows = [",".join([*row, split, group]) for row, split, group in zip(ROWS, splits, groups, strict=True)]
    table = load(folder, "\n".join(["image,label,split,group", *rows]))
    assert table["split"].tolist() == ["train", "valid", "", "test"] * 2
    assert table["group"].tolist() == ["7", "7", "cat/2.jpg", "cat/3.jpg", "07", "dog/1.jpg", "dog/2.jpg", "dog/3.jpg"]


def test_groups_of_numbers_keep_their_names_when_a_cell_becomes_empty(folder):
    frame = pd.DataFrame(ROWS, columns=["image", "label"]).assign(group=[1, 1, 2, 20] * 2)
    whole, partly = (
        load(folder, frame.to_csv()),
        load(folder, frame.assign(group=[*frame["group"][:-1], None]).to_csv()),
    )
    assert partly["group"].tolist() == [*whole["group"][:-1], "dog/3.jpg"]


def test_a_column_of_fastai_gives_the_split_and_no_class(folder):
    rows = [(image, label, str(i % 4 == 3)) for i, (image, label) in enumerate(ROWS)]
    table = load(folder, "image,label,is_valid\n" + "".join(f"{a},{b},{valid}\n" for a, b, valid in rows))
    assert table["split"].tolist() == ["train", "train", "train", "valid"] * 2 and set(table["label"]) == {"cat", "dog"}
    text = "image,cat,dog,is_valid\n" + "".join(f"{a},{b == 'cat':d},{b == 'dog':d},{valid}\n" for a, b, valid in rows)
    assert load(folder, text).equals(table) and not is_multilabel(load(folder, text))


def test_rows_that_repeat_an_image_count_once_and_are_said(folder):
    with pytest.warns(UserWarning, match="left out 9: 9 × rows that list an image again"):
        table = load(folder, PLAIN + PLAIN.split("\n", 1)[1] + "CAT/0,cat\n")
    assert table["image"].tolist() == [image for image, _ in ROWS]


@pytest.mark.parametrize("name", ["NULL", "NaN", "None", "NA", "-"])
def test_words_for_nothing_are_names_of_classes_in_files_and_folders(folder, name):
    table = load(folder, PLAIN.replace(",cat", f",{name}"))
    assert table["label"].tolist() == [name] * 4 + ["dog"] * 4
    save_image_table(table, folder / "labels.csv", overwrite=True)
    pd.testing.assert_frame_equal(load_image_table(folder), table)
    (folder / "labels.csv").unlink()
    (folder / "cat").rename(folder / name)
    assert sorted(load_image_table(folder)["label"]) == sorted(table["label"])


def test_numbers_of_two_spellings_are_one_class_and_leading_zeros_stay(folder):
    mixed = PLAIN.replace(",cat", ",1").replace("1.jpg,1", "1.jpg,1.0").replace(",dog", ",007")
    assert set(load(folder, mixed)["label"]) == {"1", "007"}
    assert set(load(folder, PLAIN.replace(",cat", ",1.0").replace(",dog", ",2.0"))["label"]) == {"1.0", "2.0"}


@pytest.mark.parametrize(
    ("cat", "dog", "sign"),
    [("a;b", "a", ";"), ('"a, b"', '"a, c"', ","), ("a b", "b", " "), ("milk bottle", "water bottle", "")],
)
def test_labels_that_look_joined_are_said(folder, cat, dog, sign):
    text = PLAIN.replace(",cat", f",{cat}").replace(",dog", f",{dog}").replace("3.jpg,a", "3.jpg,b")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not is_multilabel(load(folder, text))
    assert [str(warning.message).split("not ")[-1][:3] for warning in caught] == ([repr(sign)] if sign else [])


@pytest.mark.parametrize("place", ["labels.csv", "new/tables/mine.csv"])
@pytest.mark.parametrize("save", [save_image_table, lambda table, path: table.to_csv(path, index=False)])
def test_a_saved_table_is_the_same_when_it_is_loaded(folder, tmp_path_factory, place, save):
    facts = {"weight_g": [0.1 + 0.2, np.nan, *range(6)], "note": ['a "b", c\nd', None, "ü", "1", "", " x", "#", "%"]}
    table = load_image_table(folder).assign(**facts, is_old=[True, False] * 4, split=["train", "test"] * 4)
    path = (folder if place == "labels.csv" else tmp_path_factory.mktemp("elsewhere")) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    save(table, path)
    again = load_image_table(path)
    expected = table.assign(note=table["note"].replace("", np.nan))
    names = [] if save is not save_image_table or place == "labels.csv" else ["image"]  # counted from another folder
    pd.testing.assert_frame_equal(again.drop(columns=names), expected.drop(columns=names), check_dtype=False)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_image_table(table, path)
    save_image_table(again, path, overwrite=True)
    assert load_image_table(path)["split"].equals(table["split"])


@pytest.mark.linux
@pytest.mark.parametrize("label", ["[cat]", "['a, b']", "[]", "('cat')", "[{[1]: 2}]", "two\rlines", "[a] or [b]"])
def test_labels_that_look_like_something_else_come_back(folder, label):
    (folder / "cat").rename(folder / label)
    (folder / label / "0.jpg").rename(folder / label / "a\r.jpg")
    table = load_image_table(folder)
    save_image_table(table, folder / "labels.csv")
    pd.testing.assert_frame_equal(load_image_table(folder), table)


def test_a_table_without_images_is_not_saved(folder):
    with pytest.raises(ValueError, match=r"without images to save as .*nothing\.csv; expected one or more"):
        save_image_table(load_image_table(folder)[:0], folder / "nothing.csv")
    assert not (folder / "nothing.csv").exists()


def test_a_part_of_a_set_with_several_labels_stays_one(folder):
    table = load(folder, PLAIN.replace("0.jpg,cat", "0.jpg,").replace("1.jpg,cat", "1.jpg,cat|dog"))
    part = table[~table["label"].str.contains("|", regex=False)]
    save_image_table(part, folder / "labels.csv", overwrite=True)
    again = load(folder, (folder / "labels.csv").read_text())
    assert is_multilabel(again) and [label.strip("|") for label in again["label"]] == part["label"].tolist()


@pytest.mark.linux
def test_names_that_are_not_utf8_come_back(folder):
    (folder / "cat" / "caf\udce9.jpg").touch()
    table = load_image_table(folder)
    assert "cat/caf\\udce9.jpg" in set(table["image"])
    save_image_table(table, folder / "labels.csv")
    pd.testing.assert_frame_equal(load_image_table(folder), table)
    text = PLAIN.replace("cat/0.jpg", "cat/café.jpg")  # of an archive whose names and list are both old
    assert load(folder, text, "cp1252")["path"][0] == str(folder / "cat" / "caf\\udce9.jpg")


def test_files_that_are_not_listed_are_said(folder):
    text = "".join(PLAIN.splitlines(keepends=True)[:-1])
    (folder / "new").mkdir()
    (folder / "new" / "1.jpg").touch()
    with pytest.warns(UserWarning, match="left out 2: 2 × not listed in labels.csv, such as dog/3.jpg"):
        table = load(folder, text)
    assert len(table) == 7
    with pytest.warns(UserWarning, match="left out 2: 2 × not listed in labels.csv"):
        load_image_table(folder / "labels.csv")
    table[table["label"] == "cat"].to_csv(folder.parent / "cats.csv")  # looks where the listed ones are
    (folder / "cat" / "new").mkdir()
    (folder / "cat" / "new" / "1.jpg").touch()
    with pytest.warns(UserWarning, match=r"left out 1: 1 × not listed in cats.csv, such as .*cat/new/1.jpg"):
        load_image_table(folder.parent / "cats.csv", min_classes=1)


def test_listed_images_that_are_gone_are_left_out_and_said(folder):
    save_image_table(load_image_table(folder), folder / "labels.csv")
    (folder / "cat/1.jpg").unlink()
    (folder / "dog/1.jpg").unlink()
    with pytest.warns(UserWarning, match="2 × listed in labels.csv, but not there, such as cat/1.jpg in line 3"):
        table = load_image_table(folder)
    assert table["image"].tolist() == [image for image, _ in ROWS if "1" not in image]
    for i in (0, 2, 3):
        (folder / f"cat/{i}.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"5 of 8 images that do not exist, all of 'cat', the first 'cat/0.jpg'"
    ):
        load_image_table(folder)


def test_names_of_two_unicode_forms_in_one_folder_stay_two_images(folder):
    for name in ("caf\u00e9", "cafe\u0301"):
        (folder / "cat" / f"{name}.jpg").touch()
    table = load_image_table(folder)
    save_image_table(table, folder / "labels.csv")
    assert len(table) == 10 and table["image"].is_unique
    pd.testing.assert_frame_equal(load_image_table(folder), table)


MARKS = "image,{}\n" + "".join(f"{image},{label == 'cat':d},{label == 'dog':d}\n" for image, label in ROWS)


@pytest.mark.parametrize("names", ["x,y", "price,tag", "single,group", "choice,y"])
def test_classes_may_be_called_like_columns(folder, names):
    first, second = names.split(",")
    with pytest.warns(UserWarning, match="holds marks.*, and is taken as a class, too"):
        table = load(folder, MARKS.format(names))
    assert table["label"].tolist() == [first] * 4 + [second] * 4 and "group" not in table


def test_a_column_of_groups_beside_several_marks_stays_one_and_is_said(folder):
    rows = "".join(f"{image},1,{i % 2},{i // 4}\n" for i, (image, _) in enumerate(ROWS))
    with pytest.warns(UserWarning, match="group holds marks as red, round does, and is not taken as a class"):
        table = load(folder, f"image,red,round,group\n{rows}")
    assert set(table["label"]) == {"red", "red|round"} and set(table["group"]) == {"0", "1"}


def test_names_without_anything_to_see_are_missing(folder):
    with pytest.raises(ValueError, match=r"no label for 4 of 8 images: dog/0.jpg \(line 6\)"):
        load(folder, PLAIN.replace(",dog", ",\u200b\ufeff"))
    table = load(folder, PLAIN.replace("1.jpg,dog", "1.jpg,\u200bdog \ufeff"))
    assert set(table["label"]) == {"cat", "dog"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            PLAIN.replace("2.jpg,cat", "2.jpg,"), r"no label for 1 of 8 images: cat/2.jpg \(line 4\)", id="label"
        ),
        pytest.param(
            "image,label,split\ncat/0.jpg,a,train\ndog/0.jpg,,test", "1 of 2 .*: dog/0.jpg", id="unlabeled test"
        ),
        pytest.param("image,a,b\ncat/0.jpg,1,0\ncat/1.jpg,0,0", r"cat/1.jpg \(line 3\)", id="no 1 in a row"),
        pytest.param(PLAIN + ",dog", "line 10: column 'image' names no image", id="no image"),
        pytest.param(PLAIN.replace("2.jpg,cat", "2.jpg,cat,big"), "line 4: 3 cells, but 2 names .* quotes", id="comma"),
        pytest.param(PLAIN.replace("/", "/9"), "8 of 8 .* first 'cat/90.jpg' in line 2. .*Did you", id="no files"),
        pytest.param(
            PLAIN + "./cat/0.jpg,dog",
            r"1 images twice with different .* 'cat/0.jpg' \(line 2: 'cat', line 10: 'dog'\).*'\|'",
            id="two labels",
        ),
        pytest.param(
            "image,label,split\ncat/0.jpg,a,train\ncat/0.jpg,a,test", "line 2: 'a', line 3: 'a'", id="two splits"
        ),
        pytest.param(PLAIN.replace("cat/3.jpg", '"cat/3.jpg'), "'cat/3.jpg,cat.*in line .*a quote missing", id="quote"),
        pytest.param(PLAIN.replace("image", "picture of"), "no column for image; it has columns", id="no column"),
        pytest.param(PLAIN.split("\n", 1)[1], "no column for image and label.*a first line of names", id="no header"),
        pytest.param("image,label\n", "has no rows", id="no rows"),
        pytest.param("", "is empty", id="empty"),
        pytest.param("image,label,label\na,b,c", "two columns 'label'", id="two columns of a name"),
        pytest.param("image,label,split\ncat/0.jpg,a,tset", "line 2: got split 'tset', .* 'test'", id="split"),
        pytest.param("image,label,split\ncat/0.jpg,a,train\ndog/0.jpg,A,test", "classes A .* 'a'", id="only in test"),
    ],
)
def test_files_that_cannot_be_used_are_explained(folder, content, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load(folder, content)
    assert str(folder / "labels.csv") in str(caught.value)


def test_the_comparison_with_last_month_in_the_faq_runs(image_dir, tmp_path, monkeypatch, capsys):
    """New images come into the folder; the code of the FAQ compares two models on the old test images."""
    section = (ROOT / "FAQ.md").read_text("utf-8").split("\n## I have more images now")[1].split("\n## ")[0]
    save, compare = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:2]
    asked, names = [], {}

    def load_classifier(folder):
        def predict(paths):
            asked.append(list(paths))
            problems = ["broken", *[""] * (len(paths) - 1)]
            return pd.DataFrame({"label": [Path(path).parent.name for path in paths], "problem": problems})

        return SimpleNamespace(predict_table=predict)

    monkeypatch.setattr("utils_cv.models.saved_classifier.load_classifier", load_classifier)
    monkeypatch.chdir(tmp_path)
    image_dir.rename("my_images")
    exec(save, names)
    old = load_image_table("outputs/last_month.csv").set_index("path")["split"]
    for i in range(10):
        shutil.copy(f"my_images/can/{i}.png", f"my_images/can/new_{i}.png")
    exec(compare, names)
    new = names["table"].set_index("path")["split"]
    assert len(new) == 30 and new[old.index].tolist() == old.tolist() and set(new) == {"train", "valid", "test"}
    assert asked == [list(old.index[old == "test"])] * 2 and "0.0" in capsys.readouterr().out
