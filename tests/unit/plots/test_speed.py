"""The accuracy-vs-speed figure: what it says, never its pixels; names that do not cover each other."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils_cv.plots.speed import _find_pareto_front, plot_accuracy_vs_latency

SCORES = ["accuracy", "accuracy_low", "accuracy_high"]


def make_rows(n, runtimes=("onnx",), seed=0):
    """Networks of one family, each in all runtimes with the same accuracy, the first one the fastest."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"backbone": [f"net_a{i}" for i in range(n)], "im_size_px": 224})
    rows = rows.assign(accuracy=rng.uniform(0.8, 0.95, n), fastest_ms=10 ** rng.uniform(0.5, 1, n))
    rows = rows.merge(pd.DataFrame({"runtime": runtimes, "factor": range(1, len(runtimes) + 1)}), how="cross")
    limits = {"accuracy_low": rows["accuracy"] - 0.03, "accuracy_high": rows["accuracy"] + 0.03}
    name = rows["backbone"] + " 224 px " + rows["runtime"]
    return rows.assign(name=name, median_ms=rows["fastest_ms"] * rows["factor"], **limits)


def read_names(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def read_legend(ax):
    return [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]


def get_front(ax):
    (front,) = [line.get_xdata().tolist() for line in ax.lines if line.get_drawstyle() == "steps-post"]
    return front


def test_each_network_is_named_once_above_its_fastest_point():
    rows = make_rows(3, ("onnx", "torch"))
    fastest = rows.drop_duplicates("backbone").sort_values("median_ms")
    ax = plot_accuracy_vs_latency(rows)
    assert read_names(ax) == [f"{name.removeprefix('net_')} 224 px" for name in fastest["backbone"]]
    pointers = [text.xy[0] for text in ax.texts if getattr(text, "anncoords", "") == "axes fraction"]
    assert pointers == pytest.approx(fastest["median_ms"].tolist())


@pytest.mark.parametrize("rows", [make_rows(5), make_rows(12), make_rows(12).assign(median_ms=5.0)])
def test_names_cover_neither_each_other_nor_the_data_and_are_not_cut(rows):
    ax = plot_accuracy_vs_latency(rows)
    ax.figure.canvas.draw()
    names, paper = [text for text in ax.texts if text.get_text()], ax.figure.bbox
    starts = [text.get_transform().transform(text.get_position())[0] for text in names]
    gaps = np.diff(starts) * np.sin(np.deg2rad(names[0].get_rotation()))
    assert len(names) == len(rows) and gaps.min() > 10 * ax.figure.dpi / 72  # lines of 10 points
    assert max(starts) <= ax.get_window_extent().x1 + 1
    for box in [text.get_window_extent() for text in names]:
        assert box.y0 >= ax.get_window_extent().y1 and box.x0 >= paper.x0 and box.x1 <= paper.x1 and box.y1 <= paper.y1
        assert not box.overlaps(ax.get_legend().get_window_extent())


def test_of_many_networks_only_those_on_the_front_are_named():
    rows = make_rows(30)
    best = rows["backbone"][_find_pareto_front(rows["median_ms"], rows["accuracy"])]
    names = sorted(f"{name.removeprefix('net_')} 224 px" for name in best)
    assert sorted(read_names(plot_accuracy_vs_latency(rows))) == names


def test_the_front_and_the_runtimes_are_drawn_and_explained():
    rows = make_rows(4, ("onnx", "torch"))
    ax = plot_accuracy_vs_latency(rows)
    best = rows["median_ms"][_find_pareto_front(rows["median_ms"], rows["accuracy"])].sort_values().tolist()
    filled = [
        line.get_xdata()[0] for line in ax.lines if line.get_markerfacecolor() == "#0072B2" and line.get_marker() == "o"
    ]
    assert get_front(ax) == best == sorted(filled)
    assert read_legend(ax)[0].startswith("Pareto front") and ax.get_xscale() == "log" and "ms" in ax.get_xlabel()
    assert sorted(read_legend(ax)[1:]) == ["onnx", "same network and size", "torch"]
    assert len(read_legend(plot_accuracy_vs_latency(make_rows(3)))) == 1  # one runtime needs no legend


def test_untrained_networks_are_named_and_explained():
    rows = make_rows(4)
    rows.loc[2, SCORES] = np.nan
    renamed = rows.rename(columns={name: f"valid_{name}" for name in SCORES})
    ax = plot_accuracy_vs_latency(renamed, accuracy="valid_accuracy", y_label="validation accuracy")
    assert len(read_names(ax)) == 4 and "not trained" in read_legend(ax) and ax.get_ylabel() == "validation accuracy"
    (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert cross.get_xdata() == [rows["median_ms"][2]] and cross.get_ydata()[0] < rows["accuracy_low"].min()


def test_what_failed_its_check_is_gray_explained_and_never_on_the_front():
    rows = make_rows(2, ("onnx", "int8"))
    rows.loc[rows["runtime"] == "int8", ["accuracy", "median_ms"]] = [0.99, 1.0]
    ax = plot_accuracy_vs_latency(rows.assign(is_offered=rows["runtime"] != "int8"))
    assert 1.0 not in get_front(ax) and sorted(read_names(ax)) == ["a0 224 px", "a1 224 px"]
    assert [line.get_markerfacecolor() for line in ax.lines if line.get_xdata().tolist() == [1.0]] == ["#D0D0D0"] * 2
    assert "int8: not offered, accuracy or speed not confirmed" in read_legend(ax)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        pytest.param(make_rows(1), ["net_a0 224 px"], id="one setting"),
        pytest.param(make_rows(1)[["name", "median_ms", *SCORES]], ["net_a0 224 px onnx"], id="names alone"),
        pytest.param(pd.concat([make_rows(2)] * 2), ["a0 224 px", "a1 224 px"], id="equal points"),
        pytest.param(
            make_rows(2).assign(**dict.fromkeys(SCORES, np.nan)), ["a0 224 px", "a1 224 px"], id="no accuracy"
        ),
        pytest.param(make_rows(2).assign(**dict.fromkeys(SCORES, 1.0)), ["a0 224 px", "a1 224 px"], id="all perfect"),
        pytest.param(make_rows(2).assign(is_offered=False), ["a0 224 px", "a1 224 px"], id="nothing offered"),
        pytest.param(make_rows(2).assign(backbone=["res", "a_0"]), ["a_0 224 px", "res 224 px"], id="two families"),
        pytest.param(make_rows(2).assign(backbone="a_0", im_size_px=[8, 9]), ["a_0 8 px", "a_0 9 px"], id="two sizes"),
    ],
)
def test_names_are_as_short_as_they_can_be(rows, names):
    ax = plot_accuracy_vs_latency(rows)
    ax.figure.canvas.draw()
    assert sorted(read_names(ax)) == names


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_pareto_front_is_what_nobody_beats(points):
    is_best = _find_pareto_front(*np.array(points, dtype=float).T)
    assert is_best.any()
    for i, (ms, score) in enumerate(points):
        is_beaten = any((m <= ms and s >= score) and (m, s) != (ms, score) for m, s in points)
        assert is_best[i] == (not is_beaten)
    assert _find_pareto_front([1, 2], [np.nan, 0.5]).tolist() == [False, True]  # what is not trained is never on it
