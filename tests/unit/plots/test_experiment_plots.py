"""Figures of experiments: what they say, never their pixels."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.plots.curves import plot_accuracy_by_width, plot_distances, plot_opening, plot_rates, plot_stages
from utils_cv.plots.scores import make_difference_rows, plot_differences


def make_differences():
    return pd.DataFrame(
        {
            "name": ["helps", "nothing", "hurts"] * 2,
            "value": [0.05, 0.01, -0.04] * 2,
            "low": [0.02, -0.02, -0.07] * 2,
            "high": [0.08, 0.04, -0.01] * 2,
            "world": ["upright"] * 3 + ["turned"] * 3,
        }
    )


def test_differences_have_a_panel_each_and_the_same_scale():
    axes = plot_differences(make_differences(), panel="world")
    assert [ax.get_title(loc="left") for ax in axes] == ["upright", "turned"]
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["helps", "nothing", "hurts"]
    assert "95 % interval" in axes[0].get_xlabel()


def test_only_differences_whose_interval_leaves_zero_out_are_filled():
    (ax,) = plot_differences(make_differences().head(3))
    faces = [line.get_markerfacecolor() for line in ax.get_lines() if line.get_marker() == "o"]
    assert [face != "white" for face in faces] == [True, False, True]


def test_differences_of_nothing_survive():
    plot_differences([{"name": "same", "value": 0.0, "low": 0.0, "high": 0.0}])[0].figure.canvas.draw()


def test_opening_has_a_line_a_way_on_plain_logarithmic_axes():
    rows = [
        {"megapixels": size, "way": way, "images_per_second": 100 / size}
        for way in ("in full", "reduced")
        for size in (0.2, 4.0, 24.0)
    ]
    ax = plot_opening(rows)
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["in full", "reduced"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.2", "4", "24"]
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_stages_are_stacked_and_their_sum_is_written():
    rows = [
        {"kind": kind, "stage": stage, "ms": ms}
        for kind in ("small", "large")
        for stage, ms in (("read", 1.0), ("decode", 4.0), ("backward", 20.0))
    ]
    ax = plot_stages(rows, title="times")
    assert [text.get_text() for text in ax.texts] == ["25 ms", "25 ms"]
    lefts = sorted({bar.get_x() for bar in ax.patches})
    assert lefts == [0.0, 1.0, 5.0]


def test_rates_have_a_row_a_storage_and_a_mark_a_kind():
    rows = [
        {"storage": storage, "kind": kind, "images_per_second": 100.0}
        for storage in ("memory", "hard disk")
        for kind in ("small", "large")
    ]
    ax = plot_rates(rows)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["memory", "hard disk"]
    assert len(ax.get_legend().get_texts()) == 2


def test_accuracy_by_width_shows_the_rule_and_the_counts():
    row = {"name": "224 px", "mean_width": 0.1, "n": 30, "accuracy": 0.7, "accuracy_low": 0.6, "accuracy_high": 0.8}
    ax = plot_accuracy_by_width([row, row | {"mean_width": 0.3, "n": 40}], rule=0.25)
    texts = [text.get_text().strip() for text in ax.texts]
    assert texts == ["n = 30", "n = 40", "rule: 25 %"]


def test_distances_say_how_many_lie_beyond():
    ax = plot_distances({"test": [0.1, 0.2, 0.3, 0.9], "mugs": np.array([0.8, 0.9])}, threshold=0.5)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["test (n = 4): 25 % beyond", "mugs (n = 2): 100 % beyond"]


@pytest.mark.parametrize(
    ("plot", "rows"),
    [
        pytest.param(plot_differences, [], id="no rows"),
        pytest.param(plot_stages, [{"kind": "small"}], id="columns missing"),
    ],
)
def test_what_cannot_be_drawn_is_refused(plot, rows):
    with pytest.raises(ValueError, match="expected at least one row"):
        plot(rows)


def test_no_groups_are_refused():
    with pytest.raises(ValueError, match="at least one group"):
        plot_distances({}, threshold=1.0)


def test_baselines_are_no_differences():
    table = pd.DataFrame(
        {
            "augmentation": ["none", "mirror"],
            "verdict": ["baseline", "helps"],
            "difference": [0.0, 0.1],
            "difference_low": [0.0, 0.05],
            "difference_high": [0.0, 0.15],
            "world": "upright",
        }
    )
    rows = make_difference_rows(table, "augmentation", keep=["world"])
    assert rows["name"].tolist() == ["mirror"] and list(rows) == ["name", "value", "low", "high", "world"]
