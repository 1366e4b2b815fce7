"""Scores that mislead: leaks are found where they were put, and nowhere else; conditions, widths, predictions."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.data.image_table import load_image_table
from utils_cv.data.splits import complete_splits, split_folds
from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.studies import splits_and_test_sets
from utils_cv.studies.splits_and_test_sets import (
    compare_input_sizes,
    compare_splits,
    load_matching_table,
    make_near_copies,
    measure_injected_duplicates,
    measure_shifts,
    score_images,
)


def make_scenes(n_scenes, *, seed, n_frames=5, spread=2.0, jitter=0.05):
    """Features of scenes of two classes: far apart from each other, frames of one scene close together."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_scenes) % 2
    centers = rng.normal(0, spread, (n_scenes, 30))
    centers[:, 0] += 2.0 * codes  # what the class is recognized by, hardly more than the noise
    features = np.repeat(centers, n_frames, axis=0) + rng.normal(0, jitter, (n_scenes * n_frames, 30))
    return features.astype(np.float32), np.repeat(codes, n_frames), np.repeat(np.arange(n_scenes), n_frames)


def test_a_random_split_claims_more_than_it_keeps_and_a_grouped_one_what_it_keeps():
    other = make_scenes(100, seed=1, n_frames=1)[:2]
    tables = compare_splits(*make_scenes(24, seed=0), other, n_folds=4, n_repeats=3)
    leak = pd.concat(tables).set_index("name")
    assert leak.loc["random split, claimed", "value"] > 0.95
    assert leak.loc["random minus grouped", "low"] > 0 and leak.loc["random minus truth", "low"] > 0
    assert leak.loc["grouped minus truth", "low"] < 0 < leak.loc["grouped minus truth", "high"]
    assert leak.loc["random split, claimed", "n"] == leak.loc["random minus grouped", "n"] == 24  # scenes, not frames
    assert leak.loc["scenes kept together, on other scenes", "n"] == 100


def test_without_groups_there_is_no_leak():
    features, codes, groups = make_scenes(80, seed=2, n_frames=1)
    _, rows = compare_splits(features, codes, groups, (features[:9], codes[:9]), n_folds=4)
    change = rows.set_index("name").loc["random minus grouped"]
    assert change["low"] < 0 < change["high"]


def test_injected_copies_raise_the_score():
    features, codes, _ = make_scenes(40, seed=3, n_frames=1)
    test, test_codes, _ = make_scenes(60, seed=4, n_frames=1)
    copies = test + np.random.default_rng(5).normal(0, 0.01, test.shape).astype(np.float32)
    rows = measure_injected_duplicates((features, codes), (test, test_codes), copies, n_draws=3)
    assert rows["share"].tolist() == [0.1, 0.25, 0.5, 1.0]
    assert rows["n_copies"].tolist() == [6, 15, 30, 60]
    assert rows["value"].idxmax() == 3
    assert rows["low"].iloc[-1] > 0


def test_near_copies_are_near_but_not_the_same():
    ramp = np.linspace(0, 200, 32, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[None, None, :, None], (2, 32, 32, 3)).copy()
    copies = make_near_copies(pixels)
    assert copies.shape == pixels.shape and (copies != pixels).any()
    assert copies.mean() > pixels.mean()
    assert np.corrcoef(copies.ravel(), pixels.ravel())[0, 1] > 0.98


def make_tables(*, is_paired=True):
    scenes = [f"scene {i}" for i in range(40)]
    test = pd.DataFrame({"scene": scenes, "right": [True] * 36 + [False] * 4})
    night = pd.DataFrame({"scene": scenes, "right": [True] * 20 + [False] * 20, "shift": "night"})
    far = pd.DataFrame({"scene": scenes[:10], "right": True, "shift": "far"})
    shifted = pd.concat([night, far], ignore_index=True)
    return test, shifted if is_paired else shifted.drop(columns="scene")


def test_the_same_scenes_are_compared_in_pairs():
    test, shifted = make_tables()
    rows = measure_shifts(test, shifted).set_index("shift")
    assert rows["is_paired"].all()
    night = rows.loc["night"]
    assert (night["accuracy"], night["test_accuracy"], night["n"]) == (0.5, 0.9, 40)
    assert night["value"] == pytest.approx(-0.4) and night["high"] < 0
    expected = compare_accuracy([1] * 40, shifted["right"][:40].astype(int), test["right"].astype(int))
    assert (night["low"], night["high"]) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert rows.loc["far", "test_accuracy"] == 1.0  # of its ten scenes only
    assert rows.loc["far", "value"] == 0.0


def test_without_scenes_and_with_an_unknown_one_all_images_are_compared():
    rows = measure_shifts(*make_tables(is_paired=False)).set_index("shift")
    assert not rows["is_paired"].any() and rows.loc["far", "test_accuracy"] == 0.9
    test, shifted = make_tables()
    shifted.loc[0, "scene"] = "elsewhere"
    assert measure_shifts(test, shifted)["is_paired"].tolist() == [False, True]


def make_sizes(widths, *, large, small):
    answers = {224: large, 128: small}
    columns = {size: {"object_width_fraction": widths, "right": np.array(answers[size], bool)} for size in answers}
    return {size: pd.DataFrame(columns[size]) for size in answers}


def test_bins_hold_their_lower_limit_and_empty_ones_are_left_out():
    tables = make_sizes([0.1, 0.2, 0.2, 0.5], large=[1, 0, 1, 1], small=[1, 1, 1, 1])
    bins, _ = compare_input_sizes(tables, edges=[0.0, 0.2, 0.3, 0.4, 1.0])
    rows = bins[bins["name"] == "224 px"]
    assert rows["n"].tolist() == [1, 2, 1]
    assert rows["accuracy"].tolist() == [1.0, 0.5, 1.0]
    assert rows["mean_width"].tolist() == [0.1, 0.2, 0.5]


def test_the_rule_counts_its_limit_as_wide_and_unknown_widths_not_at_all():
    tables = make_sizes([0.2, 0.1, np.nan], large=[1, 0, 0], small=[1, 1, 0])
    _, changes = compare_input_sizes(tables, edges=[0, 1], rule=0.2)
    changes = changes.set_index("name")["value"]
    assert changes["wide minus narrow, 224 px"] == 1.0
    assert changes["wide minus narrow, 128 px"] == 0.0
    assert changes["224 minus 128 px, narrow"] == -1.0


def test_two_input_sizes_are_compared_on_the_same_images():
    widths = np.random.default_rng(0).uniform(0.05, 0.4, 300)
    tables = make_sizes(widths, large=widths > 0, small=widths > 0.2)
    bins, changes = compare_input_sizes(tables, edges=[0, 0.2, 1])
    changes = changes.set_index("name")
    assert bins["name"].unique().tolist() == ["224 px", "128 px"]
    assert changes.loc["224 minus 128 px, narrow", "value"] == 1.0
    assert changes.loc["224 minus 128 px, wide", "value"] == 0.0
    assert changes.loc["narrow gain minus wide gain", "low"] > 0


SIZES, WIDE = (make_sizes(widths, large=[1, 1], small=[1, 1]) for widths in ([0.1, 0.3], [0.3, 0.4]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: compare_input_sizes({224: WIDE[224]}, edges=[0, 1]), "two input sizes", id="one size"),
        pytest.param(lambda: compare_input_sizes(SIZES, edges=[0.3, 0.1]), "increasing edges", id="falling edges"),
        pytest.param(lambda: compare_input_sizes(WIDE, edges=[0, 1]), "2 wide and 0 narrow", id="no narrow object"),
        pytest.param(lambda: compare_splits(*make_scenes(3, seed=0), ()), "A class has 1 groups", id="too few groups"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def list_widths(groups):
    """How wide the intervals of each study are on images of these groups, None for none."""
    features, codes, _ = make_scenes(30, seed=4, jitter=0)
    copies = features + np.random.default_rng(5).normal(0, 0.01, features.shape).astype(np.float32)
    options = {"groups": groups, "n_draws": 2}
    copied = measure_injected_duplicates((features[::5], codes[::5]), (features, 1 - codes), copies, **options)
    copied = copied[copied["share"] == 0.5]
    test = pd.DataFrame({"right": np.repeat([True, True, False], 50), "path": np.arange(150)})
    test = test if groups is None else test.assign(group=groups)
    shifts = measure_shifts(test, test[:100].assign(shift="night"))
    wide = {size: test.assign(object_width_fraction=np.arange(150) % 100 / 100) for size in (224, 128)}
    wide[128]["right"] = wide[224]["right"] & (np.arange(150) < 40)
    bins, changes = compare_input_sizes(wide, edges=[0, 1], rule=0.5)
    bins = bins.rename(columns={"accuracy_low": "low", "accuracy_high": "high"})
    return np.concatenate([rows["high"] - rows["low"] for rows in (copied, shifts, bins, changes)])


def test_images_of_one_group_do_not_count_as_independent():
    alone, grouped = list_widths(None), list_widths(np.repeat(np.arange(30), 5))
    assert (grouped > 1.2 * alone).all(), (alone, grouped)
    np.testing.assert_allclose(list_widths(np.arange(150)), alone)


@pytest.fixture
def colored_features(monkeypatch):
    """Mean colors in place of a network."""
    monkeypatch.setattr(splits_and_test_sets, "compute_features", lambda pixels, **_: pixels.mean(axis=(1, 2)))


def test_every_row_is_answered(image_dir, colored_features):
    scored = score_images(complete_splits(load_image_table(image_dir)), im_size_px=32)
    assert len(scored.answers) == len(scored.images.pixels) == len(scored.features) == 20
    assert (scored.answers["right"] == (scored.probabilities.argmax(axis=1) == scored.codes)).all()
    assert scored.answers["right"].all(), "red cans and blue cartons"


def test_only_train_images_are_learned(image_dir, colored_features):
    table = complete_splits(load_image_table(image_dir))
    is_test = table["split"] == "test"
    swapped = table["label"].map({"can": "carton", "carton": "can"})
    first, second = (
        score_images(labeled, im_size_px=32)
        for labeled in (table, table.assign(label=table["label"].where(~is_test, swapped)))
    )
    assert first.probabilities.tolist() == second.probabilities.tolist()
    assert not second.answers.loc[is_test, "right"].any()


def test_of_several_labels_each_decision_is_an_answer(image_dir, colored_features):
    table = complete_splits(load_image_table(image_dir))
    table.loc[0, "label"] = "can|carton"
    scored = score_images(table, im_size_px=32)
    is_right = (scored.probabilities > 0.5) == scored.codes
    assert scored.codes[0].tolist() == [1, 1] and scored.answers["right"].tolist() == is_right.ravel().tolist()
    assert scored.answers["group"].tolist() == table["path"].repeat(2).tolist()
    shifts = measure_shifts(scored.answers, scored.answers.assign(shift="night"))
    assert shifts["n"].item() == 20 and shifts["value"].item() == 0


def test_two_opposite_labels_count_as_one_class(monkeypatch):
    """A model is right on both or on none of them."""
    one_of = lambda y, *a, **b: split_folds(y.reshape(len(y), -1)[:, 0], *a, **b)  # noqa: E731
    monkeypatch.setattr(splits_and_test_sets, "split_folds", one_of)
    (features, codes, scenes), (other, other_codes, _) = make_scenes(24, seed=0), make_scenes(30, seed=1)
    cases = []
    for encode in (np.eye(2, dtype=int).__getitem__, np.asarray):
        train, test = (features, encode(codes)), (other, encode(other_codes))
        tables = compare_splits(*train, scenes, test, n_folds=4, n_repeats=2)
        copied = measure_injected_duplicates(train, test, other, groups=np.arange(150) // 5, n_draws=2)
        cases.append(np.concatenate([table[["value", "low", "high", "n"]].to_numpy() for table in (*tables, copied)]))
    np.testing.assert_allclose(*cases, atol=0.05)


def test_only_images_of_known_classes_match_and_a_missing_source_is_an_error(image_dir):
    own = pd.DataFrame({"label": ["can", "mug"]})
    assert load_matching_table(str(image_dir), own)["label"].unique().tolist() == ["can"]
    with pytest.raises(FileNotFoundError):
        load_matching_table("no such folder", own)


@pytest.mark.parametrize(("own", "matching"), [("can", ["can"]), ("can|jar", ["can", "can|jar", ""])])
def test_joined_labels_match_a_table_of_several_labels(monkeypatch, own, matching):
    own, other = pd.DataFrame({"label": [own]}), pd.DataFrame({"label": ["can", "can|jar", "", "can|mug"]})
    monkeypatch.setattr(splits_and_test_sets, "load_image_table", lambda source: other)
    assert load_matching_table("a folder", own)["label"].tolist() == matching


@pytest.mark.parametrize("source", ["", "own"], ids=["no source", "other classes"])
def test_nothing_that_matches_gives_an_empty_table_that_joins(image_dir, source):
    empty = load_matching_table(source and str(image_dir), pd.DataFrame({"label": ["mug"]}))
    assert empty.empty and len(pd.concat([pd.DataFrame({"path": ["a"], "label": ["can"]}), empty])) == 1
