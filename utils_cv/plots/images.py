"""Images in a grid, mistakes of a model, and how many images the classes have."""

import math
import re
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from . import style
from .scores import plot_bars

_MAX_TITLE_LINES = 5
_MAX_MISTAKES = 8  # shown
_MAX_LABELS = 12  # shown below images
_WIDTH_INCHES = 1.75  # of one image
_IMAGE_DPI = 80  # photographs are the heavy part of a notebook: about 25 to 40 kB each at this size


def plot_images(images: Sequence[Any], titles: Sequence[str] | None = None, *, n_columns: int = 4) -> np.ndarray:
    """Show images in a grid.

    Args:
        images: PIL images, or arrays (height, width) or (height, width, 3 or 4) of uint8, or of floats in [0, 1]. One
            array (n_images, height, width, 3) will do.
        titles: One above each image (n_images,); long ones are wrapped, and cut after five lines.
        n_columns: Images per row.

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
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"Expected a title for each image, got images {len(images)}, titles {len(titles)}.")
    n_columns = min(n_columns, len(images))
    n_rows = math.ceil(len(images) / n_columns)
    wrapped = [_wrap(str(title)) for title in titles] if titles is not None else [""] * len(images)
    title_inches = max(len(title.split("\n")) if title else 0 for title in wrapped) * style.FONT_SIZE * 1.3 / 72
    thumbnails = [_make_thumbnail(image) for image in images]
    height_inches = _WIDTH_INCHES * min(1.5, max(image.height / image.width for image in thumbnails))
    width, height = n_columns * (_WIDTH_INCHES + 0.1), n_rows * (height_inches + title_inches + 0.15)
    axes = style.make_axes_grid(n_rows, n_columns, (width, height), dpi=_IMAGE_DPI).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, thumbnail, title in zip(axes, thumbnails, wrapped, strict=False):  # the last row may have free places
        ax.imshow(thumbnail, interpolation="antialiased")
        ax.set_title(title, **style.get_text_style())
    return axes[: len(images)]


def plot_mistakes(
    images: Sequence[Any], true_labels: Sequence[str], predicted_labels: Sequence[str], probabilities: Sequence[float]
) -> np.ndarray:
    """Show the wrong predictions that the model was surest of: mislabelled, ambiguous, or simply hard images.

    Args:
        images: All images, as in `plot_images`; only those shown are read, so a lazy sequence will do.
        true_labels: Names (n_images,).
        predicted_labels: Names (n_images,).
        probabilities: Of the predicted label (n_images,), fractions; or of all labels (n_images, n_classes).

    Returns:
        The axes, at most eight; without a mistake one empty axes that says so.

    Example:
        >>> axes = plot_mistakes([np.zeros((9, 9, 3), np.uint8)], ["can"], ["carton"], [0.9])
        >>> axes[0].get_title().split()
        ['true:', 'can', 'predicted:', 'carton', '(90', '%)']
    """
    n, lengths = len(images), [len(images), len(true_labels), len(predicted_labels), len(probabilities)]
    if len(set(lengths)) > 1:
        raise ValueError(f"Expected as many images, true_labels, predicted_labels and probabilities, got {lengths}.")
    confidence = np.asarray(probabilities, dtype=float)
    confidence = confidence.max(axis=1) if confidence.ndim == 2 else confidence
    true, predicted = np.asarray(true_labels).astype(str), np.asarray(predicted_labels).astype(str)
    wrong = np.flatnonzero(true != predicted)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MAX_MISTAKES]
    if len(shown) == 0:
        return plot_message(f"No mistakes among {n} images")
    names = [style.shorten(labels[shown], 20) for labels in (true, predicted)]
    shares = [f"{100 * share:.0f}\u00a0%" for share in confidence[shown]]
    titles = [f"true: {a}\npredicted: {b} ({share})" for a, b, share in zip(*names, shares, strict=True)]
    axes = plot_images([images[i] for i in shown], titles)
    heading = f"{len(shown)} of {len(wrong)} mistakes among {n} images, those with the highest probability first"
    heading = textwrap.fill(heading, int(axes[0].figure.get_figwidth() / style.LETTER_INCHES))
    axes[0].figure.suptitle(heading, **style.get_text_style())
    return axes


def plot_decisions(images: Sequence[Any], y_true: Any, y_pred: Any, class_names: Sequence[str]) -> Axes:
    """Show below a few images which labels were decided rightly: a picture of exact match, Hamming accuracy and F1.

    `y_true` and `y_pred` are 0 and 1, (n_images, n_classes). Of many labels the first 12 are drawn. Returns the axes: a
    column per image, a row per label, and their scores below and beside them.

    Example:
        >>> ax = plot_decisions([np.zeros((9, 9, 3), np.uint8)], [[1, 0]], [[1, 1]], ["can", "carton"])
        >>> [text.get_text() for text in ax.texts]
        ['found', 'F1 1.00', 'added', 'F1 0.00', '1 of 2']
    """
    names = list(class_names)[:_MAX_LABELS]
    true, predicted = (np.asarray(y)[:, : len(names)].astype(bool) for y in (y_true, y_pred))
    is_right, (n_images, n_labels) = true == predicted, true.shape
    width, height = 1.15 * n_images + 1.9, 0.34 * n_labels + 2.3
    title = (
        f"Exact match: {is_right.all(axis=1).sum()} of {n_images} images have no orange cell\n"
        f"Hamming accuracy: {is_right.sum()} of {is_right.size} cells are not orange"
    )
    ax = style.make_axes(None, size=(width, height), title=title)
    for column, image in enumerate(images):
        ax.imshow(_make_thumbnail(image), extent=(column - 0.48, column + 0.48, -0.6, -3.2))
    text, words = style.get_text_style(ha="center", va="center"), {(1, 1): "found", (1, 0): "missed", (0, 1): "added"}
    for row, (of_label, given) in enumerate(zip(true.T, predicted.T, strict=True)):
        for column, pair in enumerate(zip(of_label, given, strict=True)):
            color = (style.COLORS[5] if pair[0] != pair[1] else "#BFE3F5") if any(pair) else "white"
            ax.add_patch(Rectangle((column - 0.48, row - 0.45), 0.96, 0.9, facecolor=color, edgecolor=style.GRAY))
            if any(pair):
                ax.text(column, row, words[pair], **text)
        marked = of_label.sum() + given.sum()
        f1 = f"F1 {2 * (of_label & given).sum() / marked:.2f}" if marked else "no F1"
        ax.text(n_images - 0.4, row, f1, **text | {"ha": "left"})
    for column, n_right in enumerate(is_right.sum(axis=1)):
        ax.text(column, n_labels, f"{n_right} of {n_labels}", **text)
    style.name_ticks(ax.yaxis, names, 20)
    ax.set(xlim=(-0.5, n_images + 0.3), ylim=(n_labels + 0.4, -3.2), xticks=[], aspect="auto")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def plot_class_counts(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw bars of how many images each class has in each split; of many classes the largest and the smallest 20.

    Args:
        table: Image table with `label` and perhaps `split`; an image with several labels counts for each.
        ax: Axes to draw into and to return; by default those of a new figure.

    Raises:
        ValueError: If the table is empty.

    Example:
        >>> ax = plot_class_counts(pd.DataFrame({"path": ["a", "b"], "label": ["can", "carton"]}))
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['can', 'carton']
    """
    if len(table) == 0:
        raise ValueError("table: got no image, expected at least one; there is nothing to count.")
    split = table["split"].fillna("") if "split" in table else ""
    pairs = pd.DataFrame({"label": table["label"].str.split("|", regex=False), "split": split}).explode("label")
    counts, title, half = pd.crosstab(pairs["label"], pairs["split"]), "Images per class", style.MAX_NAMES // 2
    counts = counts[sorted(counts, key=lambda name: ("train", "valid", "test", name).index(name))]
    if len(counts) > style.MAX_NAMES:
        counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
        title += f"\nthe {half} largest and the {half} smallest of {len(counts)} classes"
        counts = pd.concat([counts.head(half), counts.tail(half)])
    rows = counts.stack().rename("n").reset_index()
    return plot_bars(rows, ax, name="label", part="split", value="n", x_label="images", title=title)


def plot_message(text: str) -> np.ndarray:
    """Draw a sentence in place of images that there are none of; returns the axes (1,)."""
    ax = style.make_axes(size=(5, 1))
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", **style.get_text_style())
    return np.array([ax])


def _wrap(title: str) -> str:
    """Break a title at spaces and after `|`, words that are wider than the image also after `_`, into few lines."""
    is_wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in title)  # as Chinese letters are
    n_characters = int(_WIDTH_INCHES / style.LETTER_INCHES / (1 + is_wide))
    # A vertical tab marks where a line may end; textwrap drops it there and leaves it elsewhere.
    marked = re.sub(rf"[^\s|]{{{n_characters + 1},}}", lambda word: word[0].replace("_", "_\v"), title).replace(
        "|", "|\v"
    )
    options: dict[str, Any] = {"width": n_characters, "replace_whitespace": False, "expand_tabs": False}
    lines = [piece for line in marked.split("\n") for piece in textwrap.wrap(line, **options) or [""]]
    lines = [line.replace("\v", "") for line in lines]
    if len(lines) > _MAX_TITLE_LINES:
        lines = [*lines[: _MAX_TITLE_LINES - 1], f"{lines[_MAX_TITLE_LINES - 1][: n_characters - 1]}…"]
    return "\n".join(lines)


def _make_thumbnail(image: Any) -> Image.Image:
    """Image no larger than it is shown, as RGB: matplotlib would keep every pixel and blur when it shrinks."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(_check_array(np.asarray(image)))
    longest = math.ceil(_WIDTH_INCHES * 1.5 * _IMAGE_DPI)
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
