"""Confidence and unknown images: what a model says of images, and of classes, that it has not learned."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from utils_cv.data.splits import split_folds
from utils_cv.evaluation.intervals import Score, measure_mean
from utils_cv.evaluation.out_of_distribution import (
    COMBINED,
    DEFAULT_RIDGE,
    OOD_SCORES,
    OodDetector,
    fit_ood_arrays,
    measure_auroc,
    measure_rejected,
    space_evenly,
)
from utils_cv.training.linear_probe import fit_linear_head

from .experiment import FIXED_C, run_trials

KNOWN, LEFT_OUT = "known", "left out"
_MAX_FOLDS = 5
_MAX_CLASSES, _MAX_IMAGES = 60, 3000  # to leave classes out with; more would only take longer


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
        codes: (n_images,), their classes. An image whose class a model could not learn is not scored by it.
        others: Names to features of further images, which every model scores.
        left_out: A class that no model learns, so that its images are unknown.
        groups: (n_images,) scene, video or patient of each image; equal ones stay in one fold.
        C: As in `utils_cv.training.linear_probe.fit_linear_head`; None chooses it for each model.
        ridge: As in `utils_cv.evaluation.out_of_distribution.fit_ood_detector`.
        seed: Seed of the folds.

    Returns:
        One row per image and model: `source` ("known", "left out" or a name of `others`), `fold`, `unit` (the group or
        position), `probability` of the answer, and a column for each of
        `utils_cv.evaluation.out_of_distribution.OOD_SCORES`: higher is more unusual.

    Raises:
        ValueError: If no model could learn two classes.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score_by_folds(rng.random((12, 4)), np.arange(12) % 2, C=1.0)["source"].value_counts().to_dict()
        {'known': 12}
    """
    groups = None if groups is None else np.asarray(groups)
    units = pd.DataFrame({"code": codes, "unit": np.arange(len(codes)) if groups is None else groups})
    n_folds = max(2, min(_MAX_FOLDS, units.drop_duplicates()["code"].value_counts().max()))
    with warnings.catch_warnings():  # smaller classes are missing in some folds, which is allowed for below
        warnings.filterwarnings("ignore", message="The least populated class")
        folds = split_folds(codes, groups, n_folds=n_folds, seed=seed)
    parts = []
    for fold, (learned, held_out) in enumerate(folds):
        learned = learned[codes[learned] != left_out]
        classes, learned_codes = np.unique(codes[learned], return_inverse=True)
        if len(classes) < 2:
            continue
        near = None if groups is None else groups[learned]
        head = fit_linear_head(features[learned], learned_codes, n_classes=len(classes), C=C, groups=near, seed=seed)
        arrays = fit_ood_arrays(features[learned], learned_codes, ridge=ridge)
        rows = {KNOWN: held_out[np.isin(codes[held_out], classes)], LEFT_OUT: held_out[codes[held_out] == left_out]}
        sources = {source: (features[part], units["unit"].to_numpy()[part]) for source, part in rows.items()}
        sources |= {source: (new, np.arange(len(new))) for source, new in others.items()}
        for source, (new, unit) in sources.items():
            if len(new):
                logits = new @ head[0].T + head[1]
                scores = {name: OodDetector(name, arrays).score(new, logits) for name in OOD_SCORES[:-1]}
                probability = softmax(logits, axis=1).max(axis=1)
                row = {"source": source, "fold": fold, "unit": unit, "probability": probability}
                parts.append(pd.DataFrame(row | scores))
    if not parts:
        raise ValueError(f"Got {units['code'].value_counts().to_dict()} images; expected two classes of two or more.")
    table = pd.concat(parts, ignore_index=True)
    known = table.loc[table["source"] == KNOWN, COMBINED]
    return table.assign(combination=((table[COMBINED] - known.mean()) / known.std()).mean(axis=1))


def compare_left_out(
    features: np.ndarray,
    codes: np.ndarray,
    class_names: Sequence[str],
    *,
    expected: float = 0.05,
    groups: np.ndarray | pd.Series | None = None,
    ridge: float = DEFAULT_RIDGE,
    max_turns: int = 12,
    seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Leave each class out in turn, and see which score tells its images from those of the classes that were learned.

    Args:
        features: (n_images, n_features).
        codes: (n_images,), positions in `class_names`.
        class_names: Of three classes or more; with two, nothing is left to tell apart.
        expected: Share of images of the learned classes to reject, in [0, 1].
        groups: As in `score_by_folds`.
        ridge: As in `score_by_folds`.
        max_turns: Of more classes than this, as many are left out, evenly spaced. Others than 60 classes and 3,000
            images are not used, evenly spaced as well.
        seed: Seed of the folds.
        show_progress: Show a bar.

    Returns:
        One row per class left out and score: `name`, `score`; `auroc`, and the share `rejected` of the class, with
        their limits `..._low`, `..._high` and numbers of images `..._n`. No row for two classes.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> rows = compare_left_out(rng.random((30, 4)), np.arange(30) % 3, ["a", "b", "c"], show_progress=False)
        >>> rows["name"].unique().tolist(), rows["score"].nunique()
        (['a', 'b', 'c'], 6)
    """
    if len(class_names) < 3:
        return pd.DataFrame(columns=["name", "score", "auroc", "rejected"])
    kept = space_evenly(np.arange(len(class_names)), _MAX_CLASSES)
    n_each = _MAX_IMAGES // len(kept)
    part = np.concatenate([space_evenly(np.flatnonzero(codes == code), n_each) for code in kept])
    features, codes, groups = features[part], codes[part], None if groups is None else np.asarray(groups)[part]
    turns, rows = space_evenly(kept, max_turns), []
    settings = [{"left_out": code} for code in turns]
    trial = functools.partial(score_by_folds, features, codes, groups=groups, C=FIXED_C, ridge=ridge, seed=seed)
    tables = run_trials(trial, settings, description="classes", show_progress=show_progress)
    for code, table in zip(turns, tables, strict=True):
        known, unknown = (table[table["source"] == source] for source in (KNOWN, LEFT_OUT))
        for name in OOD_SCORES if len(unknown) else ():
            units = {"groups_in": known["unit"], "groups_ood": unknown["unit"]}
            scores = {"auroc": measure_auroc(known[name], unknown[name], **units)}
            units = {"groups": unknown["unit"], "known_groups": known["unit"]}
            scores["rejected"] = measure_rejected(unknown[name], known[name], expected=expected, **units)
            rows.append({"name": class_names[code], "score": name, **_flatten(scores)})
    return pd.DataFrame(rows)


def compare_detectors(
    detectors: Mapping[str, OodDetector],
    known: pd.DataFrame,
    test: tuple[np.ndarray, np.ndarray],
    unknown: tuple[np.ndarray, np.ndarray],
    *,
    expected: float = 0.05,
    groups: Any = None,
) -> pd.DataFrame:
    """Reject test images and unknown images by each score, with thresholds that neither has set.

    Args:
        detectors: Names of scores to what `utils_cv.evaluation.out_of_distribution.fit_ood_detector` fitted.
        known: Of `score_by_folds`, the rows of images of the classes; they have set the thresholds.
        test: Features (n_test, n_features) and logits (n_test, n_classes) of images of the classes.
        unknown: Those of images of none of the classes; there may be none.
        expected: Share of `known` that is rejected, in [0, 1].
        groups: (n_test,), test images of one group do not count as independent. Default: all do.

    Returns:
        One row per score: `name`, and with limits `..._low`, `..._high` and the number of images `..._n` the shares
        `false_alarm` of test images and `rejected` of unknown ones, the `auroc`, and the share `rejected_equal` of
        unknown images where exactly `expected` of the test images are rejected.

    Example:
        >>> compare_detectors(detectors, known, test, unknown)[["name", "rejected"]]  # doctest: +SKIP
    """
    rows = []
    for name, detector in detectors.items():
        old, new = detector.score(*test), detector.score(*unknown) if len(unknown[0]) else np.empty(0)
        options = {"expected": expected, "known_groups": known["unit"]}
        scores = {"false_alarm": measure_rejected(old, known[name], groups=groups, **options)}
        if len(new):
            scores["rejected"] = measure_rejected(new, known[name], **options)
            scores["rejected_equal"] = measure_rejected(new, old, expected=expected, known_groups=groups)
            scores["auroc"] = measure_auroc(old, new, groups_in=groups)
        rows.append({"name": name, **_flatten(scores)})
    return pd.DataFrame(rows)


def measure_coverage(
    is_right: np.ndarray, certainty: np.ndarray, known: pd.Series, *, groups: np.ndarray | None = None
) -> pd.DataFrame:
    """Measure the accuracy of the answers that are left when a person takes the least certain images.

    Args:
        is_right: Whether the answer to each test image is right, bool (n_images,).
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
    rows = []
    for passed_on in np.arange(10) / 10:
        answered = certainty >= (known.quantile(passed_on) if passed_on else 0.0)
        if answered.any():
            score = measure_mean(is_right[answered], groups=None if groups is None else groups[answered])
            rows.append({"passed_on": passed_on, "answered": answered.mean(), **_flatten({"accuracy": score})})
    return pd.DataFrame(rows)


def _flatten(scores: Mapping[str, Score]) -> dict[str, float]:
    """Give the limits and the number of images of scores names of their own."""
    parts = {name: score._asdict().items() for name, score in scores.items()}
    return {name if key == "value" else f"{name}_{key}": x for name, part in parts.items() for key, x in part}
