"""The accuracy-vs-speed figure: what it says, never its pixels; labels that do not cover each other."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from utils_cv.plots.speed import find_pareto_front, plot_accuracy_vs_latency


def make_rows(n, *, seed=0):
    rng = np.random.default_rng(seed)
    accuracy, latency_ms = rng.uniform(0.8, 0.95, n), 10 ** rng.uniform(0.5, 2, n)
    columns = {"name": [f"model {i} {200 + i} px" for i in range(n)], "accuracy": accuracy, "median_ms": latency_ms}
    limits = {"accuracy_low": accuracy - 0.03, "accuracy_high": accuracy + 0.03}
    return pd.DataFrame(columns | limits | {"size_mb": rng.uniform(4, 100, n), "runtime": ["onnx", "torch"] * (n // 2)})


def list_labels(ax):
    return [text for text in ax.texts if text.get_text()]


@pytest.mark.parametrize("seed", range(3))
def test_labels_of_many_points_do_not_cover_each_other(seed):
    ax = plot_accuracy_vs_latency(make_rows(12, seed=seed))
    ax.figure.canvas.draw()
    # An annotation's own extent would hold its leader, which may pass another label at a slant.
    boxes = [Text.get_window_extent(label, ax.figure.canvas.get_renderer()) for label in list_labels(ax)]
    assert len(boxes) == 12
    frame = ax.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-2).overlaps(other.padded(-2))


def test_accuracy_vs_latency_draws_the_front_and_explains_it():
    rows = make_rows(6).drop(columns="runtime")
    ax = plot_accuracy_vs_latency(rows)
    front = ax.get_lines()[0]
    assert sorted(front.get_xdata()) == sorted(
        rows["median_ms"][find_pareto_front(rows["median_ms"], rows["accuracy"])]
    )
    key = [text.get_text() for text in ax.get_legend().get_texts()]
    assert key[0] == "Pareto front" and sum("MB" in text for text in key) == 2
    assert ax.get_xscale() == "log" and "ms" in ax.get_xlabel()


def test_timed_but_untrained_settings_are_marked():
    rows = make_rows(4)
    rows.loc[2, ["accuracy", "accuracy_low", "accuracy_high"]] = np.nan
    labels = [label.get_text() for label in list_labels(plot_accuracy_vs_latency(rows))]
    assert [label for label in labels if "not trained" in label] == [f"{rows['name'][2]} (not trained)"]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([{**make_rows(2).iloc[0].to_dict()}], id="one setting"),
        pytest.param(make_rows(2).drop(columns=["size_mb", "runtime"]), id="neither size nor runtime"),
        pytest.param(pd.concat([make_rows(2)] * 2), id="equal points"),
        pytest.param(
            make_rows(2).assign(accuracy=np.nan, accuracy_low=np.nan, accuracy_high=np.nan), id="none trained"
        ),
        pytest.param(make_rows(2).assign(accuracy=1.0, accuracy_low=0.9, accuracy_high=1.0), id="all perfect"),
    ],
)
def test_accuracy_vs_latency_survives(rows):
    ax = plot_accuracy_vs_latency(rows)
    ax.figure.canvas.draw()
    assert len(list_labels(ax)) == len(rows)


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


@pytest.mark.parametrize("rows", [pytest.param([], id="no row"), pytest.param([{"name": "x"}], id="missing columns")])
def test_missing_rows_are_refused(rows):
    with pytest.raises(ValueError, match="expected at least one row with"):
        plot_accuracy_vs_latency(rows)


def test_given_axes_are_drawn_into():
    _, ax = plt.subplots()
    assert plot_accuracy_vs_latency(make_rows(4), ax) is ax


@pytest.mark.parametrize(
    ("backbones", "runtimes", "labels"),
    [
        pytest.param(("net_a0", "net_b1"), ("onnx", "int8"), ["a0 224 px", "b1 160 px"], id="the shape tells the rest"),
        pytest.param(("net_a0", "net_a0"), ("onnx", "onnx"), ["224 px", "160 px"], id="only the size differs"),
        pytest.param(("resnet18", "lite0"), ("onnx", "onnx"), ["resnet18 224 px", "lite0 160 px"], id="no prefix"),
    ],
)
def test_labels_leave_out_what_all_settings_share(backbones, runtimes, labels):
    rows = make_rows(2).assign(backbone=backbones, runtime=runtimes, im_size_px=[224, 160])
    assert [label.get_text() for label in list_labels(plot_accuracy_vs_latency(rows))] == labels


@pytest.mark.parametrize(
    ("runtimes", "labels"),
    [(["onnx", "int8"], ["onnx", "int8"]), (["onnx"], ["224 px"])],
    ids=["only the runtime differs", "one setting alone"],
)
def test_labels_name_the_runtime_where_nothing_else_differs(runtimes, labels):
    rows = make_rows(2).head(len(runtimes)).assign(backbone="net_a0", runtime=runtimes, im_size_px=224)
    assert [label.get_text() for label in list_labels(plot_accuracy_vs_latency(rows))] == labels


def test_what_is_not_offered_gets_a_star_and_is_never_on_the_front():
    rows = make_rows(4)
    best = rows["accuracy"].idxmax()
    rows["is_offered"] = rows.index != best
    ax = plot_accuracy_vs_latency(rows)
    assert rows["median_ms"][best] not in ax.get_lines()[0].get_xdata()
    assert [label.get_text() for label in list_labels(ax) if label.get_text().endswith("*")] == [
        f"{rows['name'][best]}*"
    ]
    key = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "* not offered" in key
    key = plot_accuracy_vs_latency(rows.assign(is_offered=True)).get_legend().get_texts()
    assert "* not offered" not in [text.get_text() for text in key]
