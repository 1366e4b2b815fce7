"""Tests of utils_cv.data.csv_text: text of the encodings that spreadsheets write; what else a file is."""

import io
import zipfile

import pytest

from utils_cv.data.csv_text import read_text

PLAIN = "image,label\ncat/0.jpg,cat\ndog/0.jpg,"


def write(folder, content):
    (folder / "labels.csv").write_bytes(content)
    return folder / "labels.csv"


@pytest.mark.parametrize("label", ["Größe", "créée", "Ääkkönen", "«où»", "naïve", "El Niño", "“a–b”", "5 €", "pää"])
def test_words_of_western_text_are_read(tmp_path, label):
    assert read_text(write(tmp_path, (PLAIN + label).encode("cp1252"))) == PLAIN + label


@pytest.mark.parametrize(
    ("label", "encoding"), [("狗", "gbk"), ("ネコ", "shift-jis"), ("개", "cp949"), ("кот", "cp1251"), ("thé", "cp437")]
)
def test_text_of_other_regions_is_refused_and_not_read_as_western(tmp_path, label, encoding):
    with pytest.raises(ValueError, match=r"labels.csv, line 3: neither UTF-8 nor Western .* Save it"):
        read_text(write(tmp_path, (PLAIN + label).encode(encoding)))
    mixed = PLAIN.replace("0.jpg,cat", "0.jpg,café").encode() + "thé\n".encode("cp1252")
    with pytest.raises(ValueError, match="line 2: neither UTF-8"):
        read_text(write(tmp_path, mixed))


def make_zip(name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, "x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(make_zip("a.jpg"), "an archive: unpack it", id="zip"),
        pytest.param(b"a.jpg".ljust(257, b"\0") + b"ustar", "an archive", id="tar"),
        pytest.param(make_zip("[Content_Types].xml"), "an Excel file: save it as CSV", id="Excel"),
        pytest.param(b"\xff\xd8\xff\xe0", "a single image: give its folder", id="image"),
        pytest.param(b"<!DOCTYPE html><html>", "an HTML or XML page", id="HTML"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1", "git lfs pull", id="git-lfs"),
        pytest.param(b'[{"image": 1}]', "JSON", id="JSON"),
        pytest.param(b"ab\0\1\2", "not a text file", id="binary"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"labels.csv is .*{message}"):
        read_text(write(tmp_path, content))
