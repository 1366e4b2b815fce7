"""Scores: points with their intervals, stacked bars, confusion matrix, precision-recall curves."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import style

_MAX_MATRIX_INCHES = 13.0  # side of a confusion matrix with numbers
_BAR_COLORS = [style.COLORS[i] for i in (0, 5, 4, 2, 1)]
_HATCHES = ("", "///", "...", "xxx")


def plot_scores(
    rows: style.Rows,
    ax: Axes | None = None,
    *,
    name: str = "name",
    value: style.Columns = "value",
    group: str = "group",
    x_label: str = "accuracy",
    x_scale: style.Scale = "percent",
    title: str = "",
    count: str = "",
) -> Axes:
    """Draw scores or differences below each other as points, with their 95 % intervals where the rows hold them.

    Of many names the first 40 are drawn. With `x_scale="points"` there is a line at 0, and points whose interval
    holds 0 are open: such a difference is not shown.

    Args:
        rows: A table, or its rows; `{"name": "probe", **score._asdict()}` makes one. The limits of a column such as
            `recall` are `recall_low` and `recall_high`, those of the column `value` are `low` and `high`.
        ax: Axes to draw into and to return; by default those of a new figure.
        name: Column that names the rows of the figure, from the top.
        value: Column of the scores; or several columns and what they are called in the figure.
        group: Column whose values get points of their own in each row; without such a column there is one.
        x_label: What is measured.
        x_scale: "percent" for fractions in [0, 1], "points" for differences of fractions, "number", or "log".
        title: Above the axes.
        count: Column with the number of images behind each row, written beside its name.

    Raises:
        ValueError: If there is no row, or a column is missing.

    Example:
        >>> ax = plot_scores([{"name": "probe", "value": 0.9, "low": 0.8, "high": 0.95}])
        >>> ax.texts[0].get_text()
        '90.0 %'
    """
    table = style.make_plot_table(rows, [name, *([value] if isinstance(value, str) else value)])
    n_all, names = table[name].nunique(), table[name].unique()[: style.MAX_NAMES]
    table = table[table[name].isin(names)]
    labels = style.shorten(names, 40)
    if count:
        counts = table.groupby(name, sort=False)[count].first()
        labels = [f"{label} (n = {n})" for label, n in zip(labels, counts, strict=True)]
    title += f"\nthe first {len(names)} of {n_all}" if n_all > len(names) else ""
    series = style.list_series(table, value, group)
    unit = ", percentage points" if x_scale == "points" else ""
    if x_scale in ("percent", "points") and any(part["low"].notna().any() for _, part in series):
        unit += ", 95 % interval"
    width = 5.0 + 1.2 * (len(series) > 1) + style.LETTER_INCHES * max(map(len, labels))
    size = (width, min((0.26 + 0.12 * len(series)) * len(names) + 1.0, 15.5))
    ax = style.make_axes(ax, size=size, title=title.strip(), x_label=f"{x_label}{unit}", grid="x")
    if x_scale == "points":
        ax.axvline(0, color=style.GRAY, linewidth=1)
    artists = []
    for i, (_, part) in enumerate(series):
        at = pd.Index(names).get_indexer(part[name]) + 0.6 * ((i + 0.5) / len(series) - 0.5)
        artists.append(_draw_points(ax, part, at, i, is_difference=x_scale == "points"))
        if len(series) == 1 and x_scale == "percent":
            for end, position, score in zip(part[["value", "high"]].max(axis=1), at, part["value"], strict=True):
                _write_beside(ax, f"{100 * score:.1f} %", end, position)
    style.name_ticks(ax.yaxis, labels, 60)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.margins(x=0.12)
    style.set_scale(ax, "x", x_scale)
    if len(series) > 1:
        title = "" if group == "group" else group.replace("_", " ")
        style.draw_legend(ax, artists, [label for label, _ in series], title=title)
    return ax


def plot_bars(
    rows: style.Rows,
    ax: Axes | None = None,
    *,
    name: str = "name",
    part: str = "part",
    value: str = "value",
    x_label: str = "",
    title: str = "",
) -> Axes:
    """Draw stacked bars below each other, with their sums.

    Args:
        rows: One row per part of a bar.
        ax: Axes to draw into and to return; by default those of a new figure.
        name: Column that names the bars, from the top.
        part: Column that names the parts, from the left.
        value: Column of their lengths.
        x_label: What the lengths are, with their unit.
        title: Above the axes.

    Raises:
        ValueError: If there is no row, or a column is missing.

    Example:
        >>> rows = [{"name": "small files", "part": part, "value": ms} for part, ms in (("read", 1), ("decode", 4))]
        >>> plot_bars(rows, x_label="ms per image").texts[0].get_text()
        '5'
    """
    table = style.make_plot_table(rows, (name, part, value))
    wide = table.pivot_table(index=name, columns=part, values=value, aggfunc="sum", fill_value=0, sort=False)
    names = style.shorten(wide.index, 30)
    size = (5.8 + style.LETTER_INCHES * max(map(len, names)), 0.38 * len(wide) + 1.2)
    ax = style.make_axes(ax, size=size, title=title, x_label=x_label, grid="x")
    positions, left, artists = np.arange(len(wide)), np.zeros(len(wide)), []
    for i, label in enumerate(wide):
        look: Any = {"color": _BAR_COLORS[i % len(_BAR_COLORS)], "hatch": _HATCHES[i % len(_HATCHES)]}
        artists.append(ax.barh(positions, wide[label], left=left, edgecolor="white", **look))
        left = left + wide[label].to_numpy(float)
    for position, total in enumerate(left):
        _write_beside(ax, f"{total:.0f}" if total >= 1000 else f"{total:.3g}", total, position)
    style.name_ticks(ax.yaxis, names, 30)
    ax.set(xlim=(0, max(left.max(), 1e-9) * 1.15), ylim=(len(wide) - 0.5, -0.5))
    style.set_scale(ax, "x", "number")
    if len(artists) > 1:
        style.draw_legend(ax, artists, [str(label) for label in wide])
    return ax


def plot_confusion(
    confusion: pd.DataFrame, ax: Axes | None = None, *, title: str = "Images by true and predicted class"
) -> Axes:
    """Draw a confusion matrix, or how many images have two labels; darker is a larger share of the row.

    Up to about 40 classes every cell holds its number of images. Above, the pairs of classes that are confused most
    often are listed above the matrix, and only some classes are named at its sides.

    Args:
        confusion: From `utils_cv.evaluation.metrics.compute_confusion`: rows true, columns predicted. Names of its
            index and its columns name the axes.
        ax: Axes to draw into and to return; by default those of a new figure of at most 16 inches a side.
        title: Above the axes.

    Raises:
        ValueError: If the table is empty or not square.

    Example:
        >>> ax = plot_confusion(pd.DataFrame([[8, 2], [1, 9]], ["can", "carton"], ["can", "carton"]))
        >>> [text.get_text() for text in ax.texts]
        ['8', '2', '1', '9']
    """
    counts, n_classes = confusion.to_numpy(), len(confusion)
    if counts.shape != (n_classes, n_classes) or n_classes == 0:
        raise ValueError(f"confusion: expected a square table, got {counts.shape}; compute_confusion makes it.")
    cell_inches = max(0.32, style.LETTER_INCHES * len(str(counts.max())) + 0.1, 2.4 / n_classes)
    has_numbers = cell_inches * n_classes <= _MAX_MATRIX_INCHES
    side = cell_inches * n_classes if has_numbers else 9.0
    title += "" if has_numbers else f"\n{_list_confused(confusion)}"
    words: dict[str, Any] = {
        "x_label": confusion.columns.name or "predicted",
        "y_label": confusion.index.name or "true",
    }
    ax = style.make_axes(ax, size=(side + 1.9, side + 1.2), title=title, **words)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shade = share if has_numbers else np.sqrt(share)  # else a few errors among many classes would be too faint to see
    ax.imshow(shade, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for row, column in np.ndindex(counts.shape) if has_numbers else ():
        if n_classes <= 12 or counts[row, column]:  # a large matrix reads better without its zeros
            text = style.get_text_style(color="white" if share[row, column] > 0.55 else style.INK)
            ax.text(column, row, str(counts[row, column]), ha="center", va="center", **text)
    every = 1 if has_numbers else -(-n_classes // style.MAX_NAMES)
    is_wide = max(len(str(label)) for label in confusion.columns) * style.LETTER_INCHES > cell_inches
    slant: dict[str, Any] = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if has_numbers else {"rotation": 90}
    )
    slant = slant if is_wide else {}
    style.name_ticks(ax.xaxis, confusion.columns, 20, every=every, **slant)
    style.name_ticks(ax.yaxis, confusion.index, 20, every=every)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _draw_points(ax: Axes, part: pd.DataFrame, at: np.ndarray, index: int, *, is_difference: bool) -> Any:
    """Draw the points of one series at these heights, with their limits, and return what stands for it."""
    color, values = style.COLORS[index % len(style.COLORS)], part["value"].to_numpy(float)
    if part["low"].notna().any():
        limits = np.abs(part[["low", "high"]].to_numpy(float).T - values)
        ax.errorbar(values, at, xerr=limits, fmt="none", ecolor=color, elinewidth=2, capsize=4)
    is_open = is_difference & ((part["low"] <= 0) & (part["high"] >= 0)).to_numpy()
    look: dict[str, Any] = {"linestyle": "", "marker": style.MARKERS[index % len(style.MARKERS)], "color": color}
    look |= {"markersize": 8, "markeredgewidth": 2}
    ax.plot(values[is_open], at[is_open], markerfacecolor="white", **look)
    return ax.plot(values[~is_open], at[~is_open], **look)[0]


def _write_beside(ax: Axes, text: str, x: float, y: float) -> None:
    ax.annotate(text, (x, y), (8, 0), textcoords="offset points", va="center", **style.get_text_style())


def _list_confused(confusion: pd.DataFrame) -> str:
    """The five pairs of a true and a predicted class with the most images, one per line."""
    counts = confusion.to_numpy() * ~np.eye(len(confusion), dtype=bool)
    pairs = [divmod(int(i), len(counts)) for i in np.argsort(-counts, axis=None, kind="stable")[:5]]
    true, predicted = (style.shorten(names, 17) for names in (confusion.index, confusion.columns))
    lines = [f"{true[i]} taken for {predicted[j]}: {counts[i, j]}" for i, j in pairs if counts[i, j]]
    return "\n".join(["Most often confused:", *lines] if lines else ["No class is taken for another."])
