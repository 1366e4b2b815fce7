"""The images of a table, opened and sized once: what every recipe trains on and every score is computed from."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .images import Fit, load_images
from .labels import is_multilabel, list_class_names


@dataclass(frozen=True)
class TableImages:
    """The images of a table, opened and sized once, for every recipe and prediction.

    Attributes:
        table: The rows whose image could be opened, in order.
        pixels: uint8, (n_rows, size, size, 3), RGB.
        class_names: All classes, sorted.
        is_multilabel: Whether any image has several labels, or none.
        fit: How images became square, see `utils_cv.data.images.resize_image`.
        skipped: What could not be opened: `image` and `cause`.
    """

    table: pd.DataFrame
    pixels: np.ndarray
    class_names: list[str]
    is_multilabel: bool
    fit: Fit
    skipped: pd.DataFrame


def load_table_images(table: pd.DataFrame, im_size_px: int, *, fit: Fit = "squash") -> TableImages:
    """Open and size every image of a table once; files that cannot be opened are skipped, counted and listed.

    Args:
        table: An image table.
        im_size_px: Side of the square images, in pixels.
        fit: "squash" keeps all of the image, "crop" its centre, "pad" its proportions.

    Returns:
        The opened images, with the table of what was skipped.

    Raises:
        ValueError: If no image, or no image of some class, could be opened.

    Example:
        >>> images = load_table_images(table, 224)  # doctest: +SKIP
    """
    loaded = load_images(list(table["path"]), im_size_px, fit=fit, show_progress=True)
    opened = table.iloc[loaded.rows].reset_index(drop=True)
    by_path = dict(zip(table["path"].map(str), table["image"], strict=True))
    skipped = loaded.failures.assign(image=loaded.failures["path"].map(lambda path: by_path[str(path)]))
    lost = sorted(set(list_class_names(table)) - set(list_class_names(opened))) if len(opened) else ["all"]
    if lost:
        raise ValueError(
            f"Of {len(table)} images {len(skipped)} could not be opened, among them all of class {', '.join(lost)}; "
            f"the first: {skipped['image'].iloc[0]} ({skipped['cause'].iloc[0]})."
        )
    if len(skipped):
        listed = "; ".join(f"{row.image} ({row.cause})" for row in skipped.head(3).itertuples())
        warnings.warn(f"Skipped {len(skipped)} of {len(table)} images: {listed}. All: .skipped", stacklevel=2)
    names = list_class_names(table)
    return TableImages(opened, loaded.pixels, names, is_multilabel(table), fit, skipped[["image", "cause"]])
