"""Shifts and object width: pairs where there are pairs, the right bins, the rule of thumb."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.studies.shifts import (
    compare_input_sizes,
    compare_wide_with_narrow,
    measure_accuracy_by_width,
    measure_shifts,
)


def make_tables(*, is_paired=True):
    scenes = [f"scene {i}" for i in range(40)]
    test = pd.DataFrame({"scene": scenes, "right": [True] * 36 + [False] * 4})
    night = pd.DataFrame({"scene": scenes, "right": [True] * 20 + [False] * 20, "shift": "night"})
    far = pd.DataFrame({"scene": scenes[:10], "right": True, "shift": "far"})
    shifted = pd.concat([night, far], ignore_index=True)
    return test, shifted if is_paired else shifted.drop(columns="scene")


def test_the_same_scenes_are_compared_in_pairs():
    rows = measure_shifts(*make_tables()).set_index("shift")
    assert rows["is_paired"].all()
    night = rows.loc["night"]
    assert (night["accuracy"], night["test_accuracy"], night["n"]) == (0.5, 0.9, 40)
    assert night["difference"] == pytest.approx(-0.4) and night["difference_high"] < 0
    assert rows.loc["far", "test_accuracy"] == 1.0  # of its ten scenes only
    assert rows.loc["far", "difference"] == 0.0


def test_paired_intervals_agree_with_those_of_two_models():
    test, shifted = make_tables()
    night = measure_shifts(test, shifted[shifted["shift"] == "night"]).iloc[0]
    other = compare_accuracy([1] * 40, shifted["right"][:40].astype(int), test["right"].astype(int))
    assert (night["difference_low"], night["difference_high"]) == pytest.approx((other.low, other.high), abs=0.03)


def test_without_scenes_all_images_are_compared():
    rows = measure_shifts(*make_tables(is_paired=False)).set_index("shift")
    assert not rows["is_paired"].any() and rows.loc["far", "test_accuracy"] == 0.9


def test_one_unknown_scene_ends_the_pairing():
    test, shifted = make_tables()
    shifted.loc[0, "scene"] = "elsewhere"
    assert measure_shifts(test, shifted)["is_paired"].tolist() == [False, True]


def test_missing_columns_are_refused():
    test, shifted = make_tables()
    with pytest.raises(ValueError, match="missing"):
        measure_shifts(test, shifted.drop(columns="shift"))


def test_bins_hold_their_lower_limit_and_empty_ones_are_left_out():
    rows = measure_accuracy_by_width([0.1, 0.2, 0.2, 0.5], [1, 0, 1, 1], edges=[0.0, 0.2, 0.3, 0.4, 1.0])
    assert rows["n"].tolist() == [1, 2, 1]
    assert rows["accuracy"].tolist() == [1.0, 0.5, 1.0] and rows["width_low"].tolist() == [0.0, 0.2, 0.4]


@pytest.mark.parametrize("edges", [[0.5], [0.2, 0.2], [0.3, 0.1]], ids=["one edge", "equal", "falling"])
def test_edges_must_increase(edges):
    with pytest.raises(ValueError, match="increasing"):
        measure_accuracy_by_width([0.1], [1], edges=edges)


def test_no_image_between_the_edges_is_refused():
    with pytest.raises(ValueError, match="None of 1 images"):
        measure_accuracy_by_width([0.9], [1], edges=[0, 0.5])


def test_the_rule_counts_its_limit_as_wide():
    assert compare_wide_with_narrow([0.2, 0.1], [1, 0], rule=0.2).value == 1.0


def test_unknown_widths_are_neither_wide_nor_narrow():
    assert compare_wide_with_narrow([0.3, 0.1, np.nan, np.nan], [1, 0, 1, 1]).value == 1.0


def test_two_input_sizes_are_compared_on_the_same_images():
    rng = np.random.default_rng(0)
    widths = rng.uniform(0.05, 0.4, 300)
    large, small = (
        pd.DataFrame({"object_width_fraction": widths, "right": right}) for right in (widths > 0, widths > 0.2)
    )
    bins, changes = compare_input_sizes({224: large, 128: small}, edges=[0, 0.2, 1])
    changes = changes.set_index("name")
    assert bins["name"].unique().tolist() == ["224 px", "128 px"]
    assert changes.loc["wide minus narrow at 128 px", "value"] == 1.0
    assert changes.loc["wide minus narrow at 224 px", "value"] == 0.0
    assert (
        changes.loc["224 px minus 128 px, narrow", "value"] == 1.0
        and changes.loc["224 px minus 128 px, wide", "value"] == 0.0
    )
    assert changes.loc["224 px minus 128 px, all", "value"] == pytest.approx((widths <= 0.2).mean())


def test_one_input_size_is_refused():
    with pytest.raises(ValueError, match="two input sizes"):
        compare_input_sizes({224: pd.DataFrame()}, edges=[0, 1])
