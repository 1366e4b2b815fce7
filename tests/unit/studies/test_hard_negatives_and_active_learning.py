"""Active learning and hard negatives: what a choice sees, whole groups, when to stop, and halves that stay apart."""

import numpy as np
import pandas as pd
import pytest

from tests.unit.studies.test_experiment import make_data
from utils_cv.studies.experiment import make_task
from utils_cv.studies.hard_negatives_and_active_learning import (
    MEASURED,
    ORDERS,
    STRATEGIES,
    measure_mining,
    measure_strategies,
    select_images,
)

# Three clusters of five, three and two images along a line, the middle one most typical.
PLACES = np.array([0.0, 0.9, 1.0, 1.1, 2.0, 50.0, 51.0, 52.0, 90.0, 90.1])
FEATURES = np.stack([np.cos(PLACES / 60), np.sin(PLACES / 60)], axis=1) ** 2  # undone by the root that is taken
LOGITS = np.log([[0.5, 0.5, 0.0001], [0.4, 0.33, 0.27], [0.9, 0.05, 0.05], [0.6, 0.3, 0.1]])


@pytest.mark.parametrize(
    ("strategy", "labeled", "n", "expected"),
    [
        pytest.param("k-center", [0], 3, [9, 5], id="farthest, then farthest of both"),
        pytest.param("typical", [], 3, [2, 6], id="the middle of each cluster, the largest first"),
        pytest.param("typical", [2, 6], 1, [8], id="the cluster without a label"),
        pytest.param("typical", range(10), 0, [], id="no image is left"),
    ],
)
def test_choices_by_features(strategy, labeled, n, expected):
    found = select_images(FEATURES, np.isin(np.arange(10), labeled), n, strategy, seed=0)
    assert (found[:2].tolist(), len(found)) == (expected[:2], n)


@pytest.mark.parametrize(("strategy", "expected"), [("margin", [0, 1, 3, 2]), ("entropy", [1, 3, 0, 2])])
def test_choices_by_answers(strategy, expected):
    assert select_images(np.eye(4), np.zeros(4, bool), 9, strategy, LOGITS, seed=0).tolist() == expected


@pytest.mark.parametrize("strategy", STRATEGIES[:-1])
def test_groups_come_whole_and_nothing_comes_twice(strategy):
    groups, is_labeled, logits = np.arange(10) // 3, np.arange(10) < 3, np.zeros((10, 2))
    found = select_images(FEATURES, is_labeled, 4, strategy, logits, groups, seed=0)
    assert len(set(found)) == len(found) >= 4 and min(found) > 2
    assert all(np.isin(np.flatnonzero(groups == group), found).all() for group in set(groups[found]))


@pytest.fixture(scope="module")
def task():
    table, features = make_data(n_train=12, n_features=20, distance=1.0)
    return make_task(table.assign(group=[f"scene {i // 2}" for i in range(len(table))]), features)


def test_the_test_split_decides_nothing(task):
    """Other test images and labels change the scores alone."""
    features, codes = task.features.copy(), task.codes.copy()
    features[task.test_rows], codes[task.test_rows] = -features[task.test_rows], 0
    changed = task._replace(features=features, codes=codes)
    found, other = (measure_strategies(each, [6, 12, 36], n_seeds=2) for each in (task, changed))
    assert not (np.stack(found["right"]) == np.stack(other["right"])).all()
    columns = ["strategy", "seed", "budget", "n_labeled", "changed", "is_stop", "estimated"]
    pd.testing.assert_frame_equal(found[columns], other[columns])


def test_every_strategy_begins_with_as_many_labels_stops_once_and_ends_with_all(task):
    rows = measure_strategies(task, [6, 12, 36], stop_change=0.1, n_seeds=2)
    assert (rows.groupby(["strategy", "seed"])["is_stop"].sum() == 1).all()
    assert (rows["n_labeled"] >= rows["budget"]).all() and (rows["n_labeled"] % 2 == 0).all()  # whole scenes
    stopped, last = rows[rows["is_stop"]], rows[rows["budget"] == 36]
    assert (stopped["changed"].le(0.1) | stopped["budget"].eq(36)).all() and stopped["estimated"].between(0, 1).all()
    assert len(set(last["right"].map(tuple))) == 1
    random = rows[(rows["budget"] == 6) & rows["strategy"].isin(["random", "margin"]) & (rows["seed"] == 1)]
    assert len(set(random["right"].map(tuple))) == 1


@pytest.mark.parametrize("kinds", [None, np.repeat(["cup", "jar", "box"], 10)], ids=["images", "folders"])
def test_negatives_are_found_learned_and_rejected_at_no_cost(task, kinds):
    """Negatives far from all classes, in one direction: what one half teaches holds for the other."""
    rng = np.random.default_rng(0)
    negatives, mixed = rng.normal(size=(30, 20)), task.features[task.pool_rows[:4]]
    negatives[:, 0] += 12
    rows = measure_mining(task, negatives, mixed, kinds, n_look=5, n_seeds=1, seed=0)
    share = rows.assign(right=rows["right"].map(np.mean)).groupby(["measured", "order", "stage"])["right"].mean()
    assert set(rows["measured"]) == set(MEASURED) and set(rows["order"]) == set(ORDERS)
    assert (share["called none"].xs("at first", level=1) == 0).all()
    assert share["called none", ORDERS[0], "stopped"] > 0.9
    assert share["accuracy", ORDERS[0], "last round"] >= share["accuracy", ORDERS[0], "at first"] - 0.02
    assert {len(right) for right in rows["right"]} == {30, len(task.test_rows)}
    counts = rows.query("stage != 'stopped'").groupby("order")[["n_looked", "n_found"]].max()
    assert (counts["n_found"] <= 15).all() and (counts["n_found"] <= counts["n_looked"]).all()
