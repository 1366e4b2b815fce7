"""Tests of utils_cv.audit.audit, audit_report and twins: what is found, and what follows from it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from tests.conftest import ROOT
from utils_cv.audit.audit import AuditLimits, add_groups, audit_images, drop_duplicates
from utils_cv.data.image_table import load_image_table
from utils_cv.data.splits import split_grouped

DEMO_DIR = ROOT / "data" / "fridge_objects"


def make_photo(seed, size=(160, 120)):
    random = np.random.default_rng(seed)
    cells = Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize(size, 3)
    grain = random.normal(0, 6, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(cells) + grain, 0, 255).astype(np.uint8))


def make_table(folder, rows):
    """Save images; a row is (name, image or bytes, label, split)."""
    folder.mkdir(exist_ok=True)
    for name, image, _, _ in rows:
        if isinstance(image, bytes):
            (folder / name).write_bytes(image)
        else:
            image.save(folder / name, quality=90)
    table = pd.DataFrame([(name, label, split) for name, _, label, split in rows], columns=["image", "label", "split"])
    return table.assign(path=[str(folder / name) for name in table["image"]])


def audit(table, **options):
    return audit_images(table, show_progress=False, **options)


@pytest.fixture
def clean_rows():
    return [
        (f"{split}_{label}_{i}.jpg", make_photo(100 * part + 10 * len(label) + i), label, split)
        for part, split in enumerate(("train", "valid", "test"))
        for label in ("can", "carton")
        for i in range(3)
    ]


def smaller(image):
    return image.resize((120, 90))


def test_a_clean_table_has_nothing_to_report(tmp_path, clean_rows):
    report = audit(make_table(tmp_path, clean_rows))
    assert report.summary["n_images"].tolist() == [0] * 8
    assert report.groups.nunique() == 18
    assert report.classes.loc["can"].to_dict() == {"train": 3, "valid": 3, "test": 3}
    assert report.describe_image("train_can_0.jpg") == ""
    assert str(report).splitlines()[0] == "Audit of 18 images of 2 classes, 0.019 megapixels (median)"
    assert str(report).splitlines()[-1] == "Every class has 9 images."


@pytest.mark.parametrize("change", [lambda image: image, smaller], ids=["the same file", "nearly the same"])
def test_a_twin_in_another_split_is_a_leak(tmp_path, clean_rows, change):
    rows = [*clean_rows, ("twin.jpg", change(clean_rows[0][1]), "can", "test")]
    report = audit(make_table(tmp_path, rows))
    (leak,) = report.leaks.itertuples()
    assert (leak.Index, leak.image, leak.split) == (18, "twin.jpg", "test")
    assert (leak.twin, leak.twin_split) == ("train_can_0.jpg", "train")
    assert (leak.kind == "exact") == (leak.overlap == 1) == (change is not smaller)
    assert report.conflicts.empty
    assert report.describe_image("twin.jpg") == "leak (twin in train: train_can_0.jpg)"


def test_a_leak_runs_from_the_earlier_split_whatever_the_order_of_rows(tmp_path, clean_rows):
    rows = [("first.jpg", clean_rows[0][1], "can", "test"), *clean_rows, ("v.jpg", clean_rows[0][1], "can", "valid")]
    report = audit(make_table(tmp_path, rows))
    assert report.leaks[["image", "twin"]].to_numpy().tolist() == [
        ["first.jpg", "train_can_0.jpg"],
        ["v.jpg", "train_can_0.jpg"],
    ]


def test_twins_within_a_split_are_duplicates_but_no_leak(tmp_path, clean_rows):
    rows = [*clean_rows, ("twin.jpg", smaller(clean_rows[0][1]), "can", "train")]
    report = audit(make_table(tmp_path, rows))
    assert report.duplicates["image"].tolist() == ["twin.jpg"]
    assert report.leaks.empty


def test_without_splits_there_is_no_leak(tmp_path, clean_rows):
    table = make_table(tmp_path, [*clean_rows, ("twin.jpg", clean_rows[0][1], "can", "test")])
    for given in (table.drop(columns="split"), table.assign(split="")):
        report = audit(given)
        assert report.leaks.empty
        assert len(report.duplicates) == 1


def test_a_twin_of_another_label_is_a_conflict_told_of_both(tmp_path, clean_rows):
    rows = [*clean_rows, ("twin.jpg", smaller(clean_rows[0][1]), "carton", "train")]
    report = audit(make_table(tmp_path, rows))
    (conflict,) = report.conflicts.itertuples()
    assert {conflict.label, conflict.twin_label} == {"can", "carton"}
    assert "conflict" in report.describe_image("twin.jpg")
    assert "conflict" in report.describe_image("train_can_0.jpg")


def test_unreadable_files_are_listed_and_are_no_twins_of_each_other(tmp_path, clean_rows):
    rows = [*clean_rows, ("a.jpg", b"", "can", "train"), ("b.jpg", b"", "carton", "test")]
    table = make_table(tmp_path, rows)
    report = audit(table)
    assert report.unreadable["image"].tolist() == ["a.jpg", "b.jpg"]
    assert report.unreadable.index.tolist() == [18, 19]
    assert report.leaks.empty
    assert report.conflicts.empty
    assert len(table.drop(index=report.unreadable.index)) == 18
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(table["image"])  # nothing was deleted


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        pytest.param(Image.new("RGB", (100, 80)), "dark, nearly empty", id="black"),
        pytest.param(Image.new("RGB", (100, 80), (255, 255, 255)), "nearly empty", id="white"),
        pytest.param(make_photo(0, (24, 24)).resize((300, 300), 3), "blurred", id="blurred"),
        pytest.param(make_photo(0, (300, 40)), "tiny", id="tiny"),
    ],
)
def test_poor_images(tmp_path, clean_rows, image, problem):
    report = audit(make_table(tmp_path, [*clean_rows, ("poor.png", image, "can", "train")]))
    assert report.poor[["image", "problem"]].to_numpy().tolist() == [["poor.png", problem]]


def test_limits_decide(tmp_path, clean_rows):
    report = audit(make_table(tmp_path, clean_rows), limits=AuditLimits(max_megapixels=0.01, min_side_px=121))
    assert len(report.large) == len(report.poor) == 18
    assert "large (0.0 megapixels); poor (tiny)" in report.describe_image("train_can_0.jpg")


def test_the_index_of_the_table_is_kept(tmp_path, clean_rows):
    table = make_table(tmp_path, [*clean_rows, ("odd.jpg", make_photo(5).convert("CMYK"), "can", "train")])
    table.index = table.index + 100
    report = audit(table)
    assert report.odd.index.tolist() == [118]
    assert report.facts.index.equals(table.index)


def test_a_report_is_readable_as_text_and_as_html(tmp_path, clean_rows):
    rows = [*clean_rows, ("<b>.jpg", clean_rows[0][1], "can", "test"), ("c.jpg", make_photo(7), "can", "train")]
    report = audit(make_table(tmp_path, rows))
    assert "Audit of 20 images of 2 classes" in str(report) == repr(report)
    assert "1  leak: twin in another split, e.g. <b>.jpg = train_can_0.jpg" in str(report)
    assert "smallest: carton with 9, 82% of it" in str(report)
    assert "&lt;b&gt;.jpg" in report._repr_html_()
    assert "<b>.jpg" not in report._repr_html_()
    assert str(tmp_path) not in str(report) + report._repr_html_()


@pytest.mark.parametrize("drop_conflicts", [True, False])
def test_drop_duplicates_keeps_the_test_image_and_drops_conflicts(tmp_path, clean_rows, drop_conflicts):
    rows = [
        *clean_rows,
        ("twin.jpg", clean_rows[0][1], "can", "test"),
        ("other_label.jpg", clean_rows[1][1], "carton", "train"),
    ]
    table = make_table(tmp_path, rows)
    before = table.copy()
    kept = drop_duplicates(table, audit(table), drop_conflicts=drop_conflicts)
    gone = set(table["image"]) - set(kept["image"])
    assert gone == {"train_can_0.jpg", "other_label.jpg"} | ({"train_can_1.jpg"} if drop_conflicts else set())
    assert table.equals(before)
    report = audit(kept)
    assert len(report.duplicates) == len(report.leaks) == len(report.conflicts) == 0


def test_add_groups_keeps_twins_together_in_a_grouped_split(tmp_path, clean_rows):
    twins = [(f"twin_{i}.jpg", smaller(clean_rows[i][1]), clean_rows[i][2], "test") for i in range(6)]
    table = make_table(tmp_path, [*clean_rows, *twins])
    report = audit(table)
    assert len(report.leaks) == 6
    table = split_grouped(add_groups(table, report), seed=1)
    assert audit(table).leaks.empty


def test_add_groups_joins_with_groups_that_are_there(tmp_path, clean_rows):
    table = make_table(tmp_path, [*clean_rows, ("twin.jpg", clean_rows[0][1], "can", "test")])
    scenes = [f"scene {i // 2}" for i in range(18)] + [None]
    groups = add_groups(table.assign(group=scenes), audit(table))["group"]
    assert groups[18] == groups[0] == groups[1]
    assert groups.nunique() == 9


def test_rows_of_the_table_will_do_but_not_others(tmp_path, clean_rows):
    table = make_table(tmp_path, clean_rows)
    report = audit(table)
    assert len(drop_duplicates(table.iloc[:5], report)) == 5
    with pytest.raises(ValueError, match="1 of 18 images are not in the report"):
        add_groups(table.assign(path=["elsewhere.jpg", *table["path"][1:]]), report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda table: table.drop(columns="label"), "'path' and 'label'", id="no label"),
        pytest.param(lambda table: table.iloc[:0], "got 0 rows", id="empty"),
        pytest.param(lambda table: pd.concat([table, table]), "listed twice", id="twice"),
    ],
)
def test_other_tables_are_refused(tmp_path, clean_rows, change, message):
    with pytest.raises(ValueError, match=message):
        audit(change(make_table(tmp_path, clean_rows)))


def test_a_table_of_which_nothing_opens(tmp_path):
    report = audit(make_table(tmp_path, [("a.jpg", b"", "can", "train"), ("b.jpg", b"x", "carton", "test")]))
    assert len(report.unreadable) == 2
    assert "2  unreadable" in str(report)


def test_threads_change_nothing(tmp_path, clean_rows):
    table = make_table(tmp_path, [*clean_rows, ("twin.jpg", smaller(clean_rows[0][1]), "can", "test")])
    pd.testing.assert_frame_equal(audit(table, n_threads=1).facts, audit(table, n_threads=4).facts)


def crop(image, random):
    width, height = image.size
    left, top = random.uniform(0, 0.05 * width), random.uniform(0, 0.05 * height)
    return image.crop((round(left), round(top), round(left + 0.95 * width), round(top + 0.95 * height)))


COPIES = {
    "re-encoded": lambda image, random: image,
    "half the size": lambda image, random: image.resize((image.width // 2, image.height // 2)),
    "brighter": lambda image, random: ImageEnhance.Brightness(image).enhance(1.1),
    "cropped by 5 %": crop,
    "mirrored": lambda image, random: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_demo_images_are_found_and_nothing_else(tmp_path, name):
    demo = load_image_table(DEMO_DIR).groupby("label").head(6).reset_index(drop=True)
    random = np.random.default_rng(0)
    rows = []
    for i, row in enumerate(demo.itertuples()):
        with Image.open(row.path) as image:
            rows.append((f"{i}.jpg", image.copy(), row.label, "train"))
            rows.append((f"{i}_copy.jpg", COPIES[name](image.convert("RGB"), random), row.label, "test"))
    report = audit(make_table(tmp_path, rows))
    assert {(leak.image, leak.twin) for leak in report.leaks.itertuples()} == {
        (f"{i}_copy.jpg", f"{i}.jpg") for i in range(len(demo))
    }


def test_features_of_a_backbone_propose_pairs_as_well(tmp_path, clean_rows, monkeypatch):
    twin = smaller(clean_rows[0][1])
    table = make_table(tmp_path, [("broken.jpg", b"", "can", "train"), *clean_rows, ("twin.jpg", twin, "can", "test")])
    monkeypatch.setattr("utils_cv.audit.duplicates._find_candidates", lambda thumbnails, parts: np.empty((0, 2), int))
    assert audit(table).leaks.empty  # fingerprints propose nothing now
    monkeypatch.setattr(
        "utils_cv.models.features.compute_features",
        lambda pixels, **options: pixels[:, ::16, ::16].reshape(len(pixels), -1).astype(np.float32) - 128,
    )
    assert audit(table, backbone="efficientnet_lite0").leaks["image"].tolist() == ["twin.jpg"]


def test_without_a_backbone_torch_is_not_needed():
    code = "import sys, utils_cv.audit.audit, utils_cv.audit.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
