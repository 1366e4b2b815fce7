"""Lines: what they say, never their pixels."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.plots.curves import plot_lines

X = np.array([0.0, 0.2, 0.1])
ONE = pd.DataFrame({"x": X, "accuracy": 0.9 - X, "accuracy_low": 0.85 - X, "accuracy_high": 0.95 - X})
TWO = pd.concat([ONE.assign(name="random"), ONE.assign(name="one class")])
FITTED = pd.DataFrame({"x": np.linspace(0, 0.4, 13), "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95})


def list_texts(texts):
    return [text.get_text() for text in texts]


def test_each_name_has_a_line_in_order_of_x_with_bars_side_by_side():
    ax = plot_lines(TWO, x="x", x_label="wrong labels")
    lines = [container[0].get_xdata() for container in ax.containers]
    assert [line.tolist() for line in lines] == [pytest.approx([0.0, 0.1, 0.2], abs=0.002)] * 2
    assert (lines[1] - lines[0] > 0.001).all()
    assert ax.containers[0][2][0].get_segments()[1][:, 1] == pytest.approx([0.75, 0.85])
    assert list_texts(ax.get_legend().get_texts()) == ["random", "one class"]
    assert ax.get_xlabel() == "wrong labels" and ax.get_ylabel() == "accuracy, 95 % interval"


def test_many_points_have_a_band_and_no_markers_and_do_not_move_the_bars():
    ax = plot_lines(pd.concat([ONE.assign(name="measured"), FITTED.assign(name="power law")]), x="x")
    (band,) = [collection for collection in ax.collections if len(collection.get_paths()[0].vertices) > 20]
    assert band.get_paths()[0].vertices[:, 1].min() == pytest.approx(0.8) and ax.lines[-1].get_marker() == ""
    assert ax.containers[0][0].get_xdata().tolist() == [0.0, 0.1, 0.2]
    ax = plot_lines(ONE, x="x", y_label="share")
    assert ax.get_legend() is None and (ax.get_xlabel(), ax.get_ylabel()) == ("x", "share")


def test_several_columns_are_lines_of_their_own_and_numbers_begin_at_zero():
    history = pd.DataFrame({"epoch": [0, 1], "train_loss": [np.nan, 1.2], "valid_loss": [2.0, 0.5]})
    losses = {"train_loss": "training", "valid_loss": "_validation"}
    ax = plot_lines(history, x="epoch", y=losses, y_label="loss", y_scale="number")
    assert list_texts(ax.get_legend().get_texts()) == ["training", "_validation"] and ax.get_ylabel() == "loss"
    assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 2
    assert [tick for tick in ax.get_xticks() if 0 <= tick <= 1] == [0, 1]  # whole epochs
    ax = plot_lines(history.tail(1), x="epoch", y=losses, y_scale="number")  # a point needs a marker and a tick
    assert ax.lines[0].get_marker() == "o" and 1 in ax.get_xticks() and ax.get_xlim()[0] < 1 < ax.get_xlim()[1]


def test_the_legend_is_titled_by_the_column_and_writes_numbers_plainly():
    legend = plot_lines(TWO.assign(learning_rate=[1e-4] * 3 + [0.005] * 3), x="x", name="learning_rate").get_legend()
    assert legend.get_title().get_text() == "learning rate" and list_texts(legend.get_texts()) == ["0.0001", "0.005"]


def test_logarithmic_axes_have_plain_ticks_and_shift_bars_by_a_factor():
    rows = [{"n": n, "value": n, "low": n / 2, "high": 2 * n, "name": name} for name in "ab" for n in (0.2, 4.0, 24.0)]
    ax = plot_lines(rows, x="n", y="value", x_scale="log", y_scale="log")
    assert ax.get_xscale() == ax.get_yscale() == "log" and list_texts(ax.get_xticklabels()) == ["0.2", "4", "24"]
    first, second = (container[0].get_xdata() for container in ax.containers)
    assert second / first == pytest.approx(120**0.012)
    assert ax.containers[0][2][0].get_segments()[1][:, 1] == pytest.approx([2, 8])  # limits of a column named value


def test_counts_stand_below_the_values():
    ax = plot_lines(ONE.assign(n=[27, 43, 5], x=X + 0.0012), x="x", x_scale="percent", count="n")
    assert list_texts(ax.get_xticklabels()) == ["0 %\nn = 27", "10 %\nn = 5", "20 %\nn = 43"]
