"""Tests of utils_cv.audit.figures."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from utils_cv.audit.audit import audit_images
from utils_cv.audit.figures import plot_duplicates, plot_low_quality


@pytest.fixture
def report(tmp_path):
    random = np.random.default_rng(0)
    photos = [Image.fromarray(random.integers(0, 255, (9, 9, 3), dtype=np.uint8)).resize((90, 90), 3) for _ in range(3)]
    images = [*photos, photos[0], photos[1].resize((80, 80)), Image.new("RGB", (90, 90))]
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    rows = {
        "label": ["can", "can", "carton", "can", "carton", "can"],
        "split": ["train"] * 3 + ["test"] * 2 + ["train"],
    }
    table = pd.DataFrame(rows).assign(image=[f"{i}.png" for i in range(6)])
    return audit_images(table.assign(path=[str(tmp_path / name) for name in table["image"]]), show_progress=False)


def read_titles(axes):
    return [" ".join(ax.get_title().split()) for ax in axes]


def test_twins_stand_side_by_side_the_least_similar_first(report):
    titles = read_titles(plot_duplicates(report, "leaks"))
    assert titles[0] == "can (train)"
    assert titles[1].startswith("carton (test) fits to ")
    assert titles[2:] == ["can (train)", "can (test) the same file"]


def test_only_some_pairs_are_shown(report):
    assert len(plot_duplicates(report, "duplicates", n_pairs=1)) == 2


def test_conflicts_show_both_labels(report):
    assert [title.split()[0] for title in read_titles(plot_duplicates(report, "conflicts"))] == ["can", "carton"]


def test_poor_images_say_what_is_poor(report):
    assert "dark, nearly empty" in read_titles(plot_low_quality(report))


def test_nothing_to_show_is_said(tmp_path):
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 255, (90, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    table = pd.DataFrame({"path": [str(tmp_path / f"{i}.png") for i in range(2)], "label": ["can", "carton"]})
    report = audit_images(table, show_progress=False)
    for axes, text in (
        (plot_duplicates(report), "No leaks among 2 images"),
        (plot_low_quality(report), "No dark, empty, blurred or tiny image among 2"),
    ):
        assert [item.get_text() for item in axes[0].texts] == [text]
