"""Suspects: ranked as cleanlab ranks them, and traced to the last wrong label."""

import numpy as np
import pandas as pd
import pytest
from cleanlab.rank import get_label_quality_scores

from utils_cv.evaluation.label_errors import rank_suspects, trace_suspects

SUSPECTS = pd.DataFrame({"row": [2, 0, 1], "margin": [-0.5, -0.1, 0.3]})


def test_order_and_margin_are_those_of_cleanlab():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(4), 200), np.arange(200) % 4
    scores = get_label_quality_scores(labels, probabilities, method="normalized_margin")
    suspects = rank_suspects(probabilities, labels)
    assert suspects["row"].tolist() == np.argsort(scores).tolist()
    np.testing.assert_allclose((suspects["margin"] + 1) / 2, np.sort(scores))


def test_suggestion_is_the_most_probable_other_class():
    suspects = rank_suspects(np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]]), np.array([0, 0]))
    assert suspects["row"].tolist() == [0, 1]
    assert suspects["suggested"].tolist() == [1, 2]
    assert suspects["margin"].tolist() == pytest.approx([-0.5, 0.1])


def test_of_several_labels_the_least_believed_answer_counts_and_the_other_one_is_suggested():
    probabilities = np.array([[0.9, 0.2], [0.8, 0.6], [0.7, 0.95]])
    suspects = rank_suspects(probabilities, np.array([[1, 0], [0, 1], [1, 0]]))
    assert suspects.round(6).values.tolist() == [[2, 1, 1, -0.9], [1, 0, 1, -0.6], [0, 1, 1, 0.6]]


def test_trace_ends_with_everything_found():
    trace = trace_suspects(SUSPECTS, [False, True, True])
    assert trace["n_found"].tolist() == [1, 1, 2] and trace["recall"].tolist() == [0.5, 0.5, 1.0]
    assert trace["precision"].tolist() == pytest.approx([1.0, 0.5, 2 / 3])
    assert trace["inspected_fraction"].tolist() == pytest.approx([1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: trace_suspects(SUSPECTS, [False] * 3), "nothing to find", id="no wrong label"),
        pytest.param(lambda: trace_suspects(SUSPECTS, [True]), "suspects 3, is_wrong 1", id="other images"),
        pytest.param(lambda: rank_suspects(np.eye(2), np.zeros(3, int)), "probabilities 2, labels 3", id="labels"),
    ],
)
def test_what_cannot_be_traced_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
