"""Leaks that were planted on purpose: the study finds them, and finds none where there is none."""

import numpy as np
import pytest

from utils_cv.studies.leakage import compare_splits, make_near_copies, measure_planted_duplicates


def make_scenes(n_scenes, *, seed, n_frames=5, spread=2.0, jitter=0.05):
    """Features of scenes of two classes: far apart from each other, frames of one scene close together."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_scenes) % 2
    centers = rng.normal(0, spread, (n_scenes, 30))
    centers[:, 0] += 2.0 * codes  # what the class is recognized by, hardly more than the noise
    features = np.repeat(centers, n_frames, axis=0) + rng.normal(0, jitter, (n_scenes * n_frames, 30))
    return features.astype(np.float32), np.repeat(codes, n_frames), np.repeat(np.arange(n_scenes), n_frames)


@pytest.fixture(scope="module")
def leak():
    features, codes, groups = make_scenes(24, seed=0)
    other, other_codes, _ = make_scenes(100, seed=1, n_frames=1)
    rows = compare_splits(features, codes, groups, other, other_codes, n_folds=4, n_repeats=3, show_progress=False)
    return rows.set_index("name")


def test_a_random_split_claims_more_than_it_keeps(leak):
    assert leak.loc["random split, claimed", "value"] > 0.95
    assert leak.loc["random minus grouped", "low"] > 0 and leak.loc["random minus truth", "low"] > 0


def test_a_grouped_split_claims_what_it_keeps(leak):
    assert leak.loc["grouped minus truth", "low"] < 0 < leak.loc["grouped minus truth", "high"]


def test_scenes_count_not_frames(leak):
    assert leak.loc["random split, claimed", "n"] == leak.loc["random minus grouped", "n"] == 24
    assert leak.loc["scenes kept together, on other scenes", "n"] == 100


def test_without_groups_there_is_no_leak():
    features, codes, groups = make_scenes(80, seed=2, n_frames=1)
    rows = compare_splits(features, codes, groups, features[:9], codes[:9], n_folds=4, show_progress=False)
    change = rows.set_index("name").loc["random minus grouped"]
    assert change["low"] < 0 < change["high"]


def test_too_few_groups_are_refused():
    features, codes, groups = make_scenes(4, seed=0)
    with pytest.raises(ValueError, match="fewer than n_folds"):
        compare_splits(features, codes, groups, features, codes, n_folds=5)


def test_planted_copies_raise_the_score():
    features, codes, _ = make_scenes(40, seed=3, n_frames=1)
    test, test_codes, _ = make_scenes(60, seed=4, n_frames=1)
    copies = test + np.random.default_rng(5).normal(0, 0.01, test.shape).astype(np.float32)
    rows = measure_planted_duplicates((features, codes), (test, test_codes), copies, n_draws=3, show_progress=False)
    assert rows["share"].tolist() == [0.0, 0.1, 0.25, 0.5, 1.0]
    assert rows["n_copies"].tolist() == [0, 6, 15, 30, 60]
    assert rows["difference"].iloc[0] == 0.0 and rows["difference"].idxmax() == 4
    assert rows["difference_low"].iloc[-1] > 0


def test_the_baseline_is_measured_even_when_not_asked_for():
    features, codes, _ = make_scenes(10, seed=3, n_frames=1)
    train = (features, codes)
    rows = measure_planted_duplicates(train, train, features, shares=[1.0], n_draws=1, show_progress=False)
    assert rows["share"].tolist() == [0.0, 1.0]


def test_near_copies_are_near_but_not_the_same():
    ramp = np.linspace(0, 200, 32, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[None, None, :, None], (2, 32, 32, 3)).copy()
    copies = make_near_copies(pixels)
    assert copies.shape == pixels.shape and (copies != pixels).any()
    assert copies.mean() > pixels.mean()
    assert np.corrcoef(copies.ravel(), pixels.ravel())[0, 1] > 0.98
