"""Which images to label next, when to stop, and how to find images of none of the classes; test images only score."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import entr, softmax

from utils_cv.evaluation.out_of_distribution import fit_ood_detector, scale_features, select_ridge

from .experiment import Task, tabulate_trials

STRATEGIES = ("random", "margin", "entropy", "k-center", "typical", "typical, then margin")
ORDERS = ("most unusual first", "most confident first", "at random")  # to look for images of none of the classes
MEASURED = ("accuracy", "called none", "class none", "unknown score")
_N_ROUNDS, _MIXED = 8, -2  # the code of images of the classes; -1 are classes that the study leaves out


def select_images(
    features: np.ndarray,
    is_labeled: np.ndarray,
    n: int,
    strategy: str,
    logits: Any = None,
    groups: Any = None,
    *,
    seed: int,
) -> np.ndarray:
    """Select which images to label next.

    Args:
        features: (n_images, n_features).
        is_labeled: Which have a label, bool (n_images,).
        n: Images to select; with groups there may be some more.
        strategy: "random"; "margin" (the two likeliest classes are about as likely) or "entropy" (many are), by logits;
            "k-center", the image farthest from all labeled ones, again and again (Sener and Savarese 2018); "typical",
            one amid others like it, for each large cluster without a label (TypiClust, Hacohen et al. 2022).
        logits: (n_images, n_classes), of a model that has learned the labeled images.
        groups: (n_images,) scene, video or patient; an image brings all of its group, in the order of the table.
        seed: Decides what the strategy leaves open.

    Returns:
        Positions of images without a label, the first to label first.

    Example:
        >>> select_images(np.eye(2), np.zeros(2, bool), 1, "margin", np.array([[3, 0], [0, 0]]), seed=0).tolist()
        [1]
    """
    free = np.random.default_rng(seed).permutation(np.flatnonzero(~is_labeled))  # ties fall anyhow
    if strategy in ("margin", "entropy"):
        chances = np.sort(softmax(logits[free], axis=1), axis=1)
        certainty = chances[:, -1] - chances[:, -2] if strategy == "margin" else -entr(chances).sum(axis=1)
        free = free[np.argsort(certainty, kind="stable")]
    elif strategy != "random" and len(free):
        order = {"k-center": _list_farthest, "typical": _list_typical}[strategy]
        free = order(scale_features(features), is_labeled, free, n)
    if groups is None:
        return free[:n]
    names = pd.unique(groups[free])
    n_images = pd.Series(groups[~is_labeled]).value_counts()[names].cumsum()
    return np.flatnonzero(~is_labeled & np.isin(groups, names[: int((n_images < n).sum()) + 1]))


def _list_farthest(features: np.ndarray, is_labeled: np.ndarray, free: np.ndarray, n: int) -> np.ndarray:
    from scipy.spatial.distance import cdist

    nearest, chosen = cdist(features[free], features[is_labeled]).min(axis=1, initial=np.inf), list[int]()
    for _ in range(min(n, len(free))):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, cdist(features[free], features[free[chosen[-1:]]])[:, 0])
        nearest[chosen] = -1
    return free[chosen]


def _list_typical(features: np.ndarray, is_labeled: np.ndarray, free: np.ndarray, n: int) -> np.ndarray:
    from scipy.spatial.distance import cdist
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    features = PCA(min(64, *features.shape), svd_solver="randomized", random_state=0).fit_transform(features)
    n_clusters = min(int(is_labeled.sum()) + n, len(np.unique(features, axis=0)))
    clusters = KMeans(n_clusters, n_init=1, random_state=int(free[0])).fit_predict(features)  # `free` is in any order
    listed = list[tuple[int, int, int]]()  # first clusters without a label, of these the largest
    for rows in map(np.flatnonzero, clusters == np.arange(n_clusters)[:, None]):
        rows = rows[np.sort(cdist(features[rows], features[rows]), axis=1)[:, :21].mean(axis=1).argsort(kind="stable")]
        open_rows, n_labeled = rows[~is_labeled[rows]], int(is_labeled[rows].sum())
        listed += [(i + n_labeled, -len(rows), row) for i, row in enumerate(open_rows)]
    return np.array([row for *_, row in sorted(listed)])


def measure_strategies(
    task: Task, budgets: Sequence[int], *, stop_change: float = 0.05, n_seeds: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Hide the labels outside the test split, reveal those that each of `STRATEGIES` asks for, and score the models.

    All begin with the same random images, but the "typical" ones. "typical, then margin" is typical at first only.

    Args:
        task: From `make_task`.
        budgets: How many images have a label, ascending; with groups there may be some more.
        stop_change: The rule to stop: a new model changes no more than this share, in [0, 1], of the answers to all
            images outside the test split. Their accuracy has then changed by no more.
        n_seeds: Repetitions.
        seed: The first seed.

    Returns:
        One row per `strategy`, `seed` and `budget`: `n_labeled`; `changed`, the share of answers; `estimated`, the
        accuracy of the model before on the images that were labeled since; `is_stop`, where the rule stops or labels
        end; and for `summarize` `right`, bool (n_test,), and `groups`.
    """
    settings = [{"strategy": strategy, "seed": seed + i} for strategy in STRATEGIES for i in range(n_seeds)]
    return tabulate_trials(functools.partial(_label_in_rounds, task, budgets, stop_change), settings)


def _label_in_rounds(
    task: Task, budgets: Sequence[int], stop_change: float, strategy: str, seed: int
) -> list[dict[str, Any]]:
    pool, n_pool, rows = task.pool_rows, len(task.pool_rows), list[dict[str, Any]]()
    is_labeled, answers, logits = np.zeros(n_pool, bool), np.full(n_pool, -1), np.empty((n_pool, 0))
    (first, _, later), last = strategy.partition(", then "), len(budgets) - 1
    for i, budget in enumerate(budgets):
        how = (later or first) if i else "typical" if first == "typical" else "random"
        options: dict[str, Any] = {"logits": logits, "groups": task.get_groups(pool), "seed": 1000 * seed + i}
        n = max(budget - int(is_labeled.sum()), 0)  # whole groups may have brought more before
        new = select_images(task.features[pool], is_labeled, n, how, **options) if n else pool[:0]
        is_labeled[new], before = True, answers
        logits, tested = np.split(task.predict(pool[is_labeled], on=np.append(pool, task.test_rows)), [n_pool])
        answers = logits.argmax(axis=1)
        row = {"budget": budget, "n_labeled": is_labeled.sum(), "changed": (answers != before).mean()}
        row["estimated"] = (before[new] == task.codes[pool[new]]).mean() if i and n else np.nan
        row["is_stop"] = not any(other["is_stop"] for other in rows) and (row["changed"] <= stop_change or i == last)
        rows.append(row | task.score(tested))
    return rows


def measure_mining(
    task: Task, negatives: np.ndarray, mixed: np.ndarray, kinds: Any, *, n_look: int = 20, n_seeds: int = 5, seed: int
) -> pd.DataFrame:
    """Look at images that a model takes for one of its classes, learn those of none as the class "none", and again.

    Half of the negatives is among the images to look at, the other half is only scored; then they change places. The
    rule to stop: no more than a tenth of the images of a round were of none of the classes.

    Args:
        task: From `make_task`.
        negatives: Features of images of none of the classes, (n_negatives, n_features).
        mixed: Features of images of the classes, (n_mixed, n_features), among which the negatives are looked for. They
            are not learned, so that all that changes is due to the class "none".
        kinds: (n_negatives,), of which a half holds all images or none. None: each image is a kind of its own.
        n_look: Images that are looked at in a round, in one of `ORDERS`.
        n_seeds: Divisions into halves.
        seed: The first seed.

    Returns:
        One row per `order`, `seed`, `round` and what is `measured`, with `right` and `groups` for `summarize`:
        "accuracy" on test images; negatives "called none", and those above 95 % of the test images by the "class none"
        or by the "unknown score", the relative Mahalanobis distance. `stage`: "at first", "last round", or "stopped"
        where the rule stops, as one more round. Means of the halves: `n_looked`, `n_found`, `false_alarm` (test
        images called none).
    """
    pool, none = (task.features[task.pool_rows], task.codes[task.pool_rows]), len(task.class_names)
    codes = np.concatenate([task.codes, np.full(len(negatives), none), np.full(len(mixed), _MIXED)])
    features = np.concatenate([task.features, negatives, mixed])
    wide = task._replace(features=features, codes=codes, class_names=[*task.class_names, "none"], groups=None)
    detector = fit_ood_detector(*pool, ridge=select_ridge(*pool, groups=task.get_groups(task.pool_rows)))
    trial = functools.partial(_mine, wide, detector.score(features, features), kinds, n_look)
    settings = [{"order": order, "seed": seed + i} for order in ORDERS for i in range(n_seeds)]
    rows, of_test = tabulate_trials(trial, settings), task.get_groups(task.test_rows)
    return rows.assign(groups=[of_test if measured == MEASURED[0] else kinds for measured in rows["measured"]])


def _mine(
    task: Task, unusual: np.ndarray, kinds: np.ndarray | None, n_look: int, order: str, seed: int
) -> list[dict[str, Any]]:
    """Mine each half, and join what the two models of a round say of the negatives that they were not given."""
    negatives, rows = np.flatnonzero(task.codes == len(task.class_names) - 1), []
    units = np.unique(negatives if kinds is None else kinds, return_inverse=True)[1]
    is_first = np.isin(units, np.random.default_rng(seed).permutation(units.max() + 1)[::2])
    halves = [_mine_half(task, unusual, negatives[part], n_look, order, seed) for part in (is_first, ~is_first)]
    stopped = [next(row for row in half[1:] if row["is_over"]) for half in halves]
    for i, (a, b) in enumerate([*zip(*halves, strict=True), stopped]):
        stage = {0: "at first", _N_ROUNDS: "last round", _N_ROUNDS + 1: "stopped"}.get(i, "")
        means = {key: (a[key] + b[key]) / 2 for key in ("n_looked", "n_found", "false_alarm", "accuracy")}
        right = {key: np.where(is_first, b[key], a[key]) for key in MEASURED[1:]}
        right[MEASURED[0]] = means.pop("accuracy")
        rows += [means | {"round": i, "stage": stage, "measured": key, "right": right[key]} for key in MEASURED]
    return rows


def _mine_half(
    task: Task, unusual: np.ndarray, mined: np.ndarray, n_look: int, order: str, seed: int
) -> list[dict[str, Any]]:
    none, rng, test = len(task.class_names) - 1, np.random.default_rng(seed), task.test_rows
    negatives, free = np.flatnonzero(task.codes == none), np.append(mined, np.flatnonzero(task.codes == _MIXED))
    rows, looked, found = list[dict[str, Any]](), [free[:0]], [free[:0]]
    for i in range(_N_ROUNDS + 1):
        logits = task.predict(np.concatenate([task.pool_rows, *found]), on=np.arange(len(task.codes)))
        scores = np.maximum(logits[:, none], -1e9) - logits[:, :none].max(axis=1)  # -1e9 before there is a class "none"
        row: dict[str, Any] = {"n_looked": sum(map(len, looked)), "n_found": sum(map(len, found))}
        row["is_over"] = i == _N_ROUNDS or len(found[-1]) <= 0.1 * len(looked[-1])
        row["false_alarm"] = (scores[test] > 0).mean()
        answers = [(logits[test].argmax(axis=1) == task.codes[test]).astype(float), scores[negatives] > 0]
        answers += [score[negatives] > np.quantile(score[test], 0.95) for score in (scores, unusual)]
        rows.append(row | dict(zip(MEASURED, answers, strict=True)))
        accepted = rng.permutation(free[(scores[free] <= 0) & ~np.isin(free, np.concatenate(looked))])
        by = {ORDERS[0]: unusual[accepted], ORDERS[1]: softmax(logits[accepted], axis=1).max(axis=1)}
        looked.append(accepted[np.argsort(-by.get(order, np.zeros(len(accepted))), kind="stable")][:n_look])
        found.append(looked[-1][task.codes[looked[-1]] == none])
    return rows
