"""The demo sets: what lies in data/ is what labels.csv says, byte for byte, and small enough to ship."""

import importlib
import io
import itertools

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import ROOT, make_exif
from utils_cv.data.image_table import load_image_table
from utils_cv.data.labels import split_labels
from utils_cv.system.files import hash_file

DATA_DIR = ROOT / "data"
CLASS_NAMES = ["can", "carton", "milk_bottle", "water_bottle"]
SIDES = ["box_left", "box_top", "box_right", "box_bottom"]
# Images of each set by split.
COUNTS = {
    "fridge_objects": {"train": 320, "test": 160},
    "fridge_objects_video": {"train": 200, "test": 100},
    "fridge_objects_shifted": {"test": 320},
    "fridge_negatives": {"train": 60, "test": 60},
    "fridge_objects_multilabel": {"train": 125, "test": 75},
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


def test_files_have_the_listed_bytes_and_sizes_and_hold_no_time_of_rendering(demo_set):
    _, table = demo_set
    for row in table.itertuples():
        assert hash_file(row.path) == row.sha256, row.image
        with Image.open(row.path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (row.width_px, row.height_px)), row.image
            assert "comment" not in image.info and not image.getexif(), row.image


def test_facts_are_complete_and_in_range_and_an_object_stands_where_its_box_says(demo_set):
    _, table = demo_set
    facts = ["object_width_fraction", "visible_fraction", *SIDES]
    assert table[facts].notna().all().all()
    assert table[facts].to_numpy().min() >= 0 and table[facts].to_numpy().max() <= 1
    assert table["camera_elevation_deg"].between(0, 90).all()
    assert set(table["light"]) <= {"day", "lamp", "fridge", "night"}
    width = table["box_right"] - table["box_left"]
    assert (table["object_width_fraction"] - width).abs().max() < 0.0021  # each is rounded to 0.001
    objects = table[table["object_width_fraction"] > 0]
    assert (objects["box_left"] < objects["box_right"]).all()
    assert (objects["box_top"] < objects["box_bottom"]).all()
    assert objects["visible_fraction"].min() > 0.2


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


def test_fridge_objects_has_as_many_of_each_class():
    counts = load("fridge_objects").groupby(["split", "label"]).size()
    assert (counts["train"].tolist(), counts["test"].tolist()) == ([80] * 4, [40] * 4)


def test_a_scene_of_the_video_is_five_frames_of_one_object_seen_from_nearly_the_same_place():
    table = load("fridge_objects_video")
    scenes = table.groupby("group")
    assert len(scenes) == 60 and (scenes.size() == 5).all()
    assert (scenes[["label", "split", "light", "scene"]].nunique() == 1).all().all()
    assert (scenes["frame"].apply(sorted).map(tuple) == (0, 1, 2, 3, 4)).all()
    assert (table.drop_duplicates("group")["label"].value_counts() == 15).all()
    moves = scenes["box_left"].max() - scenes["box_left"].min()
    assert moves.between(0.001, 0.4).all()
    assert (scenes["camera_elevation_deg"].max() - scenes["camera_elevation_deg"].min()).max() < 15


def test_every_shift_shows_the_same_scenes_and_widths_of_the_far_part_are_even_in_every_class():
    table = load("fridge_objects_shifted")
    assert table.groupby("shift").size().to_dict() == {"blur": 80, "far": 80, "night": 80, "steep": 80}
    assert (table.groupby("scene")["shift"].nunique() == 4).all()
    assert (table.groupby(["shift", "label"]).size() == 20).all()
    for _, part in table.query("shift == 'far'").groupby("label"):
        widths = sorted(part["object_width_fraction"])
        assert widths == pytest.approx([0.08 + 0.32 * i / 19 for i in range(20)], abs=0.002)


def test_a_shift_changes_one_thing():
    test_part = load("fridge_objects").query("split == 'test'").set_index("scene")
    shifted = load("fridge_objects_shifted").set_index("scene")
    before = test_part.loc[shifted.index]  # fails when a scene is not of the test part
    assert (shifted["label"] == before["label"]).all()
    is_night, is_steep = shifted["shift"] == "night", shifted["shift"] == "steep"
    is_blur, is_far = shifted["shift"] == "blur", shifted["shift"] == "far"
    assert (shifted.loc[is_night, "light"] == "night").all()
    assert (shifted["light"] == before["light"])[~is_night].all()
    assert shifted.loc[is_steep, "camera_elevation_deg"].between(60, 80).all()
    assert (shifted["camera_elevation_deg"] == before["camera_elevation_deg"])[~is_steep].all()
    assert (shifted.loc[is_blur, "blur_fraction"] > 0.01).all()
    assert (shifted.loc[~is_blur, "blur_fraction"] == 0).all()
    assert (shifted["box_left"] == before["box_left"])[is_night | (shifted["blur_kind"] == "focus")].all()
    assert (shifted["box_left"] != before["box_left"])[is_far].mean() > 0.9


def test_negatives_are_of_every_kind_in_both_parts():
    table = load("fridge_negatives")
    kinds = ["box", "candle", "empty", "fruit", "glass", "jar", "mug"]
    found = {split: sorted(part["kind"].unique()) for split, part in table.groupby("split")}
    assert found == {"train": kinds, "test": kinds}
    assert (table.loc[table["kind"] == "empty", "object_width_fraction"] == 0).all()
    assert (table.loc[table["kind"] != "empty", "object_width_fraction"] > 0.05).all()


def test_every_combination_of_labels_occurs_in_both_parts_and_some_objects_hide_each_other():
    table = load("fridge_objects_multilabel")
    combinations = {"|".join(c) for n in range(1, 5) for c in itertools.combinations(CLASS_NAMES, n)}
    for _, part in table.groupby("split"):
        assert set(part["label"]) == combinations
        assert part["label"].value_counts().min() >= 5
    groups = table[table["label"].str.contains("|", regex=False)]
    assert (groups["visible_fraction"] < 0.95).mean() > 0.15


def test_each_label_of_an_image_has_a_box_and_enough_to_see():
    table = load("fridge_objects_multilabel")
    for name in CLASS_NAMES:
        is_there = table["label"].map(split_labels).map(lambda labels, name=name: name in labels)
        facts = table[[f"{name}_{fact}" for fact in ("left", "top", "right", "bottom", "visible")]]
        assert facts[is_there].notna().all(axis=None) and facts[~is_there].isna().all(axis=None)
        assert facts.loc[is_there, f"{name}_visible"].min() > 0.2


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


def test_stripping_a_jpeg_keeps_its_pixels(import_of_renderer):
    pixels = Image.effect_noise((40, 30), 60).convert("RGB")
    plain, commented = io.BytesIO(), io.BytesIO()
    pixels.save(plain, "JPEG")
    pixels.save(commented, "JPEG", comment=b"rendered today", exif=make_exif(6))
    stripped = import_of_renderer("jpeg").strip_comments(commented.getvalue())
    with Image.open(io.BytesIO(stripped)) as left, Image.open(plain) as right:
        assert left.tobytes() == right.tobytes()
        assert "comment" not in left.info and not left.getexif()


def test_developing_an_image_is_repeatable_and_sharpens_edges(import_of_renderer):
    camera = import_of_renderer("camera")
    pixels = Image.new("RGB", (64, 48), (90, 90, 90))
    pixels.paste((150, 150, 150), (32, 0, 64, 48))
    once, again, other = (np.asarray(camera.develop(pixels, key), dtype=float) for key in ("a", "a", "b"))
    assert (once == again).all()
    assert (once != other).any()
    step = once.mean(axis=(0, 2))
    assert step[32] - step[31] > step[60] - step[4] + 10  # the edge stands out more than what it parts
