"""The times of the accuracy-vs-speed study: all settings in turn, the network apart from opening the image file."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from utils_cv.data.images import load_pixels
from utils_cv.models.runtimes import make_run
from utils_cv.system.timing import measure_in_turn

from .speed_trials import find_model_dir


def measure_times(
    table: pd.DataFrame, rows: pd.DataFrame, models_dir: Path, *, n_repeats: int, batch_size: int, n_threads: int
) -> pd.DataFrame:
    """Time every setting in turn: one image, batches, and apart from both, opening an image file at each size.

    Args:
        table: The image table, for its files.
        rows: `name`, `backbone`, `im_size_px` and `runtime`, one row a setting.
        models_dir: Where the models of the study lie.
        n_repeats: Timed runs of one image in each setting; a tenth of them, but at least 2, of a batch.
        batch_size: Images a batch.
        n_threads: Threads of one call.

    Returns:
        One row a setting: the columns of `utils_cv.system.timing.measure_in_turn`, `images_per_second` in batches, and
        `open_ms`.
    """
    runs, blanks = {}, {}
    for row in rows.to_dict("records"):
        folder = find_model_dir(models_dir, row["backbone"], row["im_size_px"])
        runs[row["name"]] = make_run(folder, row["runtime"], n_threads=n_threads)
        blanks[row["name"]] = np.random.default_rng(0).integers(
            0, 256, (batch_size, row["im_size_px"], row["im_size_px"], 3), dtype=np.uint8
        )
    one = {name: functools.partial(run, blanks[name][:1]) for name, run in runs.items()}
    many = {name: functools.partial(run, blanks[name]) for name, run in runs.items()}
    # no warning: the column `busy` says it
    times = measure_in_turn(one, n_repeats=n_repeats, n_threads=n_threads, warn=False).drop(columns="n_repeats")
    batches = measure_in_turn(many, n_warmup=1, n_repeats=max(2, n_repeats // 10), n_threads=n_threads, warn=False)
    times["images_per_second"] = 1000 * batch_size / batches["median_ms"]
    return times.assign(open_ms=_measure_opening(table, rows["im_size_px"].to_numpy(), n_repeats))


def _measure_opening(table: pd.DataFrame, sizes_px: np.ndarray, n_repeats: int) -> np.ndarray:
    """Median time to open and resize one image file at each size, over up to `n_repeats` files, in milliseconds."""
    paths = table["path"].head(n_repeats).tolist()
    medians = {}
    for size_px in np.unique(sizes_px).tolist():
        functions = {str(path): functools.partial(load_pixels, path, size_px) for path in paths}
        times = measure_in_turn(functions, n_warmup=1, n_repeats=3, settle_ms=0, warn=False)
        medians[size_px] = times["median_ms"].median()
    return np.array([medians[size_px] for size_px in sizes_px.tolist()])
