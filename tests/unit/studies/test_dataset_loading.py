"""Tests of utils_cv.studies.dataset_loading: ten faults, on copies only, and the audit finds all of them."""

import numpy as np
import pytest
from PIL import Image

from utils_cv.audit.audit import audit_images
from utils_cv.data.image_table import load_image_table
from utils_cv.studies.dataset_loading import corrupt_images


def read_all(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def make_photo(seed):
    random = np.random.default_rng(seed)
    cells = Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize((160, 120), 3)
    grain = random.normal(0, 6, (120, 160, 1))
    return Image.fromarray(np.clip(np.asarray(cells) + grain, 0, 255).astype(np.uint8))


@pytest.fixture
def table(tmp_path):
    return make_table(tmp_path, ".jpg")


def make_table(tmp_path, suffix):
    for seed, split, n_images in ((0, "train", 8), (20, "valid", 2), (40, "test", 2)):
        for number, label in enumerate(("can", "carton")):
            folder = tmp_path / "in" / split / label
            folder.mkdir(parents=True)
            for i in range(n_images):
                make_photo(seed + 100 * number + i).save(folder / f"{i}{suffix}")
    return load_image_table(tmp_path / "in")


@pytest.mark.parametrize(("suffix", "seed"), [(".jpg", 0), (".jpg", 1), (".png", 0)])
def test_the_audit_finds_all_ten(tmp_path, suffix, seed):
    planted = corrupt_images(make_table(tmp_path, suffix), tmp_path / "out", seed=seed)
    assert len(planted) == planted["kind"].nunique() == planted["image"].nunique() == 10
    report = audit_images(load_image_table(tmp_path / "out"), show_progress=False)
    reported = planted["image"].map(report.describe_image)
    missed = [
        (kind, text)
        for kind, word, text in zip(planted["kind"], planted["expected"], reported, strict=True)
        if word not in text
    ]
    assert missed == []


def test_the_originals_stay_as_they_are(table, tmp_path):
    before = read_all(tmp_path / "in")
    corrupt_images(table, tmp_path / "out")
    assert read_all(tmp_path / "in") == before


def test_the_same_seed_damages_the_same_images(table, tmp_path):
    planted = [corrupt_images(table, tmp_path / name, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    assert planted[0].equals(planted[1])
    assert not planted[0].equals(planted[2])


def test_a_folder_with_files_is_refused(table, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files already"):
        corrupt_images(table, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda table: table[table["split"] == "train"], id="one split"),
        pytest.param(lambda table: table[table["label"] == "can"], id="one class"),
        pytest.param(lambda table: table.assign(split="test"), id="nothing to train on"),
    ],
)
def test_a_table_that_cannot_hold_the_damage_is_refused(table, tmp_path, choose):
    with pytest.raises(ValueError, match="expected at least"):
        corrupt_images(choose(table), tmp_path / "out")
    assert not (tmp_path / "out").exists()
