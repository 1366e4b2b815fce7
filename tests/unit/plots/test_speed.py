"""The accuracy-vs-speed figure: what it says, never its pixels; names that do not cover each other."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from utils_cv.plots.speed import find_pareto_front, plot_accuracy_vs_latency


def make_rows(n, *, runtimes=("onnx",), seed=0):
    """Networks of one family, each in all runtimes with the same accuracy, the first one the fastest."""
    rng = np.random.default_rng(seed)
    networks = zip(range(n), rng.uniform(0.8, 0.95, n), 10 ** rng.uniform(0.5, 1, n), strict=True)
    return pd.DataFrame(
        [
            {"name": f"net_a{i} 224 px {runtime}", "backbone": f"net_a{i}", "im_size_px": 224, "runtime": runtime}
            | {
                "accuracy": score,
                "accuracy_low": score - 0.03,
                "accuracy_high": score + 0.03,
                "median_ms": ms * (k + 1),
            }
            for i, score, ms in networks
            for k, runtime in enumerate(runtimes)
        ]
    )


def list_names(ax):
    return [text for text in ax.texts if text.get_text()]


def read_names(ax):
    return [text.get_text() for text in list_names(ax)]


def read_legend(ax):
    return [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]


def test_each_network_is_named_once_above_its_fastest_point():
    rows = make_rows(3, runtimes=("onnx", "torch"))
    ax = plot_accuracy_vs_latency(rows)
    ax.figure.canvas.draw()
    assert sorted(read_names(ax)) == ["a0 224 px", "a1 224 px", "a2 224 px"]
    fastest = rows.groupby("backbone")["median_ms"].min().sort_values()
    assert read_names(ax) == [f"{name.removeprefix('net_')} 224 px" for name in fastest.index]
    pointers = [text.xy[0] for text in ax.texts if getattr(text, "anncoords", "") == "axes fraction"]
    assert pointers == pytest.approx(fastest.tolist())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [5, 12])
def test_names_cover_neither_each_other_nor_the_data_and_are_not_cut(n, seed):
    ax = plot_accuracy_vs_latency(make_rows(n, seed=seed))
    ax.figure.canvas.draw()
    names, paper = list_names(ax), ax.figure.bbox
    assert len(names) == n
    starts = [text.get_transform().transform(text.get_position()) for text in names]
    slope = np.deg2rad(names[0].get_rotation())
    for (x_left, _), (x_right, _) in itertools.pairwise(starts):
        assert (x_right - x_left) * np.sin(slope) > 10 * ax.figure.dpi / 72  # lines of 10 points
    for box in [Text.get_window_extent(text) for text in names]:
        assert box.y0 >= ax.get_window_extent().y1 and box.x0 >= paper.x0 and box.x1 <= paper.x1 and box.y1 <= paper.y1
        assert not box.overlaps(ax.get_legend().get_window_extent())


def test_of_many_networks_only_those_on_the_front_are_named():
    rows = make_rows(30)
    is_best = find_pareto_front(rows["median_ms"], rows["accuracy"])
    names = sorted(f"{name.removeprefix('net_')} 224 px" for name in rows["backbone"][is_best])
    assert sorted(read_names(plot_accuracy_vs_latency(rows))) == names


def test_the_front_and_the_runtimes_are_drawn_and_explained():
    rows = make_rows(4, runtimes=("onnx", "torch"))
    ax = plot_accuracy_vs_latency(rows)
    best = rows[find_pareto_front(rows["median_ms"], rows["accuracy"])].sort_values("median_ms")
    fronts = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
    assert [line.get_xdata().tolist() for line in fronts] == [best["median_ms"].tolist()]
    front, *others = read_legend(ax)
    assert front.startswith("Pareto front") and sorted(others) == ["onnx", "same network and size", "torch"]
    filled = {x for line in ax.lines if line.get_markerfacecolor() == "#0072B2" for x in line.get_xdata()}
    assert filled >= set(best["median_ms"]) and len({line.get_marker() for line in ax.lines}) >= 3
    assert ax.get_xscale() == "log" and "ms" in ax.get_xlabel()


def test_one_runtime_needs_no_legend_of_runtimes():
    assert read_legend(plot_accuracy_vs_latency(make_rows(3))) == ["Pareto front: nothing is faster and as accurate"]


def test_untrained_networks_are_named_and_explained():
    rows = make_rows(4)
    rows.loc[2, ["accuracy", "accuracy_low", "accuracy_high"]] = np.nan
    ax = plot_accuracy_vs_latency(rows)
    assert len(read_names(ax)) == 4 and "not trained" in read_legend(ax)
    (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert cross.get_xdata() == [rows["median_ms"][2]] and cross.get_ydata()[0] < rows["accuracy_low"].min()


def test_what_failed_its_check_is_gray_explained_and_never_on_the_front():
    rows = make_rows(2, runtimes=("onnx", "int8"))
    is_int8 = rows["runtime"] == "int8"
    rows.loc[is_int8, ["accuracy", "median_ms"]] = [0.99, 1.0]
    ax = plot_accuracy_vs_latency(rows.assign(is_offered=~is_int8))
    (front,) = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
    assert 1.0 not in front.get_xdata()
    assert [line.get_markerfacecolor() for line in ax.lines if line.get_xdata().tolist() == [1.0]] == ["#D0D0D0"] * 2
    assert "int8: failed its accuracy or speed check, not offered" in read_legend(ax)
    assert sorted(read_names(ax)) == ["a0 224 px", "a1 224 px"]


def test_another_column_of_accuracy():
    rows = make_rows(2).rename(columns=lambda name: name.replace("accuracy", "valid_accuracy"))
    ax = plot_accuracy_vs_latency(rows, accuracy="valid_accuracy", y_label="validation accuracy")
    assert ax.get_ylabel() == "validation accuracy" and len(read_names(ax)) == 2


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(make_rows(1), id="one setting"),
        pytest.param(make_rows(2).drop(columns=["backbone", "im_size_px", "runtime"]), id="names alone"),
        pytest.param(pd.concat([make_rows(2)] * 2), id="equal points"),
        pytest.param(make_rows(2).assign(accuracy=np.nan, accuracy_low=np.nan, accuracy_high=np.nan), id="no accuracy"),
        pytest.param(make_rows(2).assign(accuracy=1.0, accuracy_low=0.9, accuracy_high=1.0), id="all perfect"),
        pytest.param(make_rows(2).assign(is_offered=False), id="nothing offered"),
    ],
)
def test_accuracy_vs_latency_survives(rows):
    ax = plot_accuracy_vs_latency(rows)
    ax.figure.canvas.draw()
    assert len(read_names(ax)) == rows["name"].nunique()


@pytest.mark.parametrize(
    ("backbones", "names"),
    [
        (("net_a0", "net_b1"), ["a0 224 px", "b1 224 px"]),
        (("resnet18", "net_a0"), ["resnet18 224 px", "net_a0 224 px"]),
        (("net_a0", "net_a0"), ["net_a0 224 px"]),
    ],
    ids=["one family", "two families", "one network"],
)
def test_names_leave_out_a_family_that_all_share(backbones, names):
    assert sorted(read_names(plot_accuracy_vs_latency(make_rows(2).assign(backbone=backbones)))) == sorted(names)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_pareto_front_is_what_nobody_beats(points):
    latency_ms, accuracy = np.array(points, dtype=float).T
    is_best = find_pareto_front(latency_ms, accuracy)
    assert is_best.any()
    for i, (ms, score) in enumerate(points):
        is_beaten = any((m <= ms and s >= score) and (m, s) != (ms, score) for m, s in points)
        assert is_best[i] == (not is_beaten)


def test_pareto_front_ignores_the_untrained():
    assert find_pareto_front([1, 2], [np.nan, 0.5]).tolist() == [False, True]
