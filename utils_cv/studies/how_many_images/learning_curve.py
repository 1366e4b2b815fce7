"""A learning curve: accuracy on a fixed test set against the number of training images, and a power law through it.

Of several labels the score is the mean average precision, and sizes are images of each label: at least as many.

Error = scale × (n + shift) ** -exponent + floor. With shift 0 it is the form that fits most learning curves of images
(Hestness et al. 2017); with a shift it bends on double logarithmic axes, as curves do that start slowly. It is fitted
by hand, because a thousand resamples are fitted at once and exactly for each exponent and shift; scipy's curve_fit
takes one at a time and needs a start.

The band comes from drawing test images and seeds anew, and from fitting all sizes, or only the last four or three: so
it holds what the choice of a form and of the sizes makes of a forecast. `benchmarks/learning_curves.py` says how often
it holds a known truth.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages
from utils_cv.evaluation.intervals import Score, resample_means

from ..experiment import MEASURES, Task, tabulate_trials

# To choose from; published exponents for images lie between 0.1 and 0.7. Shifts are in units of the smallest size.
EXPONENTS, SHIFTS = np.linspace(0.05, 4.0, 40), (0, 1, 4, 12, 30)
# Of the resamples, for 95 % limits: 0.025 and 0.975 held 89 to 92 % of known curves (`benchmarks/learning_curves.py`).
LIMITS = (0.01, 0.99)
# Beyond this many times the largest measured size the curve says nothing.
LARGEST_FACTOR = 100


def list_sizes(task: Task, *, smallest: int = 5) -> list[int]:
    """Training set sizes, images per class: all of the smallest class, half of that, and so on down to `smallest`.

    Args:
        task: From `make_task`.
        smallest: No size is below it; in small classes a quarter of the images counts, so that three sizes fit.

    Returns:
        Ascending; each is twice the one before, or one more.

    Raises:
        ValueError: If a class has fewer than two images to learn from.

    Example:
        >>> from utils_cv.studies.experiment import make_task
        >>> table = pd.DataFrame({"label": ["can", "milk"] * 21, "split": ["train"] * 40 + ["test"] * 2})
        >>> list_sizes(make_task(table, np.zeros((42, 8))))
        [5, 10, 20]
    """
    largest = task.n_smallest
    if largest < 2 or smallest < 1:
        raise ValueError(
            f"Got {largest} images to learn from in the smallest class and smallest={smallest}; expected at least 2 "
            "and 1. Add images to that class, or leave it out."
        )
    sizes = [largest]
    while sizes[0] // 2 >= min(smallest, max(1, largest // 4)):
        sizes.insert(0, sizes[0] // 2)
    return sizes


def measure_learning_curve(task: Task, sizes: Sequence[int], *, n_seeds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Train a linear probe on some images of each class, for every size and seed, and score the whole test split.

    A seed decides which images are taken; for one seed smaller sets lie within larger ones. At the largest size
    little or nothing is left to choose, so the seeds agree there.

    Args:
        task: From `make_task`.
        sizes: Images of each class.
        n_seeds: Draws of each size.
        seed: The first seed.

    Returns:
        One row per trial: `n_per_class`, `seed`, and what `summarize` needs, from `Task.score`.

    Raises:
        TrialError: If a class has too few images.
    """
    settings = [{"n_per_class": int(n), "seed": seed + i} for n in sorted(sizes) for i in range(n_seeds)]
    trial = functools.partial(_score_probe, task)
    return tabulate_trials(trial, settings, description="learning curve")


def _score_probe(task: Task, n_per_class: int, seed: int) -> dict[str, Any]:
    rows = task.draw(n_per_class, seed=seed)
    return task.score(task.predict(rows))


def measure_fine_tuning(
    task: Task,
    images: TableImages,
    sizes: Sequence[int],
    *,
    backbone: str,
    n_seeds: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a probe and, starting from it, the last stage of the network on the same few images, and score them.

    A third recipe is the network halfway between the two. All drawn images are trained on and none chooses an epoch, so
    the fine-tuned network is that of the last epoch.

    Args:
        task: From `make_task`.
        images: The opened images of the task.
        sizes: Images of each class.
        backbone: The network that the features of the task are from.
        n_seeds: Draws of each size.
        seed: The first seed.

    Returns:
        One row per size, seed and recipe ("probe", "averaged", "last_stage"): `n_per_class`, `seed`, `recipe`, and
            what `summarize` needs.
    """
    settings = [{"n_per_class": int(n), "seed": seed + i} for n in sizes for i in range(n_seeds)]
    trial = functools.partial(_score_recipes, task, images, backbone)
    return tabulate_trials(trial, settings, description="fine-tuning")


def _score_recipes(task: Task, images: TableImages, backbone: str, n_per_class: int, seed: int) -> list[dict[str, Any]]:
    from scipy.special import logit

    from utils_cv.training.fine_tuning import fine_tune
    from utils_cv.training.linear_probe import linear_probe
    from utils_cv.training.model_selection import average_weights
    from utils_cv.training.trained_models import predict_images

    rows = task.draw(n_per_class, seed=seed)
    kept = np.sort(np.concatenate([rows, task.test_rows]))
    table = task.table.iloc[kept].assign(split=np.where(np.isin(kept, rows), "train", "test"))
    drawn = replace(
        images, table=table.reset_index(drop=True), pixels=images.pixels[kept], class_names=task.class_names
    )
    probe = linear_probe(drawn, backbone=backbone, features=task.features[kept], seed=seed)
    tuned = fine_tune(drawn, trainable="last_stage", start=probe, seed=seed, show_progress=False)
    models = {"probe": probe, "averaged": average_weights(probe, tuned), "last_stage": tuned}
    answers = {name: predict_images(model, drawn).probabilities for name, model in models.items()}
    return [{"recipe": name} | task.score(logit(probabilities)) for name, probabilities in answers.items()]


@dataclass(frozen=True)
class CurveFit:
    """A fitted learning curve."""

    largest: int  # the largest measured size, images per class
    resampled: np.ndarray  # scale, exponent, floor and shift of the error for every resample, (n_resamples, 4)
    fitted_from: np.ndarray  # the smallest size that each of them was fitted to, (n_resamples,)
    n_test: int  # test images, or groups where there are some
    measure: str  # the score: "accuracy", or "mean_average_precision" of several labels

    def predict(self, sizes: Any) -> pd.DataFrame:
        """The curve and its 95 % band, a row per size: `n_per_class`, the `measure`, and its limits `_low` and `_high`.

        Fits of the last sizes alone say nothing of smaller ones, and are left out there.
        """
        sizes = np.asarray(sizes, dtype=float)
        is_known = self.fitted_from[:, None] <= np.maximum(sizes, self.fitted_from.min())
        accuracies = np.where(is_known, 1 - _compute_error(self.resampled, sizes), np.nan)
        low, accuracy, high = np.nanquantile(accuracies, [LIMITS[0], 0.5, LIMITS[1]], axis=0)
        limits = {self.measure: accuracy, f"{self.measure}_low": low, f"{self.measure}_high": high}
        return pd.DataFrame({"n_per_class": sizes, **limits})

    def predict_gain(self, *, factor: float = 2.0) -> Score:
        """How much accuracy would rise with `factor` times the images of the largest measured size, at least 0."""
        before, after = _compute_error(self.resampled, self.largest * np.array([1.0, factor])).T
        low, value, high = np.quantile(before - after, [LIMITS[0], 0.5, LIMITS[1]])
        return Score(float(value), float(low), float(high), self.n_test)

    def find_plateau(self, gain: float) -> tuple[float, float]:
        """From how many images per class on one more doubling buys less accuracy than `gain`: 95 % interval.

        Only the interval: in a simulation of a known curve the single best number was too low in 77 % of studies.
        The limits are at least 1, and at most `LARGEST_FACTOR` times the largest measured size.
        """
        if not gain > 0:
            raise ValueError(f"gain: expected accuracy above 0, such as 0.01 for one point, got {gain}.")
        sizes = np.geomspace(1.0, LARGEST_FACTOR * self.largest, 400)
        buys = _compute_error(self.resampled, sizes) - _compute_error(self.resampled, 2 * sizes) >= gain
        n_buying = np.where(buys.any(axis=1), len(sizes) - buys[:, ::-1].argmax(axis=1), 0)  # up to the last that does
        low, high = np.quantile(sizes[np.minimum(n_buying, len(sizes) - 1)], LIMITS)
        return float(low), float(high)


def fit_curve(rows: pd.DataFrame, *, n_bootstrap: int = 1000) -> CurveFit:
    """Fit a power law to a learning curve, and to resamples of its test images and seeds.

    Sizes are weighted by how well their accuracy is known. Neither scale nor floor may be negative, so more images
    never hurt.

    Args:
        rows: From `measure_learning_curve`, at least two sizes, each with the same seeds.
        n_bootstrap: Resamples behind the intervals.

    Raises:
        ValueError: If there is one size only, or the sizes have different seeds.
    """
    ordered = rows.sort_values(["n_per_class", "seed"])
    seeds = ordered.groupby("n_per_class")["seed"].agg(tuple)
    if len(seeds) < 2 or seeds.nunique() != 1:
        raise ValueError(f"Expected two sizes or more, and the same seeds at each; got {seeds.to_dict()}.")
    sizes = seeds.index.to_numpy()
    right = np.stack(ordered["right"].tolist()).reshape(len(sizes), len(seeds.iloc[0]), -1)
    groups, is_multilabel = rows["groups"].iloc[0] if "groups" in rows else None, "resampled" in rows
    if is_multilabel:
        resampled = np.stack(ordered["resampled"].tolist()).reshape(*right.shape[:2], -1)[..., 1 : n_bootstrap + 1]
        resampled = resampled[..., np.isfinite(resampled).all(axis=(0, 1))]
        n_seeds = resampled.shape[1]
        drawn = np.random.default_rng(0).multinomial(n_seeds, np.ones(n_seeds) / n_seeds, resampled.shape[2]) / n_seeds
        errors = 1 - np.einsum("ksb,bs->bk", resampled, drawn)
    else:
        errors = 1 - resample_means(right, groups=groups, n_bootstrap=n_bootstrap)
    weights = 1 / (errors.var(axis=0, ddof=1) + (0.5 / right.shape[2]) ** 2)
    # fits of all sizes and of the last ones, each on its part of the resamples
    starts = [start for start in range(len(sizes)) if start == 0 or 3 <= len(sizes) - start <= 4]
    fits = [
        _fit_power_laws(sizes[start:], errors[i :: len(starts), start:], weights[start:], np.array(SHIFTS) * sizes[0])
        for i, start in enumerate(starts)
    ]
    fitted_from = np.repeat(sizes[starts], [len(fit) for fit in fits])
    n_test = right.shape[2] if groups is None else len(set(groups))
    return CurveFit(int(sizes[-1]), np.vstack(fits), fitted_from, n_test, MEASURES[is_multilabel])


def _compute_error(parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Error (n_fits, n_sizes) of parameters (n_fits, 4)."""
    scale, exponent, floor, shift = parameters.T[:, :, None]
    return np.clip(scale * (np.asarray(sizes, dtype=float)[None] + shift) ** -exponent + floor, 0.0, 1.0)


def _fit_power_laws(sizes: np.ndarray, errors: np.ndarray, weights: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Parameters (n_fits, 4) of errors (n_fits, n_sizes): exact for each exponent and shift, the best ones kept."""
    weights = weights / weights.sum()
    exponents, shifts = (grid.ravel() for grid in np.meshgrid(EXPONENTS, shifts))
    smallest = (sizes[0] + shifts) ** -exponents  # powers are divided by it, because large exponents make them tiny
    powers = (sizes + shifts[:, None]) ** -exponents[:, None] / smallest[:, None]  # (n_choices, n_sizes)
    mean_power, mean_error = powers @ weights, errors @ weights
    spread = (weights * (powers - mean_power[:, None]) ** 2).sum(axis=1)
    product = np.einsum("s,es,fs->fe", weights, powers - mean_power[:, None], errors)
    scale = np.maximum(product / spread, 0.0)  # (n_fits, n_choices); 0 is a flat curve
    floor = mean_error[:, None] - scale * mean_power
    without_floor = np.einsum("s,es,fs->fe", weights, powers, errors) / ((weights * powers**2).sum(axis=1))
    scale, floor = np.where(floor < 0, without_floor, scale), np.maximum(floor, 0.0)
    residuals = scale[..., None] * powers[None] + floor[..., None] - errors[:, None]
    best = (weights * residuals**2).sum(axis=2).argmin(axis=1)
    chosen = np.arange(len(errors)), best
    return np.column_stack([scale[chosen] / smallest[best], exponents[best], floor[chosen], shifts[best]])
