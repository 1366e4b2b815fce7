"""Figures of scores: what they say, never their pixels."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from utils_cv.evaluation.calibration import compute_reliability_table
from utils_cv.evaluation.metrics import compute_class_table, compute_confusion, compute_precision_recall
from utils_cv.plots.scores import plot_class_scores, plot_confusion, plot_precision_recall, plot_reliability


def make_predictions(n_classes, n=120):
    rng = np.random.default_rng(0)
    y_true = np.arange(n) % n_classes
    probabilities = rng.dirichlet(np.ones(n_classes), n) + np.eye(n_classes)[y_true] * 0.5
    return y_true, probabilities / probabilities.sum(axis=1, keepdims=True), [f"class {i}" for i in range(n_classes)]


def test_confusion_writes_every_count_readably():
    ax = plot_confusion(pd.DataFrame([[8, 2], [0, 1234]], ["can", "carton"], ["can", "carton"]))
    assert [text.get_text() for text in ax.texts] == ["8", "2", "0", "1234"]
    assert [text.get_color() for text in ax.texts] == ["white", "#000000", "#000000", "white"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


@pytest.mark.parametrize("n_classes", [pytest.param(1, id="one class"), pytest.param(30, id="thirty classes")])
def test_confusion_grows_with_the_classes(n_classes):
    y_true, probabilities, names = make_predictions(n_classes)
    ax = plot_confusion(compute_confusion(y_true, probabilities.argmax(axis=1), names))
    assert len(ax.get_xticklabels()) == len(ax.get_yticklabels()) == n_classes
    assert n_classes == 1 or all(text.get_text() != "0" for text in ax.texts)


def test_confusion_refuses_a_table_that_is_not_square():
    with pytest.raises(ValueError, match="square"):
        plot_confusion(pd.DataFrame([[1, 2]]))


def test_class_scores_put_the_worst_on_top_and_survive_a_class_without_images():
    ax = plot_class_scores(compute_class_table([0, 0, 1, 1], [0, 0, 1, 2], ["good", "bad", "absent"]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["absent (n = 0)", "bad (n = 2)", "good (n = 2)"]
    assert ax.yaxis_inverted()


def test_precision_recall_names_average_precision_and_stops_at_six():
    y_true, probabilities, names = make_predictions(9)
    ax = plot_precision_recall(compute_precision_recall(np.eye(len(names))[y_true], probabilities, names))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    averages = [int(label.split()[-2]) for label in labels]
    assert len(labels) == 6 and averages == sorted(averages) and "lowest 6 of 9" in ax.get_title("left")
    assert len({line.get_linestyle() for line in ax.get_lines()}) >= 4  # not told apart by color alone


def test_precision_recall_refuses_curves_without_a_true_image():
    with pytest.raises(ValueError, match="no class has a true image"):
        plot_precision_recall(compute_precision_recall([[0]], [[0.4]], ["can"]))


@pytest.mark.parametrize("plot", [plot_confusion, plot_class_scores, plot_precision_recall, plot_reliability])
def test_axes_in_axes_out_with_readable_text(plot):
    y_true, probabilities, names = make_predictions(3)
    argument = {
        plot_confusion: lambda: compute_confusion(y_true, probabilities.argmax(axis=1), names),
        plot_class_scores: lambda: compute_class_table(y_true, probabilities.argmax(axis=1), names),
        plot_precision_recall: lambda: compute_precision_recall(np.eye(len(names))[y_true], probabilities, names),
        plot_reliability: lambda: compute_reliability_table(y_true, probabilities),
    }[plot]()
    with plt.style.context("dark_background"):
        figure, ax = plt.subplots()
        assert plot(argument, ax) is ax and len(figure.axes) == 1
        texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label, *ax.texts]
    assert min(text.get_fontsize() for text in texts) >= 10
    assert ax.get_facecolor() == (1, 1, 1, 1) and {text.get_color() for text in texts} <= {"#000000", "white"}
