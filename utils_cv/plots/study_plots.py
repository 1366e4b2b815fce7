"""Figures of trainings and studies: history, settings side by side, learning curve; see also `speed_plots`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from .style import (
    COLORS,
    FONT_SIZE,
    INK,
    draw_grid,
    draw_legend,
    get_style,
    make_axes,
    make_axes_grid,
    shorten,
    use_percent,
)

Rows: TypeAlias = pd.DataFrame | Sequence[Mapping[str, Any]]


def plot_history(history: pd.DataFrame) -> np.ndarray:
    """Losses on the left, the other columns of a training history on the right.

    Args:
        history: One row an epoch. Columns with `loss` in their name are losses; `epoch`, `time` and everything that
            is not a number are left out; the rest are scores, fractions in [0, 1].

    Returns:
        The axes, (1,) without scores, else (2,).

    Example:
        >>> axes = plot_history(pd.DataFrame({"epoch": [0, 1], "train_loss": [1.2, 0.8], "accuracy": [0.6, 0.8]}))
        >>> len(axes)
        2
    """
    epochs = history["epoch"] if "epoch" in history else pd.Series(range(len(history)))
    columns = [name for name in history.select_dtypes("number") if name not in ("epoch", "time", "seconds")]
    losses, scores = ([name for name in columns if ("loss" in name) == is_loss] for is_loss in (True, False))
    groups = [(names, label) for names, label in ((losses, "loss"), (scores, "score")) if names]
    if not groups or history.empty:
        raise ValueError(f"history: expected rows with losses or scores, got the columns {list(history.columns)}.")
    axes = make_axes_grid(1, len(groups), width=4.6 * len(groups), height=3.4)[0]
    for ax, (names, y_label) in zip(axes, groups, strict=True):
        make_axes(ax, x_label="epoch", y_label=y_label)
        for i, name in enumerate(names):
            ax.plot(epochs, history[name], label=name.replace("_", " "), linewidth=2, markersize=6, **get_style(i))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_xlim(epochs.min() - 0.3, epochs.max() + 0.3)
        if y_label == "score" and history[names].max().max() <= 1:
            use_percent(ax.yaxis)
        draw_grid(ax, "y")
        draw_legend(ax)
    return axes


def plot_scores(rows: Rows, ax: Axes | None = None, *, x_label: str = "accuracy", title: str = "") -> Axes:
    """Scores with their 95 % intervals below each other: settings of an experiment side by side.

    Args:
        rows: `name`, `value`, `low`, `high` each, fractions; `{"name": "probe", **score._asdict()}` makes a row.
        ax: Axes to draw into; None makes a figure.
        x_label: What is measured.
        title: Above the axes.

    Example:
        >>> ax = plot_scores([{"name": "probe", "value": 0.9, "low": 0.8, "high": 0.95}])
    """
    table = make_plot_table(rows, ("name", "value", "low", "high"))
    positions = np.arange(len(table))
    ax = make_axes(ax, height=max(1.5, 0.38 * len(table) + 1.0), title=title, x_label=f"{x_label}, 95 % interval")
    limits = np.abs(table[["low", "high"]].to_numpy().T - table["value"].to_numpy())
    style: dict[str, Any] = {"fmt": "o", "color": COLORS[0], "markersize": 8, "capsize": 4, "linewidth": 2}
    ax.errorbar(table["value"], positions, xerr=limits, **style)
    for position, (value, high) in enumerate(zip(table["value"], table["high"], strict=True)):
        text: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": FONT_SIZE, "color": INK}
        ax.annotate(f"{100 * value:.1f} %", (max(value, high), position), (8, 0), **text)
    ax.set_yticks(positions, shorten(table["name"].tolist(), 40))
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.margins(x=0.12)
    use_percent(ax.xaxis)
    draw_grid(ax, "x")
    return ax


def plot_learning_curve(
    rows: Rows, ax: Axes | None = None, *, x: str = "n_per_class", x_label: str = "training images per class"
) -> Axes:
    """Accuracy with its 95 % interval against the number of images, on a logarithmic axis; a line for each `name`.

    Args:
        rows: `x`, `accuracy`, `accuracy_low`, `accuracy_high` each, and perhaps `name`, one line a name.
        ax: Axes to draw into; None makes a figure.
        x: Column of the horizontal axis.
        x_label: What it is.

    Example:
        >>> row = {"n_per_class": 10, "accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
        >>> ax = plot_learning_curve([row, row | {"n_per_class": 20}])
    """
    table = make_plot_table(rows, (x, "accuracy", "accuracy_low", "accuracy_high"))
    groups = table.groupby("name", sort=False) if "name" in table else [("", table)]
    ax = make_axes(ax, x_label=x_label, y_label="accuracy, 95 % interval")
    ax.set_xscale("log")
    for i, (name, line) in enumerate(groups):
        line = line.sort_values(x)
        limits = np.abs(line[["accuracy_low", "accuracy_high"]].to_numpy().T - line["accuracy"].to_numpy())
        shift = 1.02 ** (i - 0.5 * (len(groups) - 1))  # intervals of several lines stay side by side
        style: dict[str, Any] = {"markersize": 7, "capsize": 4, "linewidth": 2, "elinewidth": 1, **get_style(i)}
        ax.errorbar(line[x] * shift, line["accuracy"], yerr=limits, label=str(name), **style)
    ticks = sorted(table[x].unique())
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    use_percent(ax.yaxis)
    draw_grid(ax, "y")
    if len(groups) > 1:
        draw_legend(ax)
    return ax


def make_plot_table(rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table, after a check that there are some and that they have these columns."""
    table = pd.DataFrame(rows).reset_index(drop=True)
    missing = [column for column in columns if column not in table]
    if table.empty or missing:
        raise ValueError(f"rows: expected at least one row with {', '.join(columns)}; missing: {missing or 'rows'}.")
    return table
