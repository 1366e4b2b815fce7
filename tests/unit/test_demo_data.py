"""The demo sets: what lies in data/ is what labels.csv says, byte for byte, and small enough to ship."""

import importlib

import pandas as pd
import pytest
from PIL import Image

from tests.conftest import ROOT
from utils_cv.data.image_table import load_image_table
from utils_cv.data.labels import split_labels
from utils_cv.system.files import hash_file

DATA_DIR = ROOT / "data"
CLASS_NAMES = ["can", "carton", "milk_bottle", "water_bottle"]
# Images of each set by split.
COUNTS = {
    "fridge_objects": {"train": 320, "test": 160},
    "fridge_objects_video": {"train": 200, "test": 100},
    "fridge_objects_shifted": {"test": 320},
    "fridge_negatives": {"train": 60, "test": 60},
    "fridge_objects_multilabel": {"train": 125, "test": 75},
}


# SHA-256 of what is known of each image. `data/renderer/test_sets.py` checks what that says, after a rendering.
LABEL_HASHES = {
    "fridge_objects": "dd071e5ad8a3f5f404787dc5047b23c1fbfed7813ce869e11b7cf1c1e35f1a71",
    "fridge_objects_video": "d42149021cccf4377ace8d900a43c0fe1fd5d08c1a25a185182134dba3dacb5f",
    "fridge_objects_shifted": "c340b08c6f8456b2201923540cee3af44b08e9c1c25315d3ee79cc6f7d21544c",
    "fridge_negatives": "6662d6b47683a3aeecc6165455cc3acca42cc438338011582280df0ee1e679fc",
    "fridge_objects_multilabel": "be5f4326010f4195009c8dcc2aeb409b13e52d01e263ba6254335bcd4316890b",
}


def list_files(folder):
    return [path for path in folder.rglob("*") if path.is_file() and ".rows" not in path.parts]


def load(name):
    return load_image_table(f"data/{name}", min_classes=1)


@pytest.fixture(scope="module", params=COUNTS)
def demo_set(request):
    return request.param, load(request.param)


def test_every_part_has_its_images_and_no_other_file_is_there(demo_set):
    name, table = demo_set
    assert table["split"].value_counts().to_dict() == COUNTS[name]
    found = {path.relative_to(DATA_DIR / name).as_posix() for path in list_files(DATA_DIR / name)}
    assert found == {*table["image"], "labels.csv"}
    assert hash_file(DATA_DIR / name / "labels.csv") == LABEL_HASHES[name]


def test_files_have_the_listed_bytes_and_sizes_and_hold_no_time_of_rendering(demo_set):
    _, table = demo_set
    for row in table.itertuples():
        assert hash_file(row.path) == row.sha256, row.image
        with Image.open(row.path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (row.width_px, row.height_px)), row.image
            assert "comment" not in image.info and not image.getexif(), row.image


@pytest.fixture
def import_of_renderer(monkeypatch):
    """The function that imports a module of the renderer."""
    monkeypatch.syspath_prepend(DATA_DIR / "renderer")
    return importlib.import_module


def test_rows_are_those_that_the_renderer_lists(demo_set, import_of_renderer):
    name, table = demo_set
    listed = pd.DataFrame(import_of_renderer("sets").list_images(name)).sort_values("image")
    for column in ("image", "label", "split"):
        assert table[column].tolist() == listed[column].tolist(), column
    assert table["scene"].tolist() == ("scene_" + listed["scene_id"]).tolist()


def test_every_class_is_in_every_part(demo_set):
    name, table = demo_set
    labels = table["label"].map(split_labels).explode()
    expected = ["none_of_these"] if name == "fridge_negatives" else CLASS_NAMES
    found = {split: sorted(part.unique()) for split, part in labels.groupby(table["split"])}
    assert found == dict.fromkeys(COUNTS[name], expected)


def test_all_data_is_at_most_30_mb_and_no_image_is_in_two_sets():
    assert sum(path.stat().st_size for path in list_files(DATA_DIR)) <= 30e6
    hashes = pd.concat([load(name)["sha256"] for name in COUNTS])
    assert not hashes.duplicated().any()


@pytest.mark.parametrize("name", COUNTS)
def test_the_card_describes_the_set_and_the_contact_sheet_is_there_and_small(name):
    assert f"## {name}" in (DATA_DIR / "README.md").read_text(encoding="utf-8")
    path = DATA_DIR / "contact_sheets" / f"{name}.jpg"
    assert path.stat().st_size < 400e3
    with Image.open(path) as sheet:
        assert sheet.width >= 1600
