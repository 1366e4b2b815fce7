"""Lines: what changes with the number of images, the epoch, the size of a batch and so on."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import style

_MAX_MARKERS = 12  # on a line; one with more points is drawn without, and its limits as a band


def plot_lines(
    rows: style.Rows,
    ax: Axes | None = None,
    *,
    x: str,
    y: style.Columns = "accuracy",
    name: str = "name",
    x_label: str = "",
    y_label: str = "",
    x_scale: style.Scale = "number",
    y_scale: style.Scale = "percent",
    count: str = "",
) -> Axes:
    """Draw a line for each name, with the limits of its points where the rows hold them.

    Limits are drawn as bars, those of a line of more than 12 points as a band.

    Args:
        rows: A table, or its rows. The limits of a column such as `accuracy` are `accuracy_low` and `accuracy_high`,
            those of the column `value` are `low` and `high`.
        ax: Axes to draw into and to return; by default those of a new figure.
        x: Column of the horizontal axis.
        y: Column of the vertical axis, one line for each `name`; or several columns and what they are called in the
            figure, one line each.
        name: Column that names the lines; without such a column there is one line.
        x_label: What `x` is, with its unit; by default the name of the column.
        y_label: What the values are, with their unit; by default the name of the column, and that limits are of 95 %.
        x_scale: "number", "percent" for fractions in [0, 1], "points" for differences of fractions, or "log".
        y_scale: The same for the vertical axis; a "number" is drawn from 0 on.
        count: Column with the number of images behind each `x`, written below it.

    Raises:
        ValueError: If there is no row, or a column is missing.

    Example:
        >>> rows = [{"n_images": n, "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95} for n in (10, 20)]
        >>> ax = plot_lines(rows, x="n_images", x_scale="log")
        >>> [tick.get_text() for tick in ax.get_xticklabels()], ax.get_xlabel()
        (['10', '20'], 'n images')
    """
    columns = [y] if isinstance(y, str) else list(y)
    table = style.make_plot_table(rows, [x, *columns])
    series = [(label, line.sort_values(x, kind="stable")) for label, line in style.list_series(table, y, name)]
    has_limits = [line["low"].notna().any() for _, line in series]
    y_label = y_label or columns[0].replace("_", " ") + (", 95 % interval" if any(has_limits) else "")
    size = (6.4 + (0.6 + style.LETTER_INCHES * max(len(label) for label, _ in series)) * (len(series) > 1), 4.0)
    ax = style.make_axes(ax, size=size, x_label=x_label or x.replace("_", " "), y_label=y_label, grid="y")
    ax.set_xscale("log" if x_scale == "log" else "linear")
    low, high = table[x].min(), table[x].max()
    has_bars = [is_known and len(line) <= _MAX_MARKERS for is_known, (_, line) in zip(has_limits, series, strict=True)]
    artists = []
    for i, (_, line) in enumerate(series):
        at = line[x].to_numpy(float)
        if has_bars[i]:  # bars of several lines stand side by side
            share = 0.012 * (sum(has_bars[:i]) - (sum(has_bars) - 1) / 2)
            at = at * (high / low) ** share if x_scale == "log" else at + (high - low) * share
        artists.append(_draw_line(ax, at, line, i))
    style.set_scale(ax, "x", x_scale, table[x])
    style.set_scale(ax, "y", y_scale)
    if y_scale == "number" and table[columns].min().min() >= 0:
        ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    if count:
        points, write = series[0][1], ax.xaxis.get_major_formatter()
        counts = [f"{write(round(at, 2))}\nn = {n}" for at, n in zip(points[x], points[count], strict=True)]
        ax.set_xticks(points[x], counts)
    if len(series) > 1:
        title = name.replace("_", " ") if isinstance(y, str) and name != "name" else ""
        style.draw_legend(ax, artists, [label for label, _ in series], title=title)
    return ax


def _draw_line(ax: Axes, at: np.ndarray, line: pd.DataFrame, index: int) -> Any:
    """Draw one line with its limits, and return what stands for it in the legend."""
    styles = {"color": style.COLORS, "marker": style.MARKERS, "linestyle": style.LINE_STYLES}
    look: dict[str, Any] = {name: kinds[index % len(kinds)] for name, kinds in styles.items()}  # two of three differ
    values = line["value"].to_numpy(float)
    has_limits = line["low"].notna().any()
    if len(line) > _MAX_MARKERS:
        if has_limits:
            ax.fill_between(at, line["low"], line["high"], color=look["color"], alpha=0.15, linewidth=0)
        return ax.plot(at, values, linewidth=2, **{**look, "marker": ""})[0]
    limits = np.abs(line[["low", "high"]].to_numpy(float).T - values) if has_limits else None
    return ax.errorbar(at, values, yerr=limits, linewidth=2, elinewidth=1, capsize=4, markersize=7, **look)
