"""Corrected labels, as the error browser or a spreadsheet saves them, put into an image table."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .csv_tables import read_cells
from .labels import normalize_name

_COLUMNS = ("image", "label", "old_label")


class Corrections(NamedTuple):
    """What `apply_corrections` made of a table."""

    table: pd.DataFrame  # with the right labels, without the rows that were left out
    n_changed: int  # images with another label
    n_left_out: int
    unmatched: pd.DataFrame  # lines of the file that changed nothing: `image`, `label`, `old_label` and `cause`


def apply_corrections(table: pd.DataFrame, csv_path: str | Path) -> Corrections:
    """Give images of a table the labels that a CSV file of corrections says. Files and splits stay as they are.

    Args:
        table: An image table: `image`, `label`, and what else it holds.
        csv_path: A file with the columns `image`, `label` (the right one; empty: leave the image out) and perhaps
            `old_label`: a line changes nothing where the table says something else by now. Of two lines for one image
            the later one counts.

    Returns:
        A new table, and how much was changed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing.
    """
    rows = read_cells(Path(csv_path))
    if missing := {"image", "label"} - set(rows):
        raise ValueError(
            f"{csv_path} has the columns {list(rows)}, but no {sorted(missing)}; expected image, label and perhaps "
            "old_label, as the error browser saves them."
        )
    names = table["image"].map(normalize_name)
    label_of, right, unmatched = dict(zip(names, table["label"], strict=True)), {}, []
    cells = [[normalize_name(row.get(name, "")) for name in _COLUMNS] for row in rows.to_dict("records")]
    later = {image: number for number, (image, _, _) in enumerate(cells)}
    for number, (image, label, old_label) in enumerate(cells):
        if image not in label_of:
            cause = "no such image"
        elif later[image] != number:
            cause = "corrected again further down"
        elif label_of[image] == label:
            cause = "it has this label already"
        elif old_label not in ("", label_of[image]):
            cause = "the table has another label than the one corrected"
        else:
            right[image] = label
            continue
        unmatched.append((image, label, old_label, cause))
    labels = [right.get(name, label) for name, label in zip(names, table["label"], strict=True)]
    is_kept = ~names.isin([name for name, label in right.items() if not label])
    n_changed = int((names.isin(list(right)) & is_kept).sum())
    listed = pd.DataFrame(unmatched, columns=[*_COLUMNS, "cause"])
    return Corrections(table.assign(label=labels)[is_kept], n_changed, int((~is_kept).sum()), listed)
