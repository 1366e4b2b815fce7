"""Multi-label scores and thresholds, against scikit-learn and by property."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, hamming_loss

from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.evaluation.multilabel import (
    apply_thresholds,
    compare_multilabel,
    compute_average_precision,
    measure_multilabel,
    select_thresholds,
)

pytestmark = pytest.mark.filterwarnings("ignore:The intervals of means over labels are too narrow")


@st.composite
def multi_hot_pairs(draw):
    """True labels, at least one of them, and probabilities with many ties."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    y_true, probabilities = rng.random(shape) < 0.5, rng.integers(0, 6, shape) / 5
    y_true[0, 0] = True
    return y_true, probabilities


@settings(max_examples=30, deadline=None)
@given(multi_hot_pairs())
def test_scores_agree_with_scikit_learn_and_lie_in_their_intervals(pair):
    y_true, probabilities = pair
    y_pred, scores, present = probabilities >= 0.5, measure_multilabel(*pair), y_true.any(axis=0)
    expected = {
        "exact_match": accuracy_score(y_true, y_pred),
        "hamming_accuracy": 1 - hamming_loss(y_true, y_pred),
        "macro_f1": f1_score(y_true, y_pred, average="macro", zero_division=np.nan),
        "micro_f1": f1_score(y_true, y_pred, average="micro"),
        "mean_average_precision": average_precision_score(y_true[:, present], probabilities[:, present]),
    }
    assert {name: score.value for name, score in scores.items()} == pytest.approx(expected)
    assert all(0 <= score.low <= score.value <= score.high <= 1 for score in scores.values())


def make_answers(n=60, n_labels=3, seed=0):
    rng = np.random.default_rng(seed)
    y_true = rng.random((n, n_labels)) < 0.5
    answers = y_true * 0.4 + 0.3 + 0.2 * rng.normal(size=y_true.shape)
    return y_true, [np.clip(answers + noise * rng.normal(size=y_true.shape), 0, 1) for noise in (0, 0.1)]


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_images_and_labels_does_not_matter(random):
    y_true, (answers, _) = make_answers(12)
    rows, columns = (random.sample(range(n), n) for n in y_true.shape)
    mixed = measure_multilabel(y_true[rows][:, columns], answers[rows][:, columns])
    for name, score in measure_multilabel(y_true, answers).items():
        assert mixed[name].value == pytest.approx(score.value)


def test_perfect_scores_keep_a_width_and_hamming_follows_images_not_decisions():
    y_true = np.eye(4)[np.arange(40) % 4]
    for score in measure_multilabel(y_true, y_true).values():
        assert score.value == 1.0 and 0.85 < score.low < 0.95
    same = np.repeat(np.arange(50)[:, None] % 2 == 0, 10, axis=1)  # an image has all its decisions right or wrong
    scores = measure_multilabel(same, same ^ (np.arange(50)[:, None] < 5))
    assert scores["hamming_accuracy"] == pytest.approx(scores["exact_match"], abs=0.02)


def test_differences_are_paired():
    y_true, (good, bad) = make_answers()
    changes = compare_multilabel(y_true, (good, 0.5), (bad, 0.4))
    alone = [measure_multilabel(y_true, good), measure_multilabel(y_true, bad, 0.4)]
    for name, change in changes.items():
        assert change.value == pytest.approx(alone[0][name].value - alone[1][name].value)
        assert -1 <= change.low < change.value < change.high <= 1 and change.n == 60
    assert changes["exact_match"] == compare_accuracy(y_true, good >= 0.5, bad >= 0.4)
    widths = [scores["macro_f1"].high - scores["macro_f1"].low for scores in (*alone, changes)]
    assert widths[2] < 0.8 * np.hypot(*widths[:2])  # they are wrong on the same images
    swapped = compare_multilabel(y_true, (bad, 0.4), (good, 0.5))
    assert swapped["macro_f1"].value == -changes["macro_f1"].value


def test_equal_answers_differ_by_0_with_the_width_of_the_paired_accuracy():
    y_true, (good, _) = make_answers()
    for change in compare_multilabel(y_true, (good, 0.5), (good, 0.5)).values():
        assert change.value == 0 and change.high == pytest.approx(-change.low) == pytest.approx(0.0447, abs=0.001)


def test_groups_are_what_counts():
    y_true, (good, bad) = make_answers(20)
    thrice, groups = [np.repeat(part, 3, axis=0) for part in (y_true, good, bad)], np.repeat(np.arange(20), 3)
    for name, score in measure_multilabel(y_true, good).items():
        repeated = measure_multilabel(*thrice[:2], groups=groups)[name]
        assert repeated.value == pytest.approx(score.value) and repeated.n == 20
        tolerance = 0.1 if name == "exact_match" else 1e-6  # that of groups is Student's
        assert (repeated.low, repeated.high) == pytest.approx((score.low, score.high), abs=tolerance)
    alone = compare_multilabel(y_true, (good, 0.5), (bad, 0.5))["macro_f1"]
    answers = [(part, 0.5) for part in thrice[1:]]
    assert compare_multilabel(thrice[0], *answers, groups=groups)["macro_f1"] == pytest.approx(alone)
    names = ["a", "b", "c"]
    tables = (
        compute_average_precision(y_true, good, names),
        compute_average_precision(*thrice[:2], names, groups=groups),
    )
    assert tables[0].round(9).equals(tables[1].round(9))


def test_average_precision_of_each_label_and_nan_without_an_image():
    y_true, (good, _) = make_answers()
    y_true[:, 1] = False
    table = compute_average_precision(y_true, good, ["can", "carton", "jar"])
    expected = average_precision_score(y_true[:, [0, 2]], good[:, [0, 2]], average=None)
    assert table["average_precision"][[0, 2]].tolist() == pytest.approx(expected.tolist())
    assert table["n"].tolist() == y_true.sum(axis=0).tolist() and table.iloc[1, 3:].isna().all()


def test_a_label_of_few_images_says_that_intervals_are_too_narrow():
    y_true = np.arange(30)[:, None] < [8, 7]
    with pytest.warns(UserWarning, match="a label has 7 true images, fewer than 8"):
        measure_multilabel(y_true, y_true)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        pytest.param(0.0, [[True, True, True]], id="zero predicts everything"),
        pytest.param(0.5, [[False, True, True]], id="equal counts as yes"),
        pytest.param(1.0, [[False, False, True]], id="one keeps certainty"),
        pytest.param([0.0, 0.6, 1.0], [[True, False, True]], id="one for each class"),
    ],
)
def test_apply_thresholds(threshold, expected):
    assert apply_thresholds([[0.0, 0.5, 1.0]], threshold).tolist() == expected


@pytest.mark.parametrize(
    ("functions", "arguments", "message"),
    [
        pytest.param([measure_multilabel], ([[1, 0]], [[1, 0, 1]]), "equal shapes", id="other number of labels"),
        pytest.param([measure_multilabel, select_thresholds], ([[0, 0]], [[0, 1]]), "has a label", id="no label"),
        pytest.param([partial(select_thresholds, kind="own")], ([[1]], [[1]]), "one of shared, per", id="kind"),
        pytest.param([apply_thresholds], ([[2.0, -1.0]], 0.5), "logits", id="logits"),
        pytest.param([apply_thresholds], ([[0.2, 0.4]], [0.5]), "each of 2 classes", id="too few thresholds"),
        pytest.param([apply_thresholds], ([[0.2, 0.4]], 50), r"fractions in \[0, 1\]", id="percent"),
        pytest.param([apply_thresholds], ([[0.2, 0.4]], np.nan), r"fractions in \[0, 1\]", id="not a number"),
    ],
)
def test_what_does_not_fit_is_refused(functions, arguments, message):
    for function in functions:
        with pytest.raises(ValueError, match=message):
            function(*arguments)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=1, max_size=30))
def test_selected_threshold_is_as_good_as_any_other(pairs):
    y_true, probabilities = np.array([[p[0]] for p in pairs]), np.array([[p[1] / 10] for p in pairs])
    if not y_true.any():
        return
    chosen = select_thresholds(y_true, probabilities, kind="per_label")
    f1 = [f1_score(y_true, apply_thresholds(probabilities, t / 10), zero_division=0) for t in range(11)]
    assert f1_score(y_true, apply_thresholds(probabilities, chosen)) == pytest.approx(max(f1))


def test_selected_thresholds_lie_halfway_and_of_equals_the_nearest_to_a_half():
    separable = [[1, 1], [0, 1], [0, 0]], [[0.9, 0.3], [0.2, 0.25], [0.1, 0.05]]
    np.testing.assert_allclose(select_thresholds(*separable, kind="per_label"), [0.55, 0.15])
    y_true = np.array([1, 1, 0, 0, 1, 0, 0, 0, 1])[:, None]  # the first 2 and the first 5 have the same F1
    probabilities = np.array([0.9, 0.8, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05])[:, None]
    np.testing.assert_allclose(select_thresholds(y_true, probabilities, kind="per_label"), [0.6])


def test_class_without_a_true_image_keeps_a_half_and_says_so():
    with pytest.warns(UserWarning, match=r"Columns \[1\]"):
        assert select_thresholds([[1, 0], [0, 0]], [[0.9, 0.1], [0.7, 0.2]], kind="per_label")[1] == 0.5


def test_shared_threshold_counts_labels_alike_and_shrunk_ones_lie_between():
    rng = np.random.default_rng(0)
    y_true = rng.random((200, 2)) < [0.5, 0.05]
    probabilities = expit(3 * y_true - 1.5 + rng.normal(size=y_true.shape) + logit([0.5, 0.05]))
    own, shared, shrunk = (select_thresholds(y_true, probabilities, kind=k) for k in ("per_label", "shared", "shrunk"))
    assert shared[0] == shared[1]
    n = y_true.sum(axis=0)
    np.testing.assert_allclose(logit(shrunk), (n * logit(own) + 10 * logit(shared)) / (n + 10))
    twice = select_thresholds(np.tile(y_true[:, [1]], 2), np.tile(probabilities[:, [1]], 2), kind="shared")
    assert twice[0] == pytest.approx(own[1])
    alike = np.repeat(y_true[:, :1], 3, axis=0), np.repeat(probabilities[:, :1], 3, axis=0)
    assert select_thresholds(*alike, kind="shared")[0] == pytest.approx(own[0])  # more images of it change nothing


def test_thresholds_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"y_true \(1, 2\), probabilities \(2, 2\)"):
        select_thresholds([[1, 0]], [[0.5, 0.5]] * 2)
