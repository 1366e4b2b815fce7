"""Unknown images: nothing is scored by a model that has learned it, and a class left out is an unknown one."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.evaluation.intervals import make_fraction_score
from utils_cv.evaluation.out_of_distribution import fit_ood_detector, measure_auroc, measure_rejected
from utils_cv.studies import confidence_and_unknown_images as study
from utils_cv.studies.confidence_and_unknown_images import (
    MAHALANOBIS,
    OOD_SCORES,
    compare_left_out,
    compare_scores,
    measure_coverage,
    score_by_folds,
    score_images,
)

CENTERS = np.random.default_rng(0).normal(0, 2, (15, 30))


def draw(n_per_class, *, seed=0, n_classes=4):
    codes = np.repeat(np.arange(n_classes), n_per_class)
    return CENTERS[codes] + np.random.default_rng(seed).normal(0, 1, (len(codes), 30)), codes


def score(features):
    """Scores by the model with these centers as weights, which has learned the images of `draw(20)`."""
    return score_images(draw(20), features, features @ CENTERS[:4].T)


def test_scores_by_hand():
    logits = np.log([[6.0, 2.0], [1.0, 1.0]])
    features, codes = draw(10)
    new = draw(1, seed=4)[0][:2] * 7
    table = score_images((features, codes), new, logits)
    assert table["highest probability"].tolist() == pytest.approx([-0.75, -0.5])
    assert table["highest logit"].tolist() == pytest.approx([-np.log(6), 0])
    assert table["energy"].tolist() == pytest.approx([-np.log(8), -np.log(2)])
    roots, new_roots = (np.sign(f) * np.sqrt(np.abs(f) / np.abs(f).sum(axis=1)[:, None]) for f in (features, new))
    nearest = np.sort(np.sqrt(2 - 2 * new_roots @ roots.T), axis=1)[:, :3].mean(axis=1)
    assert table["neighbors"].tolist() == pytest.approx(nearest.tolist())
    detector = fit_ood_detector(features, codes)
    assert table[MAHALANOBIS].tolist() == pytest.approx(detector.score(new, logits).tolist())


def test_every_image_is_scored_once_and_others_by_every_model():
    features, codes = draw(10)
    table = score_by_folds(features, codes, others={"new": features[:7]}, left_out=2, C=0.01)
    counts = table.groupby("source").size().to_dict()
    assert counts == {"known": 30, "left out": 10, "new": 7 * 5}
    assert table["probability"].between(1 / 3, 1).all() and np.isfinite(table[list(OOD_SCORES)]).all(axis=None)
    known = table.loc[table["source"] == "known", ["highest logit", MAHALANOBIS, "combination"]]
    standardized = (known - known.mean()) / known.std()
    np.testing.assert_allclose(known["combination"], standardized.iloc[:, :2].mean(axis=1), atol=1e-12)


def test_copies_of_a_learned_image_would_be_seen_unless_groups_keep_them_together():
    """Pairs of near-copies: in one fold a copy's nearest neighbor is far, in two it is its twin."""
    features, codes = draw(10)
    pairs, pair_codes, groups = np.repeat(features, 2, axis=0), np.repeat(codes, 2), np.repeat(np.arange(40), 2)
    nearest = [score_by_folds(pairs, pair_codes, groups=g, C=0.01)["neighbors"].mean() for g in (None, groups)]
    assert nearest[0] < 0.8 * nearest[1]


def test_intervals_count_groups_not_images():
    features, codes = draw(20)
    groups = np.arange(80) // 4
    rows = compare_left_out(features, codes, list("abcd"), groups=groups, show_progress=False)
    assert (rows["rejected_n"] == 5).all() and (rows["auroc_n"] == 20).all()
    known = score_by_folds(features, codes, groups=groups, C=0.01)
    assert set(known["unit"]) == set(range(20))
    test = score(features)
    assert set(compare_scores(known, test, test, groups=groups)["false_alarm_n"]) == {20}


def test_classes_left_out_are_found_by_their_features():
    rows = compare_left_out(*draw(40), list("abcd"), show_progress=False)
    assert len(rows) == 4 * len(OOD_SCORES) and (rows["rejected_n"] == 40).all()
    means = rows.groupby("score")["auroc"].mean()
    assert (means > 0.9).all()
    assert ((rows["rejected_low"] <= rows["rejected"]) & (rows["rejected"] <= rows["rejected_high"])).all()


@pytest.mark.parametrize(
    ("n_classes", "turns"), [(2, 0), (3, 3), (15, 12)], ids=["two leave nothing to tell apart", "three", "at most 12"]
)
def test_how_many_classes_take_their_turn(n_classes, turns):
    names = [f"class {k}" for k in range(n_classes)]
    rows = compare_left_out(*draw(5, n_classes=n_classes), names, show_progress=False)
    assert rows["name"].nunique() == turns and "auroc" in rows


def test_of_many_classes_and_images_some_are_used_evenly_spaced(monkeypatch):
    asked = []
    monkeypatch.setattr(study, "run_trials", lambda trial, settings, **options: asked.append((trial, settings)) or [])
    with pytest.raises(ValueError):  # a table for each turn was expected
        compare_left_out(np.zeros((9000, 2)), np.arange(9000) % 300, [str(i) for i in range(300)])
    (trial, settings) = asked[0]
    codes = trial.args[1]
    assert len(codes) == 1800 and len(np.unique(codes)) == 60 and codes.max() == 299
    assert len(settings) == 12 and {setting["left_out"] for setting in settings} <= set(codes)


def test_a_class_of_two_images_is_no_obstacle_and_two_classes_of_one_are(recwarn):
    features, codes = draw(10)
    few = np.r_[0:30, 30:32]
    table = score_by_folds(features[few], codes[few], C=0.01)
    assert (table["source"] == "known").sum() == 32 and not recwarn.list
    with pytest.raises(ValueError, match="two classes of two or more"):
        score_by_folds(features[:12], codes[:12], left_out=0, C=0.01)


@pytest.mark.parametrize("n_unknown", [15, 0], ids=["unknown images", "none"])
def test_scores_meet_test_images_and_unknown_images(n_unknown):
    features, codes = draw(20)
    known = score_by_folds(features, codes, C=0.01)
    test, unknown = score(draw(10, seed=1)[0]), score(-features[:n_unknown])
    rows = compare_scores(known, test, unknown).set_index("name")
    assert list(rows.index) == list(OOD_SCORES) and ("rejected" in rows) == (n_unknown > 0)
    assert (rows["false_alarm_n"] == 40).all()
    if n_unknown:
        old, new, row = test["neighbors"], unknown["neighbors"], rows.loc["neighbors"]
        assert row["auroc"] == measure_auroc(old, new).value
        assert row["rejected_high"] == measure_rejected(new, known["neighbors"]).high
        assert row["rejected_equal_low"] == measure_rejected(new, old).low
        parts = [
            [(t[n] - known[n].mean()) / known[n].std() for n in ("highest logit", MAHALANOBIS)] for t in (test, unknown)
        ]
        assert rows.loc["combination", "auroc"] == measure_auroc(*(a + b for a, b in parts)).value


def test_of_several_labels_images_without_another_one_are_unknown():
    rng = np.random.default_rng(0)
    codes = (rng.random((120, 4)) < 0.4).astype(int)
    features = codes @ CENTERS[:4] + rng.normal(0, 0.5, (120, 30))
    table = score_by_folds(features, codes, others={"new": features[:7]}, left_out=2, C=0.01)
    is_known = codes[:, [0, 1, 3]].any(axis=1)
    counts = {"known": is_known.sum(), "left out": (codes.any(axis=1) & ~is_known).sum(), "new": 7 * 5}
    assert table.groupby("source").size().to_dict() == counts
    assert table["probability"].between(0.5, 1).all() and MAHALANOBIS not in table
    rows = compare_left_out(features, codes, list("abcd"), show_progress=False)
    assert rows["name"].nunique() == 4 and (rows.loc[rows["score"] == "energy", "auroc"] > 0.7).all()
    assert compare_left_out(features[:9], np.ones((9, 3), int), list("abc"), show_progress=False).empty  # none is alone


def test_scores_and_coverage_of_several_labels_by_hand():
    logits = np.log([[9.0, 1 / 3], [1.0, 1.0]])
    table = score_images((CENTERS, np.ones((15, 2), int)), np.ones((2, 30)), logits)
    assert table["highest probability"].tolist() == pytest.approx([-0.75, -0.5])
    assert table["energy"].tolist() == pytest.approx([-np.log(10 * 4 / 3), -2 * np.log(2)])
    table = measure_coverage(np.array([[True, True], [True, False]]), np.array([0.9, 0.6]), pd.Series([0.6, 0.8]))
    assert table["accuracy"].iloc[[0, -1]].tolist() == [0.75, 1] and table["accuracy_n"].iloc[[0, -1]].tolist() == [
        2,
        1,
    ]


def test_coverage_by_hand():
    """Of ten test images the four least certain are wrong; the limits come from images that are alike."""
    certainty, is_right = np.arange(0.05, 1, 0.1), np.arange(10) >= 4
    table = measure_coverage(is_right, certainty, pd.Series(certainty)).set_index("passed_on")
    assert table["answered"].tolist() == pytest.approx(np.arange(10, 0, -1) / 10)
    assert table["accuracy"].tolist() == pytest.approx([0.6, 6 / 9, 6 / 8, 6 / 7, *[1.0] * 6])
    assert table["accuracy_low"].iloc[0] == make_fraction_score(6, 10).low and table["accuracy_n"].iloc[1] == 9
    assert measure_coverage(is_right, certainty, pd.Series(certainty), groups=np.arange(10) // 2)["accuracy_n"][0] == 5
    assert len(measure_coverage(is_right, certainty, pd.Series([2.0]))) == 1  # none is certain enough for the others
