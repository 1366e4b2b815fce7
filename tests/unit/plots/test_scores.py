"""Figures of scores: what they say, never their pixels."""

import itertools

import numpy as np
import pandas as pd
import pytest

from utils_cv.plots.scores import plot_bars, plot_confusion, plot_scores

COLUMNS = ["name", "value", "low", "high", "condition"]
DIFFERENCES = [("helps", 0.05, 0.02, 0.08), ("nothing", 0.01, -0.02, 0.04), ("hurts", -0.04, -0.07, -0.01)]
DIFFERENCES = pd.DataFrame([(*row, name) for name in ("upright", "turned") for row in DIFFERENCES], columns=COLUMNS)


def list_texts(texts):
    return [text.get_text() for text in texts]


def list_points(ax):
    """Each point: x, y, and whether it is filled."""
    lines = [line for line in ax.lines if line.get_marker() in ("o", "^")]
    return {(x, y, line.get_markerfacecolor() != "white") for line in lines for x, y in line.get_xydata() if x == x}


def test_scores_stand_from_the_top_with_their_interval_and_percent():
    rows = [{"name": name, "value": 0.915, "low": 0.86, "high": 0.95} for name in ("probe", "fine-tuned")]
    ax = plot_scores(rows, x_label="F1")
    assert list_texts(ax.texts) == ["91.5 %", "91.5 %"] and ax.get_xlabel() == "F1, 95 % interval"
    assert list_texts(ax.get_yticklabels()) == ["probe", "fine-tuned"] and ax.yaxis_inverted()
    assert ax.collections[0].get_segments()[0][:, 0] == pytest.approx([0.86, 0.95])
    assert plot_scores([{"name": "probe", "value": 0.9}], x_label="F1").get_xlabel() == "F1"  # claims no interval


def test_differences_have_a_zero_line_and_are_open_where_the_interval_holds_zero():
    ax = plot_scores(DIFFERENCES.head(3), x_scale="points", x_label="change")
    assert list_points(ax) == {(0.05, 0, True), (0.01, 1, False), (-0.04, 2, True)} and not ax.texts
    assert ax.lines[0].get_xdata() == [0, 0] and ax.get_xlabel() == "change, percentage points, 95 % interval"
    plot_scores(DIFFERENCES.head(1).assign(value=0, low=0, high=0), x_scale="points").figure.canvas.draw()


def test_groups_stand_side_by_side_and_are_named():
    ax = plot_scores(DIFFERENCES, x_scale="points", group="condition")
    legend, heights = ax.get_legend(), sorted(y for _, y, _ in list_points(ax))
    assert legend.get_title().get_text() == "condition" and list_texts(legend.get_texts()) == ["upright", "turned"]
    assert heights == pytest.approx([-0.15, 0.15, 0.85, 1.15, 1.85, 2.15])


def test_several_columns_with_and_without_limits_and_a_class_without_images():
    rows = [("absent", np.nan, np.nan, np.nan, np.nan, 0), ("can", 0.5, 0.9, 0.2, 0.8, 2)]
    table = pd.DataFrame(rows, columns=["label", "recall", "precision", "recall_low", "recall_high", "n"])
    ax = plot_scores(table, name="label", value={"recall": "recall", "precision": "precision"}, count="n")
    ax.figure.canvas.draw()
    assert list_texts(ax.get_yticklabels()) == ["absent (n = 0)", "can (n = 2)"]
    assert list_points(ax) == {(0.5, 0.85, True), (0.9, 1.15, True)}


def test_of_many_names_the_first_forty_are_shown():
    rows = [{"name": f"class {i}", "a": i / 500, "b": 0.5} for i in range(500)]
    ax = plot_scores(rows, value={"a": "recall", "b": "precision"}, title="Classes")
    assert len(ax.get_yticklabels()) == 40 and ax.get_title("left") == "Classes\nthe first 40 of 500"
    assert ax.figure.get_size_inches().max() <= 16


def test_bars_are_stacked_and_their_sums_written_before_the_legend():
    stages = [("read", 1.0), ("decode", 4.0), ("backward", 73.4)]
    rows = [{"kind": kind, "stage": stage, "ms": ms} for kind in ("small", "large") for stage, ms in stages]
    ax = plot_bars(rows, name="kind", part="stage", value="ms")
    ax.figure.canvas.draw()
    assert list_texts(ax.texts) == ["78.4", "78.4"] and list_texts(ax.get_yticklabels()) == ["small", "large"]
    assert sorted({bar.get_x() for bar in ax.patches}) == [0.0, 1.0, 5.0]
    assert len({bar.get_hatch() for bar in ax.patches}) == 3  # told apart without color
    legend = ax.get_legend()
    assert list_texts(legend.get_texts()) == ["read", "decode", "backward"]
    assert all(text.get_window_extent().x1 < legend.get_window_extent().x0 for text in ax.texts)


def test_a_table_names_its_axes():
    names = pd.Index(["can", "jar"], name="label")
    ax = plot_confusion(pd.DataFrame(np.eye(2, dtype=int), names, names.rename("as well")), title="Together")
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title("left")) == ("as well", "label", "Together")
    ax = plot_confusion(pd.DataFrame(np.eye(2, dtype=int)))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


def test_confusion_writes_every_count_readably():
    ax = plot_confusion(pd.DataFrame([[8, 2], [0, 1234]], ["can", "carton"], ["can", "carton"]))
    assert list_texts(ax.texts) == ["8", "2", "0", "1234"]
    assert [text.get_color() for text in ax.texts] == ["white", "#000000", "#000000", "white"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    assert "No class is taken" in plot_confusion(pd.DataFrame(np.eye(50, dtype=int))).get_title("left")


@pytest.mark.parametrize(
    ("n_classes", "n_names", "n_numbers"),
    [(1, 1, 1), (12, 12, 144), (40, 40, 41), (41, 21, 0), (100, 34, 0), (500, 39, 0)],
)
def test_a_confusion_matrix_fits_a_screen_and_names_no_more_than_fit(n_classes, n_names, n_numbers):
    names = [f"species {i} with a long name" for i in range(n_classes)]
    counts = np.eye(n_classes, dtype=int) * 20
    counts[-1, 0] += 7
    ax = plot_confusion(pd.DataFrame(counts, names, names))
    ax.figure.canvas.draw()
    assert max(ax.figure.get_size_inches() * ax.figure.dpi) <= 1600
    assert len(ax.get_xticklabels()) == len(ax.get_yticklabels()) == n_names and len(ax.texts) == n_numbers
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in itertools.pairwise(boxes))
    is_listed = f"{names[-1][:16]}… taken for {names[0][:16]}…: 7" in ax.get_title("left")
    assert is_listed == (n_classes > 40)


@pytest.mark.parametrize("table", [pd.DataFrame([[1, 2]]), pd.DataFrame()], ids=["not square", "empty"])
def test_confusion_refuses(table):
    with pytest.raises(ValueError, match="square"):
        plot_confusion(table)
