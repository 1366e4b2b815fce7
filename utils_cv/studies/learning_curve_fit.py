"""A power law through a learning curve: what more images would buy, with an interval, and when to stop.

Error = scale × n ** -exponent + floor, the form that fits most learning curves of images (Hestness et al. 2017) and
does best among those that extrapolate (Viering and Loog 2023). The band comes from drawing test images and seeds
anew; it does not know whether the power law goes on beyond the last size, which `forecast_last` puts to the test.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from utils_cv.evaluation.intervals import Score, resample_means

# Exponents to choose from. Published ones for images lie between 0.1 and 0.7.
EXPONENTS = np.linspace(0.05, 1.5, 59)
# Beyond this many times the largest measured size the curve says nothing.
LARGEST_FACTOR = 100


@dataclass(frozen=True)
class CurveFit:
    """A fitted learning curve.

    Attributes:
        sizes: Images a class that were measured, ascending, (n_sizes,).
        accuracy: Measured mean accuracies, (n_sizes,).
        parameters: Scale, exponent and floor of the error, (3,).
        resampled: The same for every resample of test images and seeds, (n_bootstrap, 3).
        n_test: Number of test images.
    """

    sizes: np.ndarray
    accuracy: np.ndarray
    parameters: np.ndarray
    resampled: np.ndarray
    n_test: int


def fit_curve(rows: pd.DataFrame, *, n_bootstrap: int = 1000, seed: int = 0) -> CurveFit:
    """Fit a power law to the rows of one recipe, and to resamples of them.

    Sizes are weighted by how well their accuracy is known. Neither scale nor floor may be negative, so that more
    images never hurt.

    Args:
        rows: From `measure_learning_curve`, one recipe, at least two sizes, each with the same seeds.
        n_bootstrap: Resamples behind the band.
        seed: Seed of the resamples.

    Raises:
        ValueError: If there is one size only, several recipes, or the sizes have different seeds.

    Example:
        >>> fit = fit_curve(rows)  # doctest: +SKIP
    """
    sizes = np.sort(rows["n_per_class"].unique())
    seeds = [sorted(rows.loc[rows["n_per_class"] == size, "seed"]) for size in sizes]
    if rows["recipe"].nunique() != 1 or len(sizes) < 2 or any(seeds[0] != other for other in seeds):
        raise ValueError(
            f"Expected one recipe, two sizes or more, and the same seeds at each; got recipes "
            f"{sorted(rows['recipe'].unique())}, sizes {sizes.tolist()} with {[len(s) for s in seeds]} seeds."
        )
    ordered = rows.sort_values(["n_per_class", "seed"])
    right = np.stack(ordered["right"]).reshape(len(sizes), len(seeds[0]), -1)
    errors = 1 - resample_means(right, n_bootstrap=n_bootstrap, seed=seed)
    n_test = right.shape[2]
    weights = 1 / (errors.var(axis=0, ddof=1) + (0.5 / n_test) ** 2)
    accuracy = right.mean(axis=(1, 2))
    return CurveFit(
        sizes,
        accuracy,
        _fit_power_laws(sizes, 1 - accuracy[None], weights)[0],
        _fit_power_laws(sizes, errors, weights),
        n_test,
    )


def predict_accuracy(fit: CurveFit, sizes: np.ndarray) -> pd.DataFrame:
    """The curve and its 95 % band at any sizes.

    Returns:
        One row a size: `n_per_class`, `accuracy`, `accuracy_low`, `accuracy_high`.
    """
    sizes = np.asarray(sizes, dtype=float)
    low, high = np.quantile(1 - _compute_error(fit.resampled, sizes), [0.025, 0.975], axis=0)
    accuracy = 1 - _compute_error(fit.parameters[None], sizes)[0]
    columns = {"n_per_class": sizes, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high}
    return pd.DataFrame(columns)


def predict_gain(fit: CurveFit, *, factor: float = 2.0) -> Score:
    """How much accuracy would rise if there were `factor` times the images of the largest measured size.

    Args:
        fit: From `fit_curve`.
        factor: 2 doubles the data.

    Returns:
        A difference of accuracies, at least 0, with its 95 % interval; `n` counts test images.
    """
    ends = fit.sizes[-1] * np.array([1.0, factor])
    gains = -np.diff(_compute_error(np.vstack([fit.parameters, fit.resampled]), ends), axis=1)[:, 0]
    low, high = np.quantile(gains[1:], [0.025, 0.975])
    return Score(float(gains[0]), float(low), float(high), fit.n_test)


def find_plateau(fit: CurveFit, gain: float) -> tuple[float, float, float]:
    """From how many images a class on one more doubling buys less than `gain`: a place to stop collecting.

    Args:
        fit: From `fit_curve`.
        gain: Accuracy that a doubling must buy to be worth it; 0.01 is one point.

    Returns:
        The number of images a class and its 95 % interval, at least 1 and at most `LARGEST_FACTOR` times the largest
        measured size.

    Raises:
        ValueError: If `gain` is not above 0.
    """
    if not gain > 0:
        raise ValueError(f"gain: expected accuracy above 0, such as 0.01 for one point, got {gain}.")
    scale, exponent, _ = np.vstack([fit.parameters, fit.resampled]).T
    with np.errstate(over="ignore"):
        enough = (scale * (1 - 0.5**exponent) / gain) ** (1 / exponent)
    enough = np.clip(enough, 1.0, LARGEST_FACTOR * fit.sizes[-1])
    low, high = np.quantile(enough[1:], [0.025, 0.975])
    return float(enough[0]), float(low), float(high)


def forecast_last(rows: pd.DataFrame, *, n_bootstrap: int = 1000, seed: int = 0) -> dict[str, float]:
    """Fit the curve without its largest size and compare what it says there with what was measured.

    Args:
        rows: As for `fit_curve`, with at least three sizes.
        n_bootstrap: Resamples behind the band.
        seed: Seed of the resamples.

    Returns:
        `n_per_class`, `forecast` with `forecast_low` and `forecast_high`, and `measured`.
    """
    last = rows["n_per_class"].max()
    is_last = rows["n_per_class"] == last
    row = predict_accuracy(fit_curve(rows[~is_last], n_bootstrap=n_bootstrap, seed=seed), np.array([last])).iloc[0]
    return {
        "n_per_class": int(last),
        "forecast": float(row["accuracy"]),
        "forecast_low": float(row["accuracy_low"]),
        "forecast_high": float(row["accuracy_high"]),
        "measured": float(np.stack(rows.loc[is_last, "right"]).mean()),
    }


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
