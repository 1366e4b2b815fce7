"""The choices of people who label images: a CSV file that only grows, and the labels that it comes to.

A line per choice: `image` (as in an image table), `label` (several joined by `|`; with `%` codes where it cannot be
printed, such as one of two lines), `kind` (see `KINDS`), `annotator`, `time`. An "undo" withdraws the choices of that
person whose time stands in its column `label`. The time comes last and has a fixed form, so that a line which was cut
off is noticed.
"""

import csv
import datetime
import io
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..system.files import lock_folder
from .images import find_path
from .labels import LABEL_SEPARATOR

COLUMNS = ["image", "label", "kind", "annotator", "time"]
# One label; several labels, or a single one where there may be several; none of the classes; cannot tell.
KINDS = ("label", "labels", "none", "unclear", "undo")
_HEADER = ",".join(COLUMNS).encode()
_SAFE = "/ !#$&'()+,;=@[]|"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def append_choices(csv_path: Path, rows: Iterable[Sequence[str]], annotator: str) -> str:
    """Append choices (image, label, kind) of one person, by one write; they are on the disk when it returns."""
    with lock_folder(csv_path.parent):
        descriptor = os.open(csv_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            start, before = os.read(descriptor, len(_HEADER) + 1), ""
            if _HEADER.startswith(start):  # a new file, or a heading that was cut off
                os.ftruncate(descriptor, 0)
                before = _HEADER.decode() + "\n"
            elif not is_choice_file(csv_path):
                raise FileExistsError(f"{csv_path} exists and holds no choices of annotators. Give another name.")
            elif os.lseek(descriptor, -1, os.SEEK_END) and os.read(descriptor, 1) != b"\n":
                before = "\n"  # after a line that was cut off
            time = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            text = io.StringIO(before)
            text.seek(0, io.SEEK_END)
            csv.writer(text, lineterminator="\n").writerows(
                [image, urllib.parse.quote(label, _SAFE) if _needs_codes(label) else label, kind, annotator, time]
                for image, label, kind in rows
            )
            content = text.getvalue().encode()
            while content:  # a disk may be full in between
                content = content[os.write(descriptor, content) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return time


def is_choice_file(csv_path: Path) -> bool:
    """Tell whether a file holds choices, by its first line."""
    with csv_path.open("rb") as file:
        return file.readline(1000).rstrip(b"\r\n") == _HEADER


def name_image(path: str | Path, folder: Path) -> str:
    """Name an image in the CSV file of a folder: its path from there, with `%` codes where that cannot be printed."""
    try:
        name = Path(os.path.relpath(find_path(path), folder)).as_posix()
    except ValueError:  # another drive of Windows
        name = Path(path).as_posix()
    is_plain = name.isprintable() and name == name.strip()
    return name if is_plain else urllib.parse.quote(os.fsencode(name), safe=_SAFE)


def _needs_codes(label: str) -> bool:
    """Tell whether a label cannot be printed, or is the code of one that cannot: so every code means one label."""
    while (plain := urllib.parse.unquote(label)) != label:
        label = plain
    return not label.isprintable()


def load_choices(csv_path: str | Path) -> pd.DataFrame:
    """Load the choices that annotators made, in their order, without those that they withdrew.

    Args:
        csv_path: The file that the page of `utils_cv.apps.annotation` writes.

    Returns:
        One row per choice: `image`, `label` ("" for none of the classes and unclear), `kind` ("label", "labels",
        "none" or "unclear"), `annotator`, `time`. Of several ones by a person for an image the last one counts.
        `attrs["torn"]` lists the lines that were cut off, as a full disk leaves them; they are left out.

    Raises:
        ValueError: The file holds something else.

    Example:
        >>> load_choices("labels.csv").drop_duplicates(["image", "annotator"], keep="last").shape  # doctest: +SKIP
        (480, 5)
    """
    csv_path = Path(csv_path)
    if not is_choice_file(csv_path):
        raise ValueError(f"{csv_path} holds no choices. Expected a first line {_HEADER.decode()!r}.")
    rows, torn = {}, []
    # Line by line: a quote that was cut off must not swallow what comes after it.
    for number, line in enumerate(csv_path.read_bytes().decode(errors="replace").split("\n")[1:], start=2):
        cells = next(csv.reader([line.rstrip("\r")]), [])
        if len(cells) == len(COLUMNS) and cells[2] in KINDS and re.fullmatch(_TIME, cells[4]):
            label = urllib.parse.unquote(cells[1]) if _needs_codes(cells[1]) else cells[1]
            rows[number] = [cells[0], label, *cells[2:]]
        elif line.strip():
            torn.append(number)
    table = pd.DataFrame(rows.values(), index=list(rows), columns=COLUMNS, dtype=object)
    is_undo = table["kind"] == "undo"
    withdrawn = set(zip(table["annotator"][is_undo], table["label"][is_undo], strict=True))
    made = zip(table["annotator"], table["time"], is_undo, strict=True)
    is_kept = [not is_undo and (*who_and_when,) not in withdrawn for *who_and_when, is_undo in made]
    table = table[pd.Series(is_kept, table.index, dtype=bool)]
    table.attrs["torn"] = torn
    return table


def decide_labels(csv_path: Path) -> tuple[pd.DataFrame, Counter[str]]:
    """Decide the label of each image as most people chose it; count those that get none, and list them in `attrs`."""
    choices = load_choices(csv_path)
    last = choices.drop_duplicates(["image", "annotator"], keep="last")
    votes = last[last["kind"] != "unclear"]
    n_votes = votes.groupby(["image", "label"], sort=False).size().rename("n").reset_index()
    most = n_votes[n_votes["n"] == n_votes.groupby("image")["n"].transform("max")]
    is_tied = most["image"].duplicated(keep=False)
    decided, is_several = most[~is_tied], "labels" in set(last["kind"])
    if is_several:  # then none of the classes is an answer, too; the sign declares that there may be several
        decided = decided.assign(label=decided["label"] + LABEL_SEPARATOR)
    is_none = decided["label"] == ""
    left_out = {
        "annotators disagree": most["image"][is_tied].nunique(),
        "none of the classes": int(is_none.sum()),
        "unclear to annotators": last["image"].nunique() - votes["image"].nunique(),
        "line that was cut off": len(choices.attrs["torn"]),
    }
    line_of = {image: number for number, image in last["image"].items()}
    decided = decided.loc[~is_none, ["image", "label"]]
    decided.attrs["undecided"] = sorted(set(last["image"]) - set(decided["image"]))
    return decided.set_axis(decided["image"].map(line_of).tolist()), +Counter(left_out)
