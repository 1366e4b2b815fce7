"""Label noise and its mending: as many wrong labels as asked for, of the kind asked for, and what they cost."""

import numpy as np
import pytest

from tests.unit.studies.test_learning_curve import make_data
from utils_cv.studies import label_noise
from utils_cv.studies.experiment import FIXED_C
from utils_cv.studies.label_noise import KINDS, list_noise_losses, measure_label_noise, summarize_label_noise
from utils_cv.studies.label_review import POLICIES, measure_review, measure_review_gain, summarize_review


@pytest.fixture(scope="module")
def noise_rows():
    table, features = make_data(n_train=40, n_features=60, distance=0.5)
    return measure_label_noise(table, features, [0.4], n_seeds=3, show_progress=False)


@pytest.fixture(scope="module")
def review_rows():
    table, features = make_data(n_train=40, distance=1.2)
    options = {"wrong_fraction": 0.3, "round_fraction": 0.2, "n_rounds": 2, "n_seeds": 2}
    return measure_review(table, features, **options, show_progress=False)


def test_every_kind_is_measured_without_wrong_labels_too(noise_rows):
    assert noise_rows.groupby(["kind", "rate"]).size().eq(3).all()
    assert set(noise_rows["rate"]) == {0.0, 0.4} and set(noise_rows["kind"]) == set(KINDS)


@pytest.mark.parametrize(("kind", "n_wrong"), [("random", 48), ("one class", 16)])
def test_number_of_wrong_labels(noise_rows, kind, n_wrong):
    of_kind = noise_rows[(noise_rows["kind"] == kind) & (noise_rows["rate"] == 0.4)]
    assert (of_kind["n_wrong"] == n_wrong).all()
    np.testing.assert_allclose(of_kind["wrong_fraction"], n_wrong / 120)


def test_each_seed_confuses_another_class_and_it_suffers_most(noise_rows):
    of_kind = noise_rows[noise_rows["kind"] == "one class"]
    noisy = of_kind[of_kind["rate"] == 0.4]
    assert noisy["source"].nunique() == 3 and (noisy["source"] != noisy["target"]).all()
    recall = of_kind.groupby("rate")["source_recall"].mean()
    assert recall[0.4] < recall[0.0] - 0.05
    assert noise_rows.loc[noise_rows["kind"] == "random", "source_recall"].isna().all()


def test_the_strength_is_chosen_on_the_wrong_labels_unless_the_kind_says_otherwise(monkeypatch):
    seen = []

    def record(features, rows, labels, predicted_rows, *, n_classes, strength, seed):
        seen.append(strength)
        return np.zeros((len(predicted_rows), n_classes))

    monkeypatch.setattr(label_noise, "predict_with_probe", record)
    measure_label_noise(*make_data(), [], n_seeds=1, show_progress=False)
    assert seen == [None, FIXED_C, None]


def test_losses_are_the_differences_of_the_summary(noise_rows):
    noise = summarize_label_noise(noise_rows).set_index(["name", "rate"])["accuracy"]
    losses = list_noise_losses(noise_rows)
    assert len(losses) == len(KINDS)
    for loss in losses.to_dict("records"):
        assert loss["value"] == pytest.approx(noise[loss["name"], 0.0] - noise[loss["name"], 0.4])
        assert loss["low"] < loss["value"] < loss["high"] and loss["n"] == 90


def test_rounds_look_at_as_many_images_as_asked_and_mend_what_they_see(review_rows):
    review = summarize_review(review_rows)
    assert review["n_inspected"].tolist() == [0, 24, 48] * 2
    assert review.groupby("name")["n_wrong"].first().eq(36).all()
    assert review.groupby("name")["n_wrong"].apply(lambda n: n.is_monotonic_decreasing).all()


def test_suspects_find_far_more_than_chance(review_rows):
    left = summarize_review(review_rows).groupby("name")["n_wrong"].last()
    assert left[POLICIES[0]] < 10
    assert left[POLICIES[1]] == pytest.approx(36 * 0.6, abs=8)  # two fifths of the images were looked at


def test_both_policies_begin_with_the_same_labels(review_rows):
    first = review_rows[review_rows["round"] == 0].pivot(index="seed", columns="name", values="right")
    np.testing.assert_array_equal(*(np.stack(first[policy]) for policy in POLICIES))


def test_gain_is_the_last_round_minus_the_first(review_rows):
    of_policy = review_rows[review_rows["name"] == POLICIES[0]].groupby("round")["accuracy"].mean()
    gain = measure_review_gain(review_rows)
    assert gain.value == pytest.approx(of_policy[2] - of_policy[0])
    assert gain.low < gain.value < gain.high


@pytest.mark.parametrize(
    ("round_fraction", "n_rounds"), [(0.6, 2), (0.001, 1), (0.1, 0)], ids=["too many", "no image", "no round"]
)
def test_reviews_that_look_at_too_much_or_nothing(round_fraction, n_rounds):
    with pytest.raises(ValueError, match="at least one round and one image"):
        measure_review(*make_data(), round_fraction=round_fraction, n_rounds=n_rounds)
