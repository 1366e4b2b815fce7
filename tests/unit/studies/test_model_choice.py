"""Choices from a measured table: limits are kept, ties go to the faster, presets are looked up and not assumed."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.studies.model_choice import PRESETS, pick, resolve_presets

ROWS = pd.DataFrame(
    [
        ("small", 0.85, 3.0, 4.0),
        ("middle", 0.90, 8.0, 17.0),
        ("middle, slow", 0.90, 20.0, 17.0),
        ("large", 0.92, 30.0, 90.0),
        ("untrained", np.nan, 1.0, 1.0),
    ],
    columns=["name", "accuracy", "median_ms", "size_mb"],
)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({}, "large"),
        ({"max_latency_ms": 10}, "middle"),
        ({"max_latency_ms": 20}, "middle"),  # of equals the faster
        ({"max_latency_ms": 3}, "small"),  # the limit itself is allowed
        ({"min_accuracy": 0.86}, "middle"),
        ({"min_accuracy": 0.90}, "middle"),
        ({"min_accuracy": 0.1}, "small"),
        ({"min_accuracy": 0.86, "max_latency_ms": 25}, "middle"),
        ({"max_size_mb": 10}, "small"),
    ],
    ids=str,
)
def test_picks(limits, name):
    assert pick(ROWS, **limits)["name"] == name


def test_the_order_of_rows_does_not_matter():
    for seed in range(5):
        shuffled = ROWS.sample(frac=1, random_state=seed)
        assert pick(shuffled, max_latency_ms=20)["name"] == "middle"


@pytest.mark.parametrize("limits", [{"max_latency_ms": 2}, {"min_accuracy": 0.95}, {"max_size_mb": 2}], ids=str)
def test_what_nothing_meets_is_said_with_what_comes_nearest(limits):
    with pytest.raises(ValueError, match=r"at best 3\.0 ms, accuracy 0\.920, 4\.0 MB"):
        pick(ROWS, **limits)


def test_untrained_rows_are_no_choice():
    with pytest.raises(ValueError, match="have no accuracy"):
        pick(ROWS.tail(1))


def test_presets_come_from_the_table():
    presets = resolve_presets(ROWS, max_loss=0.05).set_index("preset")
    assert tuple(presets.index) == PRESETS
    assert presets["name"].to_dict() == {
        "fast_inference": "middle", "small_size": "middle", "high_accuracy": "large",
    }  # fmt: skip


def test_presets_follow_the_loss_that_is_allowed():
    loose = resolve_presets(ROWS, max_loss=0.1).set_index("preset")["name"]
    assert loose["fast_inference"] == loose["small_size"] == "small"
    assert set(resolve_presets(ROWS, max_loss=0.0)["name"]) == {"large"}


def test_8_bits_that_are_not_offered_are_never_picked():
    rows = ROWS.assign(is_offered=[False, True, True, True, True])
    assert pick(rows, max_latency_ms=10)["name"] == "middle"
    presets = resolve_presets(rows, max_loss=0.2).set_index("preset")["name"]
    assert presets.to_dict() == {"fast_inference": "middle", "small_size": "middle", "high_accuracy": "large"}
    with pytest.raises(ValueError, match="8-bit networks not shown"):
        pick(rows.iloc[[0]])
