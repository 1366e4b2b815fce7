"""The demo sets and what develops them; run after a rendering: `python -m pytest data/renderer/test_sets.py`.

The hashes of labels.csv then go into `tests/unit/test_demo_data.py`, which keeps the sets as they were checked here.
"""

import io
import itertools
from pathlib import Path

import camera
import jpeg
import numpy as np
import pytest
from PIL import Image

from tests.conftest import make_exif
from utils_cv.data.image_table import load_image_table
from utils_cv.data.labels import split_labels

DATA_DIR = Path(__file__).resolve().parents[1]
CLASS_NAMES = ["can", "carton", "milk_bottle", "water_bottle"]
SIDES = ["box_left", "box_top", "box_right", "box_bottom"]


def load(name):
    return load_image_table(DATA_DIR / name, min_classes=1)


@pytest.mark.parametrize("name", [path.parent.name for path in DATA_DIR.glob("*/labels.csv")])
def test_facts_are_complete_and_in_range_and_an_object_stands_where_its_box_says(name):
    table = load(name)
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


def test_stripping_a_jpeg_keeps_its_pixels():
    pixels = Image.effect_noise((40, 30), 60).convert("RGB")
    plain, commented = io.BytesIO(), io.BytesIO()
    pixels.save(plain, "JPEG")
    pixels.save(commented, "JPEG", comment=b"rendered today", exif=make_exif(6))
    stripped = jpeg.strip_comments(commented.getvalue())
    with Image.open(io.BytesIO(stripped)) as left, Image.open(plain) as right:
        assert left.tobytes() == right.tobytes()
        assert "comment" not in left.info and not left.getexif()


def test_developing_an_image_is_repeatable_and_sharpens_edges():
    pixels = Image.new("RGB", (64, 48), (90, 90, 90))
    pixels.paste((150, 150, 150), (32, 0, 64, 48))
    once, again, other = (np.asarray(camera.develop(pixels, key), dtype=float) for key in ("a", "a", "b"))
    assert (once == again).all()
    assert (once != other).any()
    step = once.mean(axis=(0, 2))
    assert step[32] - step[31] > step[60] - step[4] + 10  # the edge stands out more than what it parts
