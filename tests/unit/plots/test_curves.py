"""Lines: what they say, never their pixels."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.plots.curves import plot_lines

NOISE = pd.DataFrame(
    [
        {"name": name, "x": x, "accuracy": 0.9 - x, "accuracy_low": 0.85 - x, "accuracy_high": 0.95 - x}
        for name in ("random", "one class")
        for x in (0.0, 0.2, 0.1)
    ]
)
FITTED = pd.DataFrame({"x": np.linspace(0, 0.4, 13), "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95})


def list_legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def list_ticks(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def test_each_name_has_a_line_in_order_of_x_with_bars_side_by_side():
    ax = plot_lines(NOISE, x="x", x_label="wrong labels")
    lines = [container[0].get_xdata() for container in ax.containers]
    assert [line.tolist() for line in lines] == [pytest.approx([0.0, 0.1, 0.2], abs=0.002)] * 2
    assert (lines[1] - lines[0] > 0.001).all()  # bars beside each other
    low, high = ax.containers[0][2][0].get_segments()[1][:, 1]
    assert (low, high) == pytest.approx((0.75, 0.85)) and list_legend(ax) == ["random", "one class"]
    assert ax.get_xlabel() == "wrong labels" and ax.get_ylabel() == "accuracy, 95 % interval"


def test_one_line_has_no_legend_and_stands_where_it_is():
    ax = plot_lines(NOISE.head(3).drop(columns="name"), x="x", y_label="share")
    assert ax.lines[0].get_xdata().tolist() == [0.0, 0.1, 0.2] and ax.get_legend() is None
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "share")


def test_many_points_have_a_band_and_no_markers_and_do_not_move_the_bars():
    points = NOISE.head(3).assign(name="measured")
    ax = plot_lines(pd.concat([points, FITTED.assign(name="power law")]), x="x")
    (band,) = [collection for collection in ax.collections if len(collection.get_paths()[0].vertices) > 20]
    assert band.get_paths()[0].vertices[:, 1].min() == pytest.approx(0.8)
    assert ax.lines[-1].get_marker() == "" and list_legend(ax) == ["measured", "power law"]
    assert ax.containers[0][0].get_xdata().tolist() == [0.0, 0.1, 0.2]


def test_limits_of_a_column_called_value():
    ax = plot_lines([{"x": 1, "value": 0.5, "low": 0.4, "high": 0.7}], x="x", y="value")
    assert ax.containers[0][2][0].get_segments()[0][:, 1] == pytest.approx([0.4, 0.7])


def test_several_columns_are_lines_of_their_own():
    history = pd.DataFrame({"epoch": [0, 1], "train_loss": [np.nan, 1.2], "valid_loss": [2.0, 0.5]})
    losses = {"train_loss": "training", "valid_loss": "_validation"}
    ax = plot_lines(history, x="epoch", y=losses, y_label="loss", y_scale="number")
    assert list_legend(ax) == ["training", "_validation"] and ax.get_ylabel() == "loss"
    assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 2
    assert ax.get_xticks()[(ax.get_xticks() >= 0) & (ax.get_xticks() <= 1)].tolist() == [0, 1]  # whole epochs


def test_a_single_epoch_is_a_point_with_one_tick():
    ax = plot_lines([{"epoch": 0, "loss": 1.0}], x="epoch", y="loss", y_scale="number")
    ax.figure.canvas.draw()
    assert ax.lines[0].get_marker() == "o" and "0" in list_ticks(ax) and ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


def test_the_legend_is_titled_by_the_column_and_writes_numbers_plainly():
    ax = plot_lines(NOISE.assign(learning_rate=[1e-4] * 3 + [0.005] * 3), x="x", name="learning_rate")
    assert ax.get_legend().get_title().get_text() == "learning rate" and list_legend(ax) == ["0.0001", "0.005"]


def test_logarithmic_axes_have_plain_ticks_at_the_values():
    rows = [{"n": n, "rate": 100 / n, "way": way} for way in ("in full", "reduced") for n in (0.2, 4.0, 24.0)]
    ax = plot_lines(rows, x="n", y="rate", name="way", x_scale="log", y_scale="log")
    assert ax.get_xscale() == ax.get_yscale() == "log" and list_ticks(ax) == ["0.2", "4", "24"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["5", "10", "20", "50", "100", "200", "500"]


def test_counts_stand_below_the_values():
    ax = plot_lines(NOISE.head(3).assign(n=[27, 43, 5]), x="x", x_scale="percent", count="n")
    assert list_ticks(ax) == ["0 %\nn = 27", "10 %\nn = 5", "20 %\nn = 43"]
