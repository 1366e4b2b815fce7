"""Tests of utils_cv.audit.report: what is found, and what follows from it."""

import os
import re
import signal

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from tests.conftest import make_photo
from tests.unit.audit.photos import load_demo_images, make_table
from utils_cv.audit import report as report_module
from utils_cv.audit.report import AuditLimits, add_groups, audit_images, drop_duplicates
from utils_cv.data.labels import normalize_name
from utils_cv.data.splits import complete_splits
from utils_cv.system.threads import map_in_shards

FINDINGS = ("unreadable", "file_issues", "large", "low_quality", "duplicates", "leaks", "label_conflicts")


def audit(table, **options):
    return audit_images(table, show_progress=False, **options)


CLEAN_ROWS = [
    (f"{split}_{label}_{i}.jpg", make_photo(100 * part + 10 * len(label) + i), label, split)
    for part, split in enumerate(("train", "valid", "test"))
    for label in ("can", "carton")
    for i in range(3)
]
PHOTO, OTHER_PHOTO = CLEAN_ROWS[0][1], CLEAN_ROWS[1][1]  # train_can_0.jpg and train_can_1.jpg
SMALLER = PHOTO.resize((120, 90))
BLACK, WHITE = Image.new("RGB", (100, 80)), Image.new("RGB", (100, 80), "white")
HUGE = make_photo(5).resize((2240, 1900), Image.Resampling.NEAREST)
CONFLICT = "label conflict (copy.jpg: carton, train_can_0.jpg: can)"


@pytest.fixture
def audit_with(tmp_path):
    """Audit the clean images and others, numbered from 100."""

    def audit_with(*rows, **options):
        table = make_table(tmp_path, [*CLEAN_ROWS, *rows])
        return audit(table.set_index(table.index + 100), **options)

    return audit_with


def count_findings(report):
    """What was found at all, and how often."""
    return {name: len(getattr(report, name)) for name in FINDINGS if len(getattr(report, name))}


def test_a_clean_table_has_nothing_to_report(audit_with):
    report = audit_with()
    assert count_findings(report) == {}
    assert report.summary["n_images"].tolist() == [0] * 8
    assert report.groups.nunique() == 18
    assert report.facts.index.tolist() == list(range(100, 118))
    assert report.classes.loc["can"].to_dict() == {"train": 3, "valid": 3, "test": 3}
    assert report.describe_image("train_can_0.jpg") == ""
    assert str(report).splitlines()[0] == "Audit of 18 images of 2 classes, 0.019 megapixels (median)"
    assert str(report).splitlines()[-1] == "Every class has 9 images."


DUPLICATE, LEAK = {"duplicates": 1}, {"duplicates": 1, "leaks": 1}


@pytest.mark.parametrize(
    ("image", "label", "split", "counts", "text"),
    [
        pytest.param(PHOTO, "can", "test", LEAK, "leak (duplicate in train: train_can_0.jpg)", id="exact leak"),
        pytest.param(SMALLER, "can", "test", LEAK, "leak (duplicate in train: train_can_0.jpg)", id="near leak"),
        pytest.param(PHOTO, "can", "train", DUPLICATE, "", id="duplicate in the same split"),
        pytest.param(PHOTO, "can", "", DUPLICATE, "", id="duplicate without a split"),
        pytest.param(SMALLER, "carton", "train", DUPLICATE | {"label_conflicts": 1}, CONFLICT, id="label conflict"),
        pytest.param(b"", "can", "train", {"unreadable": 1}, "unreadable (the file is empty)", id="unreadable"),
        pytest.param(BLACK, "can", "", {"low_quality": 1}, "low quality (dark, nearly empty)", id="black"),
        pytest.param(WHITE, "can", "", {"low_quality": 1}, "low quality (nearly empty)", id="white"),
        pytest.param(make_photo(0, (300, 40)), "can", "", {"low_quality": 1}, "low quality (tiny)", id="tiny"),
        pytest.param(make_photo(0).convert("CMYK"), "can", "", {"file_issues": 1}, "file issue (CMYK)", id="CMYK"),
        pytest.param(HUGE, "can", "", {"large": 1}, "large (4.3 megapixels)", id="large"),
    ],
)
def test_what_is_wrong_with_one_image_is_reported_and_nothing_else(audit_with, image, label, split, counts, text):
    report = audit_with(("copy.jpg", image, label, split))
    assert count_findings(report) == counts
    assert report.describe_image("copy.jpg") == text
    assert report.describe_image("train_can_0.jpg") == (CONFLICT if "label_conflicts" in counts else "")


@pytest.mark.parametrize(("kind", "copy"), [("exact", PHOTO), ("near", SMALLER)], ids=["exact", "near"])
def test_a_duplicate_is_listed_beside_its_original(audit_with, kind, copy):
    (leak,) = audit_with(("copy.jpg", copy, "can", "test")).leaks.itertuples()
    assert (leak.Index, leak.image, leak.split, leak.label) == (118, "copy.jpg", "test", "can")
    assert (leak.duplicate, leak.duplicate_split, leak.duplicate_label) == ("train_can_0.jpg", "train", "can")
    assert leak.kind == kind and (leak.overlap == 1) == (kind == "exact")


def test_a_leak_runs_from_the_earlier_split_whatever_the_order_of_rows(tmp_path):
    rows = [("first.jpg", PHOTO, "can", "test"), *CLEAN_ROWS, ("v.jpg", PHOTO, "can", "valid")]
    table = make_table(tmp_path, rows)
    leaks = audit(table).leaks
    assert leaks["image"].tolist() == ["first.jpg", "v.jpg"]
    assert set(leaks["duplicate"]) == {"train_can_0.jpg"}
    assert count_findings(audit(table.drop(columns="split"))) == {"duplicates": 2}  # without splits no leak


def test_the_same_file_is_shown_rather_than_a_near_duplicate(audit_with):
    report = audit_with(("a.jpg", SMALLER, "can", "train"), ("b.jpg", SMALLER, "can", "test"))
    assert report.leaks[["duplicate", "kind"]].to_numpy().tolist() == [["a.jpg", "exact"]]


def test_unreadable_files_are_no_duplicates_of_each_other_and_stay(tmp_path):
    table = make_table(tmp_path, [("a.jpg", b"", "can", "train"), ("b.jpg", b"", "carton", "test")])
    report = audit(table.set_index(table.index + 100))
    assert report.unreadable["image"].to_dict() == {100: "a.jpg", 101: "b.jpg"}
    assert count_findings(report) == {"unreadable": 2} and "2  unreadable" in str(report)
    assert len(list(tmp_path.iterdir())) == 2  # nothing was deleted


@pytest.mark.parametrize(("radius", "low", "high"), [(0, 0, 0), (2, 1, 8), (3, 22, 24)])
def test_demo_images_count_as_blurred_where_a_person_says_so(tmp_path, radius, low, high):
    """24 images, blurred by so many pixels at a shorter side of 256."""
    rows = []
    for i, image in enumerate(load_demo_images()):
        blurred = image.filter(ImageFilter.GaussianBlur(radius * min(image.size) / 256))
        rows.append((f"{i}.png", blurred, "can", ""))
    assert low <= (audit(make_table(tmp_path, rows)).low_quality["problem"] == "blurred").sum() <= high


def test_limits_decide(audit_with):
    report = audit_with(limits=AuditLimits(max_megapixels=0.01, min_side_px=121))
    assert count_findings(report) == {"large": 18, "low_quality": 18}
    assert report.describe_image("train_can_0.jpg") == "large (0.0 megapixels); low quality (tiny)"


def test_several_labels_of_an_image_count_one_by_one(tmp_path):
    table = make_table(tmp_path, CLEAN_ROWS[:2]).assign(label=["can|carton", "can"], split="")
    assert audit(table).classes[""].to_dict() == {"can": 2, "carton": 1}


def test_names_that_people_confuse_and_files_left_out_are_said(tmp_path):
    table = make_table(tmp_path, CLEAN_ROWS[:4]).assign(label=["Dog", "dog", "caf\u00e9", "cat"])
    table.attrs["left_out"] = "left out 3: 3 × not listed."
    lines = str(audit(table)).splitlines()
    assert lines[-2:] == ["Classes that differ only by case or accents: 'Dog', 'dog'.",
                          "When the table was loaded: left out 3: 3 × not listed."]  # fmt: skip
    assert "&#x27;Dog&#x27;, &#x27;dog&#x27;" in audit(table)._repr_html_()


NAMES = {"not UTF-8": "caf\udce9.jpg", "newline and signs": "a\n#%20$c$ 🍎.jpg", "255 bytes": "a" * 251 + ".jpg"}


@pytest.mark.linux
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_images_of_any_name_are_audited_and_listed(audit_with, name):
    report = audit_with((name, PHOTO, "can", "test"), ("empty.jpg", b"", "can", "test"))
    assert count_findings(report) == {"unreadable": 1} | LEAK
    assert report.leaks["image"].tolist() == [normalize_name(name)] and "leak" in report.describe_image(name)
    (str(report) + report._repr_html_() + report.describe_image(name)).encode("utf-8")


def test_a_report_is_readable_as_text_and_as_html(audit_with, tmp_path):
    report = audit_with(("R&D.jpg", PHOTO, "can", "test"), ("c.jpg", make_photo(7), "can", "train"))
    assert "Audit of 20 images of 2 classes" in str(report) == repr(report)
    assert "1  leak: duplicate in another split, e.g. R&D.jpg = train_can_0.jpg" in str(report)
    assert "smallest: carton with 9, 82% of it" in str(report)
    assert '<td style="text-align: left">R&amp;D.jpg' in report._repr_html_()
    assert "R&D" not in report._repr_html_()
    assert str(tmp_path) not in str(report) + report._repr_html_()


def test_drop_duplicates_keeps_the_test_image_and_none_of_two_labels(tmp_path):
    copies = [("copy.jpg", PHOTO, "can", "test"), ("other_label.jpg", OTHER_PHOTO, "carton", "train")]
    table = make_table(tmp_path, [*CLEAN_ROWS, *copies])
    before = table.copy()
    kept = drop_duplicates(table, audit(table))
    gone = set(table["image"]) - set(kept["image"])
    assert gone == {"train_can_0.jpg", "train_can_1.jpg", "other_label.jpg"}
    assert table.equals(before)
    assert count_findings(audit(kept)) == {}


def test_add_groups_keeps_duplicates_together_in_a_grouped_split(tmp_path):
    copies = [(f"copy_{name}", image.resize((120, 90)), label, "test") for name, image, label, _ in CLEAN_ROWS[:6]]
    table = make_table(tmp_path, [*CLEAN_ROWS, *copies])
    report = audit(table)
    assert len(report.leaks) == 6
    assert audit(complete_splits(add_groups(table, report).assign(split=""), seed=1)).leaks.empty


def test_add_groups_joins_with_groups_that_are_there(tmp_path):
    table = make_table(tmp_path, [*CLEAN_ROWS, ("copy.jpg", PHOTO, "can", "test")])
    scenes = [f"scene {i // 2}" for i in range(18)] + [None]
    groups = add_groups(table.assign(group=scenes), audit(table))["group"]
    assert groups[18] == groups[0] == groups[1]
    assert groups.nunique() == 9 and groups[18] == "scene 0"
    assert add_groups(table, audit(table))["group"][17:].tolist() == ["test_carton_2.jpg", "copy.jpg"]


def test_rows_of_the_table_will_do_but_not_others(tmp_path):
    table = make_table(tmp_path, CLEAN_ROWS)
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
def test_other_tables_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        audit(change(make_table(tmp_path, CLEAN_ROWS[:2])))


def test_16_bit_files_are_audited_in_the_range_that_the_set_uses(tmp_path):
    scenes = [np.asarray(make_photo(i).convert("L"), np.uint16) for i in range(3)]
    for i, gray in enumerate(scenes):
        Image.fromarray(gray * np.uint16(12)).save(tmp_path / f"{i}.png")  # up to 3060 of 4095
    table = pd.DataFrame({"path": [str(tmp_path / f"{i}.png") for i in range(3)], "label": "can"})
    report = audit_images(table, show_progress=False)
    assert report.value_range == 4095 and report.low_quality.empty
    row = report.summary.set_index("check").loc["16-bit files and the share of their range"]
    share = max(int(gray.max()) for gray in scenes) * 12 / 4095
    assert row["n_images"] == 3 and row["advice"].endswith(f"uses {share:.0%}")
    assert "more than 8 bits, values up to" in report.describe_image(str(tmp_path / "0.png"))
    assert np.allclose(report.facts["brightness"], [gray.mean() * 12 / 4095 for gray in scenes], atol=0.01)


def test_images_beyond_the_limit_of_pixels_are_counted(tmp_path):
    Image.new("1", (12_000, 11_000)).save(tmp_path / "huge.png")
    make_photo(0).save(tmp_path / "plain.png")
    table = pd.DataFrame({"path": [str(tmp_path / "huge.png"), str(tmp_path / "plain.png")], "label": "can"})
    summary = audit_images(table, show_progress=False).summary.set_index("check")
    assert summary.loc["of the unreadable: beyond the limit of pixels", "n_images"] == 1


def test_one_line_says_before_what_many_images_take(audit_with, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(report_module, "N_MANY", 18)
    audit_images(make_table(tmp_path, CLEAN_ROWS))
    said = capsys.readouterr()
    assert re.search(r"Audit of 18 images: about \d+ s here, 0 MB of memory.*joblib", said.out)
    assert re.search(r"18/18 .*image/s", said.err)


@pytest.mark.linux
def test_a_cluster_of_which_a_worker_dies_finds_the_same(tmp_path, monkeypatch):
    from dask.distributed import Client

    rows = [*CLEAN_ROWS, ("copy.jpg", PHOTO, "can", "test"), ("broken.jpg", b"no image", "can", "test")]
    table = make_table(tmp_path, rows)
    expected = audit(table)
    monkeypatch.setattr(report_module, "_SHARD_SIZE", 1)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with Client(**options) as client, joblib.parallel_config(backend="dask"):
        dead = client.run(os.getpid).popitem()[1]

        def kill_after_the_first(*args, **kwargs):
            for i, shard in enumerate(map_in_shards(*args, **kwargs)):
                if i == 0:
                    os.kill(dead, signal.SIGKILL)
                yield shard

        monkeypatch.setattr(report_module, "map_in_shards", kill_after_the_first)
        found = audit(table)
    for name in ("facts", *FINDINGS):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name))
    assert len(found.leaks) == len(found.unreadable) == 1
