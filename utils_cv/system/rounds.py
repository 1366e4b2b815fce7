"""Settings timed in rounds: each once, then each again, with the ratios of one round kept together."""

from collections.abc import Callable, Mapping

import pandas as pd

from .timing import measure_in_turn


def measure_rounds(functions: Mapping[str, Callable[[], object]], *, n_rounds: int, n_images: int = 1) -> pd.DataFrame:
    """Time functions in rounds, each once a round, after one round that is not counted.

    Args:
        functions: Each called without arguments; the keys name the rows.
        n_rounds: Counted rounds.
        n_images: How many images each call works on.

    Returns:
        One row a round and function: `round`, `name`, `ms` per image.

    Raises:
        ValueError: If there is nothing to time.
    """
    rounds = []
    for i in range(n_rounds):
        times = measure_in_turn(functions, n_warmup=int(i == 0), n_repeats=1, settle_ms=0, warn=False)
        rounds.append(pd.DataFrame({"round": i, "name": times["name"], "ms": times["median_ms"] / n_images}))
    if not rounds:
        raise ValueError(f"n_rounds: expected 1 or more, got {n_rounds}.")
    return pd.concat(rounds, ignore_index=True)


def summarise_rounds(rounds: pd.DataFrame, *, baseline: str) -> pd.DataFrame:
    """Medians of rounds, and how many times faster than the baseline each setting was.

    Args:
        rounds: Of `measure_rounds`.
        baseline: Name of the setting to compare with.

    Returns:
        One row a setting: `name`, `median_ms` per image, `images_per_second`, `ratio` (times faster than the baseline,
        median of the rounds), `ratio_low` and `ratio_high` (lowest and highest round; of 6 rounds or more this range
        holds the true median with a probability of at least 0.97), `n_rounds`.

    Raises:
        ValueError: If the baseline was not measured.

    Example:
        >>> rounds = pd.DataFrame({"round": [0, 0], "name": ["slow", "fast"], "ms": [20.0, 5.0]})
        >>> summarise_rounds(rounds, baseline="slow")["ratio"].tolist()
        [1.0, 4.0]
    """
    wide = rounds.pivot(index="round", columns="name", values="ms")[list(rounds["name"].unique())]
    if baseline not in wide:
        raise ValueError(f"No setting {baseline!r} was measured; there are {', '.join(wide)}.")
    ratios = wide.rdiv(wide[baseline], axis=0)
    medians = wide.median()
    columns = {
        "name": list(wide),
        "median_ms": medians.to_numpy(),
        "images_per_second": 1e3 / medians.to_numpy(),
        "ratio": ratios.median().to_numpy(),
        "ratio_low": ratios.min().to_numpy(),
        "ratio_high": ratios.max().to_numpy(),
        "n_rounds": len(wide),
    }
    return pd.DataFrame(columns)
