"""What all figures share: settings stay, ticks are whole and plain, names of classes are drawn as they are."""

import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.colors import to_hex
from matplotlib.text import Text

from utils_cv.plots.curves import plot_lines
from utils_cv.plots.images import plot_class_counts, plot_decisions, plot_images, plot_message
from utils_cv.plots.scores import plot_bars, plot_confusion, plot_scores
from utils_cv.plots.speed import plot_accuracy_vs_latency
from utils_cv.plots.style import FONTS, get_text_style, make_axes, make_axes_grid, set_scale

NAMES = ["$5", "b$$", "_background_", "翘头剪", "ไทย قطة", "😀", "back\\slash", "a_1^2"]
ROWS = pd.DataFrame({"name": NAMES, "x": 1.0, "accuracy": 0.5, "value": 0.5, "part": NAMES, "median_ms": 5.0}).assign(
    accuracy_low=0.4, accuracy_high=0.6, backbone=NAMES, im_size_px=224, label=NAMES, split=NAMES
)
FIGURES = {
    "lines": lambda ax=None: plot_lines(ROWS, ax, x="x"),
    "scores": lambda ax=None: plot_scores(ROWS, ax),
    "score groups": lambda ax=None: plot_scores(ROWS, ax, group="part"),
    "bars": lambda ax=None: plot_bars(ROWS, ax),
    "confusion": lambda ax=None: plot_confusion(pd.DataFrame(np.eye(8, dtype=int), NAMES, NAMES), ax),
    "large confusion": lambda ax=None: plot_confusion(pd.DataFrame(np.ones((88, 88), int), NAMES * 11, NAMES * 11), ax),
    "counts": lambda ax=None: plot_class_counts(ROWS, ax),
    "latency": lambda ax=None: plot_accuracy_vs_latency(ROWS, ax),
    "images": lambda: plot_images(np.zeros((8, 9, 9, 3), np.uint8), NAMES)[0],
    "decisions": lambda: plot_decisions(np.zeros((1, 9, 9, 3), np.uint8), np.ones((1, 8)), np.ones((1, 8)), NAMES),
    "message": lambda: plot_message(" ".join(NAMES))[0],
}


@pytest.mark.parametrize("is_interactive", [True, False])
def test_the_mode_that_a_backend_sets_with_the_first_figure_stays(monkeypatch, is_interactive):
    """Jupyter's backend turns the interactive mode on when it is loaded, which the first figure does."""
    make_subplots, before = plt.subplots, matplotlib.is_interactive()

    def make_first_figure(*args, **options):
        matplotlib.interactive(is_interactive)
        return make_subplots(*args, **options)

    monkeypatch.setattr(plt, "subplots", make_first_figure)
    try:
        make_axes_grid(1, 1, (2, 2))
        assert matplotlib.is_interactive() is is_interactive
    finally:
        matplotlib.interactive(before)


def test_long_names_leave_room_for_the_data_and_take_few_lines():
    names = ["x" * 80, "a\nb\tc"]
    ax = plot_lines(ROWS[:2].assign(name=names), x="x")
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [f"{'x' * 40}\n{'x' * 40}", "a b c"]
    ticks = plot_scores(ROWS[:2].assign(name=names)).get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["x" * 39 + "…", "a b c"]


@pytest.mark.parametrize("figure", FIGURES)
def test_names_are_drawn_as_they_are_in_large_black_letters_under_any_style(figure):
    with plt.style.context("dark_background"), warnings.catch_warnings():
        warnings.simplefilter("error")
        before, state = dict(matplotlib.rcParams), np.random.get_state()[1].copy()
        ax = FIGURES[figure]()
        ax.figure.canvas.draw()
        assert dict(matplotlib.rcParams) == before and (np.random.get_state()[1] == state).all()
    texts = [text for text in ax.figure.findobj(Text) if text.get_text()]
    if not ax.axison:  # the ticks of images are not drawn
        texts = [*(other.title for other in ax.figure.axes), *ax.texts]
    shown = "\n".join(text.get_text() for text in texts)
    assert [name for name in (NAMES[:6] if "recall" in figure else NAMES) if name not in shown] == []
    assert not any(text.get_parse_math() for text in texts if "$" in text.get_text())
    assert min(text.get_fontsize() for text in texts) >= 10 and to_hex(ax.figure.get_facecolor()) == "#ffffff"
    allowed = {"#000000", "#ffffff"} if "confusion" in figure else {"#000000"}
    assert {to_hex(text.get_color()) for text in texts} <= allowed
    assert to_hex(ax.get_facecolor()) == "#ffffff" or not ax.axison


@pytest.mark.parametrize("figure", [name for name in FIGURES if name not in ("images", "decisions", "message")])
def test_given_axes_are_drawn_into(figure):
    paper, ax = plt.subplots()
    assert FIGURES[figure](ax) is ax and paper.axes == [ax]


def test_only_fonts_that_are_here_are_asked_for(monkeypatch):
    assert set(get_text_style()["fontfamily"]) == set(FONTS) & set(font_manager.get_font_names())
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["Microsoft YaHei", "Arial", "DejaVu Sans"])
    assert get_text_style()["fontfamily"] == ["DejaVu Sans", "Microsoft YaHei"]


@pytest.mark.parametrize(
    ("scale", "data", "values", "expected"),
    [
        pytest.param("percent", (0.95, 1.0), (), "94 %|95 %|96 %|97 %|98 %|99 %|100 %", id="nothing above 100 %"),
        pytest.param("percent", (0.0, 0.5), (), "0 %|10 %|20 %|30 %|40 %|50 %", id="nothing below 0 %"),
        pytest.param("points", (-0.1, 0.05), (), "-10|-8|-6|-4|-2|0|+2|+4", id="points"),
        pytest.param("number", (0, 1200), (), "0|200|400|600|800|1000|1200", id="plain numbers"),
        pytest.param("number", (0, 2), (0, 1, 2), "0|1|2", id="whole numbers"),
        pytest.param("log", (12.0, 100.0), (), "10|15|20|30|40|50|70|100", id="one decade"),
        pytest.param("log", (2.0, 40000.0), (), "1|10|100|1000|10000", id="many decades"),
        pytest.param("log", (5, 40), (5, 10, 20, 40), "5|10|20|40", id="few values"),
        pytest.param("log", (40, 80), (40, 41, 80), "40|50|60|70|80", id="values too close"),
    ],
)
def test_ticks_are_whole_and_plain(scale, data, values, expected):
    ax = make_axes()
    ax.plot(data, data)
    ax.margins(x=0.2 if scale == "percent" else 0.05)
    set_scale(ax, "x", scale, values)
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    labels = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    assert "|".join(label.get_text() for tick, label in labels if low <= tick <= high) == expected
    assert len(ax.get_xticks(minor=True)) == 0


@given(st.floats(1e-3, 1e5), st.floats(1, 1e6))
def test_a_logarithmic_axis_has_a_few_ticks(low, ratio):
    ax = matplotlib.figure.Figure().subplots()
    ax.plot([low, low * ratio], [0, 1])
    set_scale(ax, "x", "log")
    assert 3 <= sum(ax.get_xlim()[0] <= tick <= ax.get_xlim()[1] for tick in ax.get_xticks()) <= 10


@pytest.mark.parametrize(
    "figure", [lambda rows: plot_lines(rows, x="x"), plot_scores, plot_bars, plot_accuracy_vs_latency]
)
@pytest.mark.parametrize("rows", [pytest.param([], id="no row"), pytest.param([{"other": 1}], id="missing columns")])
def test_missing_rows_and_columns_are_refused(figure, rows):
    with pytest.raises(ValueError, match="expected at least one row with"):
        figure(rows)
