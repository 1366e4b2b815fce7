"""A learning curve: accuracy on a fixed test set against the number of training images, and a power law through it.

Error = scale × n ** -exponent + floor, the form that fits most learning curves of images (Hestness et al. 2017) and
does best among those that extrapolate (Viering and Loog 2023). It is fitted by hand, because a thousand resamples are
fitted at once and exactly for each exponent; scipy's curve_fit takes one at a time and needs a start.

The band comes from drawing test images and seeds anew. It does not know whether the power law goes on beyond the last
size; to test that, fit without the last size.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages
from utils_cv.evaluation.intervals import Score, resample_means

from ..experiment import Task, join_results, run_trials

# Exponents to choose from. Published ones for images lie between 0.1 and 0.7.
EXPONENTS = np.linspace(0.05, 1.5, 59)
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


def measure_learning_curve(
    task: Task, sizes: Sequence[int], *, n_seeds: int = 5, seed: int = 0, show_progress: bool = True
) -> pd.DataFrame:
    """Train a linear probe on some images of each class, for every size and seed, and score the whole test split.

    A seed decides which images are taken; for one seed smaller sets lie within larger ones. At the largest size
    little or nothing is left to choose, so the seeds agree there.

    Args:
        task: From `make_task`.
        sizes: Images of each class.
        n_seeds: Draws of each size.
        seed: The first seed.
        show_progress: Show a bar with the time left.

    Returns:
        One row per trial: `n_per_class`, `seed`, and `right`, bool (n_test,): for `summarize`.

    Raises:
        TrialError: If a class has too few images.

    Example:
        >>> rows = measure_learning_curve(task, [5, 10, 20])  # doctest: +SKIP
        >>> summarize(rows, ["n_per_class"])  # doctest: +SKIP
    """
    settings = [{"n_per_class": int(n), "seed": seed + i} for n in sorted(sizes) for i in range(n_seeds)]
    trial = functools.partial(_score_probe, task)
    results = run_trials(trial, settings, description="learning curve", show_progress=show_progress)
    return join_results(settings, results)


def _score_probe(task: Task, n_per_class: int, seed: int) -> dict[str, Any]:
    rows = task.draw(n_per_class, seed=seed)
    return task.score(task.predict(rows).argmax(axis=1))


def measure_fine_tuning(
    task: Task,
    images: TableImages,
    sizes: Sequence[int],
    *,
    backbone: str,
    n_seeds: int = 3,
    seed: int = 0,
    show_progress: bool = True,
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
        show_progress: Show a bar with the time left.

    Returns:
        One row per size, seed and recipe ("probe", "averaged", "last_stage"): `n_per_class`, `seed`, `recipe`, `right`.

    Example:
        >>> rows = measure_fine_tuning(task, images, [10, 40], backbone="efficientnet_lite0")  # doctest: +SKIP
        >>> summarize(rows, ["n_per_class", "recipe"], baseline={"recipe": "probe"})  # doctest: +SKIP
    """
    settings = [{"n_per_class": int(n), "seed": seed + i} for n in sizes for i in range(n_seeds)]
    trial = functools.partial(_score_recipes, task, images, backbone)
    results = run_trials(trial, settings, description="fine-tuning", show_progress=show_progress)
    rows = zip(settings, results, strict=True)
    return pd.DataFrame([{**setting, **scored} for setting, row in rows for scored in row])


def _score_recipes(task: Task, images: TableImages, backbone: str, n_per_class: int, seed: int) -> list[dict[str, Any]]:
    from utils_cv.training.fine_tuning import fine_tune
    from utils_cv.training.learner import predict_images
    from utils_cv.training.linear_probe import linear_probe
    from utils_cv.training.model_selection import average_weights

    rows = task.draw(n_per_class, seed=seed)
    kept = np.sort(np.concatenate([rows, task.test_rows]))
    table = images.table.iloc[kept].assign(split=np.where(np.isin(kept, rows), "train", "test"))
    drawn = replace(images, table=table.reset_index(drop=True), pixels=images.pixels[kept])
    probe = linear_probe(drawn, backbone=backbone, features=task.features[kept], seed=seed)
    tuned = fine_tune(drawn, trainable="last_stage", start=probe, seed=seed, show_progress=False)
    models = {"probe": probe, "averaged": average_weights(probe, tuned), "last_stage": tuned}
    return [{"recipe": name} | task.score(predict_images(model, drawn).y_pred) for name, model in models.items()]


@dataclass(frozen=True)
class CurveFit:
    """A fitted learning curve.

    Attributes:
        largest: The largest measured size, images per class.
        parameters: Scale, exponent and floor of the error, (3,).
        resampled: The same for every resample of test images and seeds, (n_resamples, 3).
        n_test: Number of test images.
    """

    largest: int
    parameters: np.ndarray
    resampled: np.ndarray
    n_test: int

    def predict(self, sizes: Any) -> pd.DataFrame:
        """The curve and its 95 % band: `n_per_class`, `accuracy`, `accuracy_low`, `accuracy_high`, a row per size."""
        sizes = np.asarray(sizes, dtype=float)
        low, high = np.quantile(1 - _compute_error(self.resampled, sizes), [0.025, 0.975], axis=0)
        accuracy = 1 - _compute_error(self.parameters[None], sizes)[0]
        columns = {"n_per_class": sizes, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high}
        return pd.DataFrame(columns)

    def predict_gain(self, *, factor: float = 2.0) -> Score:
        """How much accuracy would rise with `factor` times the images of the largest measured size, at least 0."""
        ends = self.largest * np.array([1.0, factor])
        before, after = _compute_error(np.vstack([self.parameters, self.resampled]), ends).T
        gains = before - after
        low, high = np.quantile(gains[1:], [0.025, 0.975])
        return Score(float(gains[0]), float(low), float(high), self.n_test)

    def find_plateau(self, gain: float) -> tuple[float, float]:
        """From how many images per class on one more doubling buys less accuracy than `gain`: 95 % interval.

        Only the interval: in a simulation of a known curve the single best number was too low in 77 % of studies.
        The limits are at least 1, and at most `LARGEST_FACTOR` times the largest measured size.
        """
        if not gain > 0:
            raise ValueError(f"gain: expected accuracy above 0, such as 0.01 for one point, got {gain}.")
        scale, exponent, _ = self.resampled.T
        with np.errstate(over="ignore"):
            plateau = (scale * (1 - 0.5**exponent) / gain) ** (1 / exponent)
        low, high = np.quantile(np.clip(plateau, 1.0, LARGEST_FACTOR * self.largest), [0.025, 0.975])
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

    Example:
        >>> fit = fit_curve(rows)  # doctest: +SKIP
        >>> print(fit.predict_gain(factor=2))  # doctest: +SKIP
    """
    ordered = rows.sort_values(["n_per_class", "seed"])
    seeds = ordered.groupby("n_per_class")["seed"].agg(tuple)
    if len(seeds) < 2 or seeds.nunique() != 1:
        raise ValueError(f"Expected two sizes or more, and the same seeds at each; got {seeds.to_dict()}.")
    sizes = seeds.index.to_numpy()
    right = np.stack(ordered["right"].tolist()).reshape(len(sizes), len(seeds.iloc[0]), -1)
    groups = rows["groups"].iloc[0] if "groups" in rows else None
    errors = 1 - resample_means(right, groups=groups, n_bootstrap=n_bootstrap)
    weights = 1 / (errors.var(axis=0, ddof=1) + (0.5 / right.shape[2]) ** 2)
    fits = _fit_power_laws(sizes, np.vstack([1 - right.mean(axis=(1, 2)), errors]), weights)
    return CurveFit(int(sizes[-1]), fits[0], fits[1:], right.shape[2])


def _compute_error(parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Error (n_fits, n_sizes) of parameters (n_fits, 3)."""
    scale, exponent, floor = parameters.T[:, :, None]
    return np.clip(scale * np.asarray(sizes, dtype=float)[None] ** -exponent + floor, 0.0, 1.0)


def _fit_power_laws(sizes: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scale, exponent and floor (n_fits, 3) of errors (n_fits, n_sizes): exact for each exponent, the best one kept."""
    weights = weights / weights.sum()
    powers = sizes[None].astype(float) ** -EXPONENTS[:, None]  # (n_exponents, n_sizes)
    mean_power, mean_error = powers @ weights, errors @ weights
    spread = (weights * (powers - mean_power[:, None]) ** 2).sum(axis=1)
    product = np.einsum("s,es,fs->fe", weights, powers - mean_power[:, None], errors)
    scale = np.maximum(product / spread, 0.0)  # (n_fits, n_exponents); 0 is a flat curve
    floor = mean_error[:, None] - scale * mean_power
    without_floor = np.einsum("s,es,fs->fe", weights, powers, errors) / ((weights * powers**2).sum(axis=1))
    scale, floor = np.where(floor < 0, without_floor, scale), np.maximum(floor, 0.0)
    residuals = scale[..., None] * powers[None] + floor[..., None] - errors[:, None]
    best = (weights * residuals**2).sum(axis=2).argmin(axis=1)
    chosen = np.arange(len(errors)), best
    return np.column_stack([scale[chosen], EXPONENTS[best], floor[chosen]])
