"""Imbalance: what is learned from is what each method says, and the scores are those of the rare class."""

import numpy as np
import pytest

from tests.unit.studies.test_learning_curve import make_data
from utils_cv.studies.imbalance import METHODS, compare_methods, measure_imbalance, summarize_imbalance


@pytest.fixture(scope="module")
def rows():
    table, features = make_data(n_train=40, distance=0.7)
    return measure_imbalance(table, features, ratio=10, n_seeds=2, show_progress=False)


def test_every_class_is_rare_in_turn_by_every_method(rows):
    assert len(rows) == 3 * 2 * len(METHODS)
    assert rows.groupby("method")["rare"].nunique().eq(3).all()


@pytest.mark.parametrize(
    ("method", "n_rare", "n_other"),
    [("plain", 4, 40), ("weights", 4, 40), ("repeat", 4, 40), ("drop", 4, 4), ("balanced", 28, 28)],
)
def test_numbers_of_images(rows, method, n_rare, n_other):
    of_method = rows[rows["method"] == method]
    assert (of_method["n_rare"] == n_rare).all() and (of_method["n_other"] == n_other).all()
    assert (of_method["n_train"] == n_rare + 2 * n_other).all()


def test_a_rare_class_is_missed_and_weights_find_more_of_it(rows):
    summary = summarize_imbalance(rows).set_index("method")
    assert summary.loc["plain", "rare_recall"] < summary.loc["balanced", "rare_recall"] - 0.1
    assert summary.loc["weights", "rare_recall"] > summary.loc["plain", "rare_recall"]
    assert summary.loc["weights", "rare_recall"] == pytest.approx(summary.loc["repeat", "rare_recall"], abs=0.05)
    assert (summary["n_test"] == 90).all() and (summary["n_trials"] == 6).all()


def test_summary_is_the_mean_of_the_trials(rows):
    summary = summarize_imbalance(rows).set_index("method")
    means = rows.groupby("method")[["rare_recall", "accuracy"]].mean()
    np.testing.assert_allclose(summary.loc[means.index, ["rare_recall", "accuracy"]], means)


@pytest.mark.parametrize("score", ["rare_recall", "accuracy"])
def test_comparison_is_the_difference_of_the_summaries(rows, score):
    summary = summarize_imbalance(rows).set_index("method")[score]
    difference = compare_methods(rows, "drop", score=score)
    assert difference.value == pytest.approx(summary["drop"] - summary["plain"])
    assert difference.low < difference.value < difference.high


@pytest.mark.parametrize("ratio", [1, 41], ids=["no imbalance", "no image left"])
def test_ratios_that_leave_nothing(ratio):
    with pytest.raises(ValueError, match="from 2 to 40"):
        measure_imbalance(*make_data(), ratio=ratio)
