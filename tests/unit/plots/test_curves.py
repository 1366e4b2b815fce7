"""Figures of studies of data and labels: what they say, never their pixels."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.plots.curves import plot_fitted_curve, plot_found, plot_lines, plot_test_sizes

NOISE = pd.DataFrame(
    [
        {"name": name, "x": x, "accuracy": 0.9 - x, "accuracy_low": 0.85 - x, "accuracy_high": 0.95 - x}
        for name in ("random", "one class")
        for x in (0.0, 0.2, 0.1)
    ]
)
CURVE = pd.DataFrame({"n_per_class": [5, 10, 20, 40, 80], "accuracy": [0.6, 0.7, 0.8, 0.85, 0.9]}).assign(
    accuracy_low=lambda t: t["accuracy"] - 0.05, accuracy_high=lambda t: t["accuracy"] + 0.05
)


def list_legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_lines_are_drawn_in_order_with_a_band_each():
    ax = plot_lines(NOISE, x="x", x_label="wrong labels")
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0.0, 0.1, 0.2]] * 2
    assert len(ax.collections) == 2 and list_legend(ax) == ["random", "one class"]
    assert ax.get_xlabel() == "wrong labels" and "95 %" in ax.get_ylabel()


def test_lines_without_limits_or_names():
    ax = plot_lines(NOISE.head(3).drop(columns=["name", "accuracy_low", "accuracy_high"]), x="x", x_label="x")
    assert len(ax.lines) == 1 and not ax.collections and ax.get_legend() is None


def test_forecast_begins_where_measurements_end():
    ax = plot_fitted_curve(CURVE.head(3), CURVE)
    lines = {line.get_label(): line.get_xdata().tolist() for line in ax.lines}
    assert lines["power law"] == [5, 10, 20] and lines["forecast"] == [20, 40, 80]
    assert {"measured", "power law", "forecast"} == set(list_legend(ax))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["5", "10", "20", "40", "80"]


def test_curve_that_only_covers_what_was_measured():
    assert "forecast" not in list_legend(plot_fitted_curve(CURVE, CURVE))


def test_found_begins_with_nothing_and_shows_chance_and_the_best():
    trace = pd.DataFrame({"inspected_fraction": [0.25, 0.5, 1.0], "recall": [0.5, 1.0, 1.0]})
    lines = {line.get_label(): line.get_xydata().tolist() for line in plot_found(trace, 0.5).lines}
    assert lines["by suspicion"] == [[0, 0], [0.25, 0.5], [0.5, 1], [1, 1]]
    assert lines["best possible"] == [[0, 0], [0.5, 1], [1, 1]]
    assert lines["at random"] == [[0, 0], [1, 1]]


def test_test_sizes_are_sorted_and_needed_ones_marked():
    rows = pd.DataFrame({"n_test": [200, 50], "told_apart": [0.8, 0.3], "told_apart_low": [0.7, 0.2]}).assign(
        told_apart_high=[0.9, 0.4], intervals_apart=[0.1, 0.0], wrong_winner=[0.0, 0.1]
    )
    ax = plot_test_sizes(rows, needed={"needed": 120})
    assert ax.lines[0].get_xdata().tolist() == [50, 200] and ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.texts] == ["needed: 120"]
    assert len(list_legend(ax)) == 3


@pytest.mark.parametrize(
    "draw",
    [
        lambda rows: plot_lines(rows, x="x", x_label="x"),
        lambda rows: plot_fitted_curve(rows, CURVE),
        lambda rows: plot_found(rows, 0.1),
        plot_test_sizes,
    ],
    ids=["lines", "curve", "found", "sizes"],
)
def test_rows_without_the_columns_are_refused(draw):
    with pytest.raises(ValueError, match="missing"):
        draw(pd.DataFrame({"other": np.arange(3)}))
