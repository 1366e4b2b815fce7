"""Corrections of labels: each line changes one label, leaves one image out, or is listed with the reason why not."""

import pandas as pd
import pytest

from utils_cv.data.corrections import apply_corrections
from utils_cv.data.image_table import load_image_table

NAMES = ["a.png", 'with "quotes", and comma.png', "😀/</script>.png", "caf\\udce9.png"]


@pytest.fixture
def table():
    """Four images with awkward names, in another order of the index."""
    columns = {"image": NAMES, "path": NAMES, "label": ["can", "can", "jar", "jar"], "split": ["train", "test"] * 2}
    return pd.DataFrame(columns, index=[7, 3, 5, 1])


def apply(table, tmp_path, rows, columns=("image", "label", "old_label")):
    path = tmp_path / "corrections.csv"
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, index=False, encoding="utf-8")
    return apply_corrections(table, path)


def test_labels_are_changed_and_images_left_out_and_nothing_else(table, tmp_path):
    before = table.copy()
    rows = [(NAMES[1], "jar", "can"), (NAMES[2], "", "jar"), (NAMES[3], "new class", "jar")]
    found = apply(table, tmp_path, rows)
    expected = before.drop(index=5).assign(label=["can", "jar", "new class"])
    pd.testing.assert_frame_equal(found.table, expected)
    assert (found.n_changed, found.n_left_out, len(found.unmatched)) == (2, 1, 0)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        (("b.png", "jar", "can"), "no such image"),
        (("a.png", "can", "jar"), "it has this label already"),
        (("a.png", "jar", "bottle"), "the table has another label than the one corrected"),
    ],
    ids=["unknown", "done", "stale"],
)
def test_a_line_that_changes_nothing_is_listed_with_its_reason(table, tmp_path, row, cause):
    found = apply(table, tmp_path, [row])
    pd.testing.assert_frame_equal(found.table, table)
    assert found.unmatched.to_dict("records") == [dict(zip(found.unmatched, (*row, cause), strict=True))]
    assert (found.n_changed, found.n_left_out) == (0, 0)


def test_of_two_lines_for_an_image_the_later_one_counts(table, tmp_path):
    found = apply(table, tmp_path, [("a.png", "jar", "can"), ("a.png", "box", "can")])
    assert found.table.loc[7, "label"] == "box"
    assert found.unmatched["cause"].tolist() == ["corrected again further down"]


def test_the_old_label_need_not_be_given_and_the_file_may_come_from_a_spreadsheet(table, tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_bytes("image;label\r\na.png; jar \r\n".encode("utf-16"))
    assert apply_corrections(table, path).table["label"].tolist() == ["jar", "can", "jar", "jar"]


def test_a_file_of_another_kind_says_what_is_expected(table, tmp_path):
    with pytest.raises(ValueError, match=r"no \['label'\]; expected image, label"):
        apply(table, tmp_path, [("a.png", "jar")], columns=("image", "right"))
    with pytest.raises(FileNotFoundError):
        apply_corrections(table, tmp_path / "missing.csv")


def test_a_name_that_is_not_utf_8_is_found_again(image_dir, tmp_path):
    table = load_image_table(image_dir)
    odd = table.assign(image=[f"caf\udce9 {i}.png" for i in range(len(table))])
    found = apply(odd, tmp_path, [("caf\\udce9 0.png", "other", "")])
    assert found.table["label"].iloc[0] == "other"
