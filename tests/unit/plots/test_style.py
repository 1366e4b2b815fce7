"""What all figures share: settings stay, ticks are whole and plain, names of classes are drawn as they are."""

import io
import math
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.colors import to_hex
from matplotlib.text import Text

from utils_cv.plots.curves import plot_lines
from utils_cv.plots.images import plot_class_counts, plot_images, plot_message
from utils_cv.plots.scores import plot_bars, plot_confusion, plot_precision_recall, plot_scores
from utils_cv.plots.speed import plot_accuracy_vs_latency
from utils_cv.plots.style import FONTS, get_text_style, make_axes, make_axes_grid, set_scale

NAMES = ["$5", "b$$", "_background_", "翘头剪", "ไทย", "😀", "back\\slash", "a_1^2"]
ROWS = pd.DataFrame({"name": NAMES, "x": 1.0, "accuracy": 0.5, "value": 0.5, "part": NAMES, "median_ms": 5.0}).assign(
    accuracy_low=0.4, accuracy_high=0.6, backbone=NAMES, im_size_px=224, label=NAMES, split=NAMES
)
CURVES = pd.DataFrame({"label": NAMES[:6], "precision": 0.5, "recall": 0.5, "average_precision": 0.5})
FIGURES = {
    "lines": lambda: plot_lines(ROWS, x="x"),
    "scores": lambda: plot_scores(ROWS),
    "score groups": lambda: plot_scores(ROWS, group="part"),
    "bars": lambda: plot_bars(ROWS),
    "confusion": lambda: plot_confusion(pd.DataFrame(np.eye(8, dtype=int), NAMES, NAMES)),
    "large confusion": lambda: plot_confusion(pd.DataFrame(np.ones((88, 88), int), NAMES * 11, NAMES * 11)),
    "precision and recall": lambda: plot_precision_recall(CURVES),
    "counts": lambda: plot_class_counts(ROWS),
    "images": lambda: plot_images(np.zeros((8, 9, 9, 3), np.uint8), NAMES)[0],
    "message": lambda: plot_message(" ".join(NAMES))[0],
    "latency": lambda: plot_accuracy_vs_latency(ROWS),
}


def draw(ax):
    """Draw the figure; return its texts as they are shown."""
    ax.figure.savefig(io.BytesIO())
    return [text.get_text() for text in ax.figure.findobj(Text)]


@pytest.mark.parametrize("is_interactive", [True, False])
def test_the_mode_that_a_backend_sets_with_the_first_figure_stays(monkeypatch, is_interactive):
    """Jupyter's backend turns the interactive mode on when it is loaded, which the first figure does."""
    make_subplots = plt.subplots

    def make_first_figure(*args, **options):
        matplotlib.interactive(is_interactive)
        return make_subplots(*args, **options)

    monkeypatch.setattr(plt, "subplots", make_first_figure)
    before = matplotlib.is_interactive()
    try:
        make_axes_grid(1, 1, (2, 2))
        assert matplotlib.is_interactive() is is_interactive
    finally:
        matplotlib.interactive(before)


@pytest.mark.parametrize("figure", FIGURES)
def test_names_are_drawn_as_they_are(figure):
    before, state = dict(matplotlib.rcParams), np.random.get_state()[1].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = FIGURES[figure]()
        shown = "\n".join(draw(ax))
    assert [name for name in (NAMES[:6] if "recall" in figure else NAMES) if name not in shown] == []
    assert not [text.get_text() for text in ax.figure.findobj(Text) if "$" in text.get_text() and text.get_parse_math()]
    assert dict(matplotlib.rcParams) == before and (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("figure", FIGURES)
def test_text_is_large_and_black_on_white_under_any_style(figure):
    with plt.style.context("dark_background"):
        ax = FIGURES[figure]()
        texts = [text for text in ax.figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= 10
    assert ax.figure.get_facecolor() == (1, 1, 1, 1) and (ax.get_facecolor() == (1, 1, 1, 1) or not ax.axison)
    colors = {to_hex(text.get_color()) for text in texts}
    assert colors == {"#000000"} or ("confusion" in figure and colors == {"#000000", "#ffffff"})


@pytest.mark.parametrize(
    "plot",
    [
        make_axes,
        lambda ax: plot_lines(ROWS, ax, x="x"),
        lambda ax: plot_scores(ROWS, ax),
        lambda ax: plot_bars(ROWS, ax),
        lambda ax: plot_class_counts(ROWS, ax),
        lambda ax: plot_confusion(pd.DataFrame([[1]]), ax),
        lambda ax: plot_precision_recall(CURVES, ax),
        lambda ax: plot_accuracy_vs_latency(ROWS, ax),
    ],
    ids=["axes", "lines", "scores", "bars", "counts", "confusion", "precision and recall", "latency"],
)
def test_given_axes_are_drawn_into(plot):
    figure, ax = plt.subplots()
    assert plot(ax) is ax and figure.axes == [ax]


def test_only_fonts_that_are_here_are_asked_for():
    assert get_text_style()["fontfamily"][0] == "DejaVu Sans"
    assert set(get_text_style()["fontfamily"]) == set(FONTS) & set(font_manager.get_font_names())


def test_a_chinese_letter_is_drawn_in_a_chinese_font(tmp_path, monkeypatch):
    """A made font, in which the letter is a full square: it inks more than the empty box of the last resort."""

    def count_dark_pixels():
        figure, ax = plt.subplots(figsize=(1, 1), dpi=100)
        ax.set_axis_off()
        ax.text(0.3, 0.3, "剪", **get_text_style(fontsize=30))
        figure.canvas.draw()
        return int((np.asarray(figure.canvas.buffer_rgba())[..., 0] < 100).sum())

    before = count_dark_pixels()
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    glyph, builder = pen.glyph(), FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "scissors"])
    builder.setupCharacterMap({ord("剪"): "scissors"})
    builder.setupGlyf({".notdef": glyph, "scissors": glyph})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "scissors": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Noto Sans CJK SC", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "font.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "font.ttf")
    assert "Noto Sans CJK SC" in get_text_style()["fontfamily"] and count_dark_pixels() > before + 500


@pytest.mark.parametrize(
    ("scale", "limits", "expected"),
    [
        pytest.param("percent", (0.85, 1.0), ["86 %", "88 %", "90 %", "92 %", "94 %", "96 %", "98 %", "100 %"], id="%"),
        pytest.param("percent", (0.0, 0.5), ["0 %", "10 %", "20 %", "30 %", "40 %", "50 %"], id="nothing below 0 %"),
        pytest.param("points", (-0.1, 0.05), ["-10", "-8", "-6", "-4", "-2", "0", "+2", "+4"], id="points"),
        pytest.param("log", (12.0, 100.0), ["10", "15", "20", "30", "40", "50", "70", "100"], id="one decade"),
        pytest.param("log", (2.0, 40000.0), ["1", "10", "100", "1000", "10000"], id="many decades"),
        pytest.param("number", (0, 1200), ["0", "200", "400", "600", "800", "1000", "1200"], id="plain numbers"),
    ],
)
def test_ticks_are_whole_and_plain(scale, limits, expected):
    ax = make_axes()
    ax.plot(limits, limits)
    set_scale(ax, "x", scale)
    draw(ax)
    low, high = ax.get_xlim()
    labels = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    shown = [label.get_text() for tick, label in labels if low <= tick <= high]
    assert shown == expected


@given(st.floats(1e-3, 1e5), st.floats(1, 1e6))
def test_a_logarithmic_axis_has_a_few_ticks(low, ratio):
    figure = matplotlib.figure.Figure()
    ax = figure.subplots()
    ax.plot([low, low * ratio], [0, 1])
    set_scale(ax, "x", "log")
    inside = [tick for tick in ax.get_xticks() if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
    assert 3 <= len(inside) <= 10 and all(math.isfinite(tick) for tick in inside)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5, 10, 20, 40], [5, 10, 20, 40]), ([40, 41, 80], [40, 50, 60, 70, 80])],
    ids=["few", "too close"],
)
def test_a_logarithmic_axis_has_its_ticks_at_few_values(values, expected):
    ax = make_axes()
    ax.plot(values, values)
    set_scale(ax, "x", "log", values)
    assert ax.get_xticks().tolist() == expected and len(ax.get_xticks(minor=True)) == 0


@pytest.mark.parametrize(
    "plot",
    [lambda rows: plot_lines(rows, x="x"), plot_scores, plot_bars, plot_accuracy_vs_latency],
    ids=["lines", "scores", "bars", "latency"],
)
@pytest.mark.parametrize("rows", [pytest.param([], id="no row"), pytest.param([{"other": 1}], id="missing columns")])
def test_missing_rows_and_columns_are_refused(plot, rows):
    with pytest.raises(ValueError, match="expected at least one row with"):
        plot(rows)
