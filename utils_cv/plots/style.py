"""What all figures share: paper white, ink black, colors that color-blind readers tell apart, text of 10 points.

Nothing here changes matplotlib's global settings, and figures look the same under any style the reader has set.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

# Okabe and Ito 2008, "Color Universal Design", without yellow, which is too light for lines on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINE_STYLES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
)
HATCHES = ("", "///", "...", "xxx")
INK, GREY, LIGHT_GREY = "#000000", "#595959", "#D0D0D0"
FONT_SIZE = 10  # points; nothing in a figure is smaller
DPI = 100
Rows: TypeAlias = pd.DataFrame | Sequence[Mapping[str, Any]]


def make_axes(
    ax: Axes | None = None,
    *,
    width: float = 6.4,
    height: float = 4.0,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
) -> Axes:
    """The axes that came, or those of a new figure, cleaned and labelled.

    Args:
        ax: Axes to draw into; None makes a figure.
        width: Of a new figure, inches.
        height: Of a new figure, inches.
        title: Above the axes.
        x_label: With its unit.
        y_label: With its unit.
    """
    if ax is None:
        ax = make_axes_grid(1, 1, width=width, height=height)[0, 0]
    ax.set_facecolor("white")
    ax.tick_params(labelsize=FONT_SIZE, labelcolor=INK, color=GREY)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
    ax.grid(False)
    ax.set_axisbelow(True)
    ax.set_title(title, fontsize=FONT_SIZE + 1, color=INK, loc="left")
    ax.set_xlabel(x_label, fontsize=FONT_SIZE, color=INK)
    ax.set_ylabel(y_label, fontsize=FONT_SIZE, color=INK)
    return ax


def make_axes_grid(n_rows: int, n_columns: int, *, width: float, height: float, dpi: float = DPI) -> np.ndarray:
    """Axes (n_rows, n_columns) of a new white figure of width × height inches whose parts never overlap."""
    with matplotlib.rc_context({"axes.edgecolor": GREY, "text.color": INK}):
        layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05)  # inches
        size: dict[str, Any] = {"figsize": (width, height), "dpi": dpi}
        axes = plt.subplots(n_rows, n_columns, squeeze=False, layout=layout, facecolor="white", **size)[1]
        is_interactive = matplotlib.is_interactive()
    # The first figure loads the backend, and Jupyter's turns the interactive mode on. Without this line the context
    # would turn it off again, and a notebook would show its first figure only.
    matplotlib.interactive(is_interactive)
    return axes


def use_percent(axis: matplotlib.axis.Axis) -> None:
    """Show fractions as percent on an axis."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))


def draw_grid(ax: Axes, axis: Literal["x", "y", "both"]) -> None:
    """Faint lines behind the data; `axis` is "x", "y" or "both"."""
    ax.grid(True, axis=axis, color=LIGHT_GREY, linewidth=0.8)


def draw_legend(ax: Axes, *, outside: bool = False, n_columns: int = 1) -> None:
    """Legend in the readable size; `outside` puts it to the right of the axes."""
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if outside else {"loc": "best"}
    legend = ax.legend(
        fontsize=FONT_SIZE, labelcolor=INK, facecolor="white", edgecolor="none", ncols=n_columns, **place
    )
    legend.get_frame().set_alpha(0.9)


def format_percent(fraction: float) -> str:
    """A fraction as text for a figure: 0.934 is "93 %"."""
    return "–" if math.isnan(fraction) else f"{100 * fraction:.0f} %"


def get_style(index: int) -> dict[str, Any]:
    """Color, marker and line style of the index-th series; two of the three differ also where colors repeat."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINE_STYLES[index % len(LINE_STYLES)],
    }


def shorten(names: Sequence[str], n_characters: int) -> list[str]:
    """Names cut to a length, with an ellipsis where something is missing."""
    return [name if len(name) <= n_characters else f"{name[: n_characters - 1]}…" for name in map(str, names)]


def make_plot_table(rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table, after a check that there are some and that they have these columns."""
    table = pd.DataFrame(rows).reset_index(drop=True)
    missing = [column for column in columns if column not in table]
    if table.empty or missing:
        raise ValueError(f"rows: expected at least one row with {', '.join(columns)}; missing: {missing or 'rows'}.")
    return table
