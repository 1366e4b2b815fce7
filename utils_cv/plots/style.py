"""What all figures share: white paper, black text of 10 points, colors and shapes that also differ in grayscale.

Nothing here changes matplotlib's settings, and figures look the same under any style that the reader has set. Names of
classes are drawn as they are: no mathematics between two `$`, and in a font that has their characters.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator, NullLocator

# Okabe and Ito 2008, "Color Universal Design", without yellow, which is too light for lines on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
INK, GRAY, LIGHT_GRAY = "#000000", "#595959", "#D0D0D0"
FONT_SIZE = 10  # points; nothing in a figure is smaller
LETTER_INCHES = 0.085  # width of a letter of that size, on average
MAX_NAMES = 40  # on an axis
# After Latin, Greek, Cyrillic, Arabic and Hebrew come Chinese, Japanese, Korean, Thai, Hindi and emoji. The last font,
# which comes with matplotlib from 3.11 on, draws a box for what no other font has, instead of a warning per letter.
FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Microsoft YaHei", "Malgun Gothic",
    "Hiragino Sans", "Hiragino Sans GB", "Arial Unicode MS", "Noto Sans Thai", "Leelawadee UI", "Thonburi",
    "Noto Sans Devanagari", "Nirmala UI", "Kohinoor Devanagari", "Noto Emoji", "Segoe UI Emoji",
    "Last Resort High-Efficiency",
)  # fmt: skip
Rows: TypeAlias = pd.DataFrame | Sequence[Mapping[str, Any]]
Columns: TypeAlias = str | Mapping[str, str]
Scale: TypeAlias = Literal["number", "percent", "points", "log"]


def make_axes(
    ax: Axes | None = None,
    *,
    size: tuple[float, float] = (6.4, 4.0),
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    grid: Literal["x", "y", "both", ""] = "",
) -> Axes:
    """Return the given axes, or those of a new figure of width × height inches, cleaned and labelled."""
    if ax is None:
        ax = make_axes_grid(1, 1, size)[0, 0]
    text = get_text_style()
    ax.set_facecolor("white")
    ax.tick_params(labelsize=FONT_SIZE, labelcolor=INK, color=GRAY, labelfontfamily=text["fontfamily"])
    for side, spine in ax.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=GRAY)
    ax.grid(False)
    if grid:
        ax.grid(True, axis=grid, color=LIGHT_GRAY, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_title("\n".join(textwrap.fill(line, 52) for line in title.split("\n")), loc="left", **text)
    ax.set_xlabel(x_label, **text)
    ax.set_ylabel(y_label, **text)
    return ax


def make_axes_grid(n_rows: int, n_columns: int, size: tuple[float, float], *, dpi: float = 100) -> np.ndarray:
    """Make axes (n_rows, n_columns) of a new white figure of width × height inches whose parts never overlap."""
    from matplotlib import pyplot as plt  # loads the backend

    with matplotlib.rc_context({"axes.edgecolor": GRAY, "text.color": INK}):
        paper: dict[str, Any] = {"figsize": size, "dpi": dpi, "facecolor": "white", "layout": "constrained"}
        figure, axes = plt.subplots(n_rows, n_columns, squeeze=False, **paper)
        is_interactive = matplotlib.is_interactive()
    # The first figure loads the backend, and Jupyter's turns the interactive mode on. Without this line the context
    # would turn it off again, and a notebook would show its first figure only.
    matplotlib.interactive(is_interactive)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)  # inches
    return axes


def make_plot_table(rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
    """Make a table of the rows, after a check that there are some and that they have these columns."""
    table = pd.DataFrame(rows).reset_index(drop=True)
    missing = [column for column in columns if column not in table]
    if table.empty or missing:
        raise ValueError(f"rows: expected at least one row with {', '.join(columns)}; missing: {missing or 'rows'}.")
    return table


def list_series(table: pd.DataFrame, value: Columns, group: str) -> list[tuple[str, pd.DataFrame]]:
    """List the named series of a figure, one per `group` or column, each with `value`, `low` and `high`, or NaN."""
    series = []
    for column, name in ({value: ""} if isinstance(value, str) else value).items():
        low, high = ("low", "high") if column == "value" else (f"{column}_low", f"{column}_high")
        limits = {"low": table.get(low, np.nan), "high": table.get(high, np.nan)}
        series.append((name, table.assign(value=table[column], **limits)))
    if isinstance(value, str) and group in table:
        groups = series[0][1].groupby(group, sort=False)
        series = [(f"{key:g}" if isinstance(key, float) else str(key), part) for key, part in groups]
    return series


def set_scale(ax: Axes, which: Literal["x", "y"], scale: Scale, values: Iterable[float] = ()) -> None:
    """Choose the ticks of an axis whose data are drawn: whole numbers for whole values, values themselves if log."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    ax.set(**{f"{which}scale": "log" if scale == "log" else "linear"})
    values = np.unique(np.asarray(list(values), dtype=float))
    if scale == "log":
        low, high = max(axis.get_data_interval()[0], axis.get_minpos()), axis.get_data_interval()[1]
        room = max((high / low) ** 0.07, 1.2 if high > 1.2 * low else 2)  # a single value needs more
        low, high = low / room, high * room
        ax.set(**{f"{which}lim": (low, high)})
        axis.set_ticks(_choose_log_ticks(low, high, values))
        axis.set_minor_locator(NullLocator())
    else:
        is_whole = scale == "number" and len(values) > 0 and (values % 1 == 0).all()
        locator = _PercentLocator if scale == "percent" else MaxNLocator
        axis.set_major_locator(locator("auto", steps=[1, 2, 5, 10], integer=is_whole, min_n_ticks=1))
    form, factor = {"percent": ("{:.6g} %", 100), "points": ("{:+.6g}", 100)}.get(scale, ("{:.10g}", 1))
    zero = form.replace("+", "")
    axis.set_major_formatter(lambda tick, _: (form if round(tick, 9) else zero).format(factor * tick))


def name_ticks(axis: Axis, names: Iterable[Any], n_characters: int, *, every: int = 1, **options: Any) -> None:
    """Write names at the positions 0, 1, 2, ... of an axis, or at every second, third, ... of them."""
    shown = shorten(list(names)[::every], n_characters)
    axis.set_ticks(np.arange(len(shown)) * every, shown, **get_text_style(), **options)


def draw_legend(ax: Axes, artists: Sequence[Any], names: Sequence[str], *, title: str = "") -> None:
    """Name the artists to the right of the axes, where nothing is covered; a name may begin with "_"."""
    font: Any = {"family": get_text_style()["fontfamily"], "size": FONT_SIZE}
    look = {"prop": font, "title_fontproperties": font, "labelcolor": INK, "facecolor": "white", "edgecolor": "none"}
    place: Any = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "alignment": "left"}
    # Matplotlib before 3.10 leaves out what is named "_...", so that the names are put in afterwards.
    legend = ax.legend(artists, ["name"] * len(artists), title=title, **look, **place)
    legend.get_title().set_color(INK)
    for text, name in zip(legend.get_texts(), shorten(names, 80), strict=True):
        text.set(text=textwrap.fill(name, 40), parse_math=False)


def get_text_style(**options: Any) -> dict[str, Any]:
    """Options of every text in a figure: `$` has no meaning, and all fonts that are here are asked for a character."""
    present = set(font_manager.get_font_names())  # matplotlib warns about others
    fonts = [name for name in FONTS if name in present]
    return {"fontsize": FONT_SIZE, "color": INK, "parse_math": False, "fontfamily": fonts, **options}


def shorten(names: Iterable[Any], n_characters: int) -> list[str]:
    """Names on one line each, cut to a length, with an ellipsis where something is missing."""
    lines = [re.sub(r"[\s\x00-\x1f]", " ", str(name)) for name in names]
    return [name if len(name) <= n_characters else f"{name[: n_characters - 1]}…" for name in lines]


class _PercentLocator(MaxNLocator):
    """Ticks of fractions: none below 0 or above 1, where the axis only makes room."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        ticks = np.asarray(super().tick_values(vmin, vmax))
        return ticks[(ticks > -1e-9) & (ticks < 1 + 1e-9)]


def _choose_log_ticks(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """The values if they are few and well apart; else round numbers, about as many as fit."""
    if 1 < len(values) <= 10 and np.diff(np.log(values)).min() > 0.06 * np.log(high / low):
        return values
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for digits in ([1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8], [1, 1.5, 2, 3, 4, 5, 7], [1, 2, 5], [1, 3], [1]):
        ticks = np.outer(powers, digits).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) <= 9:
            break
    return ticks
