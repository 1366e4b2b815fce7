"""Studies: many settings of one thing, measured alike, as tidy rows."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from utils_cv.backbones import describe_backbone
from utils_cv.learners import predict_pixels
from utils_cv.metrics import measure_accuracy
from utils_cv.runtime import keep_memory
from utils_cv.table_images import load_table_images
from utils_cv.timing import measure_in_turn
from utils_cv.training import Trained, linear_probe, predict_images


def accuracy_vs_speed(
    table: pd.DataFrame, backbones: Sequence[str], *, im_size_px: int = 0, n_repeats: int = 30, seed: int = 0
) -> pd.DataFrame:
    """Train a linear probe on each backbone, score it on the test split, and time one image through the network.

    Latencies are those of the network in eager torch at batch 1, without opening the image, measured in turn so
    that a machine whose speed drifts does not favour one backbone.

    Args:
        table: An image table with splits.
        backbones: Names that `utils_cv.backbones.load_backbone` takes.
        im_size_px: Side of the images; 0 takes the size each backbone was pretrained on.
        n_repeats: Timed runs of each network.
        seed: Seed of the probes.

    Returns:
        One row a backbone: `name`, `im_size_px`, `accuracy` with `accuracy_low` and `accuracy_high` (95 %), `n_test`,
        `min_ms`, `median_ms`, `p95_ms`, `busy`, `train_seconds`, `n_parameters`, `size_mb`.

    Raises:
        ValueError: If no backbone is given.

    Example:
        >>> rows = accuracy_vs_speed(table, ["efficientnet_lite0", "efficientnet_lite1"])  # doctest: +SKIP
    """
    if not backbones:
        raise ValueError("Got no backbones; expected names such as 'efficientnet_lite0'.")
    rows, timed = [], {}
    for name in backbones:
        size_px = im_size_px or describe_backbone(name).im_size_px
        images = load_table_images(table, size_px)
        probe = linear_probe(images, backbone=name, seed=seed)
        rows.append(_score(name, probe, predict_images(probe, images)))
        timed[name] = _make_timed(probe, images.pixels[:1])
    keep_memory()
    times = measure_in_turn(timed, n_repeats=n_repeats, synchronize=_choose_synchronize())
    kept = times[["name", "min_ms", "median_ms", "p95_ms", "n_threads", "busy"]]
    return pd.DataFrame(rows).merge(kept, on="name", validate="one_to_one")


def _score(name: str, probe: Trained, predictions: "object") -> dict[str, object]:
    score = measure_accuracy(predictions.y_true, predictions.y_pred)  # type: ignore[attr-defined]
    facts = describe_backbone(name)
    return {
        "name": name,
        "im_size_px": probe.im_size_px,
        "accuracy": score.value,
        "accuracy_low": score.low,
        "accuracy_high": score.high,
        "n_test": score.n,
        "train_seconds": probe.seconds,
        "n_parameters": facts.n_parameters,
        "size_mb": facts.size_mb,
    }


def _make_timed(probe: Trained, pixels: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: predict_pixels(probe.learn, pixels)


def _choose_synchronize() -> Callable[[], object] | None:
    return torch.cuda.synchronize if torch.cuda.is_available() else None
