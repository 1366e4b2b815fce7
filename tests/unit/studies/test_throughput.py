"""Throughput: every batch with every number of threads, counted per image."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from utils_cv.plots.curves import plot_throughput, plot_training_effort
from utils_cv.studies import throughput
from utils_cv.studies.throughput import measure_throughput


@pytest.fixture
def calls(monkeypatch):
    calls = []

    def make_run(folder, runtime, *, n_threads):
        return lambda batch: calls.append((runtime, n_threads, batch.shape, batch.dtype))

    monkeypatch.setattr(throughput, "make_run", make_run)
    monkeypatch.setattr(throughput, "read_model_info", lambda folder: SimpleNamespace(im_size_px=8))
    return calls


def test_every_combination_is_timed(calls):
    rows = measure_throughput("model", batch_sizes=[1, 4], n_threads=[1, 2], n_repeats=2)
    assert rows[["n_threads", "batch_size"]].to_numpy().tolist() == [[1, 1], [1, 4], [2, 1], [2, 4]]
    assert set(calls) == {("onnx", n, (size, 8, 8, 3), np.dtype("uint8")) for n in (1, 2) for size in (1, 4)}
    np.testing.assert_allclose(rows["ms_per_image"] * rows["batch_size"], rows["median_ms"])
    np.testing.assert_allclose(rows["images_per_second"], 1000 / rows["ms_per_image"])
    json.dumps(rows.to_dict("records"))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"batch_sizes": []}, "expected one or more"),
        ({"n_threads": []}, "expected one or more"),
        ({"runtime": "torch"}, "one number for the whole process"),
    ],
    ids=["no batch", "no threads", "torch cannot compare threads"],
)
def test_what_cannot_be_compared_is_refused(calls, request_, message):
    with pytest.raises(ValueError, match=message):
        measure_throughput("model", **request_)


def test_the_figure_has_a_line_a_number_of_threads(calls):
    rows = measure_throughput("model", batch_sizes=[1, 4], n_threads=[1, 2], n_repeats=1)
    ax = plot_throughput(rows)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1 thread", "2 threads"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4"]


def test_the_figure_of_training_effort_has_a_line_a_learning_rate():
    row = {"valid_accuracy": 0.9, "valid_accuracy_low": 0.8, "valid_accuracy_high": 0.95}
    rows = [{"learning_rate": rate, "seconds": s, **row} for rate in (1e-4, 0.01) for s in (1.0, 2.0)]
    ax = plot_training_effort(rows)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["learning rate 0.0001", "learning rate 0.01"]
    assert ax.get_xlim()[0] == 0


@pytest.mark.parametrize("plot", [plot_throughput, plot_training_effort])
def test_missing_rows_are_refused(plot):
    with pytest.raises(ValueError, match="expected at least one row with"):
        plot([])
