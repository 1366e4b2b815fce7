"""Tests of utils_cv.data.splits: every class in every part, shares kept, groups whole, the same for the same seed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils_cv.data.splits import (
    _hold_out_valid,
    _split_stratified,
    complete_splits,
    split_folds,
    split_grouped,
    take_per_class,
)


def make_table(counts, *, group_size=1):
    images = [(label, i) for label, n in counts.items() for i in range(n)]
    rows = [(f"/data/{label}/{i:04d}.jpg", label, f"{label}{i // group_size}") for label, i in images]
    return pd.DataFrame(rows, columns=["path", "label", "group"])


def make_group_table(groups_of_class):
    """One image per class and group."""
    rows = [(f"{label}{group}", label, group) for label, groups in groups_of_class.items() for group in groups]
    return pd.DataFrame(rows, columns=["path", "label", "group"])


ONE_GROUP = make_group_table({"x": [1, 2, 3], "y": [1, 1, 1]})
ANY_TWO_SHARE = make_group_table({"w": [1, 2, 3], "x": [1, 2, 4], "y": [1, 3, 4], "z": [2, 3, 4]})
NO_SPLIT = "No split of 4 groups .* '[wxyz]' is missing in '(train|valid|test)'"
INCOMPLETE = "expected none at all, or 'train' with"


def count_splits(table):
    return pd.crosstab(table["label"], table["split"])


class_counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(3, 40), min_size=1)


@given(class_counts, st.integers(0, 99))
def test_every_class_has_its_share_in_every_part(counts, seed):
    table = _split_stratified(make_table(counts), seed=seed)
    found = count_splits(table)
    for part, fraction in {"train": 0.6, "valid": 0.2, "test": 0.2}.items():
        wanted = pd.Series(counts) * fraction
        assert (found[part] >= 1).all()
        assert ((found[part] - wanted).abs() < 1.4).all()  # a part that would be empty takes up to one more
    if min(counts.values()) >= 5:
        assert abs((table["split"] == "train").mean() - 0.6) <= 1.5 / len(table) + 0.01


@given(class_counts, st.integers(0, 99), st.randoms(use_true_random=False))
def test_split_depends_on_seed_and_paths_not_on_row_order(counts, seed, random):
    table = make_table(counts)
    shuffled = table.iloc[random.sample(range(len(table)), len(table))]
    expected = _split_stratified(table, seed=seed).set_index("path")["split"]
    found = _split_stratified(shuffled, seed=seed).set_index("path")["split"]
    assert found.equals(expected[found.index])


@given(class_counts.filter(lambda counts: min(counts.values()) >= 12), st.integers(0, 99))
def test_groups_stay_whole_and_classes_everywhere(counts, seed):
    table = split_grouped(make_table(counts, group_size=4), seed=seed)
    assert table.groupby("group")["split"].nunique().max() == 1
    assert (count_splits(table) > 0).all(axis=None)


def test_the_largest_group_is_placed_first_and_mixed_classes_are_balanced():
    table = make_table({"can": 100}).assign(group=[max(i - 59, 0) for i in range(100)])  # 60 images, then one by one
    assert split_grouped(table)["split"].value_counts().to_dict() == {"train": 60, "valid": 20, "test": 20}
    table = make_table({"can": 60, "carton": 60}).assign(group=[i % 20 for i in range(120)])
    found = count_splits(split_grouped(table))
    assert found.loc["can"].to_dict() == found.loc["carton"].to_dict() == {"train": 36, "valid": 12, "test": 12}


@pytest.mark.parametrize("split", [_split_stratified, split_grouped])
def test_input_is_not_changed_other_columns_stay_and_the_seed_counts(split):
    table = make_table({"can": 9, "carton": 9}).assign(width_px=480).set_index(pd.Index(range(5, 23)))
    before = table.copy()
    result = split(table)
    assert table.equals(before)
    assert result.drop(columns="split").equals(table.reset_index(drop=True))
    assert not result["split"].equals(split(table, seed=1)["split"])


def test_blanks_around_names_do_not_make_other_classes():
    table = make_table({"can": 6, "carton": 6})
    padded = table.assign(label=[f" {label} | " for label in table["label"]])
    assert _split_stratified(padded)["split"].equals(_split_stratified(table)["split"])
    assert take_per_class(padded, 2)["path"].equals(take_per_class(table, 2)["path"])


def test_several_labels_are_balanced_each():
    rng = np.random.default_rng(0)
    labels = [
        "|".join(n for n, share in (("a", 0.5), ("b", 0.3), ("rare", 0.04)) if rng.random() < share) for _ in range(200)
    ]
    table = _split_stratified(pd.DataFrame({"path": [f"{i:03d}" for i in range(200)], "label": labels}))
    for name in ("a", "b", "rare", ""):
        has_name = table["label"].map(lambda label, name=name: name in label.split("|"))
        shares = table[has_name]["split"].value_counts() / has_name.sum()
        assert shares["train"] == pytest.approx(0.6, abs=0.12) and shares["test"] == pytest.approx(0.2, abs=0.12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(_split_stratified, "at least 3 images of every class, but 'few' has 2", id="two images"),
        pytest.param(lambda t: split_grouped(t[t["label"] == "can"]), "'can' has 2", id="two groups"),
        pytest.param(lambda t: split_grouped(t.assign(group=None)), "22 of 22 rows have no group", id="no group"),
        pytest.param(lambda t: _split_stratified(t.drop(columns="label")), "no column", id="no label column"),
        pytest.param(lambda t: _split_stratified(t.assign(label="")), "No label in 22 rows", id="no label"),
        pytest.param(lambda t: _split_stratified(t[:0]), "empty", id="no image"),
        pytest.param(lambda t: _split_stratified(t, fractions={"train": 0.5, "val": 0.5}), "got .'val'", id="part"),
        pytest.param(lambda t: _split_stratified(t, fractions={"train": 60, "test": 40}), "add up to 1", id="percent"),
        pytest.param(lambda t: _hold_out_valid(t.assign(split="valid")), "22 validation images", id="valid is there"),
        pytest.param(lambda t: _hold_out_valid(t.assign(split="val")), "got .'val'", id="unknown split"),
        pytest.param(lambda t: take_per_class(t, 3), "at least 3 images", id="more than there are"),
        pytest.param(lambda t: take_per_class(t, 0), "at least 1", id="none"),
        pytest.param(lambda _: split_grouped(ONE_GROUP), "'y' has 1", id="one group"),
        pytest.param(lambda _: split_grouped(ANY_TWO_SHARE), NO_SPLIT, id="any two groups share a class"),
        pytest.param(lambda t: complete_splits(t.assign(split=["", "test"] * 11)), INCOMPLETE, id="some without"),
        pytest.param(lambda t: complete_splits(t.assign(split="train")), INCOMPLETE, id="all in train"),
        pytest.param(lambda t: complete_splits(t.assign(split=["valid", "test"] * 11)), INCOMPLETE, id="no train"),
    ],
)
def test_impossible_wishes_are_refused(call, message):
    table = make_table({"can": 20, "few": 2}, group_size=10)
    with pytest.raises(ValueError, match=message):
        call(table)


@pytest.mark.parametrize("seed", range(10))
def test_another_order_is_tried_when_a_part_lacks_a_class(seed):
    # A class has three groups for three parts, so most orders put two groups of one class into one part.
    table = split_grouped(make_group_table({"a": [0, 3, 6], "b": [1, 2, 4], "c": [0, 2, 3]}), seed=seed)
    assert (count_splits(table) == 1).all(axis=None)


@pytest.mark.parametrize("group", [pytest.param(None, id="by image"), pytest.param("group", id="by group")])
def test_hold_out_valid_keeps_the_test_part(group):
    table = split_grouped(make_table({"can": 50, "carton": 50}, group_size=5), fractions={"train": 0.8, "test": 0.2})
    result = _hold_out_valid(table, fraction=0.25, group=group)
    assert ((table["split"] == "test") == (result["split"] == "test")).all()
    assert (count_splits(result)["valid"] == 10).all()
    if group:
        assert result[result["split"] != "test"].groupby("group")["split"].nunique().max() == 1


@pytest.mark.parametrize("split", [pytest.param("", id="empty"), pytest.param(None, id="missing")])
def test_hold_out_valid_takes_an_empty_split_as_train(split):
    result = _hold_out_valid(make_table({"can": 10}).assign(split=split))
    assert result["split"].value_counts().to_dict() == {"train": 8, "valid": 2}


@given(st.integers(0, 99))
def test_subsets_are_nested_and_leave_other_parts_whole(seed):
    table = _split_stratified(make_table({"can": 60, "carton": 50}), seed=seed)
    small, large = take_per_class(table, 5, seed=seed), take_per_class(table, 10, seed=seed)
    assert set(small["path"]) < set(large["path"]) < set(table["path"])
    assert count_splits(small)["train"].tolist() == [5, 5]
    assert count_splits(small)[["valid", "test"]].equals(count_splits(table)[["valid", "test"]])
    assert small["path"].is_monotonic_increasing  # the old order of rows


@given(st.integers(0, 99))
def test_subsets_of_several_labels_are_nested_and_have_enough_of_each(seed):
    rng = np.random.default_rng(seed)
    labels = ["|".join(n for n in "abc" if rng.random() < 0.5) for _ in range(60)]
    table = pd.DataFrame({"path": [f"{i:02d}" for i in range(60)], "label": labels})
    small, large = (take_per_class(table, n, seed=seed, split=None) for n in (3, 8))
    assert set(small["path"]) <= set(large["path"])
    assert all(small["label"].str.contains(name).sum() >= 3 for name in "abc")


def test_folds_hold_out_each_image_once_with_its_share_of_every_class():
    labels, groups = np.repeat(["a", "b"], [12, 6]), np.arange(18) // 2
    for kept_together in (None, groups):
        folds = split_folds(labels, kept_together, n_folds=3, seed=1)
        assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(18))
        for learned, held_out in folds:
            assert not set(learned) & set(held_out) and len(learned) + len(held_out) == 18
            assert (labels[held_out] == "a").sum() == 4
            assert kept_together is None or not set(groups[learned]) & set(groups[held_out])
    assert not np.array_equal(*(split_folds(labels, n_folds=3, seed=seed)[0][1] for seed in (0, 1)))


@pytest.mark.parametrize("columns", [pytest.param({}, id="no column"), pytest.param({"split": ""}, id="empty")])
@pytest.mark.parametrize("has_groups", [False, True])
def test_no_splits_become_three_which_stay(columns, has_groups):
    table = make_table({"can": 20, "carton": 20}, group_size=2).assign(**columns)
    split = split_grouped if has_groups else _split_stratified
    expected = split(table, seed=1)["split"]
    assert complete_splits(table if has_groups else table.drop(columns="group"), seed=1)["split"].equals(expected)
    assert expected.value_counts().to_dict() == {"train": 24, "valid": 8, "test": 8}
    done = split(table)[1:]
    assert complete_splits(done).equals(done.reset_index(drop=True))


@pytest.mark.parametrize("second", ["valid", "test"])
def test_of_two_parts_the_second_becomes_the_test(second):
    table = make_table({"can": 20, "carton": 20}, group_size=5)
    table["split"] = np.where(np.arange(40) % 20 < 5, second, "train")
    done = complete_splits(table, seed=0)
    assert ((done["split"] == "test") == (table["split"] == second)).all()
    assert count_splits(done)["valid"].tolist() == [5, 5]  # of three groups
    assert done.groupby("group")["split"].nunique().max() == 1
