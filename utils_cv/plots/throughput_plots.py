"""Figures of throughput and of training effort: lines that differ in marker and stroke, not in colour alone."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from .study_plots import Rows, make_plot_table
from .style import draw_grid, draw_legend, get_style, make_axes, use_percent


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
