"""Figure of the accuracy-vs-speed study: accuracy against latency, with the settings worth having."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from .label_placement import place_labels
from .style import (
    COLORS,
    FONT_SIZE,
    GREY,
    INK,
    LIGHT_GREY,
    MARKERS,
    Rows,
    draw_grid,
    make_axes,
    make_plot_table,
    use_percent,
)


def find_pareto_front(latency_ms: Any, accuracy: Any) -> np.ndarray:
    """Which settings are worth having: no other is at least as fast and as accurate, and better in one of the two.

    Args:
        latency_ms: (n,), lower is better.
        accuracy: (n,), higher is better; NaN is never on the front.

    Returns:
        bool (n,).

    Example:
        >>> find_pareto_front([5, 10, 20], [0.8, 0.9, 0.85]).tolist()
        [True, True, False]
    """
    latency_ms, accuracy = np.asarray(latency_ms, dtype=float), np.asarray(accuracy, dtype=float)
    no_worse = (latency_ms[None] <= latency_ms[:, None]) & (accuracy[None] >= accuracy[:, None])
    better = (latency_ms[None] < latency_ms[:, None]) | (accuracy[None] > accuracy[:, None])
    return ~(no_worse & better).any(axis=1) & np.isfinite(accuracy) & np.isfinite(latency_ms)


def plot_accuracy_vs_latency(rows: Rows, ax: Axes | None = None, *, latency: str = "median_ms") -> Axes:
    """Accuracy against latency, every setting with its label; the line joins the settings worth having.

    Where `backbone`, `im_size_px` and `runtime` are given, labels are short: what all settings share is left out, and
    so is the runtime, which the shape of the point tells, unless nothing else differs.

    Filled points are on the Pareto front, open points are beaten by one of them; crosses at the bottom were timed
    but not trained (accuracy NaN). Settings with `is_offered` false get a star and are never on the front. The area of
    a point is its size in MB, its shape the runtime.

    Args:
        rows: `name`, `accuracy`, `accuracy_low`, `accuracy_high` (fractions), the latency, and where known `size_mb`,
            `runtime` and `is_offered`, one row a setting.
        ax: Axes to draw into; None makes a figure.
        latency: Column of the horizontal axis, milliseconds.

    Example:
        >>> row = {"name": "lite0", "accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.94, "median_ms": 8.0}
        >>> ax = plot_accuracy_vs_latency([row])
    """
    table = make_plot_table(rows, ("name", "accuracy", "accuracy_low", "accuracy_high", latency))
    table = table.assign(is_offered=table.get("is_offered", True)).astype({"is_offered": bool})
    trained = table[table["accuracy"].notna()]
    ax = make_axes(
        ax, width=8.2, height=5.2, x_label="latency, ms per image (log scale)", y_label="accuracy, 95 % interval"
    )
    ax.set_xscale("log")
    areas = _scale_areas(table)
    is_best = find_pareto_front(table[latency], table["accuracy"].where(table["is_offered"]))
    front = table[is_best].sort_values(latency)
    ax.step(
        front[latency], front["accuracy"], where="post", color=COLORS[0], linewidth=1.5, zorder=1, label="Pareto front"
    )
    limits = np.abs(trained[["accuracy_low", "accuracy_high"]].to_numpy().T - trained["accuracy"].to_numpy())
    ax.errorbar(
        trained[latency], trained["accuracy"], yerr=limits, fmt="none", ecolor=GREY, elinewidth=1, capsize=3, zorder=2
    )
    floor = np.nanmin([*trained["accuracy_low"], 1.0]) - 0.03
    heights = table["accuracy"].fillna(floor)
    runtimes = table["runtime"].astype(str) if "runtime" in table else pd.Series("", index=table.index)
    markers = dict(zip(runtimes.unique(), [*MARKERS] * len(runtimes), strict=False))
    for i in range(len(table)):
        is_trained = bool(pd.notna(table["accuracy"].iloc[i]))
        face = COLORS[0] if is_best[i] else "white"
        style: dict[str, Any] = {"facecolors": face, "edgecolors": INK} if is_trained else {"color": GREY}
        marker = markers[runtimes.iloc[i]] if is_trained else "x"
        ax.scatter(
            table[latency].iloc[i], heights.iloc[i], s=areas[i], marker=marker, linewidths=1.5, zorder=3, **style
        )
    _set_limits(ax, table[latency], np.append(trained[["accuracy_low", "accuracy_high"]].to_numpy(), heights))
    _draw_key(ax, table, areas, markers)
    names = [
        f"{name} (not trained)" if pd.isna(score) else name if offered else f"{name}*"
        for name, score, offered in zip(_shorten_names(table), table["accuracy"], table["is_offered"], strict=True)
    ]
    radii = np.sqrt(areas / np.pi) + 1
    place_labels(
        ax, table[latency], heights, names, radii=radii, obstacles=_list_obstacles(ax, trained, front, latency)
    )
    return ax


def _shorten_names(table: pd.DataFrame) -> list[str]:
    """Name settings by what tells them apart: "lite0 224 px" for "efficientnet_lite0 224 px int8"."""
    if not {"backbone", "im_size_px", "runtime"} <= set(table):
        return table["name"].astype(str).tolist()
    if table[["backbone", "im_size_px"]].drop_duplicates().shape[0] == 1 < len(table):
        return table["runtime"].astype(str).tolist()
    columns = [table["im_size_px"].map("{} px".format)]
    backbones = table["backbone"].astype(str)
    if backbones.nunique() > 1:
        family, _, member = (column for _, column in backbones.str.rpartition("_").items())
        columns.insert(0, member if family.nunique() == 1 else backbones)
    return [" ".join(words) for words in zip(*columns, strict=True)]


def _scale_areas(table: pd.DataFrame) -> np.ndarray:
    """Marker areas in square points, in proportion to the size in MB but never too small to see."""
    if "size_mb" not in table or table["size_mb"].isna().all():
        return np.full(len(table), 70.0)
    size_mb = table["size_mb"].to_numpy(dtype=float)
    is_drawn = table["accuracy"].notna().to_numpy() & np.isfinite(size_mb)
    largest = size_mb[is_drawn].max(initial=1e-9)
    return np.where(is_drawn, np.maximum(size_mb / largest * 450, 25), 70.0)


def _set_limits(ax: Axes, latency_ms: pd.Series, heights: np.ndarray) -> None:
    """Room for labels on all sides, plain numbers on the logarithmic axis, no accuracy above 100 %."""
    ratio = max(latency_ms.max() / latency_ms.min(), 1.5)
    ax.set_xlim(latency_ms.min() / ratio**0.25, latency_ms.max() * ratio**0.25)
    span = max(np.nanmax(heights) - np.nanmin(heights), 0.05)
    ax.set_ylim(np.nanmin(heights) - 0.1 * span, np.nanmax(heights) + 0.12 * span)
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= 1.0 + 1e-9 and tick >= ax.get_ylim()[0]])
    low, high = ax.get_xlim()
    digits = (1, 2, 5) if high / low > 10 else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [digit * 10.0**power for power in range(-4, 7) for digit in digits]
    ax.set_xticks([tick for tick in ticks if low <= tick <= high])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    use_percent(ax.yaxis)
    draw_grid(ax, "both")


def _draw_key(ax: Axes, table: pd.DataFrame, areas: np.ndarray, markers: Mapping[str, str]) -> None:
    """What line, shapes and areas mean; the areas of the smallest and the largest size as examples."""
    handles = [Line2D([], [], color=COLORS[0], linewidth=1.5, label="Pareto front")]
    empty: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markeredgecolor": INK}
    if len(markers) > 1:
        handles += [
            Line2D([], [], marker=marker, markersize=8, label=name, **empty) for name, marker in markers.items()
        ]
    if not table.loc[table["accuracy"].notna(), "is_offered"].all():
        handles.append(Line2D([], [], linestyle="none", label="* not offered"))
    sizes = table["size_mb"].where(table["accuracy"].notna()).to_numpy(dtype=float) if "size_mb" in table else []
    if np.isfinite(sizes).any():
        smallest, largest = np.nanargmin(sizes), np.nanargmax(sizes)
        for i in dict.fromkeys((smallest, largest)):
            style: dict[str, Any] = {"linestyle": "none", "markerfacecolor": LIGHT_GREY, "markeredgecolor": LIGHT_GREY}
            diameter = 2 * np.sqrt(areas[i] / np.pi)
            handles.append(Line2D([], [], marker="o", markersize=diameter, label=f"area: {sizes[i]:.3g} MB", **style))
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=FONT_SIZE, labelcolor=INK,
        facecolor="white", edgecolor=LIGHT_GREY, labelspacing=1.0, borderpad=0.8,
    )  # fmt: skip


def _list_obstacles(ax: Axes, trained: pd.DataFrame, front: pd.DataFrame, latency: str) -> np.ndarray:
    """Boxes in pixels (n, 4) of the intervals and of the steps of the front, which labels should not cover."""
    ax.figure.figure.draw_without_rendering()
    lines = [
        ((row[latency], row["accuracy_low"]), (row[latency], row["accuracy_high"])) for _, row in trained.iterrows()
    ]
    corners = list(zip(front[latency], front["accuracy"], strict=True))
    for (x_left, y_left), (x_right, y_right) in itertools.pairwise(corners):
        lines += [((x_left, y_left), (x_right, y_left)), ((x_right, y_left), (x_right, y_right))]
    ends = ax.transData.transform(np.array(lines).reshape(-1, 2)).reshape(-1, 2, 2)  # (n, end, x and y)
    return np.column_stack([ends.min(axis=1) - 2, ends.max(axis=1) + 2])
