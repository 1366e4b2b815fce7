"""Throughput: how many images a second, in batches of several sizes and with several threads."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from utils_cv.models.model_files import read_model_info
from utils_cv.models.runtimes import make_run
from utils_cv.system.timing import measure_in_turn


def measure_throughput(
    folder: str | Path,
    *,
    batch_sizes: Sequence[int] = (1, 4, 16),
    n_threads: Sequence[int] = (1, 2),
    runtime: str = "onnx",
    n_repeats: int = 5,
) -> pd.DataFrame:
    """Time a finished model on batches, with every number of threads, in turn.

    Args:
        folder: Where `save_classifier` wrote it.
        batch_sizes: Images a call.
        n_threads: Threads of one call.
        runtime: See `models.runtimes.list_runtimes`; PyTorch has one number of threads for the whole process, so
            only the other runtimes can compare them.
        n_repeats: Timed calls of each setting.

    Returns:
        One row a setting: `n_threads`, `batch_size`, `median_ms` of one call, `ms_per_image`, `images_per_second`.

    Raises:
        ValueError: There is nothing to measure, or the runtime is PyTorch and there are several numbers of threads.

    Example:
        >>> measure_throughput("models/fridge", batch_sizes=[1, 8])  # doctest: +SKIP
    """
    if not batch_sizes or not n_threads:
        raise ValueError(f"Got batch_sizes={list(batch_sizes)} and n_threads={list(n_threads)}; expected one or more.")
    if runtime in ("torch", "channels_last", "compile") and len(set(n_threads)) > 1:
        raise ValueError(f"Got n_threads={list(n_threads)} for {runtime}, which has one number for the whole process.")
    size_px = read_model_info(folder).im_size_px
    noise = np.random.default_rng(0).integers(0, 256, (max(batch_sizes), size_px, size_px, 3), dtype=np.uint8)
    runs = {n: make_run(folder, runtime, n_threads=n) for n in n_threads}
    settings = list(itertools.product(runs, batch_sizes))
    functions = {f"{n} {size}": functools.partial(runs[n], noise[:size]) for n, size in settings}
    times = measure_in_turn(functions, n_warmup=2, n_repeats=n_repeats, warn=False)["median_ms"].to_numpy()
    rows = pd.DataFrame(settings, columns=["n_threads", "batch_size"])
    ms_per_image = times / rows["batch_size"]
    return rows.assign(median_ms=times, ms_per_image=ms_per_image, images_per_second=1000 / ms_per_image)
