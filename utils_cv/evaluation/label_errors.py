"""Wrong labels: planting them for experiments, and finding them by a model that did not learn the image. No torch.

Source of the idea: confident learning (Northcutt, Jiang and Chuang 2021); the same authors with Athalye found 3.3 %
wrong labels on average in the test sets of ten well-known data sets.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from utils_cv.data.splits import split_folds
from utils_cv.training.linear_probe import STRENGTHS, fit_linear_head

from .intervals import Score, make_fraction_score
from .label_arrays import check_same_length


def plant_wrong_labels(
    labels: np.ndarray,
    fraction: float,
    *,
    n_classes: int,
    source: int | None = None,
    target: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Give some images a wrong label, as careless or confused annotators would.

    Args:
        labels: True class codes, (n_images,).
        fraction: Share of the images that get a wrong label, in [0, 1]; of the images of `source` where it is given.
        n_classes: Number of classes.
        source: Only images of this class get a wrong label; None: of any class.
        target: The wrong label; None: any other class, each equally often.
        seed: For one seed the images of a smaller fraction are among those of a larger one.

    Returns:
        Class codes (n_images,); exactly `round(fraction * n)` differ from `labels`.

    Raises:
        ValueError: If the fraction lies outside [0, 1], there are fewer than two classes, or source and target are
            the same.

    Example:
        >>> labels = plant_wrong_labels(np.array([0, 0, 1, 1]), 0.5, n_classes=2)
        >>> int((labels != [0, 0, 1, 1]).sum())
        2
    """
    if not 0 <= fraction <= 1 or n_classes < 2 or (target is not None and target == source):
        raise ValueError(
            f"Got fraction={fraction}, n_classes={n_classes}, source={source}, target={target}; expected a fraction "
            "in [0, 1], two classes or more, and a target that is another class than the source."
        )
    rng = np.random.default_rng(seed)
    is_open = np.ones(len(labels), bool) if source is None else labels == source
    order = rng.permutation(len(labels))
    steps = rng.integers(1, n_classes, len(labels))  # how many classes further the wrong label lies
    candidates = order[(is_open & (labels != target))[order]]
    chosen = candidates[: round(fraction * int(is_open.sum()))]
    planted = labels.copy()
    planted[chosen] = (labels[chosen] + steps[chosen]) % n_classes if target is None else target
    return planted


class OutOfFold(NamedTuple):
    """Predictions for every image by a model that did not learn it.

    Attributes:
        probabilities: (n_images, n_classes), rows sum to 1.
        strength: The regularisation with the lowest log loss, scikit-learn's C.
    """

    probabilities: np.ndarray
    strength: float


def predict_out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    n_classes: int,
    groups: np.ndarray | None = None,
    strengths: tuple[float, ...] = STRENGTHS,
    n_folds: int = 5,
    seed: int = 0,
) -> OutOfFold:
    """Predict each image by a linear probe that learned the other folds.

    Wrong labels ask for stronger regularisation, so the strength is chosen here, by the log loss of these very
    predictions: one number of five, which the labels of single images hardly move.

    Args:
        features: (n_images, n_features).
        labels: Class codes as they are, right or wrong, (n_images,).
        n_classes: Number of classes.
        groups: Group of each image (scene, video, patient): near-duplicates, which share their wrong label, must
            not vouch for each other. None where there are none.
        strengths: To choose from.
        n_folds: Parts; fewer where a class has fewer images.
        seed: Seed of the folds.

    Raises:
        ValueError: If a class has fewer than two images, or the lengths differ.

    Example:
        >>> found = predict_out_of_fold(features, labels, n_classes=4)  # doctest: +SKIP
    """
    check_same_length(features=features, labels=labels)
    folds = _make_folds(labels, groups, n_classes, n_folds, seed)
    best = OutOfFold(np.zeros((0, n_classes)), strengths[0])
    lowest = np.inf
    for strength in strengths:
        logits = np.empty((len(labels), n_classes))
        for learned, held_out in folds:
            weight, bias = fit_linear_head(
                features[learned], labels[learned], n_classes=n_classes, strength=strength, seed=seed
            )
            logits[held_out] = features[held_out] @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
        if loss < lowest:
            best, lowest = OutOfFold(probabilities, strength), loss
    return best


def rank_suspects(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Order images by how much their predictions doubt their labels, the most doubted first.

    Args:
        probabilities: Of a model that did not learn the images, (n_images, n_classes).
        labels: Class codes as they are, (n_images,).

    Returns:
        One row an image: `row` (its position), `label` and `suggested` (class codes; the suggested one is the most
        probable other class), and `margin`, the probability of the label minus that of the suggested class, in
        [-1, 1]. Below 0 the model contradicts the label.

    Example:
        >>> rank_suspects(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))["row"].tolist()
        [1, 0]
    """
    check_same_length(probabilities=probabilities, labels=labels)
    rows = np.arange(len(labels))
    of_label = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1.0
    suggested = others.argmax(axis=1)
    margin = of_label - others[rows, suggested]
    table = pd.DataFrame({"row": rows, "label": labels, "suggested": suggested, "margin": margin})
    return table.sort_values("margin", kind="stable").reset_index(drop=True)


class Found(NamedTuple):
    """How well a ranking finds wrong labels that are known.

    Attributes:
        precision: Of the images that were looked at, the share whose label is wrong.
        recall: Of the wrong labels, the share that was looked at.
    """

    precision: Score
    recall: Score


def score_suspects(suspects: pd.DataFrame, is_wrong: Any, n_inspected: int | None = None) -> Found:
    """Precision and recall of looking at the first suspects, where it is known which labels are wrong.

    Args:
        suspects: From `rank_suspects`.
        is_wrong: Whether the label of each image is wrong, bool (n_images,), in the order of the images.
        n_inspected: How many suspects are looked at; None: all whose label the model contradicts.

    Raises:
        ValueError: If nothing is looked at, or no label is wrong.

    Example:
        >>> suspects = rank_suspects(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
        >>> score_suspects(suspects, [False, True]).precision.value
        1.0
    """
    is_wrong = np.asarray(is_wrong, dtype=bool)
    check_same_length(suspects=suspects, is_wrong=is_wrong)
    n_inspected = int((suspects["margin"] < 0).sum()) if n_inspected is None else n_inspected
    if not 1 <= n_inspected <= len(suspects) or not is_wrong.any():
        raise ValueError(
            f"Got {n_inspected} of {len(suspects)} images to look at and {int(is_wrong.sum())} wrong labels; expected "
            "at least one of each, or there is no precision or recall."
        )
    n_found = int(is_wrong[suspects["row"].to_numpy()[:n_inspected]].sum())
    return Found(make_fraction_score(n_found, n_inspected), make_fraction_score(n_found, int(is_wrong.sum())))


def trace_suspects(suspects: pd.DataFrame, is_wrong: Any) -> pd.DataFrame:
    """Precision and recall after every image, in the order of suspicion.

    Returns:
        One row an image: `n_inspected`, `inspected_fraction`, `precision`, `recall`.
    """
    hits = np.asarray(is_wrong, dtype=bool)[suspects["row"].to_numpy()]
    if not hits.any():
        raise ValueError("No label is wrong, so there is nothing to find.")
    n_inspected = np.arange(1, len(hits) + 1)
    columns = {
        "n_inspected": n_inspected,
        "inspected_fraction": n_inspected / len(hits),
        "precision": hits.cumsum() / n_inspected,
        "recall": hits.cumsum() / hits.sum(),
    }
    return pd.DataFrame(columns)


def _make_folds(
    labels: np.ndarray, groups: np.ndarray | None, n_classes: int, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    units = np.arange(len(labels)) if groups is None else pd.factorize(np.asarray(groups))[0]
    n_units = [len(np.unique(units[labels == code])) for code in range(n_classes)]
    if min(n_units) < 2:
        what = "images" if groups is None else "groups"
        raise ValueError(
            f"Class {int(np.argmin(n_units))} has {min(n_units)} {what}; expected at least 2 of every class, so that "
            "each can be predicted by a model that learned another one."
        )
    return split_folds(labels, None if groups is None else units, n_folds=min(n_folds, *n_units), seed=seed)
