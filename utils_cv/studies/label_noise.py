"""Wrong labels among the training images: what they cost on a test set whose labels are right."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.intervals import compare_repeated, measure_repeated
from utils_cv.training.out_of_fold import predict_out_of_fold

from .experiment import FIXED_C, join_results, make_task, predict_with_probe, run_trials

# Kinds of wrong labels and of training, in words.
KINDS = {
    "random": "any image may be labelled as any other class",
    "random, strength not adapted": "the same; regularized as if all labels were right",
    "one class": "images of one class are labelled as the class most like it",
}


def measure_label_noise(
    table: pd.DataFrame,
    features: np.ndarray,
    rates: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4),
    *,
    n_seeds: int = 4,
    seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train a probe on labels of which some are wrong, for every kind of `KINDS`, rate and seed.

    Unless the kind says otherwise, the regularization is chosen by cross-validation on the wrong labels, as it would
    be by somebody who does not know of them. For "one class", each seed takes another class.

    Args:
        table: An image table with splits, its labels taken as true; all but the test images are learned from.
        features: A row for each image.
        rates: Shares of wrong labels, in [0, 1]: of all training images, or of those of the one class. 0 is added.
        n_seeds: Draws of the images with wrong labels.
        seed: The first seed.
        show_progress: Show a bar with the time left.

    Returns:
        One row a trial: `kind`, `rate`, `source` and `target` (class names, empty unless one class), `seed`,
        `n_train`, `n_wrong`, `wrong_fraction` (of all training images), `accuracy`, `source_recall` (of the one
        class; None otherwise), and `right`, bool (n_test,).

    Example:
        >>> rows = measure_label_noise(table, features, [0.2])  # doctest: +SKIP
    """
    task = make_task(table, features)
    likest = _find_likest(features[task.pool_rows], task.codes[task.pool_rows], len(task.class_names), seed)
    names = task.class_names
    settings = []
    for kind in KINDS:
        for rate in sorted({0.0, *map(float, rates)}):
            for i in range(n_seeds):
                source = (seed + i) % len(names)
                pair = (names[source], names[likest[source]]) if kind == "one class" else ("", "")
                settings.append({"kind": kind, "rate": rate, "source": pair[0], "target": pair[1], "seed": seed + i})
    results = run_trials(
        functools.partial(_run_trial, table[["label", "split"]], features),
        settings,
        description="label noise",
        show_progress=show_progress,
    )
    return join_results(settings, results)


def summarize_label_noise(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a kind and rate: means over the seeds, with 95 % intervals over test images and seeds.

    Args:
        rows: From `measure_label_noise`.

    Returns:
        `name` (the kind), `rate`, `wrong_fraction`, `accuracy`, `accuracy_low`, `accuracy_high`, `n_test`, `n_seeds`,
        `seed_sd` (standard deviation between seeds).
    """
    summary = []
    for (kind, rate), group in rows.groupby(["kind", "rate"], sort=False):
        score = measure_repeated(np.stack(group["right"]))
        summary.append(
            {
                "name": kind,
                "rate": rate,
                "wrong_fraction": float(group["wrong_fraction"].mean()),
                "accuracy": score.value,
                "accuracy_low": score.low,
                "accuracy_high": score.high,
                "n_test": score.n,
                "n_seeds": len(group),
                "seed_sd": float(group["accuracy"].std(ddof=1)) if len(group) > 1 else 0.0,
            }
        )
    return pd.DataFrame(summary)


def list_noise_losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy lost to wrong labels, without any minus with them, on the same test images and seeds.

    Args:
        rows: From `measure_label_noise`.

    Returns:
        One row a kind and rate above 0: `name` (the kind), `rate`, `wrong_fraction`, and the loss `value` with its
        paired 95 % interval `low` to `high`; `n` counts test images.
    """
    losses = []
    for kind, of_kind in rows.sort_values("seed").groupby("kind", sort=False):
        clean = np.stack(of_kind.loc[of_kind["rate"] == 0, "right"])
        for rate, group in of_kind[of_kind["rate"] > 0].groupby("rate"):
            loss = compare_repeated(clean, np.stack(group["right"]))
            wrong_fraction = float(group["wrong_fraction"].mean())
            losses.append({"name": kind, "rate": rate, "wrong_fraction": wrong_fraction, **loss._asdict()})
    return pd.DataFrame(losses)


def _find_likest(features: np.ndarray, codes: np.ndarray, n_classes: int, seed: int) -> list[int]:
    """For each class the other one that its images look most like to a probe that did not learn them."""
    probabilities = predict_out_of_fold(
        features, codes, n_classes=n_classes, strengths=(FIXED_C,), seed=seed
    ).probabilities
    means = np.array([probabilities[codes == code].mean(axis=0) for code in range(n_classes)])
    np.fill_diagonal(means, -1.0)
    return [int(code) for code in means.argmax(axis=1)]


def _run_trial(
    table: pd.DataFrame, features: np.ndarray, kind: str, rate: float, source: str, target: str, seed: int
) -> dict[str, Any]:
    task = make_task(table, features)
    names, true = task.class_names, task.codes[task.pool_rows]
    codes = (names.index(source), names.index(target)) if source else (None, None)
    labels = inject_wrong_labels(true, rate, n_classes=len(names), source=codes[0], target=codes[1], seed=seed)
    strength = FIXED_C if kind == "random, strength not adapted" else None
    logits = predict_with_probe(
        features, task.pool_rows, labels, task.test_rows, n_classes=len(names), strength=strength, seed=seed
    )
    y_true, y_pred = task.codes[task.test_rows], logits.argmax(axis=1)
    n_wrong = int((labels != true).sum())
    return {
        "n_train": len(true),
        "n_wrong": n_wrong,
        "wrong_fraction": n_wrong / len(true),
        "accuracy": float((y_true == y_pred).mean()),
        "source_recall": float((y_pred[y_true == codes[0]] == codes[0]).mean()) if source else None,
        "right": y_true == y_pred,
    }


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
    is_open = np.ones(len(labels), bool) if source is None else labels == source
    order = rng.permutation(len(labels))
    steps = rng.integers(1, n_classes, len(labels))  # how many classes further the wrong label lies
    candidates = order[(is_open & (labels != target))[order]]
    chosen = candidates[: round(fraction * int(is_open.sum()))]
    planted = labels.copy()
    planted[chosen] = (labels[chosen] + steps[chosen]) % n_classes if target is None else target
    return planted
