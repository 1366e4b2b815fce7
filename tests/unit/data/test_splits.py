"""Tests of utils_cv.data.splits: stable, every class in every part, groups whole, the same for the same seed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils_cv.data.splits import complete_splits, list_groups, split_folds, take_per_class


def make_table(counts, *, group_size=None):
    images = [(label, i) for label, n in counts.items() for i in range(n)]
    rows = [(f"{label}/{i:04d}.jpg", f"/data/{label}/{i:04d}.jpg", label) for label, i in images]
    table = pd.DataFrame(rows, columns=["image", "path", "label"])
    return table.assign(group=[f"{label}{i // group_size}" for label, i in images]) if group_size else table


def make_group_table(groups_of_class):
    """One image per class and group."""
    rows = [(f"{label}{group}", label, group) for label, groups in groups_of_class.items() for group in groups]
    return pd.DataFrame(rows, columns=["path", "label", "group"])


ONE_GROUP = make_group_table({"x": [1, 2, 3], "y": [1, 1, 1]})
ANY_TWO_SHARE = make_group_table({"w": [1, 2, 3], "x": [1, 2, 4], "y": [1, 3, 4], "z": [2, 3, 4]})
NO_SPLIT = "No split of 4 groups .* '[wxyz]' is missing in '(train|valid|test)'"


def count_splits(table):
    return pd.crosstab(table["label"], table["split"])


def list_splits(table, **options):
    return complete_splits(table, **options).set_index("path")["split"]


class_counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(3, 40), min_size=1)


@settings(max_examples=30)
@given(class_counts, st.integers(0, 99))
def test_every_class_is_in_every_part(counts, seed):
    assert (count_splits(complete_splits(make_table(counts), seed=seed)) > 0).all(axis=None)


def test_shares_are_as_even_as_a_draw_of_that_many():
    counts = count_splits(complete_splits(make_table(dict.fromkeys("abcdefgh", 500))))
    for part, share in {"train": 0.6, "valid": 0.2, "test": 0.2}.items():
        z = (counts[part] - 500 * share) / np.sqrt(500 * share * (1 - share))
        assert z.abs().max() < 3 and 0.3 < z.std() < 1.7


@settings(max_examples=30)
@given(st.integers(0, 99), st.sampled_from([None, 3]), st.randoms(use_true_random=False))
def test_no_image_changes_its_split_when_others_come_go_or_are_shuffled(seed, group_size, random):
    table = make_table({"can": 150, "carton": 120}, group_size=group_size)
    expected = list_splits(table, seed=seed)
    some = table.iloc[random.sample(range(270), 267)]
    assert list_splits(some, seed=seed).equals(expected[some["path"]])
    assert not expected.equals(list_splits(table, seed=seed + 1))
    assert list_splits(table.assign(path="/x" + table["path"]), seed=seed).tolist() == expected.tolist()


@pytest.mark.parametrize("n", [3, 10, 30])
def test_an_image_more_in_a_class_of_few_moves_at_most_one_other(n):
    n_moved, table = [], make_table({"can": n + 1, "carton": 3})
    for seed in range(40):
        before, after = list_splits(table[1:], seed=seed), list_splits(table, seed=seed)
        n_moved.append((after[before.index] != before).sum())
    assert max(n_moved) <= (2 if n == 3 else 1) and np.mean(n_moved) < {3: 0.8, 10: 0.2, 30: 0.03}[n]


def list_moved(before, after):
    """The images whose split differs, of those that are in both tables."""
    before, after = (complete_splits(table).set_index("path")["split"] for table in (before, after))
    both = before.index.intersection(after.index)
    return list(both[before[both] != after[both]])


@settings(max_examples=30)
@given(st.lists(st.integers(4, 9), min_size=1, max_size=30), st.sampled_from([None, 4]), st.data())
def test_one_that_comes_or_goes_moves_at_most_two_of_its_class(counts, group_size, data):
    counts = {f"{i:02d}": n * (group_size or 1) for i, n in enumerate(counts)}
    table = make_table(counts, group_size=group_size)
    gone = data.draw(st.sampled_from(list(list_groups(table)) if group_size else list(table["image"])))
    is_gone = table["group" if group_size else "image"] == gone
    moved = table[table["path"].isin(list_moved(table, table[~is_gone]))]
    assert set(moved["label"]) <= set(table["label"][is_gone])
    assert moved["group" if group_size else "image"].nunique() <= 2


def make_tangle(seed, name):
    """Few groups, each with several of the classes, which have three to five groups each."""
    rng = np.random.default_rng(seed)
    groups = {f"{name}{i}": rng.choice(11, rng.integers(3, 6), replace=False) for i in range(8)}
    return make_group_table({label: [f"{name} {group}" for group in drawn] for label, drawn in groups.items()})


def test_where_groups_hold_several_classes_moves_stay_among_those_that_share_them():
    n_moved = []
    for seed in range(20):
        tangle, other = make_tangle(seed, "x"), make_tangle(seed + 100, "y")
        for row in range(0, len(tangle), 9):
            try:
                moved = list_moved(pd.concat([other, tangle]), pd.concat([other, tangle.drop(index=row)]))
            except ValueError as error:
                assert "every class" in str(error)
                continue
            assert all(path.startswith("x") for path in moved)
            n_moved.append(len({path[2:] for path in moved}))
    assert len(n_moved) > 30 and np.mean(n_moved) < 2  # of 11; all hashes anew would move 6 of them


def test_names_are_compared_composed():
    table = make_table({"can": 60}).assign(image=[f"caf\u00e9{i}.jpg" for i in range(60)])
    decomposed = table.assign(image=table["image"].str.normalize("NFD"))
    assert list_splits(table).equals(list_splits(decomposed))


@settings(max_examples=30)
@given(class_counts.filter(lambda counts: min(counts.values()) >= 12), st.integers(0, 99))
def test_groups_stay_whole_and_classes_everywhere(counts, seed):
    table = complete_splits(make_table(counts, group_size=4), seed=seed)
    assert table.groupby("group")["split"].nunique().max() == 1
    assert (count_splits(table) > 0).all(axis=None)


@pytest.mark.parametrize("seed", range(10))
def test_units_move_until_every_part_has_every_class(seed):
    # A class has three groups for three parts, so most hashes put two groups of one class into one part.
    table = complete_splits(make_group_table({"a": [0, 3, 6], "b": [1, 2, 4], "c": [0, 2, 3]}), seed=seed)
    assert (count_splits(table) == 1).all(axis=None)


def test_a_row_without_group_is_alone():
    table = make_table({"can": 60, "carton": 60})
    partly = table.assign(group=[7.0 if i < 6 else None for i in range(120)])
    done = complete_splits(partly)
    assert done["split"][6:].equals(complete_splits(table)["split"][6:])
    assert done["split"][:6].nunique() == 1 and done["group"].nunique() == 115
    whole = table.assign(group=["7" if i < 6 else "" for i in range(120)])
    assert complete_splits(whole)["split"].equals(done["split"])


@pytest.mark.parametrize("group_size", [None, 3])
def test_input_is_not_changed_and_other_columns_stay(group_size):
    table = make_table({"can": 9, "carton": 9}, group_size=group_size)
    table = table.assign(width_px=480).set_index(pd.Index(range(5, 23)))
    before = table.copy()
    result = complete_splits(table)
    assert table.equals(before)
    assert result.drop(columns="split").equals(table.reset_index(drop=True))


def test_blanks_around_names_do_not_make_other_classes():
    table = make_table({"can": 6, "carton": 6})
    padded = table.assign(label=[f" {label} | " for label in table["label"]])
    assert complete_splits(padded)["split"].equals(complete_splits(table)["split"])
    assert take_per_class(padded, 2)["path"].equals(take_per_class(table, 2)["path"])


@settings(max_examples=30)
@given(st.integers(0, 99))
def test_each_of_several_labels_is_in_every_part(seed):
    rng = np.random.default_rng(seed)
    shares = {"a": 0.5, "b": 0.3, "rare": 0.1}
    labels = ["|".join(name for name, share in shares.items() if rng.random() < share) for _ in range(200)]
    table = complete_splits(pd.DataFrame({"path": [f"{i:03d}" for i in range(200)], "label": labels}), seed=seed)
    for name in shares:
        has_name = table["label"].str.split("|").map(lambda names, name=name: name in names)
        assert table[has_name]["split"].nunique() == 3


TABLE = make_table({"can": 60, "carton": 60})


@pytest.mark.parametrize(
    ("given_splits", "kept", "filled"),
    [
        pytest.param(["train", "valid", "test", ""], {"train", "valid", "test"}, {"train", "valid", "test"}, id="all"),
        pytest.param(["test", "", "", ""], {"test"}, {"train", "valid"}, id="test"),
        pytest.param(["valid", "test", "", ""], {"valid", "test"}, {"train"}, id="no train"),
        pytest.param(["train", "train", "train", ""], {"train"}, {"valid", "test"}, id="train"),
        pytest.param(["train", "train", "test", ""], {"test"}, {"train", "valid", "test"}, id="two"),
    ],
)
def test_rows_without_a_split_are_filled_and_the_others_stay(given_splits, kept, filled):
    split = pd.Series(np.resize(given_splits, 120))
    done = complete_splits(TABLE.assign(split=split.replace("", np.nan)))["split"]
    assert done[split.isin(kept)].tolist() == split[split.isin(kept)].tolist()
    assert set(done[split == ""]) == filled and set(done) == {"train", "valid", "test"}


def test_a_new_image_follows_its_group_and_a_new_class_needs_three():
    table = make_table({"can": 60, "carton": 60}, group_size=4)
    done = complete_splits(table)
    is_new = pd.Series(np.arange(120) % 4 == 1)
    again = complete_splits(done.assign(split=done["split"].mask(is_new, "")))
    assert again.equals(done)
    new = pd.DataFrame({"image": ["a", "b"], "path": ["a", "b"], "label": "jar", "group": ["a", "b"]})
    with pytest.raises(ValueError, match="at least 3 groups of every class, but 'jar' has 2"):
        complete_splits(pd.concat([done, new]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(complete_splits, "at least 3 images of every class, but 'few' has 2", id="two images"),
        pytest.param(lambda t: complete_splits(t.assign(group=t["label"])), "'can' has 1", id="one group"),
        pytest.param(lambda t: complete_splits(t.drop(columns="label")), "no column", id="no label column"),
        pytest.param(lambda t: complete_splits(t.assign(label="")), "No label in 22 rows", id="no label"),
        pytest.param(lambda t: complete_splits(t[:0]), "empty", id="no image"),
        pytest.param(lambda t: complete_splits(t.assign(split="val")), "got .'val'", id="unknown split"),
        pytest.param(lambda t: take_per_class(t, 3), "at least 3 images", id="more than there are"),
        pytest.param(lambda t: take_per_class(t, 0), "at least 1", id="none"),
        pytest.param(lambda _: complete_splits(ONE_GROUP), "'y' has 1", id="one group of a class"),
        pytest.param(lambda _: complete_splits(ANY_TWO_SHARE), NO_SPLIT, id="any two groups share a class"),
        pytest.param(lambda t: complete_splits(t.assign(split="test")), "no 'train'", id="all in test"),
        pytest.param(
            lambda t: complete_splits(t.assign(split=["train"] + [""] * 21, group="a")), "'can' has 1", id="all follow"
        ),
        pytest.param(lambda t: complete_splits(t.assign(split=["valid", "test"] * 11)), "no 'train'", id="no train"),
    ],
)
def test_impossible_wishes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_table({"can": 20, "few": 2}))


@settings(max_examples=30)
@given(st.integers(0, 99))
def test_subsets_are_nested_and_leave_other_parts_whole(seed):
    table = complete_splits(make_table({"can": 60, "carton": 50}), seed=seed)
    small, large = take_per_class(table, 5, seed=seed), take_per_class(table, 10, seed=seed)
    assert set(small["path"]) < set(large["path"]) < set(table["path"])
    assert count_splits(small)["train"].tolist() == [5, 5]
    assert count_splits(small)[["valid", "test"]].equals(count_splits(table)[["valid", "test"]])
    assert small["path"].is_monotonic_increasing  # the old order of rows


def test_groups_are_taken_as_a_whole_large_or_small():
    table = make_table({"can": 60, "carton": 60}, group_size=6)
    table.loc[table.index[:30], "group"] = "one long video"
    table.loc[table.index[-1], "group"] = np.nan  # an image of its own
    groups, n_long = list_groups(table), 0
    assert groups[-1] == table["image"].iloc[-1] and len(set(groups)) == 1 + 5 + 10 + 1
    assert list_groups(table.drop(columns="group")) is None
    for seed in range(60):
        small, large = (take_per_class(table, n, seed=seed, split=None) for n in (12, 24))
        assert set(small["image"]) < set(large["image"])
        cartons = small.loc[small["label"] == "carton", "group"].value_counts()
        assert len(cartons) <= 3 and (cartons == 6).sum() >= 1
        n_long += int((small["group"] == "one long video").any())
    assert 8 < n_long < 38  # its turn comes as early as that of others: within the first two of six, mostly


@settings(max_examples=30)
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


@pytest.mark.filterwarnings("ignore:.* every model learns")
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.booleans())
def test_no_fold_learns_without_a_label_and_groups_stay_together(seed, n_folds, has_groups):
    rng = np.random.default_rng(seed)
    n, n_labels = rng.integers(10, 60), rng.integers(2, 7)
    targets = (rng.random((n, n_labels)) < rng.uniform(0.02, 0.6, n_labels)).astype(float)
    targets[:4, 0] = 1
    groups = rng.integers(0, 8, n) if has_groups else None
    folds = split_folds(targets, groups, n_folds=n_folds, seed=seed)
    held_out = np.concatenate([part for _, part in folds])
    assert len(set(held_out)) == len(held_out) and 2 <= len(folds) <= n_folds
    for learned, part in folds:
        assert sorted([*learned, *part]) == list(range(n))
        assert (targets[learned].any(axis=0) == targets.any(axis=0)).all()
        assert groups is None or not set(groups[learned]) & set(groups[part])


def test_folds_have_even_shares_of_rare_labels_and_say_what_cannot_be_judged():
    rng = np.random.default_rng(0)
    targets = (rng.random((90, 4)) < [0.5, 0.5, 0.5, 0.0]).astype(float)
    targets[rng.choice(90, 6, replace=False), 3] = 1
    folds = split_folds(targets, None, n_folds=3, seed=0)
    assert [targets[part, 3].sum() for _, part in folds] == [2, 2, 2]
    assert max(np.ptp([targets[part].sum(axis=0) for _, part in folds], axis=0)) <= 2
    targets[np.flatnonzero(targets[:, 3])[1:], 3] = 0
    with pytest.warns(UserWarning, match="Images that every model learns, .*: 1"):
        folds = split_folds(targets, None, n_folds=3, seed=0)
    assert not any(targets[part, 3].any() for _, part in folds)
    with pytest.raises(ValueError, match="at least 2 of some label"), pytest.warns(UserWarning):
        split_folds(np.eye(2), None, n_folds=2, seed=0)


@pytest.mark.parametrize(
    "columns", [{"split": ""}, {"split": None}, {"split": "train"}], ids=["empty", "None", "train"]
)
@pytest.mark.parametrize("group_size", [None, 2])
def test_no_splits_become_three_which_stay(columns, group_size):
    table = make_table({"can": 20, "carton": 20}, group_size=group_size)
    expected = complete_splits(table, seed=1)
    assert complete_splits(table.assign(**columns), seed=1).equals(expected)
    done = expected[1:]
    assert complete_splits(done).equals(done.reset_index(drop=True))


@pytest.mark.parametrize("second", ["valid", "test"])
def test_of_two_parts_the_second_becomes_the_test(second):
    table = make_table({"can": 40, "carton": 40}, group_size=5)
    table["split"] = np.where(np.arange(80) % 40 < 10, second, "train")
    done = complete_splits(table, seed=0)
    assert ((done["split"] == "test") == (table["split"] == second)).all()
    assert (count_splits(done)[["train", "valid"]] > 0).all(axis=None)
    assert done.groupby("group")["split"].nunique().max() == 1
    fewer = table[(table["group"] != "can5") & (table["group"] != "carton2")]
    assert list_splits(fewer).equals(list_splits(table)[fewer["path"]])
