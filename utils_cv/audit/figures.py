"""Figures of an audit: twins side by side, poor images. Axes out, nothing calls `show()`."""

from typing import Literal

import numpy as np
import pandas as pd

from utils_cv.data.images import load_image
from utils_cv.plots.images import plot_images, plot_message

from .audit import AuditReport

_VIEW_PX = 224


def plot_duplicates(
    report: AuditReport, kind: Literal["leaks", "conflicts", "duplicates"] = "leaks", *, n_pairs: int = 4
) -> np.ndarray:
    """Show images and their twins side by side, two pairs a row, the least similar first: those need a look most.

    Args:
        report: From `utils_cv.audit.audit.audit_images`.
        kind: Which table of the report.
        n_pairs: Most pairs to show.

    Returns:
        The axes (2 × pairs shown,), an image and its twin in turn; without pairs one empty axes that says so.

    Example:
        >>> plot_duplicates(report, "conflicts")  # doctest: +SKIP
    """
    found: pd.DataFrame = getattr(report, kind)
    if found.empty:
        return plot_message(f"No {kind} among {len(report.facts)} images")
    shown = found.sort_values("overlap", kind="stable").head(n_pairs)
    path = dict(zip(report.facts["image"], report.facts["path"], strict=True))
    images, titles = [], []
    for row in shown.itertuples():
        images += [load_image(path[name], target_px=_VIEW_PX) for name in (row.twin, row.image)]
        titles += [f"{row.twin_label} ({row.twin_split})", f"{row.label} ({row.split})\n{_describe(row)}"]
    return plot_images(images, [title.replace(" ()", "") for title in titles], n_columns=4)


def plot_low_quality(report: AuditReport, *, n_images: int = 8) -> np.ndarray:
    """Show images that are dark, nearly empty, blurred or tiny.

    Args:
        report: From `utils_cv.audit.audit.audit_images`.
        n_images: Most images to show.

    Returns:
        The axes, one an image; without any one empty axes that says so.
    """
    if report.poor.empty:
        return plot_message(f"No dark, empty, blurred or tiny image among {len(report.facts)}")
    shown = report.poor.head(n_images)
    paths = report.facts.loc[shown.index, "path"]
    return plot_images([load_image(path, target_px=_VIEW_PX) for path in paths], list(shown["problem"]))


def _describe(row: object) -> str:
    kind, overlap = row.kind, row.overlap  # type: ignore[attr-defined]
    return "the same file" if kind == "exact" else f"fits to {overlap:.2f}"
