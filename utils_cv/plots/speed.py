"""Accuracy against latency, with the settings worth having."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from . import style

_NAME_GAP = 0.06  # between two names above the axes, as a share of their width
_MAX_NAMES = 12  # if there are more networks, only those on the front are named
_FRONT = "Pareto front: nothing is faster\nand as accurate"
_ARC: dict[str, Any] = {"color": style.GRAY, "linestyle": ":", "linewidth": 1.5}


def _find_pareto_front(latency_ms: Any, accuracy: Any) -> np.ndarray:
    """Find the settings worth having, bool (n,): no other is as fast and as accurate, and better in one of the two."""
    latency_ms, accuracy = np.asarray(latency_ms, dtype=float), np.asarray(accuracy, dtype=float)
    no_worse = (latency_ms[None] <= latency_ms[:, None]) & (accuracy[None] >= accuracy[:, None])
    better = (latency_ms[None] < latency_ms[:, None]) | (accuracy[None] > accuracy[:, None])
    return ~(no_worse & better).any(axis=1) & np.isfinite(accuracy) & np.isfinite(latency_ms)


def plot_accuracy_vs_latency(
    rows: style.Rows, ax: Axes | None = None, *, accuracy: str = "accuracy", y_label: str = "accuracy, 95 % interval"
) -> Axes:
    """Draw accuracy against latency; the line joins the settings worth having (the Pareto front).

    Each network is named once, above the axes, at its fastest setting. The shape of a point is the runtime. Filled
    points are on the front; gray ones (`is_offered` false) did not pass their check and are never on it. Networks
    without an accuracy are crosses at the bottom.

    Args:
        rows: One row per setting: `name`, `accuracy`, `accuracy_low`, `accuracy_high` (fractions), `median_ms`; where
            known `backbone` and `im_size_px`, which make a network, `runtime` and `is_offered`.
        ax: Axes to draw into and to return; by default those of a new figure.
        accuracy: Column of the accuracy, such as `valid_accuracy`; its limits are `valid_accuracy_low` and so on.
        y_label: What it is.

    Raises:
        ValueError: If there is no row, or a column is missing.

    Example:
        >>> row = {"name": "lite0", "accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94, "median_ms": 8.0}
        >>> plot_accuracy_vs_latency([row]).texts[-1].get_text()
        'lite0'
    """
    table = style.make_plot_table(rows, ("name", accuracy, f"{accuracy}_low", f"{accuracy}_high", "median_ms"))
    table = style.list_series(table, accuracy, "")[0][1].assign(network=_name_networks(table))
    table = table.assign(runtime=table.get("runtime", ""), is_offered=table.get("is_offered", True))
    table = table.astype({"runtime": str, "is_offered": bool})
    table["is_best"] = _find_pareto_front(table["median_ms"], table["value"].where(table["is_offered"]))
    table["height"] = table["value"].fillna(table["low"].fillna(1).min() - 0.02)
    markers = dict(zip(table["runtime"].unique(), style.MARKERS * len(table), strict=False))
    table = table.sort_values("median_ms", kind="stable")
    ax = style.make_axes(ax, size=(8.4, 5.4), x_label="latency, ms per image (log scale)", y_label=y_label, grid="both")
    ax.set_xscale("log")
    artists: dict[str, Line2D] = {_FRONT: _draw_lines(ax, table)}
    for row in table.itertuples():
        label, look = _describe_setting(row, markers)
        ax.plot(row.median_ms, row.height, zorder=3, **look)
        artists[label] = Line2D([], [], **{**look, "markerfacecolor": "white" if row.is_offered else style.LIGHT_GRAY})
    artists.pop("", None)  # what needs no explanation
    if table.loc[table["value"].notna(), "network"].duplicated().any():
        artists["same network and size"] = Line2D([], [], **_ARC)
    style.set_scale(ax, "x", "log")
    style.set_scale(ax, "y", "percent")
    named = table.sort_values("is_offered", ascending=False, kind="stable").drop_duplicates("network")
    _draw_names(ax, named if len(named) <= _MAX_NAMES else named[named["is_best"]])
    style.draw_legend(ax, [*artists.values()], [*artists])
    return ax


def _name_networks(table: pd.DataFrame) -> pd.Series:
    """Name the network of each setting by what tells it apart: "lite0 224 px" for "efficientnet_lite0 224 px onnx"."""
    if not {"backbone", "im_size_px"} <= set(table):
        return table["name"].astype(str)
    parts = table["backbone"].astype(str).str.rpartition("_")
    has_family = table["backbone"].nunique() > 1 and parts[0].nunique() == 1
    return (parts[2] if has_family else table["backbone"]) + table["im_size_px"].map(" {} px".format)


def _draw_lines(ax: Axes, table: pd.DataFrame) -> Line2D:
    """Draw intervals, arcs between the runtimes of a network, and the front, which is returned."""
    trained = table[table["value"].notna()]
    # Runtimes in floats give the same answers: one interval for all of them, at the fastest.
    shown = trained[trained["is_offered"]].drop_duplicates(["network", "value"])
    limits = np.abs(shown[["low", "high"]].to_numpy(float).T - shown["value"].to_numpy(float))
    ax.errorbar(shown["median_ms"], shown["value"], yerr=limits, fmt="none", ecolor=style.GRAY, elinewidth=1, capsize=3)
    # Arcs, because a straight line may pass through the point of another network that is as accurate.
    arc = {"arrowstyle": "-", "connectionstyle": "arc3,rad=0.25", **_ARC}
    for _, settings in trained.groupby("network"):
        for start, end in itertools.pairwise(settings[["median_ms", "height"]].to_numpy()):
            ax.annotate("", end, start, arrowprops=arc, zorder=1)
    front = table[table["is_best"]]
    return ax.step(front["median_ms"], front["value"], where="post", color=style.COLORS[0], linewidth=2, zorder=2)[0]


def _describe_setting(row: Any, markers: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """What the legend says about a setting, nothing if all have one runtime, and how its point looks."""
    look: dict[str, Any] = {"linestyle": "", "markersize": 10, "markeredgewidth": 1.5, "marker": markers[row.runtime]}
    if np.isnan(row.value):
        return "not trained", {**look, "marker": "x", "markeredgecolor": style.GRAY}
    if not row.is_offered:
        text = f"{row.runtime or 'gray'}: not offered, accuracy\nor speed not confirmed"
        return text, {**look, "markeredgecolor": style.GRAY, "markerfacecolor": style.LIGHT_GRAY}
    face = style.COLORS[0] if row.is_best else "white"
    return row.runtime * (len(markers) > 1), {**look, "markeredgecolor": style.INK, "markerfacecolor": face}


def _draw_names(ax: Axes, named: pd.DataFrame) -> None:
    """Write the names above the axes, far enough from each other, each with a thin line to its point."""
    named = named.sort_values("median_ms", kind="stable")
    points = ax.transData.transform(named[["median_ms", "height"]].to_numpy())
    steps = _NAME_GAP * np.arange(len(named))
    ends = np.maximum.accumulate(ax.transAxes.inverted().transform(points)[:, 0] - steps) + steps
    ends = np.minimum(ends, 1 - steps[::-1])
    line = {"arrowstyle": "-", "color": style.LIGHT_GRAY, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    text = style.get_text_style(rotation=40, rotation_mode="anchor", ha="left", va="bottom")
    for end, row in zip(ends, named.itertuples(), strict=True):
        ax.annotate("", (row.median_ms, row.height), (end, 1.0), textcoords="axes fraction", arrowprops=line, zorder=0)
        ax.text(end, 1.01, style.shorten([row.network], 30)[0], transform=ax.transAxes, **text)
