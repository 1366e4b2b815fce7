"""The whole ladder as one call: climb where cross-validation shows a gain, and train the chosen rung on everything."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages
from utils_cv.data.splits import split_folds
from utils_cv.evaluation.calibration import ValidationScore, measure_gain, score_logits
from utils_cv.models.backbones import DEFAULT_BACKBONE
from utils_cv.system.timing import Timer

from .callbacks import soften
from .trained import TrainedModel
from .training import fine_tune, linear_probe, predict_images


@dataclass(frozen=True)
class Selection:
    """What climbing the ladder gave.

    Attributes:
        trained: The model to use: the chosen rung, trained on train and validation images together.
        rung: Its name: "probe", or a depth.
        scores: One row a rung that was tried, cross-validated: `rung`, `n` images, `accuracy`, `loss` (at the
            `temperature` that suits it best), `gain` of loss over the rung below with its standard error `gain_error`,
            `is_climbed`.
        seconds: Time of everything, without opening the images.
    """

    trained: TrainedModel
    rung: str
    scores: pd.DataFrame
    seconds: float


def select_recipe(
    images: TableImages,
    *,
    backbone: str = DEFAULT_BACKBONE,
    depths: Sequence[str] = ("top",),
    n_folds: int = 3,
    group: str | None = None,
    seed: int = 0,
    show_progress: bool = True,
    **options: Any,
) -> Selection:
    """Find out whether fine-tuning pays on these images, and train the rung that does.

    Train and validation images are cut into folds; each fold is predicted by a probe, and by fine-tuned networks, that
    have not seen it. So all of them judge, not a fifth, and no epoch is picked by the images that judge it. A
    rung is climbed where its accuracy is not lower and its loss is lower by more than 1.65 standard errors (one-sided
    95 %); the first that is not ends the climb. The test images are never looked at.

    Args:
        images: Opened images; those of the splits `train` and `valid` are learned.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        depths: The rungs above the probe, from below: depths of `fine_tune`. "all" takes minutes a fold on a CPU.
        n_folds: Trainings of each rung; more take longer and learn from more images each.
        group: Column whose equal values stay in one fold, such as the scene; None splits image by image.
        seed: Seed of folds and trainings.
        show_progress: Show bars.
        **options: Further arguments of `fine_tune`, such as `epochs` or `augment`.

    Returns:
        The trained rung and how it was chosen.

    Raises:
        ValueError: If a class has fewer images (or groups) than there are folds, or as `fine_tune` does.

    Example:
        >>> climb = select_recipe(images)  # doctest: +SKIP
        >>> climb.rung, climb.trained  # doctest: +SKIP
    """
    options |= {"seed": seed, "show_progress": show_progress, "keep": "last"}
    everything = _learn_all(images)
    with Timer() as timer:
        folds = list(_make_folds(everything, n_folds, group, seed))
        below = [linear_probe(fold, backbone=backbone, seed=seed) for fold in folds]
        score = _score_folds(below, folds)
        rows = [_describe("probe", score)]
        for depth in depths:
            tuned = [
                fine_tune(fold, depth=depth, start=start, **options) for fold, start in zip(folds, below, strict=True)
            ]
            above = _score_folds(tuned, folds)
            rows.append(_describe(depth, above, score))
            if not rows[-1]["is_climbed"]:
                break
            below, score = tuned, above
        climbed = [row for row in rows[1:] if row["is_climbed"]]
        trained = linear_probe(everything, backbone=backbone, seed=seed)
        for row in climbed:
            trained = fine_tune(everything, depth=row["rung"], start=trained, **options)
            # No image is left to find a temperature by: that of the folds.
            trained.learn.model.load_state_dict(soften(trained.learn.model.state_dict(), row["temperature"]))
    return Selection(trained, climbed[-1]["rung"] if climbed else "probe", pd.DataFrame(rows), timer.seconds)


def _learn_all(images: TableImages) -> TableImages:
    """Move the validation images to the train split of a copy."""
    split = images.table["split"].where(images.table["split"] != "valid", "train")
    return dataclasses.replace(images, table=images.table.assign(split=split))


def _make_folds(images: TableImages, n_folds: int, group: str | None, seed: int) -> Iterator[TableImages]:
    """Make the images once for each fold, its own as split `valid`."""
    train = images.table[images.table["split"] == "train"]
    # Combinations of several labels are too rare for each fold to get its share of them.
    labels = pd.Series("any", index=train.index) if images.is_multilabel else train["label"]
    units = labels if group is None else labels[~train[[group]].assign(label=labels).duplicated()]
    n_least = int(units.value_counts().min())
    if n_least < n_folds:
        raise ValueError(
            f"The smallest class has {n_least} {'images' if group is None else 'groups'} to learn from; "
            f"expected at least n_folds={n_folds}."
        )
    groups = None if group is None else train[group]
    for _, held_out in split_folds(labels, groups, n_folds=n_folds, seed=seed):
        split = images.table["split"].copy()
        split.loc[train.index[held_out]] = "valid"
        yield dataclasses.replace(images, table=images.table.assign(split=split))


def _score_folds(rungs: Sequence[TrainedModel], folds: Sequence[TableImages]) -> ValidationScore:
    """Score the held-out predictions of all folds together."""
    parts = [predict_images(rung, fold, split="valid") for rung, fold in zip(rungs, folds, strict=True)]
    probabilities = np.concatenate([part.probabilities for part in parts]).clip(1e-12, 1 - 1e-12)
    is_multilabel = rungs[0].is_multilabel
    logits = np.log(probabilities) - (np.log1p(-probabilities) if is_multilabel else 0)
    return score_logits(logits, np.concatenate([part.y_true for part in parts]))


def _describe(rung: str, score: ValidationScore, below: ValidationScore | None = None) -> dict[str, Any]:
    row = {"rung": rung, "n": len(score.losses), "accuracy": score.accuracy, "loss": score.loss}
    gain = measure_gain(score, below or score)  # the lowest rung gains nothing over itself
    return row | {
        "temperature": score.temperature,
        "gain": gain.value,
        "gain_error": gain.error,
        "is_climbed": gain.is_shown,
    }
