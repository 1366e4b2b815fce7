"""Imbalance: what is learned from is what each method says, and the scores are those of the rare class."""

import numpy as np
import pytest

from tests.unit.studies.test_experiment import make_data
from utils_cv.studies.experiment import make_task
from utils_cv.studies.how_many_images import imbalance
from utils_cv.studies.how_many_images.imbalance import METHODS, measure_imbalance, summarize_imbalance


@pytest.fixture(scope="module")
def rows():
    task = make_task(*make_data(n_train=40, distance=0.7))
    return measure_imbalance(task, ratio=10, n_seeds=2)


def test_every_class_is_rare_in_turn_with_the_numbers_of_images_of_every_method(rows):
    assert len(rows) == 3 * 2 * len(METHODS)
    assert rows.groupby("method")["rare"].nunique().eq(3).all()
    expected = {method: [4, 40] for method in METHODS} | {"undersampling": [4, 4], "balanced": [28, 28]}
    for method, numbers in expected.items():
        assert (rows.loc[rows["method"] == method, ["n_rare", "n_other"]] == numbers).all(axis=None)


def test_a_rare_class_is_missed_and_every_remedy_has_its_price(rows):
    summary = summarize_imbalance(rows).set_index("method")
    recall = summary["rare_recall"]
    assert recall["plain"] < recall["class weights"] < recall["logit adjustment"] and recall["plain"] == 0
    assert summary.loc["plain", "rare_precision":"rare_precision_high"].isna().all()  # none is called rare
    plain, weighted, adjusted, few, _ = (summary.loc[name] for name in METHODS)
    assert adjusted["false_rare"] > weighted["false_rare"] and adjusted["rare_precision"] < weighted["rare_precision"]
    assert adjusted["accuracy"] > plain["accuracy"] and few["accuracy_if_rare"] < plain["accuracy_if_rare"] - 0.02


def test_of_many_classes_some_take_their_turn_and_only_they_count_for_recall(rows, monkeypatch):
    monkeypatch.setattr(imbalance, "MAX_TURNS", 2)
    task = make_task(*make_data(n_train=40, distance=0.7))
    some = measure_imbalance(task, ratio=10, n_seeds=2)
    assert some["rare"].unique().tolist() == [task.class_names[0], task.class_names[-1]]
    summary, part = summarize_imbalance(some).set_index("method"), some[some["method"] == "undersampling"]
    is_rare, is_called = (np.concatenate(part[name].tolist()) for name in ("is_rare", "is_called"))
    assert summary.loc["undersampling", "rare_recall"] == pytest.approx(is_called[is_rare].mean())
    assert (summary["n_test"] == 90).all()


@pytest.mark.parametrize("order", [pytest.param(1, id="as they come"), pytest.param(-1, id="backwards")])
def test_scores_are_shares_of_all_trials_whatever_the_order_of_the_rows(rows, order):
    rows = rows.assign(method=rows["method"].replace({"plain": "class weights", "class weights": "plain"}))
    summary = summarize_imbalance(rows[::order]).set_index("method")
    for method, part in rows.groupby("method"):
        right, is_rare, is_called = (np.concatenate(part[name].tolist()) for name in ("right", "is_rare", "is_called"))
        weights, row = np.where(is_rare, 0.1, 1.0), summary.loc[method]
        expected = {
            "rare_recall": is_called[is_rare].mean(),
            "rare_precision": (weights * is_rare)[is_called].sum() / max(weights[is_called].sum(), 1e-9),
            "accuracy": right.mean(),
            "accuracy_if_rare": np.average(right, weights=weights),
        }
        assert row["false_rare"] == pytest.approx(is_called[~is_rare].mean())
        for name, value in expected.items() if is_called.any() else ():
            assert row[name] == pytest.approx(value) and row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
            if method != "plain":
                assert row[f"{name}_change"] == pytest.approx(row[name] - summary.loc["plain", name])
                assert row[f"{name}_change_low"] < row[f"{name}_change"] < row[f"{name}_change_high"]
    assert (summary["n_test"] == 90).all() and (summary["n_trials"] == 6).all()


def test_images_of_one_group_are_one_in_the_intervals(rows):
    copied = {name: rows[name].map(lambda values: np.repeat(values, 4)) for name in ("right", "is_rare", "is_called")}
    counted = []
    for groups in (None, np.repeat(range(90), 4)):
        counted.append(summarize_imbalance(rows.assign(**copied, groups=[groups] * len(rows))).iloc[2])
    widths = [row["rare_precision_high"] - row["rare_precision_low"] for row in counted]
    assert [row["n_test"] for row in counted] == [360, 90] and widths[1] > 1.5 * widths[0]
    assert counted[0]["accuracy_change_low"] != counted[1]["accuracy_change_low"]


@pytest.mark.parametrize("ratio", [1, 41], ids=["no imbalance", "no image left"])
def test_ratios_that_leave_nothing(ratio):
    with pytest.raises(ValueError, match="from 2 to 40"):
        measure_imbalance(make_task(*make_data()), ratio=ratio)
