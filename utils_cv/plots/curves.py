"""Figures of studies of data and labels: lines with bands, a learning curve with its forecast, suspects found."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from .study_plots import Rows, make_plot_table, plot_learning_curve
from .style import COLORS, FONT_SIZE, GREY, INK, draw_grid, draw_legend, get_style, make_axes, use_percent


def plot_lines(
    rows: Rows,
    ax: Axes | None = None,
    *,
    x: str,
    y: str = "accuracy",
    x_label: str,
    y_label: str = "accuracy, 95 % interval",
    is_percent: bool = True,
) -> Axes:
    """One line for each `name`, with a band where the rows hold limits.

    Args:
        rows: `x` and `y` each, perhaps `name`, and perhaps `{y}_low` and `{y}_high`.
        ax: Axes to draw into; None makes a figure.
        x: Column of the horizontal axis.
        y: Column of the vertical axis, a fraction.
        x_label: What `x` is.
        y_label: What `y` is.
        is_percent: Whether `x` is a fraction, shown in percent.

    Raises:
        ValueError: If there is no row, or a column is missing.

    Example:
        >>> rows = [{"wrong_fraction": x, "accuracy": 0.9 - x} for x in (0.0, 0.1)]
        >>> ax = plot_lines(rows, x="wrong_fraction", x_label="wrong labels")
    """
    table = make_plot_table(rows, (x, y))
    ax = make_axes(ax, x_label=x_label, y_label=y_label, width=6.8)
    groups = table.groupby("name", sort=False) if "name" in table else [("", table)]
    for i, (name, line) in enumerate(groups):
        line, style = line.sort_values(x), get_style(i)
        if {f"{y}_low", f"{y}_high"} <= set(line):
            ax.fill_between(line[x], line[f"{y}_low"], line[f"{y}_high"], color=style["color"], alpha=0.15, linewidth=0)
        ax.plot(line[x], line[y], label=str(name), linewidth=2, markersize=7, **style)
    if is_percent:
        use_percent(ax.xaxis)
    use_percent(ax.yaxis)
    draw_grid(ax, "y")
    if len(groups) > 1:
        draw_legend(ax)
    return ax


def plot_fitted_curve(
    points: Rows, curve: pd.DataFrame, ax: Axes | None = None, *, forecast_from: float | None = None
) -> Axes:
    """Measured accuracies, and the fitted learning curve with its band; dashed where it goes beyond the measured.

    Args:
        points: As in `study_plots.plot_learning_curve`.
        curve: From `learning_curve_fit.predict_accuracy`: `n_per_class`, `accuracy`, `accuracy_low`, `accuracy_high`.
        ax: Axes to draw into; None makes a figure.
        forecast_from: Where the forecast begins; None: at the largest measured size.

    Example:
        >>> row = {"n_per_class": 10, "accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
        >>> ax = plot_fitted_curve([row], pd.DataFrame([row, row | {"n_per_class": 20}]))
    """
    table = make_plot_table(points, ("n_per_class", "accuracy"))
    ax = plot_learning_curve(table.assign(name="measured") if "name" not in table else table, ax)
    for container in ax.containers:
        container[0].set_linestyle("none")  # the fitted curve joins the points
    start = float(table["n_per_class"].max() if forecast_from is None else forecast_from)
    line, color = curve.sort_values("n_per_class"), COLORS[0]
    x = line["n_per_class"].to_numpy()
    ax.fill_between(x, line["accuracy_low"], line["accuracy_high"], color=color, alpha=0.15, linewidth=0)
    for is_part, dashes, label in ((x <= start, "-", "power law"), (x >= start, "--", "forecast")):
        if is_part.sum() > 1:
            ax.plot(x[is_part], line["accuracy"][is_part], dashes, color=color, linewidth=2, label=label)
    ticks = sorted({*table["n_per_class"], float(x.max())})
    while ticks[-2] * 2 < ticks[-1]:
        ticks.insert(-1, ticks[-2] * 2)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(min(ticks) / 1.15, max(ticks) * 1.15)
    draw_legend(ax)
    return ax


def plot_found(trace: pd.DataFrame, wrong_fraction: float, ax: Axes | None = None) -> Axes:
    """Share of the wrong labels found, against the share of images looked at, beside chance and the best possible.

    Args:
        trace: From `label_errors.trace_suspects`.
        wrong_fraction: Share of the images whose label is wrong.
        ax: Axes to draw into; None makes a figure.

    Example:
        >>> trace = pd.DataFrame({"inspected_fraction": [0.5, 1.0], "recall": [1.0, 1.0]})
        >>> ax = plot_found(trace, 0.5)
    """
    table = make_plot_table(trace, ("inspected_fraction", "recall"))
    ax = make_axes(ax, x_label="images looked at, the most suspect first", y_label="wrong labels found", width=6.8)
    looked_at, found = np.append(0, table["inspected_fraction"]), np.append(0, table["recall"])
    ax.plot([0, wrong_fraction, 1], [0, 1, 1], color=INK, linewidth=1, linestyle=":", label="best possible")
    ax.plot(looked_at, found, color=COLORS[0], linewidth=2.5, label="by suspicion")
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1.5, linestyle="--", label="at random")
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.02, 1.04)
    use_percent(ax.xaxis)
    use_percent(ax.yaxis)
    draw_grid(ax, "both")
    draw_legend(ax)
    return ax


def plot_test_sizes(rows: Rows, ax: Axes | None = None, *, needed: Mapping[str, int] | None = None) -> Axes:
    """How often test sets of each size show which of two models is better, and how often they point to the worse one.

    Args:
        rows: From `test_set_size.simulate_test_sizes`.
        ax: Axes to draw into; None makes a figure.
        needed: Sizes to mark with a vertical line, by what they are.

    Example:
        >>> row = {"n_test": 100, "told_apart": 0.4, "told_apart_low": 0.3, "told_apart_high": 0.5}
        >>> row |= {"intervals_apart": 0.0, "wrong_winner": 0.1}
        >>> ax = plot_test_sizes([row, row | {"n_test": 200}])
    """
    table = make_plot_table(rows, ("n_test", "told_apart", "told_apart_low", "told_apart_high", "wrong_winner"))
    table = table.sort_values("n_test")
    ax = make_axes(ax, x_label="test images", y_label="share of simulated test sets", width=7.2)
    ax.set_xscale("log")
    names = {
        "told_apart": "paired interval shows the better model",
        "intervals_apart": "two separate intervals show it",
        "wrong_winner": "the worse model scores higher",
    }
    limits: dict[str, Any] = {"color": COLORS[0], "alpha": 0.15, "linewidth": 0}
    ax.fill_between(table["n_test"], table["told_apart_low"], table["told_apart_high"], **limits)
    for i, (column, label) in enumerate(names.items()):
        ax.plot(table["n_test"], table[column], label=label, linewidth=2, markersize=7, **get_style(i))
    for name, n in (needed or {}).items():
        ax.axvline(n, color=GREY, linewidth=1, linestyle=":")
        text: dict[str, Any] = {"rotation": 90, "va": "top", "ha": "right", "fontsize": FONT_SIZE, "color": INK}
        ax.annotate(f"{name}: {n}", (n, 1.0), (-3, 0), textcoords="offset points", **text)
    ticks = table["n_test"].tolist()
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(-0.02, 1.04)
    use_percent(ax.yaxis)
    draw_grid(ax, "y")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.02), fontsize=FONT_SIZE, labelcolor=INK, frameon=False)
    return ax
