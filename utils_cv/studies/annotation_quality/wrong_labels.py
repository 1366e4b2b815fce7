"""Wrong labels among the training images: what they cost on right test labels, and how fast they are corrected."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.label_errors import rank_suspects
from utils_cv.models.out_of_fold import predict_out_of_fold, predict_to_check_labels

from ..experiment import FIXED_C, Task, tabulate_trials

KINDS = ("random", "random with fixed C", "one class")  # of wrong labels and of training
POLICIES = ("most suspect first", "at random")  # which images are checked
# Wrong labels ask for strong regularization; two values are enough to order images by suspicion.
SUSPECT_CS = (0.001, 0.01)


def inject_wrong_labels(
    labels: np.ndarray,
    fraction: float,
    *,
    n_classes: int,
    source: int | None = None,
    target: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Give some images a wrong label, as careless or confused annotators would.

    Of several labels one that an image has is exchanged for one that it lacks. Both are drawn, the second by how
    frequent labels are, so that rare ones stay rare. An image without a label gets one, one with all loses one.

    Args:
        labels: True class codes, (n_images,); of several labels 0 and 1 (n_images, n_classes).
        fraction: Share of the images that get a wrong label, in [0, 1]; of the images of `source` where it is given.
        n_classes: Number of classes.
        source: Only images of this class get a wrong label. Default: those of any class.
        target: The wrong label. Default: any other class, each equally often.
        seed: For one seed the images of a smaller fraction are among those of a larger one.

    Returns:
        New labels of the same shape; those of exactly `round(fraction * n)` images differ.

    Raises:
        ValueError: If the fraction lies outside [0, 1], there are fewer than two classes, or source and target are
            the same.

    Example:
        >>> labels = inject_wrong_labels(np.array([0, 0, 1, 1]), 0.5, n_classes=2)
        >>> int((labels != [0, 0, 1, 1]).sum())
        2
    """
    if not 0 <= fraction <= 1 or n_classes < 2 or (target is not None and target == source):
        raise ValueError(
            f"Got fraction={fraction}, n_classes={n_classes}, source={source}, target={target}; expected a fraction "
            "in [0, 1], two classes or more, and a target that is another class than the source."
        )
    rng = np.random.default_rng(seed)
    is_open = np.ones(len(labels), bool) if source is None else _find_images(labels, source)
    order = rng.permutation(len(labels))
    if labels.ndim == 2:
        chosen = order[is_open[order]][: round(fraction * int(is_open.sum()))]
        return _exchange(labels, chosen, source, target, rng)
    steps = rng.integers(1, n_classes, len(labels))  # how many classes further the wrong label lies
    candidates = order[(is_open & (labels != target))[order]]
    chosen = candidates[: round(fraction * int(is_open.sum()))]
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + steps[chosen]) % n_classes if target is None else target
    return noisy


def _exchange(
    labels: np.ndarray, chosen: np.ndarray, source: int | None, target: int | None, rng: np.random.Generator
) -> np.ndarray:
    # The largest of Gumbel draws is any label equally often; with the logarithm of its count, by how frequent it is.
    noisy, draws, weights = labels.copy(), rng.gumbel(size=labels.shape), np.log(labels.sum(axis=0) + 1)
    away = np.where(labels > 0, draws, -np.inf).argmax(axis=1)
    new = np.where(labels > 0, -np.inf, draws + weights).argmax(axis=1)
    lacks_one, has_one = chosen[~labels[chosen].all(axis=1)], chosen[labels[chosen].any(axis=1)]
    noisy[lacks_one, new[lacks_one] if target is None else target] = 1
    noisy[has_one, away[has_one] if source is None else source] = 0
    return noisy


def _find_images(labels: np.ndarray, code: int) -> np.ndarray:
    return labels[:, code] > 0 if labels.ndim == 2 else labels == code


def _find_wrong(labels: np.ndarray, true: np.ndarray) -> np.ndarray:
    return (labels != true).reshape(len(true), -1).any(axis=1)


def measure_label_noise(
    task: Task,
    rates: Sequence[float] = (0.1, 0.2, 0.3, 0.4),
    *,
    n_seeds: int = 4,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a probe on labels of which some are wrong, for every kind of `KINDS`, rate and seed.

    "one class" gives images of one class, another one for each seed, the label of the class most like it. C is chosen
    by cross-validation on the wrong labels; "random with fixed C" takes the one that suits right labels.

    Args:
        task: From `make_task`; its labels are taken as true.
        rates: Shares of wrong labels, in [0, 1]: of all training images, or of those of the one class. 0 is added.
        n_seeds: Draws of the images with wrong labels.
        seed: The first seed.

    Returns:
        One row per trial: `kind`, `rate`, `source` and `target` (class names, empty unless one class), `seed`,
        `wrong_fraction` (of all training images), `source_recall` (of the one class, of several labels at a probability
        of 0.5; NaN otherwise), and what `Task.score` returns: for `summarize`.
    """
    pairs = _list_similar_pairs(task, seed)
    settings = []
    for kind in KINDS:
        for rate in sorted({0.0, *map(float, rates)}):
            for i in range(seed, seed + n_seeds):
                source, target = pairs[i % len(pairs)] if kind == "one class" else ("", "")
                settings.append({"kind": kind, "rate": rate, "source": source, "target": target, "seed": i})
    trial = functools.partial(_score_noise, task)
    return tabulate_trials(trial, settings, description="label noise")


def _list_similar_pairs(task: Task, seed: int) -> list[tuple[str, str]]:
    """Each class with the other one that its images look most like to a probe that did not learn them."""
    names, codes, groups = task.class_names, task.codes[task.pool_rows], task.get_groups(task.pool_rows)
    probabilities = predict_out_of_fold(
        task.features[task.pool_rows], codes, n_classes=len(names), groups=groups, Cs=(FIXED_C,), seed=seed
    )
    # Of several labels, images that have the other one as well do not count.
    has = codes > 0 if task.is_multilabel else np.eye(len(names), dtype=bool)[codes]
    means = has.T.astype(float) @ (probabilities * ~has) / np.maximum(has.T.astype(float) @ ~has, 1)
    np.fill_diagonal(means, -1.0)
    return [(name, names[code]) for name, code in zip(names, means.argmax(axis=1), strict=True)]


def _score_noise(task: Task, kind: str, rate: float, source: str, target: str, seed: int) -> dict[str, Any]:
    names, true = task.class_names, task.codes[task.pool_rows]
    one_class = {"source": names.index(source), "target": names.index(target)} if source else {}
    labels = inject_wrong_labels(true, rate, n_classes=len(names), seed=seed, **one_class)
    logits = task.predict(task.pool_rows, labels, C=FIXED_C if kind == "random with fixed C" else None, seed=seed)
    scored, recall = task.score(logits), np.nan
    if source:
        code = one_class["source"]
        is_found = logits[:, code] > 0 if task.is_multilabel else scored["right"]
        recall = float(is_found[_find_images(task.codes[task.test_rows], code)].mean())
    return scored | {"wrong_fraction": float(_find_wrong(labels, true).mean()), "source_recall": recall}


def measure_correction(
    task: Task,
    *,
    wrong_fraction: float = 0.2,
    round_fraction: float = 0.1,
    n_rounds: int = 4,
    n_seeds: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Inject wrong labels, then check some images per round, correct what is wrong, train again, and score.

    Whoever checks an image gives it the label of the table, or all of them; no image is checked twice.

    Args:
        task: From `make_task`; its labels are taken as true.
        wrong_fraction: Share of the training images that start with a wrong label, drawn at random.
        round_fraction: Share of the training images that are checked in a round.
        n_rounds: Rounds.
        n_seeds: Draws of the wrong labels.
        seed: The first seed.

    Returns:
        One row per policy (one of `POLICIES`), seed and round, round 0 before anything is corrected: `policy`,
        `seed`, `round`, `n_checked`, `checked_fraction`, `n_wrong` (images with a label still wrong), and what
        `Task.score` returns.

    Raises:
        ValueError: If the rounds would check more images than there are, or none.
    """
    n_pool = len(task.pool_rows)
    n_per_round = round(round_fraction * n_pool)
    if n_rounds < 1 or not 1 <= n_per_round * n_rounds <= n_pool:
        raise ValueError(
            f"Got {n_rounds} rounds of {n_per_round} images each; expected at least one round and one image, and at "
            f"most the {n_pool} training images in all."
        )
    settings = [{"policy": policy, "seed": seed + i} for policy in POLICIES for i in range(n_seeds)]
    trial = functools.partial(_score_rounds, task, wrong_fraction, n_per_round, n_rounds)
    return tabulate_trials(trial, settings, description="correction")


def _score_rounds(
    task: Task, wrong_fraction: float, n_per_round: int, n_rounds: int, policy: str, seed: int
) -> list[dict[str, Any]]:
    pool, true = task.pool_rows, task.codes[task.pool_rows]
    labels = inject_wrong_labels(true, wrong_fraction, n_classes=len(task.class_names), seed=seed)
    order = np.random.default_rng((seed, 1)).permutation(len(pool))  # not the order of injection, which seed draws
    is_checked = np.zeros(len(pool), bool)
    rows = []
    for i in range(n_rounds + 1):
        scored = task.score(task.predict(pool, labels, C=None, seed=seed))
        n_checked = int(is_checked.sum())
        counts = {"round": i, "n_checked": n_checked, "checked_fraction": n_checked / len(pool)}
        rows.append(counts | {"n_wrong": int(_find_wrong(labels, true).sum())} | scored)
        if policy == POLICIES[0] and i < n_rounds:
            order = _order_by_suspicion(task, labels, seed)
        checked = order[~is_checked[order]][:n_per_round]
        is_checked[checked] = True
        labels[checked] = true[checked]
    return rows


def _order_by_suspicion(task: Task, labels: np.ndarray, seed: int) -> np.ndarray:
    groups = task.get_groups(task.pool_rows)
    features, n_classes = task.features[task.pool_rows], len(task.class_names)
    options: dict[str, Any] = {"n_classes": n_classes, "groups": groups, "Cs": SUSPECT_CS, "seed": seed}
    return rank_suspects(predict_to_check_labels(features, labels, **options), labels)["row"].to_numpy()
