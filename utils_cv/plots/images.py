"""Figures of images and data sets; scores are in `score_plots`, studies in `study_plots`. Nothing calls `show()`."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from utils_cv.evaluation.metrics import LABEL_SEPARATOR, check_same_length

from .style import (
    COLORS,
    FONT_SIZE,
    HATCHES,
    INK,
    draw_grid,
    draw_legend,
    format_percent,
    make_axes,
    make_axes_grid,
    shorten,
)

N_TITLE_LINES = 3
IMAGE_DPI = 80  # photographs are the heavy part of a notebook: some 25 to 40 kB each at this size


def plot_images(
    images: Sequence[Any], titles: Sequence[str] | None = None, *, n_columns: int = 4, width_inches: float = 1.75
) -> np.ndarray:
    """Show images in a grid.

    Args:
        images: PIL images, or arrays (height, width), (height, width, 3 or 4): uint8, or floats in [0, 1]. One array
            (n_images, height, width, 3) will do.
        titles: One above each image; long ones are wrapped, and cut after three lines.
        n_columns: Images in a row.
        width_inches: Of one image.

    Returns:
        The axes with images, (n_images,).

    Raises:
        ValueError: If there is no image, the titles do not fit the images, or an array is not an image.

    Example:
        >>> axes = plot_images([np.zeros((60, 80, 3), np.uint8)], ["all black"])
        >>> axes[0].get_title()
        'all black'
    """
    if len(images) == 0:
        raise ValueError("images: got none; pass at least one image.")
    if titles is not None:
        check_same_length(images=images, titles=titles)
    n_columns = min(n_columns, len(images))
    n_rows = math.ceil(len(images) / n_columns)
    n_characters = int(width_inches * 72 / (FONT_SIZE * 0.58))  # a letter is some 0.58 of the font size wide
    wrapped = [_wrap(str(title), n_characters) for title in titles] if titles is not None else [""] * len(images)
    title_inches = max(title.count("\n") + 1 for title in wrapped) * FONT_SIZE * 1.3 / 72 if titles is not None else 0
    thumbnails = [_make_thumbnail(image, width_inches) for image in images]
    height_inches = width_inches * min(1.5, max(image.height / image.width for image in thumbnails))
    width, height = n_columns * (width_inches + 0.1), n_rows * (height_inches + title_inches + 0.15)
    axes = make_axes_grid(n_rows, n_columns, width=width, height=height, dpi=IMAGE_DPI).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, thumbnail, title in zip(axes, thumbnails, wrapped, strict=False):  # the last row may have free places
        ax.imshow(thumbnail, interpolation="antialiased")
        ax.set_title(title, fontsize=FONT_SIZE, color=INK)
    return axes[: len(images)]


def plot_mistakes(
    images: Sequence[Any],
    true_labels: Sequence[str],
    predicted_labels: Sequence[str],
    probabilities: Sequence[float],
    *,
    n_images: int = 8,
    n_columns: int = 4,
) -> np.ndarray:
    """Show the wrong predictions that the model was surest of: mislabelled, ambiguous, or simply hard images.

    Args:
        images: All images, as in `plot_images`; only those shown are read, so a lazy sequence will do.
        true_labels: Names (n_images,).
        predicted_labels: Names (n_images,).
        probabilities: Of the predicted label (n_images,), fractions; or of all labels (n_images, n_classes).
        n_images: Most images to show.
        n_columns: Images in a row.

    Returns:
        The axes, at most `n_images`; without a mistake one empty axes that says so.

    Example:
        >>> axes = plot_mistakes([np.zeros((9, 9, 3), np.uint8)], ["can"], ["carton"], [0.9])
        >>> axes[0].get_title().split()
        ['true:', 'can', 'predicted:', 'carton', '(90', '%)']
    """
    arguments = {"images": images, "true_labels": true_labels, "predicted_labels": predicted_labels}
    n = check_same_length(**arguments, probabilities=probabilities)
    confidence = np.asarray(probabilities, dtype=float)
    confidence = confidence.max(axis=1) if confidence.ndim == 2 else confidence
    true, predicted = np.asarray(true_labels).astype(str), np.asarray(predicted_labels).astype(str)
    wrong = np.flatnonzero(true != predicted)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:n_images]
    if len(shown) == 0:
        ax = make_axes(width=5, height=1)
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"No mistakes among {n} images", ha="center", va="center", fontsize=FONT_SIZE + 1, color=INK)
        return np.array([ax])
    titles = [f"true: {true[i]}\npredicted: {predicted[i]} ({format_percent(confidence[i])})" for i in shown]
    axes = plot_images([images[i] for i in shown], titles, n_columns=n_columns)
    heading = f"{len(shown)} of {len(wrong)} mistakes among {n} images, the surest first"
    axes[0].figure.suptitle(heading, fontsize=FONT_SIZE + 1, color=INK)
    return axes


def plot_class_counts(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Bars of how many images each class has in each split.

    Args:
        table: Image table with `label` and perhaps `split`; an image with several labels counts for each.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The axes.

    Example:
        >>> ax = plot_class_counts(pd.DataFrame({"path": ["a", "b"], "label": ["can", "carton"]}))
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['can', 'carton']
    """
    if len(table) == 0:
        raise ValueError("The image table is empty; there is nothing to count.")
    split = table["split"].fillna("") if "split" in table else pd.Series("", index=table.index)
    pairs = pd.DataFrame({"label": table["label"].str.split(LABEL_SEPARATOR, regex=False), "split": split})
    counts = pairs.explode("label").groupby(["label", "split"]).size().unstack(fill_value=0)
    order = [name for name in ("train", "valid", "test", "") if name in counts]
    counts = counts[order + [name for name in counts if name not in order]]
    ax = make_axes(ax, height=max(1.6, 0.35 * len(counts) + 1.1), x_label="images", title="Images per class")
    positions, left = np.arange(len(counts)), np.zeros(len(counts))
    for i, name in enumerate(counts):
        style: dict[str, Any] = {"color": COLORS[(0, 5, 4, 2)[i % 4]], "hatch": HATCHES[i % 4], "edgecolor": "white"}
        ax.barh(positions, counts[name], left=left, label=name, **style)
        left = left + counts[name].to_numpy()
    for position, total in zip(positions, left, strict=True):
        ax.annotate(
            f"{total:.0f}", (total, position), (4, 0), textcoords="offset points", va="center", fontsize=FONT_SIZE
        )
    ax.set_yticks(positions, shorten(counts.index.tolist(), 30))
    ax.invert_yaxis()
    ax.set_xlim(0, left.max() * 1.12)
    draw_grid(ax, "x")
    if len(counts.columns) > 1:
        draw_legend(ax, outside=True)
    return ax


def _wrap(title: str, n_characters: int) -> str:
    lines = [piece for line in title.split("\n") for piece in textwrap.wrap(line, n_characters) or [""]]
    if len(lines) > N_TITLE_LINES:
        lines = [*lines[: N_TITLE_LINES - 1], f"{lines[N_TITLE_LINES - 1][: n_characters - 1]}…"]
    return "\n".join(lines)


def _make_thumbnail(image: Any, width_inches: float) -> Image.Image:
    """Image no larger than it is shown, as RGB: matplotlib would keep every pixel and blur when it shrinks."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(_check_array(np.asarray(image)))
    longest = math.ceil(width_inches * 1.5 * IMAGE_DPI)
    thumbnail = image.convert("RGB")
    thumbnail.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return thumbnail


def _check_array(array: np.ndarray) -> np.ndarray:
    """Array of an image as uint8 (height, width) or (height, width, 3 or 4)."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        hint = " Channels first? Use np.moveaxis(image, 0, -1)." if array.ndim == 3 and array.shape[0] in (1, 3) else ""
        raise ValueError(f"Expected an image (height, width) or (height, width, 3), got the shape {array.shape}.{hint}")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        return (array * 255).round().astype(np.uint8)
    raise ValueError(
        f"Expected uint8, or floats in [0, 1], got {array.dtype} from {array.min():.4g} to {array.max():.4g}. "
        "Normalized for a network? Undo the mean and standard deviation first."
    )
