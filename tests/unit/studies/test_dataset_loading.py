"""Tests of utils_cv.studies.dataset_loading: ten faults, on copies only, and the audit finds all of them."""

import pytest

from tests.conftest import make_photo
from tests.unit.audit.photos import make_table
from utils_cv.audit.report import audit_images
from utils_cv.studies.dataset_loading import corrupt_images


def read_all(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def make_splits(tmp_path, suffix, size=(160, 120)):
    """12 images of each of two classes: 16 to train, 4 to validate, 4 to test."""
    (tmp_path / "in").mkdir()
    splits = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    rows = [(f"{i}{suffix}", make_photo(i, size), "can" if i < 12 else "carton", splits[i % 12]) for i in range(24)]
    return make_table(tmp_path / "in", rows)


@pytest.fixture
def table(tmp_path):
    return make_splits(tmp_path, ".jpg")


NAMES = {"not UTF-8": "caf\udce9.jpg", "254 bytes": "a" * 248 + ".jpg", "newline and signs": "\n#%41$ 🐈.jpg"}


@pytest.mark.parametrize(
    ("suffix", "seed"),
    [(".jpg", 0), (".jpg", 1), (".png", 0), *(pytest.param(NAMES[i], 0, id=i, marks=pytest.mark.linux) for i in NAMES)],
)
def test_the_audit_finds_all_ten(tmp_path, suffix, seed):
    corrupted, injected = corrupt_images(make_splits(tmp_path, suffix), tmp_path / "out", seed=seed)
    assert len(corrupted) == 26
    assert len(injected) == injected["fault"].nunique() == injected["image"].nunique() == 10
    report = audit_images(corrupted, show_progress=False)
    injected["reported"] = injected["image"].map(report.describe_image)
    assert [row.fault for row in injected.itertuples() if row.expected not in row.reported] == []


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_strips_take_the_faults(tmp_path, suffix):
    copies, injected = corrupt_images(make_splits(tmp_path, suffix, (900, 30)), tmp_path / "out")
    assert (len(copies), injected["fault"].nunique()) == (26, 10)


def test_the_seed_decides_which_images_are_corrupted_and_the_originals_stay(table, tmp_path):
    before = read_all(tmp_path / "in")
    a, b, c = (corrupt_images(table, tmp_path / name, seed=seed)[1] for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert a.equals(b) and not a.equals(c)
    assert read_all(tmp_path / "in") == before


def test_of_a_large_set_only_some_images_of_each_split_are_copied(table, tmp_path, monkeypatch):
    monkeypatch.setattr("utils_cv.studies.dataset_loading._MAX_PER_SPLIT", 11)
    corrupted, _ = corrupt_images(table, tmp_path / "out")
    assert (corrupted["split"] == "train").value_counts().to_dict() == {True: 11 + 1, False: 8 + 1}
    assert len(read_all(tmp_path / "out")) == len(corrupted)


def test_a_folder_with_files_is_refused(table, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files already"):
        corrupt_images(table, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("rows", ["split == 'train'", "label == 'can'", "split != 'train'"])
def test_a_table_that_cannot_hold_the_faults_is_refused(table, tmp_path, rows):
    with pytest.raises(ValueError, match="expected 2 labels, 10 train images and another split"):
        corrupt_images(table.query(rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()
