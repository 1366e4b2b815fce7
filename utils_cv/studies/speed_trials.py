"""The trials of the accuracy-vs-speed study: train one backbone at one size, ask one runtime for its answers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages, list_class_names, load_table_images, split_labels
from utils_cv.models.backbones import describe_backbone, load_backbone
from utils_cv.models.model_files import INFO_NAME, ONNX_NAME, read_model_info
from utils_cv.models.quantization import N_CALIBRATION, choose_calibration_rows, quantize_onnx
from utils_cv.models.runtimes import INT8_RUNTIMES, STUDY_INT8_NAME, Run, make_run, measure_file_mb
from utils_cv.models.saved_classifier import decide_labels, save_classifier, to_probabilities
from utils_cv.system.files import write_atomic
from utils_cv.system.timing import measure_fresh_process
from utils_cv.training.learners import Classifier
from utils_cv.training.training import linear_probe

_PEAK_MEMORY_SCRIPT = """
import numpy as np
from utils_cv.models.runtimes import make_run
make_run({folder!r}, {runtime!r})(np.zeros((1, {size}, {size}, 3), np.uint8))
"""


class SizedImages:
    """The images of a table at any size; the last size asked for is kept, since trials come ordered by it."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table, self._size_px = table, 0
        self._images: TableImages | None = None

    def load(self, size_px: int) -> TableImages:
        """Open all images at a size."""
        if self._images is None or size_px != self._size_px:
            self._images, self._size_px = load_table_images(self.table, size_px), size_px
        return self._images


def train_one(images: SizedImages, models_dir: Path, *, backbone: str, im_size_px: int, seed: int) -> dict[str, Any]:
    """Train a linear probe and save it as a finished model; without weights, save the untrained network.

    Args:
        images: Of the table.
        models_dir: Where the models of the study lie.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        im_size_px: Side of the images.
        seed: Of the probe.

    Returns:
        `is_trained`, `train_seconds`, `n_parameters`, `n_multiply_adds`.
    """
    opened = images.load(im_size_px)
    try:
        trained: Any = linear_probe(opened, backbone=backbone, seed=seed)
    except ConnectionError:  # no network: speed does not depend on the weights
        trained = _make_untrained(opened, backbone)
    folder = find_model_dir(models_dir, backbone, im_size_px)
    save_classifier(trained, folder, images=opened, overwrite=True, title=f"{backbone}, {im_size_px} px")
    facts = describe_backbone(backbone, im_size_px=im_size_px)
    return {
        "is_trained": bool(trained.seconds > 0),
        "train_seconds": float(trained.seconds),
        "n_parameters": facts.n_parameters,
        "n_multiply_adds": facts.n_multiply_adds,
    }


def answer_one(
    images: SizedImages, models_dir: Path, *, backbone: str, im_size_px: int, runtime: str, seed: int
) -> dict[str, Any]:
    """Predict the test images in one runtime.

    Returns:
        `answers` (a JSON list of labels), `size_mb` of the file that the runtime loads, and `peak_memory_mb` of a
        fresh process that loads it and predicts one image.
    """
    folder = find_model_dir(models_dir, backbone, im_size_px)
    opened = images.load(im_size_px)
    pixels = opened.pixels[(opened.table["split"] == "test").to_numpy()]
    labels = predict_labels(make_run(folder, runtime), pixels, folder)
    script = _PEAK_MEMORY_SCRIPT.format(folder=str(folder), runtime=runtime, size=im_size_px)
    return {
        "answers": json.dumps(labels),
        "size_mb": measure_file_mb(folder, runtime),
        "peak_memory_mb": measure_fresh_process(script).peak_memory_mb,
    }


def predict_labels(run: Run, pixels: np.ndarray, folder: Path, *, batch_size: int = 16) -> list[str]:
    """Predict opened images, (n, size, size, 3), by a runner of a finished model, as labels."""
    info = read_model_info(folder)
    labels = []
    for batch in _split(pixels, batch_size):
        labels += decide_labels(to_probabilities(run(batch), is_multilabel=info.is_multilabel), info)
    return labels


def find_model_dir(models_dir: Path, backbone: str, im_size_px: int) -> Path:
    """Name the folder of a trained model within a study."""
    return models_dir / f"{backbone.replace('/', '_')}_{im_size_px}px"


def restore_models(images: SizedImages, models_dir: Path, settings: Sequence[Mapping[str, Any]]) -> None:
    """Make again what finished rows need and a cleaned cache has lost: models and 8-bit networks."""
    for setting in settings:
        backbone, im_size_px = setting["backbone"], setting["im_size_px"]
        folder = find_model_dir(models_dir, backbone, im_size_px)
        if not (folder / INFO_NAME).is_file():
            train_one(images, models_dir, backbone=backbone, im_size_px=im_size_px, seed=setting["seed"])
        if setting["runtime"] in INT8_RUNTIMES and not (folder / STUDY_INT8_NAME).is_file():
            _quantize(folder, images.load(im_size_px))


def normalize_labels(labels: pd.Series) -> list[str]:
    """Labels with several of an image in one order, so that equal sets are equal texts."""
    return ["|".join(sorted(split_labels(label))) for label in labels]


def _make_untrained(images: TableImages, backbone: str) -> Any:
    body = load_backbone(backbone, n_classes=0, pretrained=False)
    facts, n_classes = describe_backbone(backbone), len(list_class_names(images.table))
    weight, bias = np.zeros((n_classes, _count_features(body, facts.im_size_px))), np.zeros(n_classes)
    model = Classifier(body, weight, bias, mean=facts.mean, std=facts.std)
    return SimpleNamespace(
        learn=SimpleNamespace(model=model), class_names=images.class_names, backbone=backbone, fit=images.fit,
        im_size_px=images.pixels.shape[1], is_multilabel=images.is_multilabel, seconds=0.0,
    )  # fmt: skip


def _count_features(body: Callable[..., Any], im_size_px: int) -> int:
    import torch

    with torch.inference_mode():
        return int(body(torch.zeros(1, 3, im_size_px, im_size_px)).shape[1])


def _quantize(folder: Path, images: TableImages) -> None:
    rows = choose_calibration_rows(images.table["split"].to_numpy(), n=N_CALIBRATION)
    with write_atomic(folder / STUDY_INT8_NAME) as temporary_path:
        quantize_onnx(folder / ONNX_NAME, temporary_path, images.pixels[rows])


def _split(pixels: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(pixels), batch_size):
        yield np.ascontiguousarray(pixels[start : start + batch_size])
