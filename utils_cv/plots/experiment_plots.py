"""Figures of experiments: differences with their intervals, times by stage, rates, accuracy by object width, distances.

Every function draws what a study in `utils_cv.studies` returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from .study_plots import Rows, make_plot_table
from .style import (
    COLORS,
    FONT_SIZE,
    GREY,
    HATCHES,
    INK,
    draw_grid,
    draw_legend,
    format_percent,
    get_style,
    make_axes,
    make_axes_grid,
    shorten,
    use_percent,
)


def plot_differences(rows: Rows, *, panel: str = "", x_label: str = "change of accuracy") -> np.ndarray:
    """Differences with their 95 % intervals and a line at 0; filled points are those whose interval leaves 0 out.

    Args:
        rows: `name`, `value`, `low`, `high` each, differences of fractions, and the column `panel`.
        panel: Column whose values get axes of their own, side by side; "" draws one.
        x_label: What is measured.

    Returns:
        The axes, one for each panel.

    Example:
        >>> axes = plot_differences([{"name": "mirror", "value": 0.02, "low": -0.01, "high": 0.05}])
    """
    table = make_plot_table(rows, ("name", "value", "low", "high"))
    panels = list(table.groupby(panel, sort=False)) if panel else [("", table)]
    n_rows = max(len(part) for _, part in panels)
    axes = make_axes_grid(1, len(panels), width=2.4 + 2.9 * len(panels), height=0.36 * n_rows + 1.2)[0]
    reach = 1.1 * float(np.abs(table[["low", "high", "value"]].to_numpy()).max()) or 0.1
    for k, (ax, (title, part)) in enumerate(zip(axes, panels, strict=True)):
        make_axes(ax, title=str(title), x_label=f"{x_label}, 95 % interval" if k == 0 else x_label)
        ax.axvline(0, color=GREY, linewidth=1)
        for position, row in enumerate(part.to_dict("records")):
            is_shown = row["low"] > 0 or row["high"] < 0
            color = COLORS[0] if row["value"] >= 0 else COLORS[1]
            limits = np.abs([[row["low"] - row["value"]], [row["high"] - row["value"]]])
            style: dict[str, Any] = {"markerfacecolor": color if is_shown else "white", "markeredgecolor": color}
            ax.errorbar(
                row["value"], position, xerr=limits, fmt="o", color=color, markersize=8, capsize=4, linewidth=2, **style
            )
        ax.set_yticks(range(len(part)), shorten(part["name"].tolist(), 30) if k == 0 else [""] * len(part))
        ax.set_ylim(len(part) - 0.5, -0.5)
        ax.set_xlim(-reach, reach)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}" if value else "0"))
        draw_grid(ax, "x")
    axes[0].set_xlabel(f"{x_label}, points, 95 % interval", fontsize=FONT_SIZE, color=INK)
    for ax in axes[1:]:
        ax.set_xlabel("points", fontsize=FONT_SIZE, color=INK)
    return axes


def plot_opening(rows: Rows, ax: Axes | None = None) -> Axes:
    """How many images a second are opened against their size in megapixels, a line for each way of opening.

    Args:
        rows: Of `utils_cv.studies.training_speed.measure_opening`.
        ax: Axes to draw into; None makes a figure.

    Example:
        >>> row = {"megapixels": 12.0, "way": "decode reduced", "images_per_second": 40.0}
        >>> ax = plot_opening([row, row | {"megapixels": 24.0, "images_per_second": 20.0}])
    """
    table = make_plot_table(rows, ("megapixels", "way", "images_per_second"))
    ax = make_axes(
        ax, x_label="size of an image, megapixels (log scale)", y_label="images opened a second, 1 thread (log scale)"
    )
    for i, (way, line) in enumerate(table.groupby("way", sort=False)):
        line = line.sort_values("megapixels")
        ax.plot(line["megapixels"], line["images_per_second"], label=way, linewidth=2, markersize=7, **get_style(i))
    _use_plain_log(ax, "x", sorted(table["megapixels"].unique()))
    _use_plain_log(ax, "y")
    draw_grid(ax, "both")
    draw_legend(ax)
    return ax


def plot_stages(rows: Rows, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Where the time goes: one bar for each kind, made of its stages, in ms per image.

    Args:
        rows: Of `utils_cv.studies.epoch_stages.measure_stages`: `kind`, `stage`, `ms`.
        ax: Axes to draw into; None makes a figure.
        title: Above the axes.

    Example:
        >>> row = {"kind": "small files", "stage": "read", "ms": 1.0}
        >>> ax = plot_stages([row, row | {"stage": "decode", "ms": 4.0}])
    """
    table = make_plot_table(rows, ("kind", "stage", "ms"))
    kinds, stages = list(table["kind"].unique()), list(table["stage"].unique())
    wide = table.pivot(index="kind", columns="stage", values="ms").loc[kinds, stages].fillna(0)
    ax = make_axes(ax, width=7.4, height=0.6 * len(kinds) + 1.4, title=title, x_label="ms per image")
    left = np.zeros(len(kinds))
    for i, stage in enumerate(stages):
        style: dict[str, Any] = {"color": COLORS[(0, 5, 2, 4, 1)[i % 5]], "hatch": HATCHES[i % 4]}
        ax.barh(kinds, wide[stage], left=left, label=stage, edgecolor="white", **style)
        left = left + wide[stage].to_numpy()
    for position, total in enumerate(left):
        text: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": FONT_SIZE, "color": INK}
        ax.annotate(f"{total:.3g} ms", (total, position), (5, 0), **text)
    ax.set_xlim(0, 1.15 * left.max())
    ax.invert_yaxis()
    draw_grid(ax, "x")
    draw_legend(ax, outside=True)
    return ax


def plot_rates(rows: Rows, ax: Axes | None = None, *, name: str = "storage", kind: str = "kind") -> Axes:
    """Images a second on a logarithmic axis, a row for each `name` and a mark for each `kind`.

    Args:
        rows: `name`, `kind` and `images_per_second`, as `utils_cv.studies.training_speed.measure_storages` returns.
        ax: Axes to draw into; None makes a figure.
        name: Column of the rows of the figure.
        kind: Column of the marks.

    Example:
        >>> ax = plot_rates([{"storage": "hard disk", "kind": "small files", "images_per_second": 90.0}])
    """
    table = make_plot_table(rows, (name, kind, "images_per_second"))
    names = list(table[name].unique())
    ax = make_axes(ax, width=7.4, height=0.42 * len(names) + 1.3, x_label="images opened a second (log scale)")
    for i, (label, part) in enumerate(table.groupby(kind, sort=False)):
        style = get_style(i) | {"linestyle": "none"}
        ax.plot(
            part["images_per_second"], [names.index(value) for value in part[name]], label=label, markersize=9, **style
        )
    _use_plain_log(ax, "x")
    ax.set_yticks(range(len(names)), shorten(names, 40))
    ax.set_ylim(len(names) - 0.5, -0.5)
    draw_grid(ax, "both")
    draw_legend(ax, outside=True)
    return ax


def plot_accuracy_by_width(rows: Rows, ax: Axes | None = None, *, rule: float = 0.2) -> Axes:
    """Accuracy against the width of the object as a share of the image's width, a line for each input size.

    Args:
        rows: Of `utils_cv.studies.shifts.measure_accuracy_by_width`: `name`, `mean_width`, `n`, `accuracy`,
            `accuracy_low`, `accuracy_high`.
        ax: Axes to draw into; None makes a figure.
        rule: Where to draw the rule of thumb, a fraction.

    Example:
        >>> row = {"name": "224 px", "mean_width": 0.15, "n": 40, "accuracy": 0.8}
        >>> ax = plot_accuracy_by_width([row | {"accuracy_low": 0.7, "accuracy_high": 0.9}])
    """
    table = make_plot_table(rows, ("name", "mean_width", "n", "accuracy", "accuracy_low", "accuracy_high"))
    ax = make_axes(ax, x_label="width of the object, share of the image's width", y_label="accuracy, 95 % interval")
    ax.axvline(rule, color=GREY, linewidth=1.5, linestyle="--")
    names = list(table["name"].unique())
    for i, (name, line) in enumerate(table.groupby("name", sort=False)):
        limits = np.abs(line[["accuracy_low", "accuracy_high"]].to_numpy().T - line["accuracy"].to_numpy())
        shift = 0.002 * (i - 0.5 * (len(names) - 1))  # intervals of several lines stay side by side
        style: dict[str, Any] = {"markersize": 7, "capsize": 4, "linewidth": 2, "elinewidth": 1, **get_style(i)}
        ax.errorbar(line["mean_width"] + shift, line["accuracy"], yerr=limits, label=str(name), **style)
    low, _ = ax.get_ylim()
    for width, n in table[table["name"] == names[0]][["mean_width", "n"]].to_numpy():
        ax.annotate(f"n = {n:.0f}", (width, low), ha="center", va="bottom", fontsize=FONT_SIZE, color=GREY)
    ax.annotate(f" rule: {format_percent(rule)}", (rule, 1.0), xycoords=("data", "axes fraction"), va="bottom",
                fontsize=FONT_SIZE, color=GREY)  # fmt: skip
    use_percent(ax.xaxis)
    use_percent(ax.yaxis)
    draw_grid(ax, "y")
    draw_legend(ax, outside=True)
    return ax


def plot_distances(
    groups: Mapping[str, Any], threshold: float, ax: Axes | None = None, *, x_label: str = "distance", seed: int = 0
) -> Axes:
    """One dot an image, a row for each group of images, and how many lie beyond the threshold.

    Args:
        groups: Name of the group to the scores of its images.
        threshold: Beyond it an image counts as new.
        ax: Axes to draw into; None makes a figure.
        x_label: What the scores are.
        seed: Of the heights of the dots, which mean nothing.

    Example:
        >>> ax = plot_distances({"test": [0.1, 0.2], "mugs": [0.4, 0.5]}, threshold=0.3)
    """
    if not groups:
        raise ValueError("groups: expected at least one group of images, got none.")
    ax = make_axes(ax, width=7.4, height=0.55 * len(groups) + 1.2, x_label=x_label)
    rng = np.random.default_rng(seed)
    labels = []
    for position, (name, values) in enumerate(groups.items()):
        scores = np.asarray(values, float)
        is_beyond = scores > threshold
        heights = position + rng.uniform(-0.3, 0.3, len(scores))
        for mask, color, marker in ((~is_beyond, COLORS[0], "o"), (is_beyond, COLORS[1], "^")):
            ax.scatter(scores[mask], heights[mask], s=16, color=color, marker=marker, alpha=0.6, linewidths=0)
        labels.append(f"{name} (n = {len(scores)}): {format_percent(float(is_beyond.mean()))} beyond")
    ax.axvline(threshold, color=INK, linewidth=1.5, linestyle="--")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    return ax


def _use_plain_log(ax: Axes, which: str, ticks: Sequence[float] = ()) -> None:
    """Logarithmic axis with plain numbers."""
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    if len(ticks):
        axis.set_ticks(list(ticks))
    else:
        low, high = axis.get_data_interval()
        low, high = (low / 1.3, high * 1.3) if low < high else (low / 3, high * 3)
        digits = (1, 2, 5) if high / low < 200 else (1,)
        powers = [digit * 10.0**power for power in range(-4, 7) for digit in digits]
        axis.set_ticks([tick for tick in powers if low <= tick <= high])
        (ax.set_xlim if which == "x" else ax.set_ylim)(low, high)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def make_difference_rows(table: pd.DataFrame, name: str, *, keep: Sequence[str] = ()) -> pd.DataFrame:
    """Rename `difference`, `difference_low` and `difference_high` of a study to what `plot_differences` takes.

    Args:
        table: Rows of a study; those with `verdict` "baseline" are left out.
        name: Column that names the rows.
        keep: More columns to keep, such as the panel.
    """
    rows = table[table["verdict"] != "baseline"] if "verdict" in table else table
    columns = {name: "name", "difference": "value", "difference_low": "low", "difference_high": "high"}
    return rows[[*columns, *keep]].rename(columns=columns)
