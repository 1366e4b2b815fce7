"""Mending wrong labels round by round: the most suspect images against images drawn at random."""

import functools
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.intervals import Score, compare_repeated, measure_repeated
from utils_cv.evaluation.label_errors import rank_suspects
from utils_cv.training.out_of_fold import predict_out_of_fold

from .experiment import join_results, make_task, predict_with_probe, run_trials
from .label_noise import inject_wrong_labels

# Which images are looked at.
POLICIES = ("most suspect first", "at random")
# Wrong labels ask for strong regularization; two strengths are enough to order images by suspicion.
SUSPECT_STRENGTHS = (0.001, 0.01)


def measure_review(
    table: pd.DataFrame,
    features: np.ndarray,
    *,
    wrong_fraction: float = 0.2,
    round_fraction: float = 0.1,
    n_rounds: int = 4,
    n_seeds: int = 3,
    seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Plant wrong labels, then look at some images a round, mend what is wrong, train again, score on the test split.

    Whoever looks at an image gives it the label of the table; no image is looked at twice.

    Args:
        table: An image table with splits, its labels taken as true; all but the test images are learned from.
        features: A row for each image.
        wrong_fraction: Share of the training images that start with a wrong label, drawn at random.
        round_fraction: Share of the training images that are looked at in a round.
        n_rounds: Rounds.
        n_seeds: Draws of the wrong labels.
        seed: The first seed.
        show_progress: Show a bar with the time left.

    Returns:
        One row a policy (one of `POLICIES`), seed and round, round 0 before anything is mended: `name` (the policy),
        `seed`, `round`, `n_inspected`, `inspected_fraction`, `n_wrong` (labels still wrong), `accuracy`, `right`.

    Raises:
        ValueError: If the rounds would look at more images than there are, or at none.

    Example:
        >>> rows = measure_review(table, features, wrong_fraction=0.2)  # doctest: +SKIP
    """
    n_pool = len(make_task(table, features).pool_rows)
    n_a_round = round(round_fraction * n_pool)
    if n_rounds < 1 or not 1 <= n_a_round * n_rounds <= n_pool:
        raise ValueError(
            f"Got {n_rounds} rounds of {n_a_round} images each; expected at least one round and one image, and at "
            f"most the {n_pool} training images in all."
        )
    settings = [{"policy": policy, "seed": seed + i} for policy in POLICIES for i in range(n_seeds)]
    columns = table[[name for name in ("label", "split", "group") if name in table]]
    results = run_trials(
        functools.partial(_run_trial, columns, features, wrong_fraction, n_a_round, n_rounds),
        settings,
        description="review",
        show_progress=show_progress,
    )
    return _make_tidy(join_results(settings, results), n_a_round, n_rounds, n_pool)


def summarize_review(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a policy and round: means over the seeds, accuracy with a 95 % interval over test images and seeds."""
    summary = []
    for (name, _), group in rows.groupby(["name", "round"], sort=False):
        score = measure_repeated(np.stack(group["right"]))
        summary.append(
            {
                "name": name,
                "n_inspected": int(group["n_inspected"].iloc[0]),
                "inspected_fraction": float(group["inspected_fraction"].iloc[0]),
                "n_wrong": float(group["n_wrong"].mean()),
                "accuracy": score.value,
                "accuracy_low": score.low,
                "accuracy_high": score.high,
                "n_test": score.n,
                "n_seeds": len(group),
            }
        )
    return pd.DataFrame(summary)


def measure_review_gain(rows: pd.DataFrame, name: str = POLICIES[0]) -> Score:
    """Accuracy after the last round minus that before the first, paired, with a 95 % interval.

    Args:
        rows: From `measure_review`.
        name: One of `POLICIES`.
    """
    of_policy = rows[rows["name"] == name].sort_values("seed")
    ends = (of_policy["round"].max(), 0)
    return compare_repeated(*(np.stack(of_policy.loc[of_policy["round"] == end, "right"]) for end in ends))


def _run_trial(
    table: pd.DataFrame,
    features: np.ndarray,
    wrong_fraction: float,
    n_a_round: int,
    n_rounds: int,
    policy: str,
    seed: int,
) -> dict[str, Any]:
    task = make_task(table, features)
    pool, n_classes = task.pool_rows, len(task.class_names)
    true, y_true = task.codes[pool], task.codes[task.test_rows]
    labels = inject_wrong_labels(true, wrong_fraction, n_classes=n_classes, seed=seed)
    groups = table["group"].to_numpy()[pool] if "group" in table else None
    order = np.random.default_rng((seed, 1)).permutation(len(pool))  # not the order of planting, which seed draws
    is_seen = np.zeros(len(pool), bool)
    result: dict[str, Any] = {}
    for i in range(n_rounds + 1):
        logits = predict_with_probe(
            features, pool, labels, task.test_rows, n_classes=n_classes, strength=None, seed=seed
        )
        right = logits.argmax(axis=1) == y_true
        result |= {f"n_wrong_{i}": int((labels != true).sum()), f"accuracy_{i}": float(right.mean())}
        result[f"right_{i}"] = right
        if policy == POLICIES[0] and i < n_rounds:
            order = _order_by_suspicion(features[pool], labels, n_classes, groups, seed)
        looked_at = order[~is_seen[order]][:n_a_round]
        is_seen[looked_at] = True
        labels[looked_at] = true[looked_at]
    return result


def _order_by_suspicion(
    features: np.ndarray, labels: np.ndarray, n_classes: int, groups: np.ndarray | None, seed: int
) -> np.ndarray:
    found = predict_out_of_fold(
        features, labels, n_classes=n_classes, groups=groups, strengths=SUSPECT_STRENGTHS, seed=seed
    )
    return rank_suspects(found.probabilities, labels)["row"].to_numpy()


def _make_tidy(trials: pd.DataFrame, n_a_round: int, n_rounds: int, n_pool: int) -> pd.DataFrame:
    """One row a round, from one row a trial with a column for each round."""
    rows = [
        {
            "name": trial["policy"],
            "seed": trial["seed"],
            "round": i,
            "n_inspected": i * n_a_round,
            "inspected_fraction": i * n_a_round / n_pool,
            **{name: trial[f"{name}_{i}"] for name in ("n_wrong", "accuracy", "right")},
        }
        for trial in trials.to_dict("records")
        for i in range(n_rounds + 1)
    ]
    return pd.DataFrame(rows)
