"""Tests of utils_cv.audit.figures."""

import pytest
from PIL import Image

from tests.conftest import make_photo
from tests.unit.audit.photos import make_table
from utils_cv.audit.figures import plot_duplicates, plot_low_quality
from utils_cv.audit.report import audit_images


@pytest.fixture
def audit(tmp_path):
    """Audit images; a row is (image, label, split)."""
    return lambda *rows: audit_images(
        make_table(tmp_path, [(f"{i}.png", *row) for i, row in enumerate(rows)]), show_progress=False
    )


def read_titles(axes):
    return [" ".join(ax.get_title().split()) for ax in axes]


def test_duplicates_stand_side_by_side_the_least_similar_first(audit):
    copies = [(make_photo(0), "can", "test"), (make_photo(1).resize((120, 90)), "carton", "test")]
    report = audit((make_photo(0), "can", "train"), (make_photo(1), "can", "train"), *copies)
    titles = read_titles(plot_duplicates(report, "leaks"))
    assert titles[0] == "can (train)"
    assert titles[1].startswith("carton (test) fits to ")
    assert titles[2:] == ["can (train)", "can (test) the same file"]
    assert [title.split()[0] for title in read_titles(plot_duplicates(report, "label_conflicts"))] == ["can", "carton"]


def test_at_most_eight_images_are_shown_and_those_of_low_quality_say_why(audit):
    report = audit((make_photo(0), "can", ""), *[(Image.new("RGB", (90, 90)), "can", "")] * 11)
    assert read_titles(plot_low_quality(report)) == ["dark, nearly empty"] * 8
    assert len(plot_duplicates(report, "duplicates")) == 8
    assert read_titles(plot_duplicates(report, "duplicates"))[:2] == ["can", "can the same file"]  # without a split


def test_nothing_to_show_is_said(audit):
    report = audit((make_photo(0), "can", ""), (make_photo(1), "can", ""))
    for axes, text in (
        (plot_duplicates(report), "No leaks among 2 images"),
        (plot_duplicates(report, "label_conflicts"), "No label conflicts among 2 images"),
        (plot_low_quality(report), "No dark, empty, blurred or tiny images among 2"),
    ):
        assert [item.get_text() for item in axes[0].texts] == [text]
