"""Figures of scores: confusion matrix, scores by class, precision-recall curves, reliability. Axes in, axes out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from .style import (
    COLORS,
    FONT_SIZE,
    GREY,
    INK,
    Rows,
    draw_grid,
    draw_legend,
    format_percent,
    get_style,
    make_axes,
    make_axes_grid,
    make_plot_table,
    shorten,
    use_percent,
)

N_CURVES = 6  # more lines in one figure cannot be told apart


def plot_confusion(confusion: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Confusion matrix with the number of images in every cell; darker is a larger share of the true class.

    Args:
        confusion: From `metrics.compute_confusion`: rows true, columns predicted.
        ax: Axes to draw into; None makes a figure that grows with the number of classes.

    Example:
        >>> ax = plot_confusion(pd.DataFrame([[8, 2], [1, 9]], ["can", "carton"], ["can", "carton"]))
        >>> ax.get_xlabel()
        'predicted'
    """
    counts = confusion.to_numpy()
    n_classes = len(counts)
    if counts.ndim != 2 or counts.shape != (n_classes, n_classes) or n_classes == 0:
        raise ValueError(f"confusion: expected a square table, got {counts.shape}; compute_confusion makes it.")
    n_digits = len(str(counts.max()))
    cell_inches = max(0.42, 0.12 * n_digits + 0.2, 2.4 / n_classes)
    side = cell_inches * n_classes
    ax = make_axes(ax, width=side + 1.9, height=side + 1.2, x_label="predicted", y_label="true")
    n_true = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(n_true, 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for row, column in np.ndindex(counts.shape):
        if n_classes > 12 and counts[row, column] == 0:
            continue  # a large matrix reads better without its zeros
        color = "white" if share[row, column] > 0.55 else INK
        ax.text(column, row, counts[row, column], ha="center", va="center", fontsize=FONT_SIZE, color=color)
    names = [shorten(axis.tolist(), 20) for axis in (confusion.columns, confusion.index)]
    is_wide = max(map(len, names[0])) * 0.085 > cell_inches  # a letter is some 0.085 inch wide
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if is_wide else {}
    ax.set_xticks(range(n_classes), names[0], **slant)
    ax.set_yticks(range(n_classes), names[1])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title("Images by true and predicted class", fontsize=FONT_SIZE + 1, color=INK, loc="left")
    return ax


def plot_class_scores(class_table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Recall with its 95 % interval, and precision, of every class; the worst recall on top.

    Args:
        class_table: From `metrics.compute_class_table`.
        ax: Axes to draw into; None makes a figure.

    Example:
        >>> row = {"label": "can", "n": 9, "precision": 0.8, "recall": 0.9, "recall_low": 0.6, "recall_high": 0.97}
        >>> ax = plot_class_scores(pd.DataFrame([row]))
    """
    table = class_table.sort_values("recall", na_position="first", kind="stable")
    positions = np.arange(len(table))
    ax = make_axes(ax, width=7.6, height=max(1.8, 0.42 * len(table) + 1.2), title="Recall and precision by class")
    limits = np.abs(table[["recall_low", "recall_high"]].to_numpy().T - table["recall"].to_numpy())
    bar: dict[str, Any] = {"fmt": "o", "color": COLORS[0], "markersize": 8, "capsize": 4, "linewidth": 2}
    ax.errorbar(table["recall"], positions - 0.12, xerr=limits, label="recall, 95 % interval", **bar)
    ax.plot(
        table["precision"], positions + 0.2, "^", color=COLORS[1], markersize=8, label="precision", mfc="white", mew=2
    )
    names = shorten(table["label"].tolist(), 24)
    ax.set_yticks(positions, [f"{name} (n = {n})" for name, n in zip(names, table["n"], strict=True)])
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(-0.02, 1.02)
    use_percent(ax.xaxis)
    draw_grid(ax, "x")
    draw_legend(ax, outside=True)
    return ax


def plot_precision_recall(curves: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Precision against recall, a curve a class; of many classes the six with the lowest average precision.

    Args:
        curves: From `ranking.compute_precision_recall`.
        ax: Axes to draw into; None makes a figure.

    Raises:
        ValueError: If no class has a true image, so that there is no curve.
    """
    defined = curves.dropna(subset=["average_precision"])
    averages = defined.groupby("label", sort=False)["average_precision"].first().sort_values(kind="stable")
    if averages.empty:
        raise ValueError("curves: no class has a true image, so there is no curve to draw.")
    shown = averages.index[:N_CURVES]
    more = f", the lowest {N_CURVES} of {len(averages)} classes" if len(averages) > N_CURVES else ""
    title = f"Precision and recall{more}"
    ax = make_axes(ax, width=7.2, title=title, x_label="recall (found, of those there are)", y_label="precision")
    for i, label in enumerate(shown):
        curve = defined[defined["label"] == label]
        style = get_style(i) | {"marker": None}
        recall, precision = curve["recall"].to_numpy(), curve["precision"].to_numpy()
        text = f"{shorten([label], 24)[0]}, average {format_percent(averages[label])}"
        # the area under these steps is the average precision: each gain of recall counts at its own precision
        ax.step(np.append(0, recall), np.append(precision[0], precision), where="pre", linewidth=2, label=text, **style)
    ax.set_xlim(-0.01, 1.02)
    ax.set_ylim(0, 1.03)
    use_percent(ax.xaxis)
    use_percent(ax.yaxis)
    draw_grid(ax, "both")
    draw_legend(ax, outside=True)
    return ax


def plot_reliability(reliability: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Accuracy against confidence: points below the diagonal are answers the model was too sure of.

    Args:
        reliability: From `calibration.compute_reliability_table`.
        ax: Axes to draw into; None makes a figure.
    """
    ax = make_axes(ax, width=5, height=4.4, title="How sure, and how often right")
    ax.set_xlabel("confidence (probability of the predicted class)", fontsize=FONT_SIZE, color=INK)
    ax.set_ylabel("accuracy", fontsize=FONT_SIZE, color=INK)
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    limits = np.abs(reliability[["accuracy_low", "accuracy_high"]].to_numpy().T - reliability["accuracy"].to_numpy())
    style: dict[str, Any] = {
        "fmt": "o-",
        "color": COLORS[0],
        "linewidth": 2,
        "markersize": 7,
        "capsize": 4,
        "elinewidth": 1,
    }
    ax.errorbar(reliability["confidence"], reliability["accuracy"], yerr=limits, label="model, 95 % interval", **style)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    use_percent(ax.xaxis)
    use_percent(ax.yaxis)
    draw_grid(ax, "both")
    draw_legend(ax)
    return ax


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
