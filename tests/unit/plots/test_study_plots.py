"""Figures of trainings and studies: what they say, never their pixels."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from utils_cv.plots.curves import plot_history, plot_learning_curve
from utils_cv.plots.scores import plot_scores


def test_history_separates_losses_from_scores():
    history = pd.DataFrame(
        {"epoch": [0, 1], "train_loss": [2, 1], "valid_loss": [2, 2], "accuracy": [0.5, 0.7], "time": 1.0}
    )
    axes = plot_history(history)
    assert [len(ax.get_lines()) for ax in axes] == [2, 1]
    assert [ax.get_ylabel() for ax in axes] == ["loss", "score"]


def test_history_of_one_epoch_shows_points():
    (ax,) = plot_history(pd.DataFrame({"train_loss": [1.0]}))
    assert ax.get_lines()[0].get_marker() != "None" and ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


@pytest.mark.parametrize(
    "history", [pd.DataFrame({"epoch": [0]}), pd.DataFrame({"train_loss": []})], ids=["no column to draw", "no epoch"]
)
def test_history_refuses(history):
    with pytest.raises(ValueError, match="losses or scores"):
        plot_history(history)


def test_scores_are_written_in_percent():
    ax = plot_scores([{"name": "probe", "value": 0.915, "low": 0.86, "high": 0.95}], x_label="macro-F1")
    assert ax.texts[0].get_text() == "91.5 %" and "macro-F1" in ax.get_xlabel()


def test_learning_curve_has_a_line_a_name_and_a_tick_a_size():
    rows = [
        {"name": name, "n_per_class": n, "accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
        for name in ("probe", "fine-tune")
        for n in (5, 10, 20)
    ]
    ax = plot_learning_curve(rows)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["5", "10", "20"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["probe", "fine-tune"]


@pytest.mark.parametrize("plot", [plot_scores, plot_learning_curve])
@pytest.mark.parametrize("rows", [pytest.param([], id="no row"), pytest.param([{"name": "x"}], id="missing columns")])
def test_studies_refuse(plot, rows):
    with pytest.raises(ValueError, match="expected at least one row with"):
        plot(rows)


def test_studies_draw_into_given_axes():
    _, ax = plt.subplots()
    assert plot_scores([{"name": "probe", "value": 0.9, "low": 0.8, "high": 0.95}], ax) is ax
