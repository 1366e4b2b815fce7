"""Confidence and unknown images: what a model says of images, and of classes, that it has not learned.

Where images have several labels, `codes` are 0 and 1 (n_images, n_classes), and unknown is an image that has none of
the labels learned. It is not near one class, so the relative Mahalanobis distance and the combination are left out.
"""

import functools
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logsumexp, softmax

from utils_cv.data.splits import count_units, split_folds
from utils_cv.evaluation.intervals import Score, measure_mean
from utils_cv.evaluation.out_of_distribution import (
    DEFAULT_RIDGE,
    HIGHEST_LOGIT,
    MAHALANOBIS,
    fit_ood_detector,
    measure_auroc,
    measure_rejected,
    scale_features,
    space_evenly,
)
from utils_cv.models.linear_heads import fit_linear_head

from .experiment import FIXED_C, run_trials

KNOWN, LEFT_OUT = "known", "left out"
OOD_SCORES = ("highest probability", HIGHEST_LOGIT, "energy", "neighbors", MAHALANOBIS, "combination")
_COMBINED = [HIGHEST_LOGIT, MAHALANOBIS]
_N_NEIGHBORS = 3  # one training image alone may be an outlier
_MAX_FOLDS = 5
_MAX_TURNS, _MAX_CLASSES, _MAX_IMAGES = 12, 60, 3000  # to leave classes out with; more would only take longer


def score_images(
    learned: tuple[np.ndarray, np.ndarray], features: np.ndarray, logits: np.ndarray, *, ridge: float = DEFAULT_RIDGE
) -> pd.DataFrame:
    """Score images by five ways to say how unusual they are.

    Args:
        learned: Features (n_learned, n_features) and codes of the images that the model has learned.
        features: (n_images, n_features), of the images to score.
        logits: (n_images, n_classes), of the model.
        ridge: As in `utils_cv.evaluation.out_of_distribution.fit_ood_detector`.

    Returns:
        A column for each, higher is more unusual: the "highest probability" (of several labels, that of the least
        certain yes or no) or "highest logit" (Hendrycks et al. 2022) is low, the "energy" of all logits is high (Liu et
        al. 2020; of several labels Wang et al. 2021), the 3 nearest "neighbors" among the images learned that have a
        label are far (Sun et al. 2022), or the "relative Mahalanobis" distance of an `OodDetector` is long.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score_images((rng.random((9, 4)), np.arange(9) % 3), rng.random((2, 4)), rng.random((2, 3))).shape
        (2, 5)
    """
    from sklearn.neighbors import NearestNeighbors

    if not len(features):
        return pd.DataFrame(columns=list(OOD_SCORES[:-1]))
    several = learned[1].ndim == 2
    of_classes = learned[0][learned[1].any(axis=1)] if several else learned[0]
    nearest = NearestNeighbors(n_neighbors=min(_N_NEIGHBORS, len(of_classes))).fit(scale_features(of_classes))
    energy = np.logaddexp(0, logits).sum(axis=1) if several else logsumexp(logits, axis=1)
    certainty = expit(np.abs(logits)).min(axis=1) if several else softmax(logits, axis=1).max(axis=1)
    columns = [-certainty, -logits.max(axis=1), -energy]
    columns += [nearest.kneighbors(scale_features(features))[0].mean(axis=1)]
    columns += [] if several else [fit_ood_detector(*learned, ridge=ridge).score(features, logits)]
    return pd.DataFrame(dict(zip(OOD_SCORES, columns, strict=False)))


def _combine(table: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Add the mean of the highest logit and the relative Mahalanobis distance, each standardized by known images."""
    if MAHALANOBIS not in known:
        return table
    parts = (table[_COMBINED] - known[_COMBINED].mean()) / known[_COMBINED].std()
    return table.assign(combination=parts.mean(axis=1))


def score_by_folds(
    features: np.ndarray,
    codes: np.ndarray,
    *,
    others: Mapping[str, np.ndarray] = MappingProxyType({}),
    left_out: int | None = None,
    groups: np.ndarray | pd.Series | None = None,
    C: float | None = None,
    ridge: float = DEFAULT_RIDGE,
    seed: int = 0,
) -> pd.DataFrame:
    """Score images by models that have not learned them: one model for each of up to 5 folds.

    Args:
        features: (n_images, n_features), of the images to learn and to score.
        codes: (n_images,), their classes. An image whose classes a model could not learn is not scored by it.
        others: Names to features of further images, which every model scores.
        left_out: A class that no model learns, so that its images are unknown: of several labels, those that have no
            other one.
        groups: (n_images,) scene, video or patient of each image; equal ones stay in one fold.
        C: As in `utils_cv.models.linear_heads.fit_linear_head`; None chooses it for each model.
        ridge: As in `utils_cv.evaluation.out_of_distribution.fit_ood_detector`.
        seed: Seed of the folds.

    Returns:
        One row per image and model: `source` ("known", "left out" or a name of `others`), `fold`, `unit` (the group or
        position), `probability` of the answer, the columns of `score_images`, and "combination", the mean of the
        highest logit and the relative Mahalanobis distance, both standardized.

    Raises:
        ValueError: If no model could learn two classes.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score_by_folds(rng.random((12, 4)), np.arange(12) % 2, C=1.0)["source"].value_counts().to_dict()
        {'known': 12}
    """
    groups = None if groups is None else np.asarray(groups)
    units, counts = np.arange(len(codes)) if groups is None else groups, count_units(codes, groups)
    with warnings.catch_warnings():  # smaller classes are missing in some folds, which is allowed for below
        warnings.filterwarnings("ignore", message="The least populated class|Images that every|Groups that every")
        folds = split_folds(codes, groups, n_folds=max(2, min(_MAX_FOLDS, counts.max())), seed=seed)
    parts = []
    for fold, (learned, held_out) in enumerate(folds):
        learned, learned_codes, parts_of = _divide(codes, left_out, learned, held_out)
        n_classes = learned_codes.shape[1] if codes.ndim == 2 else len(np.unique(learned_codes))
        if n_classes < 2:
            continue
        near = None if groups is None else groups[learned]
        head = fit_linear_head(features[learned], learned_codes, n_classes=n_classes, C=C, groups=near, seed=seed)
        sources = {source: (features[part], units[part]) for source, part in parts_of.items()}
        sources |= {source: (new, np.arange(len(new))) for source, new in others.items()}
        sources = {source: (new, unit) for source, (new, unit) in sources.items() if len(new)}
        if sources:
            new = np.concatenate([new for new, _ in sources.values()])
            of = [pd.DataFrame({"source": source, "fold": fold, "unit": unit}) for source, (_, unit) in sources.items()]
            logits = new @ head[0].T + head[1]
            scores = score_images((features[learned], learned_codes), new, logits, ridge=ridge)
            parts.append(pd.concat(of, ignore_index=True).join(scores))
    if not parts:
        raise ValueError(f"Got {counts.to_dict()} images; expected two classes of two or more.")
    table = pd.concat(parts, ignore_index=True)
    return _combine(table, table[table["source"] == KNOWN]).assign(probability=-table["highest probability"])


def _divide(
    codes: np.ndarray, left_out: int | None, learned: np.ndarray, held_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Positions to learn and what, and those of known and of left-out images; what is not learned is not known."""
    if codes.ndim == 1:
        learned = learned[codes[learned] != left_out]
        classes, learned_codes = np.unique(codes[learned], return_inverse=True)
        is_known, is_out = np.isin(codes, classes), np.isin(codes, [] if left_out is None else [left_out])
    else:
        is_class = np.array([code != left_out for code in range(codes.shape[1])])
        is_out = (np.count_nonzero(codes, axis=1) > 0) & (np.count_nonzero(codes[:, is_class], axis=1) == 0)
        learned = learned[~is_out[learned]]
        is_class &= codes[learned].any(axis=0)
        learned_codes, is_known = codes[learned][:, is_class], np.count_nonzero(codes[:, is_class], axis=1) > 0
    return learned, learned_codes, {KNOWN: held_out[is_known[held_out]], LEFT_OUT: held_out[is_out[held_out]]}


def compare_left_out(
    features: np.ndarray,
    codes: np.ndarray,
    class_names: Sequence[str],
    *,
    expected: float = 0.05,
    groups: np.ndarray | pd.Series | None = None,
    ridge: float = DEFAULT_RIDGE,
    seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Leave each class out in turn, and see which score tells its images from those of the classes that were learned.

    At most 12 classes take their turn, and no more than 60 classes and 3,000 images are used, all evenly spaced.

    Args:
        features: (n_images, n_features).
        codes: (n_images,), positions in `class_names`; or 0 and 1, (n_images, n_classes).
        class_names: Of three classes or more; with two, nothing is left to tell apart.
        expected: Share of images of the learned classes to reject, in [0, 1].
        groups: As in `score_by_folds`.
        ridge: As in `score_by_folds`.
        seed: Seed of the folds.
        show_progress: Show a bar.

    Returns:
        One row per class left out and score: `name`, `score`; `auroc`, and the share `rejected` of the class, with
        their limits `..._low`, `..._high` and numbers of images `..._n`. No row for two classes, nor for a label that
        no image has alone.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> rows = compare_left_out(rng.random((30, 4)), np.arange(30) % 3, ["a", "b", "c"], show_progress=False)
        >>> rows["name"].unique().tolist(), rows["score"].nunique()
        (['a', 'b', 'c'], 6)
    """
    nothing = pd.DataFrame(columns=["name", "score", "auroc", "rejected"])
    if len(class_names) < 3:
        return nothing
    kept = space_evenly(np.arange(len(class_names)), _MAX_CLASSES)
    n_each = _MAX_IMAGES // len(kept)
    of_class = [np.flatnonzero(codes[:, code] if codes.ndim == 2 else codes == code) for code in kept]
    part = pd.unique(np.concatenate([space_evenly(rows, n_each) for rows in of_class]))
    features, codes, groups = features[part], codes[part], None if groups is None else np.asarray(groups)[part]
    turns, rows = space_evenly(kept, _MAX_TURNS), []
    trial = functools.partial(score_by_folds, features, codes, groups=groups, C=FIXED_C, ridge=ridge, seed=seed)
    tables = run_trials(trial, [{"left_out": i} for i in turns], description="classes", show_progress=show_progress)
    for code, table in zip(turns, tables, strict=True):
        known, unknown = (table[table["source"] == source] for source in (KNOWN, LEFT_OUT))
        for name in known.columns.intersection(OOD_SCORES, sort=False) if len(unknown) else ():
            units = {"groups_in": known["unit"], "groups_ood": unknown["unit"]}
            scores = {"auroc": measure_auroc(known[name], unknown[name], **units)}
            units = {"groups": unknown["unit"], "known_groups": known["unit"]}
            scores["rejected"] = measure_rejected(unknown[name], known[name], expected=expected, **units)
            rows.append({"name": class_names[code], "score": name, **_flatten(scores)})
    return pd.DataFrame(rows) if rows else nothing


def compare_scores(
    known: pd.DataFrame, test: pd.DataFrame, unknown: pd.DataFrame, *, expected: float = 0.05, groups: Any = None
) -> pd.DataFrame:
    """Reject test images and unknown images by each score, with thresholds that neither has set.

    Args:
        known: Of `score_by_folds`, the rows of images of the classes; they set the thresholds.
        test: Of `score_images`, test images of the classes.
        unknown: Likewise, images of none of the classes; there may be none.
        expected: Share of `known` that is rejected, in [0, 1].
        groups: (n_test,), test images of one group do not count as independent. Default: all do.

    Returns:
        One row per score: `name`, and with limits `..._low`, `..._high` and the number of images `..._n` the shares
        `false_alarm` of test images and `rejected` of unknown ones, the `auroc`, and the share `rejected_equal` of
        unknown images where exactly `expected` of the test images are rejected.
    """
    rows, options = [], {"expected": expected, "known_groups": known["unit"]}
    test, unknown = (_combine(table, known) if len(table) else table for table in (test, unknown))
    for name in known.columns.intersection(OOD_SCORES, sort=False):
        scores = {"false_alarm": measure_rejected(test[name], known[name], groups=groups, **options)}
        if len(unknown):
            scores["rejected"] = measure_rejected(unknown[name], known[name], **options)
            scores["rejected_equal"] = measure_rejected(
                unknown[name], test[name], expected=expected, known_groups=groups
            )
            scores["auroc"] = measure_auroc(test[name], unknown[name], groups_in=groups)
        rows.append({"name": name, **_flatten(scores)})
    return pd.DataFrame(rows)


def measure_coverage(
    is_right: np.ndarray, certainty: np.ndarray, known: pd.Series, *, groups: np.ndarray | None = None
) -> pd.DataFrame:
    """Measure the accuracy of the answers that are left when a person takes the least certain images.

    Args:
        is_right: Whether the answer to each test image is right, bool (n_images,); or each label, (n_images, n_labels).
        certainty: Probability of that answer, (n_images,).
        known: Such probabilities of other images by models that have not learned them; their quantiles are the limits.
        groups: (n_images,), images of one group do not count as independent. Default: all do.

    Returns:
        One row for each tenth that is passed on: `passed_on` (share of `known`), `answered` (share of the test images),
        and the accuracy on these: `accuracy`, `accuracy_low`, `accuracy_high`, `accuracy_n`.

    Example:
        >>> known = pd.Series(np.arange(0.05, 1, 0.1))
        >>> measure_coverage(np.array([True, False]), np.array([0.9, 0.3]), known)["accuracy"].iloc[[0, 4]].tolist()
        [0.5, 1.0]
    """
    groups, n_each = np.arange(len(is_right)) if groups is None else groups, is_right[0].size
    is_right, certainty, groups, rows = is_right.ravel(), *(np.repeat(x, n_each) for x in (certainty, groups)), []
    for passed_on in np.arange(10) / 10:
        answered = certainty >= (known.quantile(passed_on) if passed_on else 0.0)
        if answered.any():
            score = measure_mean(is_right[answered], groups=groups[answered])
            rows.append({"passed_on": passed_on, "answered": answered.mean(), **_flatten({"accuracy": score})})
    return pd.DataFrame(rows)


def _flatten(scores: Mapping[str, Score]) -> dict[str, float]:
    """Give the limits and the number of images of scores names of their own."""
    parts = [score.name_limits(name) | {f"{name}_n": score.n} for name, score in scores.items()]
    return {key: value for part in parts for key, value in part.items()}
