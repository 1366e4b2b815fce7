"""The image table: one row per image, from a folder of folders, from train/valid/test folders, or from a CSV file.

Columns: `image` (path inside the data set, with forward slashes), `path` (absolute), `label` (several joined by
`|` in multi-label sets), `split` (train, valid or test, or empty where none is given), optional `group`, and whatever
else the CSV file holds. Row order is the same on every system.
"""

import difflib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .csv_tables import load_csv_table
from .decoding import FULL_RANGE
from .folder_tables import load_folder_table
from .image_files import list_dirs
from .images import Fit, find_value_range, load_images
from .labels import check_labels, is_multilabel, list_class_names, normalize_name, split_labels, suggest_name
from .splits import list_groups

N_ENOUGH = 8  # test images of a class, from which on intervals of macro-F1 held what they say in simulations


def load_image_table(source: str | Path, *, min_classes: int = 2) -> pd.DataFrame:
    r"""Load the image table of a data set.

    A CSV file, or a folder that holds `labels.csv`, gives what the CSV lists: a line per image, with columns `image`
    (or `path`, `filename`, ...) and `label` (or `class`, ...), or a column of 0 and 1 per class; perhaps `split` (or
    fastai's `is_valid`) and `group`. Beside the images a single column of any name, such as `breed`, is the label. A
    row that repeats an image counts once; if it says something else of the image, it is an error.

    Otherwise folders that are named like splits (`train`, `val`, `test_set`, `seg_train`, `Testing`, ...) hold the
    folders of classes; otherwise each folder is a class. Files are found by extension, in a fixed order; dot-files and
    folders of operating systems are passed over. What else is left out is counted in a warning.

    Names are compared in Unicode NFC without blanks and invisible signs around them; what is not UTF-8 is spelled
    `caf\udce9.jpg`, which all functions here open. Case counts: `Dog` in test beside `dog` in train is an
    error that asks "did you mean"; `Dog` and `dog` both in train are two classes, and the audit lists them. Of
    `batch1/cat/` and `batch2/cat/` the outer folders are the classes; a warning says that the inner ones may be meant.
    `images/` beside `masks/`, `labels/` or `annotations/` alone is an error: these are no classes. An empty label is
    missing, but `NULL`, `NaN`, `None` and `NA` are names of classes; in columns `split` and `group` they mean nothing.
    The set is multi-label if the CSV file says so: by `|` between labels, by lists, or by several ones in a row.

    Args:
        source: The folder or CSV file. A relative path counts from the working directory, else from the repository's
            root; `~` is the home folder.
        min_classes: Fewest classes to accept; 1 loads a set of one kind, such as hard negatives.

    Returns:
        The image table, without opening any image. Column `split` is empty where the layout gives none.

    Raises:
        FileNotFoundError: The folder does not exist, or most of the images that the CSV file lists, or all of a class.
        ValueError: No layout fits, a label is missing, a class is empty or has only test images, or there are fewer
            classes than `min_classes`. The message names the file and the line or folder.

    Example:
        >>> table = load_image_table("data/fridge_objects")  # doctest: +SKIP
        >>> table.shape  # doctest: +SKIP
        (480, 16)
    """
    source = find_dir(source)
    files = source.iterdir() if source.is_dir() else ()
    # In whatever case, as some systems see it.
    csv_path = next((path for path in files if path.name.lower() == "labels.csv"), source)
    if csv_path.is_file():
        table, left_out = load_csv_table(csv_path)
    elif source.is_dir():
        table, left_out = load_folder_table(source)
    else:
        raise ValueError(f"{source} is neither a folder nor a file. Expected a folder of images or a CSV file.")
    origin = str(csv_path if csv_path.is_file() else source)
    _check_train_classes(table, origin)
    table.attrs["left_out"] = normalize_name(_describe_left_out(left_out)) if left_out else ""
    class_names = list_class_names(table)
    if len(class_names) < min_classes:
        found = f"one class, {class_names[0]!r}" if len(class_names) == 1 else f"{len(class_names)} classes"
        inner = [folder for folder in list_dirs(source) if len(list_dirs(folder)) > 1] if source.is_dir() else []
        raise ValueError(
            f"{source} holds {len(table)} images of {found}; expected at least "
            f"{'two' if min_classes == 2 else min_classes} classes. Put the images of each class into a folder of its "
            f"own; if one class is meant, load with min_classes=1.{f' Did you mean {inner[0]}?' if inner else ''}"
        )
    if left_out:
        warnings.warn(f"{source}: {table.attrs['left_out']}", stacklevel=2)
    return table


def describe_table(table: pd.DataFrame) -> str:
    """Say in a few words what a table holds: images, classes, labels per image, splits, and what was left out.

    Further lines say what the test images are too few for.

    Example:
        >>> describe_table(pd.DataFrame({"label": ["can", "jar"], "split": ["", ""]}))
        '2 images of 2 classes, one label per image; without a split 2; nothing left out.'
    """
    kind = "any number of labels" if is_multilabel(table) else "one label"
    units = table.assign(unit=list_groups(table)).groupby(table["split"].replace("", "without a split"))["unit"]
    counts = zip(units.size().items(), units.nunique(), strict=True)
    splits = ", ".join(f"{split} {n}" + f" in {n_groups} groups" * (n_groups > 0) for (split, n), n_groups in counts)
    n_classes = len(list_class_names(table))
    return "\n".join(
        [
            f"{len(table)} images of {n_classes} classes, {kind} per image; {splits}; "
            f"{table.attrs.get('left_out') or 'nothing left out.'}",
            *_describe_few(table[table["split"] == "test"]),
        ]
    )


def _describe_few(test: pd.DataFrame) -> list[str]:
    """What so few test images cannot tell, in all or of a class; nothing where there are enough or none."""
    groups, lines = list_groups(test), []
    n, unit = (len(test), "") if groups is None else (len(set(groups)), " groups")
    if not n:
        return []
    # the fewest images that one model alone must get right before the paired interval shows that it is better
    n_shown = next((k for k in range(1, n + 1) if k * k > 1.96**2 * (k + 2 - k * k / (n + 2))), n + 1)
    if n_shown > n / 2:
        lines.append(
            f"TOO FEW TEST IMAGES, n = {n}{unit}: nothing below can be told apart. All scores are examples only."
        )
    elif n_shown > 0.2 * n:
        limit = f"differences below {100 * n_shown / n:.0f} points cannot be told apart."
        lines.append(f"FEW TEST IMAGES, n = {n}{unit}: {limit}")
    counts = Counter(label for labels in test["label"].fillna("").astype(str) for label in split_labels(labels))
    few = [f"{label} ({count})" for label, count in counts.most_common()[::-1] if count < N_ENOUGH]
    if few:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        lines.append(
            f"FEW TEST IMAGES PER CLASS, below {N_ENOUGH}: {', '.join(few[:5])}{more}. The score of such a class tells "
            "little, and intervals of means over classes (macro-F1, mean average precision) are too narrow."
        )
    return lines


def _describe_left_out(left_out: Mapping[str, int]) -> str:
    by_number = sorted(left_out.items(), key=lambda row: (-row[1], row[0]))
    more = f" and {len(by_number) - 8} more kinds" if len(by_number) > 8 else ""
    return f"left out {sum(left_out.values())}: {', '.join(f'{n} × {why}' for why, n in by_number[:8])}{more}."


def _check_train_classes(table: pd.DataFrame, source: str) -> None:
    """Raise a ValueError that names the classes which have test or validation images, but none to train on."""
    is_train = table["split"].isin(["train", ""])
    train_names = list_class_names(table[is_train])
    unseen = sorted(set(list_class_names(table[~is_train])) - set(train_names))
    if unseen and "train" in set(table["split"]):
        raise ValueError(
            f"{source}: classes {', '.join(unseen)} have test or validation images but none to train on. Every class "
            f"needs images in the train split.{suggest_name(unseen[0], train_names)}"
        )


def find_dir(name: str | Path) -> Path:
    """Find a folder or file: absolute, else from the working directory, else from the repository's root."""
    given = Path(name).expanduser()
    places = [given] if given.is_absolute() else [Path.cwd() / given, Path(__file__).resolve().parents[2] / given]
    for place in places:
        if os.path.exists(place):  # noqa: PTH110 - Path.exists raises an error for a name that is too long
            return place.resolve()
    looked_in = " and ".join(str(place) for place in dict.fromkeys(places))
    raise FileNotFoundError(f"No folder or CSV file {str(name)!r}; looked for {looked_in}.{_suggest(places)}")


def _suggest(places: Iterable[Path]) -> str:
    for place in places:
        parent = next(parent for parent in place.parents if parent.is_dir())
        wanted = place.relative_to(parent).parts[0]
        close = difflib.get_close_matches(wanted, [path.name for path in parent.iterdir()], n=1)
        if close:
            return f" Did you mean {parent / close[0]}?"
    return " Check the spelling, and whether the drive is mounted."


@dataclass(frozen=True)
class TableImages:
    """The images of a table, opened and sized once, for every recipe and prediction."""

    table: pd.DataFrame  # the rows whose image could be opened, in order
    pixels: np.ndarray  # uint8 (n_rows, size, size, 3), RGB; beyond a third of the free memory a `LazyPixels`
    class_names: list[str]  # all, sorted
    is_multilabel: bool  # whether any image has several labels, or none
    fit: Fit  # how images became square, see `utils_cv.data.images.resize_image`
    skipped: pd.DataFrame  # what could not be opened: `image` and `cause`
    value_range: int = FULL_RANGE  # of 16-bit files what became white, see `utils_cv.data.images.find_value_range`


def load_table_images(
    table: pd.DataFrame, im_size_px: int, *, fit: Fit = "squash", memory_mb: float | None = None
) -> TableImages:
    """Open and size every image of a table once; files that cannot be opened are skipped, counted and listed.

    Args:
        table: An image table.
        im_size_px: Side of the square images, in pixels.
        fit: "squash" keeps all of the image, "crop" its center, "pad" its proportions.
        memory_mb: Up to how much is held in memory, in 10**6 bytes; more is kept in a file, for the same results.
            Default: a third of what is free. See `utils_cv.data.images.load_images`.

    Returns:
        The opened images, with the table of what was skipped.

    Raises:
        ValueError: No image, or no image of some class, could be opened.

    Example:
        >>> images = load_table_images(table, 224)  # doctest: +SKIP
        >>> images.pixels.shape  # doctest: +SKIP
        (480, 224, 224, 3)
    """
    table = table if "image" in table else table.assign(image=table["path"])
    check_labels(table)
    value_range = find_value_range(table["path"])
    if value_range < FULL_RANGE:
        words = f"16-bit files hold values up to {value_range} only, which becomes white. Saved models keep this."
        warnings.warn(words, stacklevel=2)
    options: dict[str, Any] = {"fit": fit, "value_range": value_range, "memory_mb": memory_mb, "show_progress": True}
    loaded = load_images(table["path"], im_size_px, **options)
    opened = table.iloc[loaded.rows].reset_index(drop=True)
    is_skipped = ~np.isin(np.arange(len(table)), loaded.rows)
    skipped = pd.DataFrame({"image": table["image"].to_numpy()[is_skipped], "cause": loaded.failures["cause"]})
    class_names, part = list_class_names(table), ""
    lost = set(class_names) - set(list_class_names(opened))
    if not lost and "split" in table and (is_train := table["split"] == "train").any():
        part = " train images"
        lost = set(list_class_names(table[is_train])) - set(list_class_names(opened[opened["split"] == "train"]))
    if lost:
        words = f"all{part} of class {', '.join(sorted(lost))}" if len(opened) else "all"
        raise ValueError(
            f"Of {len(table)} images {len(skipped)} could not be opened, among them {words}; "
            f"the first: {skipped['image'].iloc[0]} ({skipped['cause'].iloc[0]})."
        )
    if len(skipped):
        more = f"{len(skipped)} of {len(table)} could not be opened."
        opened.attrs["left_out"] = f"{table.attrs.get('left_out', '')} {more}".strip()
        listed = "; ".join(f"{row.image} ({row.cause})" for row in skipped.head(3).itertuples())
        warnings.warn(f"Skipped {len(skipped)} of {len(table)} images: {listed}. All: .skipped", stacklevel=2)
    return TableImages(opened, loaded.pixels, class_names, is_multilabel(table), fit, skipped, value_range)


def find_rows(images: TableImages) -> tuple[list[int], list[int]]:
    """Find the row numbers of the train and the validation images; without train images that is a ValueError."""
    split = images.table["split"].to_numpy()
    train_rows, valid_rows = (np.flatnonzero(split == name).tolist() for name in ("train", "valid"))
    if not train_rows:
        raise ValueError(
            f"No image of split 'train'; the table has {images.table['split'].value_counts().to_dict()}. "
            "Use utils_cv.data.splits.complete_splits before loading the images."
        )
    return train_rows, valid_rows
