"""Wrong labels: as many as asked for, of the kind asked for, what they cost, and how checking corrects them."""

import numpy as np
import pytest

from tests.unit.studies.test_experiment import make_data, make_labels_data
from utils_cv.studies.annotation_quality import wrong_labels
from utils_cv.studies.annotation_quality.wrong_labels import (
    KINDS,
    POLICIES,
    inject_wrong_labels,
    measure_correction,
    measure_label_noise,
)
from utils_cv.studies.experiment import FIXED_C, Task, make_task, summarize

LABELS = np.repeat([0, 1, 2], 50)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.333, 1.0])
def test_exactly_that_many_labels_are_wrong(fraction):
    noisy = inject_wrong_labels(LABELS, fraction, n_classes=3)
    assert (noisy != LABELS).sum() == round(fraction * 150)
    assert set(noisy) <= {0, 1, 2}


def test_every_other_class_is_as_likely():
    noisy = inject_wrong_labels(np.zeros(3000, int), 1.0, n_classes=4)
    np.testing.assert_allclose(np.bincount(noisy) / 3000, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.03)


@pytest.mark.parametrize(("source", "n_wrong"), [(1, 20), (None, 60)], ids=["one class for another", "any class"])
def test_a_class_taken_for_another_leaves_that_one_alone(source, n_wrong):
    noisy = inject_wrong_labels(LABELS, 0.4, n_classes=3, source=source, target=2)
    assert (noisy != LABELS).sum() == n_wrong and set(noisy[noisy != LABELS]) == {2}
    assert set(LABELS[noisy != LABELS]) == ({0, 1} if source is None else {source})


def test_several_labels_are_exchanged_by_how_frequent_they_are_or_one_for_another():
    true = (np.random.default_rng(0).random((4000, 6)) < [0.5, 0.3, 0.2, 0.2, 0.1, 0.05]).astype(int)
    change = inject_wrong_labels(true, 0.4, n_classes=6) - true
    assert change.any(axis=1).sum() == 1600 and (abs(change.sum(axis=0)) < 0.4 * true.sum(axis=0)).all()
    assert (change.sum(axis=1) == 0).tolist() == (true.any(axis=1) | ~change.any(axis=1)).tolist()  # "none" gets one
    noisy = inject_wrong_labels(true, 0.5, n_classes=6, source=0, target=2)
    is_wrong = (noisy != true).any(axis=1)
    assert is_wrong.sum() == round(true[:, 0].sum() / 2)
    assert (noisy[is_wrong][:, [0, 2]] == [0, 1]).all() and not (noisy != true)[:, [1, 3, 4, 5]].any()


def test_wrong_labels_among_several_are_found_and_corrected():
    table, features = make_labels_data()
    rows = measure_correction(make_task(table, features, takes_several=True), n_rounds=2, n_seeds=1)
    left = rows.pivot(index="round", columns="policy", values="n_wrong")
    assert left.loc[0].tolist() == [12, 12] and left.loc[2, POLICIES[0]] <= 6 < 9 < left.loc[2, POLICIES[1]]


def test_fewer_wrong_labels_are_among_more_and_the_argument_stays():
    few, many = (inject_wrong_labels(LABELS, fraction, n_classes=3, seed=5) for fraction in (0.1, 0.3))
    assert set(np.flatnonzero(few != LABELS)) <= set(np.flatnonzero(many != LABELS))
    assert (np.repeat([0, 1, 2], 50) == LABELS).all()
    assert (few != inject_wrong_labels(LABELS, 0.1, n_classes=3, seed=6)).any()


def test_no_classes_are_paired_by_a_model_that_knows_the_group_of_an_image(monkeypatch):
    table, features = make_data(n_train=10)
    task, seen = make_task(table.assign(group=[f"scene {i // 2}" for i in range(len(table))]), features), []
    predict = wrong_labels.predict_out_of_fold

    def note(*arguments, **options):
        seen.append(options["groups"].tolist())
        return predict(*arguments, **options)

    monkeypatch.setattr(wrong_labels, "predict_out_of_fold", note)
    measure_label_noise(task, [0.4], n_seeds=1)
    assert seen == [task.groups[task.pool_rows].tolist()]


@pytest.fixture(scope="module")
def noise():
    task = make_task(*make_data(n_train=40, n_features=60, distance=0.5))
    return measure_label_noise(task, [0.4], n_seeds=3)


def test_every_kind_is_measured_with_and_without_its_number_of_wrong_labels(noise):
    assert noise.groupby(["kind", "rate"]).size().eq(3).all()
    assert set(noise["rate"]) == {0.0, 0.4} and set(noise["kind"]) == set(KINDS)
    is_wrong, wrong_fraction = noise["rate"] == 0.4, noise["wrong_fraction"]
    for kind, n_wrong in (("random", 48), ("one class", 16)):
        np.testing.assert_allclose(wrong_fraction[is_wrong & (noise["kind"] == kind)], n_wrong / 120)


def test_wrong_labels_cost_accuracy_and_each_seed_confuses_another_class_which_suffers_most(noise):
    summary = summarize(noise, ["kind", "rate"], baseline={"rate": 0.0}).set_index(["kind", "rate"])
    assert (summary.xs(0.4, level="rate")["difference"] < 0).all()
    of_kind = noise[noise["kind"] == "one class"]
    noisy = of_kind[of_kind["rate"] == 0.4]
    assert noisy["source"].nunique() == 3 and (noisy["source"] != noisy["target"]).all()
    recall = of_kind.groupby("rate")["source_recall"].mean()
    assert recall[0.4] < recall[0.0] - 0.05
    assert noise.loc[noise["kind"] == "random", "source_recall"].isna().all()


def test_the_confused_class_is_the_most_similar_one():
    table, features = make_data(n_classes=3, distance=3)
    can, carton = ((table["label"] == name).to_numpy() for name in ("can", "carton"))
    features[carton] += 0.8 * (features[can].mean(axis=0) - features[carton].mean(axis=0))
    rows = measure_label_noise(make_task(table, features), [0.2], n_seeds=3)
    pairs = set(rows.loc[rows["kind"] == "one class", ["source", "target"]].itertuples(index=False, name=None))
    assert {("can", "carton"), ("carton", "can")} < pairs


def test_c_is_chosen_on_the_wrong_labels_unless_the_kind_says_otherwise(monkeypatch):
    seen = []

    def record(task, rows, labels, *, C, seed):
        seen.append(C)
        return np.zeros((len(task.test_rows), 3))

    monkeypatch.setattr(Task, "predict", record)
    measure_label_noise(make_task(*make_data()), [], n_seeds=1)
    assert seen == [None, FIXED_C, None]


def test_rounds_correct_what_they_check_and_suspects_find_far_more_than_chance():
    task = make_task(*make_data(n_train=40, distance=1.2))
    options = {"wrong_fraction": 0.3, "round_fraction": 0.2, "n_rounds": 2, "n_seeds": 2}
    rows = measure_correction(task, **options)
    rounds = rows.groupby(["policy", "round"], sort=False)[["n_checked", "n_wrong"]].mean()
    assert rounds["n_checked"].tolist() == [0, 24, 48] * 2
    assert rounds.xs(0, level="round")["n_wrong"].eq(36).all()
    assert rounds.groupby("policy")["n_wrong"].apply(lambda n: n.is_monotonic_decreasing).all()
    left = rounds.xs(2, level="round")["n_wrong"]
    assert left[POLICIES[0]] < 10
    assert left[POLICIES[1]] == pytest.approx(36 * 0.6, abs=8)  # two fifths of the images were checked
    first = rows[rows["round"] == 0].pivot(index="seed", columns="policy", values="right")  # the same wrong labels
    np.testing.assert_array_equal(*(np.stack(first[policy]) for policy in POLICIES))


def test_copies_of_a_group_do_not_vouch_for_each_other():
    """Each image five times, wrong label included: suspicion needs folds that keep the copies together."""
    table, features = make_data(n_train=12, n_features=60, distance=1.2)
    table = table.loc[np.repeat(table.index, 5)].reset_index(drop=True)
    task = make_task(table.assign(group=table["image"]), np.repeat(features, 5, axis=0))
    options = {"wrong_fraction": 0.1, "round_fraction": 0.4, "n_rounds": 1, "n_seeds": 1}
    rows = measure_correction(task, **options)
    assert rows[rows["policy"] == POLICIES[0]]["n_wrong"].tolist()[1] < 6


@pytest.mark.parametrize(
    "arguments",
    [{"fraction": 1.1}, {"fraction": -0.1}, {"n_classes": 1}, {"source": 1, "target": 1}],
    ids=["above 1", "below 0", "one class", "the class itself"],
)
def test_labels_that_cannot_be_injected(arguments):
    with pytest.raises(ValueError, match="expected a fraction"):
        inject_wrong_labels(LABELS, **({"fraction": 0.1, "n_classes": 3} | arguments))


@pytest.mark.parametrize(
    ("round_fraction", "n_rounds"), [(0.6, 2), (0.001, 1), (0.1, 0)], ids=["too many", "no image", "no round"]
)
def test_rounds_that_check_too_much_or_nothing(round_fraction, n_rounds):
    with pytest.raises(ValueError, match="at least one round and one image"):
        measure_correction(make_task(*make_data()), round_fraction=round_fraction, n_rounds=n_rounds)
