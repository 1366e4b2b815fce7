"""Figures of studies of data and labels: lines with bands, a learning curve with its forecast, suspects found."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from .style import (
    COLORS,
    FONT_SIZE,
    GREY,
    HATCHES,
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


def plot_throughput(rows: Rows, ax: Axes | None = None) -> Axes:
    """Images a second against the size of the batch; a line for each number of threads.

    Args:
        rows: `n_threads`, `batch_size`, `images_per_second` each.
        ax: Axes to draw into; None makes a figure.

    Example:
        >>> ax = plot_throughput([{"n_threads": 1, "batch_size": 1, "images_per_second": 60.0}])
    """
    table = make_plot_table(rows, ("n_threads", "batch_size", "images_per_second"))
    ax = make_axes(ax, x_label="images a call (log scale)", y_label="images per second")
    ax.set_xscale("log")
    for i, (n_threads, line) in enumerate(table.groupby("n_threads")):
        label = f"{n_threads} thread{'s' if n_threads != 1 else ''}"
        ax.plot(line["batch_size"], line["images_per_second"], label=label, linewidth=2, markersize=7, **get_style(i))
    sizes = sorted(table["batch_size"].unique())
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    ax.set_ylim(0, 1.1 * table["images_per_second"].max())
    draw_grid(ax, "y")
    draw_legend(ax)
    return ax


def plot_training_effort(rows: Rows, ax: Axes | None = None) -> Axes:
    """Validation accuracy with its 95 % interval against seconds of training; a line for each learning rate.

    Args:
        rows: `learning_rate`, `seconds`, `valid_accuracy`, `valid_accuracy_low`, `valid_accuracy_high` each.
        ax: Axes to draw into; None makes a figure.

    Example:
        >>> row = {"learning_rate": 0.001, "seconds": 3.0, "valid_accuracy": 0.9}
        >>> ax = plot_training_effort([row | {"valid_accuracy_low": 0.8, "valid_accuracy_high": 0.95}])
    """
    limits = ("valid_accuracy_low", "valid_accuracy_high")
    table = make_plot_table(rows, ("learning_rate", "seconds", "valid_accuracy", *limits))
    ax = make_axes(ax, x_label="seconds of training", y_label="accuracy on validation images, 95 % interval")
    for i, (rate, line) in enumerate(table.groupby("learning_rate")):
        errors = np.abs(line[[*limits]].to_numpy().T - line["valid_accuracy"].to_numpy())
        ax.errorbar(
            line["seconds"], line["valid_accuracy"], yerr=errors, label=f"learning rate {rate:g}", linewidth=2,
            markersize=7, capsize=4, elinewidth=1, **get_style(i),
        )  # fmt: skip
    ax.set_xlim(left=0)
    use_percent(ax.yaxis)
    draw_grid(ax, "y")
    draw_legend(ax)
    return ax
