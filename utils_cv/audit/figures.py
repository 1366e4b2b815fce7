"""Figures of an audit: duplicates side by side, images of low quality. Axes out, nothing calls `show()`."""

from typing import Literal

import numpy as np
import pandas as pd

from utils_cv.data.images import load_image
from utils_cv.plots.images import plot_images, plot_message

from .report import AuditReport

_N_SHOWN = 8


def plot_duplicates(
    report: AuditReport, kind: Literal["leaks", "label_conflicts", "duplicates"] = "leaks"
) -> np.ndarray:
    """Show images beside their duplicates, two pairs per row, the least similar first: those need a look most.

    Args:
        report: From `utils_cv.audit.report.audit_images`.
        kind: Which table of the report.

    Returns:
        The axes (2 × pairs shown,), at most 8: the duplicate, then the image. Without pairs one empty axes says so.
    """
    found: pd.DataFrame = getattr(report, kind)
    path = dict(zip(report.facts["image"], report.facts["path"], strict=True))
    images, titles = [], []
    for row in found.sort_values("overlap", kind="stable").head(_N_SHOWN // 2).itertuples():
        fit = "the same file" if row.kind == "exact" else f"fits to {row.overlap:.2f}"
        images += [row.duplicate, row.image]
        titles += [f"{row.duplicate_label} ({row.duplicate_split})", f"{row.label} ({row.split})\n{fit}"]
    titles = [title.replace(" ()", "") for title in titles]
    nothing = f"No {kind.replace('_', ' ')} among {len(report.facts) - len(report.unreadable)} images"
    return _plot(report, [path[image] for image in images], titles, nothing)


def plot_low_quality(report: AuditReport) -> np.ndarray:
    """Show images that are dark, nearly empty, blurred or tiny.

    Args:
        report: From `utils_cv.audit.report.audit_images`.

    Returns:
        The axes (images shown,), at most 8. Without any one empty axes says so.
    """
    shown = report.low_quality.head(_N_SHOWN)
    nothing = f"No dark, empty, blurred or tiny images among {len(report.facts) - len(report.unreadable)}"
    return _plot(report, list(report.facts.loc[shown.index, "path"]), list(shown["problem"]), nothing)


def _plot(report: AuditReport, paths: list[str], titles: list[str], nothing: str) -> np.ndarray:
    if paths:
        return plot_images([load_image(path, target_px=224, value_range=report.value_range) for path in paths], titles)
    return plot_message(nothing)
