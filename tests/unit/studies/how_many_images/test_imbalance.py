"""Imbalance: what is learned from is what each method says, and the scores are those of the rare class."""

import numpy as np
import pytest

from tests.unit.studies.test_experiment import make_data
from utils_cv.studies.experiment import make_task
from utils_cv.studies.how_many_images.imbalance import METHODS, measure_imbalance, summarize_imbalance


@pytest.fixture(scope="module")
def rows():
    task = make_task(*make_data(n_train=40, distance=0.7))
    return measure_imbalance(task, ratio=10, n_seeds=2, show_progress=False)


def test_every_class_is_rare_in_turn_with_the_numbers_of_images_of_every_method(rows):
    assert len(rows) == 3 * 2 * len(METHODS)
    assert rows.groupby("method")["rare"].nunique().eq(3).all()
    expected = {method: [4, 40] for method in METHODS} | {"undersampling": [4, 4], "balanced": [28, 28]}
    for method, numbers in expected.items():
        assert (rows.loc[rows["method"] == method, ["n_rare", "n_other"]] == numbers).all(axis=None)


def test_a_rare_class_is_missed_and_adjusting_finds_more_of_it_at_a_price(rows):
    summary = summarize_imbalance(rows).set_index("method")
    recall = summary["rare_recall"]
    assert recall["plain"] < recall["class weights"] < recall["logit adjustment"]
    assert recall["plain"] < recall["balanced"] - 0.1
    assert recall["class weights"] == pytest.approx(recall["oversampling"], abs=0.05)
    assert summary.loc["logit adjustment", "false_rare"] > summary.loc["plain", "false_rare"]
    assert summary.loc["logit adjustment", "accuracy"] > summary.loc["plain", "accuracy"]


def test_summary_is_the_mean_of_the_trials_and_changes_are_differences_from_plain(rows):
    summary = summarize_imbalance(rows).set_index("method")
    scores = {"rare_recall": rows["right_rare"].map(np.mean), "accuracy": rows["right"].map(np.mean)}
    means = rows.assign(**scores).groupby("method")[["rare_recall", "accuracy", "false_rare"]].mean()
    np.testing.assert_allclose(summary.loc[means.index, means.columns], means)
    for score in scores:
        change = summary[[f"{score}_change_low", f"{score}_change", f"{score}_change_high"]].drop(index="plain")
        np.testing.assert_allclose(change[f"{score}_change"], (summary[score] - summary.loc["plain", score])[1:])
        assert change.apply(lambda row: row.is_monotonic_increasing, axis=1).all()
    assert (summary["n_test"] == 90).all() and (summary["n_trials"] == 6).all()


@pytest.mark.parametrize("ratio", [1, 41], ids=["no imbalance", "no image left"])
def test_ratios_that_leave_nothing(ratio):
    with pytest.raises(ValueError, match="from 2 to 40"):
        measure_imbalance(make_task(*make_data()), ratio=ratio)
