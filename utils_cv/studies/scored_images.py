"""A linear classifier learned from the train images of a table, and what it says about all its other images."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages, encode_labels, find_dir, load_image_table, load_table_images
from utils_cv.models.backbones import DEFAULT_BACKBONE
from utils_cv.models.features import compute_features
from utils_cv.training.linear_probe import fit_linear_head


@dataclass(frozen=True)
class ScoredImages:
    """Images with the answers of a classifier that learned those of the `train` split.

    Attributes:
        images: The opened images; `images.table` has the columns `predicted`, `confidence` (highest probability) and
            `right` beside its own.
        features: (n_images, n_features) of all of them.
        weight: (n_classes, n_features) of the classifier.
        bias: (n_classes,) of the classifier.
    """

    images: TableImages
    features: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Turn features, (n, n_features), into probabilities, (n, n_classes)."""
        return _predict(features, self.weight, self.bias)


def score_images(
    table: pd.DataFrame, *, im_size_px: int = 224, backbone: str = DEFAULT_BACKBONE, seed: int = 0
) -> ScoredImages:
    """Open the images of a table, learn those of the `train` split on a frozen backbone, and predict all.

    Args:
        table: An image table, one label an image; every class has train images.
        im_size_px: Side of the square images.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        seed: Seed of the cross-validation that chooses the strength of the regularization.

    Returns:
        The images with predictions; those of train images say nothing about accuracy.

    Raises:
        ValueError: If images have several labels, or a class has no train image.

    Example:
        >>> scored = score_images(complete_splits(load_image_table("data/fridge_objects")))  # doctest: +SKIP
        >>> scored.images.table.query("split == 'test'")["right"].mean()  # doctest: +SKIP
    """
    images = load_table_images(table, im_size_px)
    if images.is_multilabel:
        raise ValueError("Expected one label an image; this table has images with several labels or none.")
    features = compute_features(images.pixels, backbone=backbone)
    codes = encode_labels(images.table["label"], images.class_names, multilabel=False)
    train = np.flatnonzero(images.table["split"] == "train")
    weight, bias = fit_linear_head(features[train], codes[train], n_classes=len(images.class_names), seed=seed)
    probabilities = _predict(features, weight, bias)
    answers = {
        "predicted": np.array(images.class_names)[probabilities.argmax(axis=1)],
        "confidence": probabilities.max(axis=1),
        "right": probabilities.argmax(axis=1) == codes,
    }
    scored = TableImages(
        images.table.assign(**answers), images.pixels, images.class_names, False, images.fit, images.skipped
    )
    return ScoredImages(scored, features, weight, bias)


def load_matching_table(source: str, class_names: list[str]) -> pd.DataFrame:
    """Load further images of the same classes; an empty table where there are none, so that a part can be left out.

    Args:
        source: As `utils_cv.data.image_table.load_image_table` takes; "" for none.
        class_names: The classes that a model knows.

    Returns:
        The rows whose label is one of the classes.

    Raises:
        FileNotFoundError: If a source is named that does not exist.
    """
    nothing = pd.DataFrame(
        columns=["image", "path", "label", "split"]
    )  # without the columns of a set that does not fit
    table = load_image_table(find_dir(source)) if source else nothing
    is_known = table["label"].isin(class_names)
    return table[is_known].reset_index(drop=True) if is_known.any() else nothing


def _predict(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    logits = features @ weight.T + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
