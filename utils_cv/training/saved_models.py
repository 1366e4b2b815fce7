"""Finished models as the start of more training: next month, with more images, or with one more class."""

from pathlib import Path
from typing import Any

from utils_cv.data.image_table import TableImages
from utils_cv.models.model_files import WEIGHTS_NAME, read_model
from utils_cv.models.onnx_export import read_network
from utils_cv.models.saved_classifier import ImageClassifier

from .learner import TrainedModel


def load_trained(folder: str | Path) -> TrainedModel:
    """Load a finished model to train it further, on images that are opened as its own were.

    With the same classes `fine_tune` goes on from it. With other classes, such as one more, `linear_probe` fits a new
    head on the features of its network, in seconds; `fine_tune` can go on from that.

    Args:
        folder: Where `utils_cv.models.saved_classifier.save_classifier` wrote it.

    Returns:
        The model, as a start; its `learn` has no data, and its `history` no rows.

    Raises:
        FileNotFoundError: There is no model.
        utils_cv.models.model_files.ModelFileError: A file is damaged or changed.

    Example:
        >>> start = load_trained("models/march")  # doctest: +SKIP
        >>> images = load_table_images(table, start.im_size_px, fit=start.fit)  # doctest: +SKIP
        >>> tuned = fine_tune(images, start=start)  # doctest: +SKIP
        >>> with_new_class = linear_probe(images_of_five_classes, start=start)  # doctest: +SKIP
    """
    info, name, content = read_model(folder, [WEIGHTS_NAME])
    return TrainedModel.from_finished(info, read_network(info, content, Path(folder) / name))


def take_start(start: Any, images: TableImages, backbone: str | None) -> TrainedModel | None:
    """Check that training on these images can go on from a model; a loaded classifier is loaded again to be trained."""
    start = load_trained(start.folder) if isinstance(start, ImageClassifier) else start
    if start is None:
        return None
    if not isinstance(start, TrainedModel):
        raise TypeError(f"Got a start of type {type(start).__name__}, expected a model: start=load_trained(folder).")
    if backbone not in (None, start.backbone):
        raise ValueError(f"Got backbone={backbone!r}, and a start with {start.backbone!r}. Leave backbone out.")
    if (start.im_size_px, start.fit) != (images.pixels.shape[1], images.fit):
        raise ValueError(
            f"start takes images of {start.im_size_px} px, fit={start.fit!r}; these have {images.pixels.shape[1]} px, "
            f"fit={images.fit!r}. Open them as its own: load_table_images(table, start.im_size_px, fit=start.fit)."
        )
    return start
