"""The image table: one row per image, from a folder of folders, from train/valid/test folders, or from a CSV file.

Columns: `image` (path inside the data set, with forward slashes), `path` (absolute), `label` (several joined by
`|` in multi-label sets), `split` (one of `SPLIT_NAMES`, or empty where none is given), optional `group`, and whatever
else the CSV file holds. Row order is the same on every system.
"""

import difflib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .decoding import FULL_RANGE
from .images import Fit, find_value_range, list_image_files, load_images

LABEL_SEPARATOR = "|"
SPLIT_NAMES = ("train", "valid", "test")
# What a folder or a CSV file may call each split.
_SPLIT_OF_NAME = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["val", "valid", "validation"], "valid"),
    "test": "test",
}
# What a CSV file may call each column.
_CSV_COLUMNS = {
    "image": ("image", "path", "file", "filename", "file_name", "image_path"),
    "label": ("label", "labels", "class", "class_name"),
    "split": ("split", "subset"),
    "group": ("group", "group_id"),
}


def load_image_table(source: str | Path, *, min_classes: int = 2) -> pd.DataFrame:
    """Load the image table of a data set.

    A CSV file, or a folder that holds `labels.csv`, gives what the CSV lists. Otherwise folders named `train`,
    `val` or `valid`, and `test` give the splits, and the folders below them the labels; otherwise each folder is
    a class. Files are found by extension, in a fixed order; dot-files and dot-folders are left out.

    Args:
        source: The folder or CSV file. A relative path counts from the working directory, else from the repository's
            root; `~` is the home folder.
        min_classes: Fewest classes to accept; 1 loads a set of one kind, such as hard negatives.

    Returns:
        The image table, without opening any image. Column `split` is empty where the layout gives none.

    Raises:
        FileNotFoundError: The folder, or an image that the CSV file lists, does not exist.
        ValueError: No layout fits, a class is empty, or there are fewer classes than `min_classes`.

    Example:
        >>> table = load_image_table("data/fridge_objects")  # doctest: +SKIP
        >>> table.shape  # doctest: +SKIP
        (480, 16)
    """
    source = find_dir(source)
    csv_path = source if source.is_file() else source / "labels.csv"
    table = _load_csv(csv_path) if csv_path.is_file() else _load_folders(source)
    class_names = list_class_names(table)
    if len(class_names) < min_classes:
        found = f"one class, {class_names[0]!r}" if len(class_names) == 1 else f"{len(class_names)} classes"
        raise ValueError(
            f"{source} holds {len(table)} images of {found}; expected at least "
            f"{'two' if min_classes == 2 else min_classes} classes. "
            "Put the images of each class into a folder of its own; if one class is meant, load with min_classes=1."
        )
    return table


def find_dir(name: str | Path) -> Path:
    """Find a folder or file: absolute, else from the working directory, else from the repository's root."""
    given = Path(name).expanduser()
    places = [given] if given.is_absolute() else [Path.cwd() / given, Path(__file__).resolve().parents[2] / given]
    for place in places:
        if place.exists():
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


def split_labels(labels: str) -> list[str]:
    """Split the joined labels of an image; blanks around names do not count.

    Example:
        >>> split_labels("can | carton"), split_labels("")
        (['can', 'carton'], [])
    """
    return [label.strip() for label in labels.split(LABEL_SEPARATOR) if label.strip()]


def list_class_names(table: pd.DataFrame) -> list[str]:
    """List the classes of an image table, sorted.

    Args:
        table: An image table; several labels of one image count one by one.

    Returns:
        The names, in the order of the columns that a model predicts.

    Example:
        >>> list_class_names(pd.DataFrame({"label": ["carton", "can|jar", ""]}))
        ['can', 'carton', 'jar']
    """
    return sorted({label for labels in table["label"] for label in split_labels(labels)})


def is_multilabel(table: pd.DataFrame) -> bool:
    """Tell whether any image of a table has several labels, or none."""
    return any(len(split_labels(labels)) != 1 for labels in table["label"])


def encode_labels(labels: Iterable[str], class_names: Sequence[str], *, multilabel: bool = False) -> np.ndarray:
    """Turn labels into what a loss takes: int64 codes (n,), or float32 zeros and ones (n, n_classes) if multi-label.

    A label that is not a class is a ValueError.

    Example:
        >>> encode_labels(["carton", "can"], ["can", "carton"])
        array([1, 0])
        >>> encode_labels(["carton|can", ""], ["can", "carton"], multilabel=True).tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    # By hand: scikit-learn's MultiLabelBinarizer ignores unknown labels, and importing it takes a second.
    code_of = {name: code for code, name in enumerate(class_names)}
    names = [split_labels(label) if multilabel else [label] for label in labels]
    unknown = sorted({name for row in names for name in row} - set(code_of))
    if unknown:
        close = difflib.get_close_matches(unknown[0], code_of, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"Got labels {unknown[:5]}, expected the class names {list(code_of)[:20]}.{hint}")
    if not multilabel:
        return np.array([code_of[name] for (name,) in names], dtype=np.int64)
    is_of_class = np.zeros((len(names), len(code_of)), dtype=np.float32)
    for row, row_names in zip(is_of_class, names, strict=True):
        row[[code_of[name] for name in row_names]] = 1
    return is_of_class


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
        value_range: The value of 16-bit files that became white, see `utils_cv.data.images.find_value_range`.
    """

    table: pd.DataFrame
    pixels: np.ndarray
    class_names: list[str]
    is_multilabel: bool
    fit: Fit
    skipped: pd.DataFrame
    value_range: int = FULL_RANGE


def load_table_images(table: pd.DataFrame, im_size_px: int, *, fit: Fit = "squash") -> TableImages:
    """Open and size every image of a table once; files that cannot be opened are skipped, counted and listed.

    Args:
        table: An image table.
        im_size_px: Side of the square images, in pixels.
        fit: "squash" keeps all of the image, "crop" its center, "pad" its proportions.

    Returns:
        The opened images, with the table of what was skipped.

    Raises:
        ValueError: No image, or no image of some class, could be opened.

    Example:
        >>> images = load_table_images(table, 224)  # doctest: +SKIP
        >>> images.pixels.shape  # doctest: +SKIP
        (480, 224, 224, 3)
    """
    value_range = find_value_range(table["path"])
    if value_range < FULL_RANGE:
        words = f"16-bit files hold values up to {value_range} only, which becomes white. Saved models keep this."
        warnings.warn(words, stacklevel=2)
    loaded = load_images(table["path"], im_size_px, fit=fit, value_range=value_range, show_progress=True)
    opened = table.iloc[loaded.rows].reset_index(drop=True)
    is_skipped = ~np.isin(np.arange(len(table)), loaded.rows)
    skipped = pd.DataFrame({"image": table["image"].to_numpy()[is_skipped], "cause": loaded.failures["cause"]})
    class_names = list_class_names(table)
    lost = sorted(set(class_names) - set(list_class_names(opened))) if len(opened) else ["all"]
    if lost:
        raise ValueError(
            f"Of {len(table)} images {len(skipped)} could not be opened, among them all of class {', '.join(lost)}; "
            f"the first: {skipped['image'].iloc[0]} ({skipped['cause'].iloc[0]})."
        )
    if len(skipped):
        listed = "; ".join(f"{row.image} ({row.cause})" for row in skipped.head(3).itertuples())
        warnings.warn(f"Skipped {len(skipped)} of {len(table)} images: {listed}. All: .skipped", stacklevel=2)
    return TableImages(opened, loaded.pixels, class_names, is_multilabel(table), fit, skipped, value_range)


def _load_folders(root: Path) -> pd.DataFrame:
    """Load folders of classes, or `train`, `val`/`valid` and `test` folders that hold them."""
    folders = _list_dirs(root)
    split_of_dir = {path: _SPLIT_OF_NAME[path.name.lower()] for path in folders if path.name.lower() in _SPLIT_OF_NAME}
    if "train" not in split_of_dir.values():
        return _load_classes(root, root, "")
    strays = [path.name for path in folders if path not in split_of_dir]
    if strays:
        raise ValueError(
            f"{root} holds train/ and also {', '.join(strays)}. Expected either only "
            "train/, val/ (or valid/) and test/, or only class folders."
        )
    table = pd.concat([_load_classes(path, root, split) for path, split in split_of_dir.items()], ignore_index=True)
    unseen = sorted(set(table["label"]) - set(table.loc[table["split"] == "train", "label"]))
    if unseen:
        raise ValueError(
            f"{root}: classes {', '.join(unseen)} have test or validation images but none to train on. "
            "Every class needs a folder under train/."
        )
    order = table["split"].map(SPLIT_NAMES.index)
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def _load_classes(class_root: Path, root: Path, split: str) -> pd.DataFrame:
    rows, empty = [], []
    for folder in _list_dirs(class_root):
        paths = list_image_files(folder)
        if not paths:
            empty.append(folder.name)
        rows += [(path.relative_to(root).as_posix(), str(path), folder.name, split) for path in paths]
    if not rows:
        raise ValueError(
            f"No images under {class_root}; expected a folder of images for each class.{_describe(class_root)}"
        )
    if empty:
        raise ValueError(
            f"{class_root}: no image in class folder {', '.join(map(repr, empty))}. Add images, or move the "
            "folder elsewhere."
        )
    return pd.DataFrame(rows, columns=["image", "path", "label", "split"])


def _load_csv(csv_path: Path) -> pd.DataFrame:
    """Load a CSV file with a column for the image, counted from the CSV's folder, and one for its label."""
    raw = pd.read_csv(csv_path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    column_of = {name: _find_column(raw, known) for name, known in _CSV_COLUMNS.items()}
    missing = [name for name in ("image", "label") if column_of[name] is None]
    if missing or raw.empty:
        what = f"no column for {' and '.join(missing)}" if missing else "no rows"
        raise ValueError(
            f"{csv_path} has {what}; it has columns {list(raw.columns)}. Expected at least 'image' (path from "
            "the CSV's folder) and 'label' (several joined by '|')."
        )
    renamed = raw.rename(columns={old: name for name, old in column_of.items() if old})
    facts = pd.read_csv(csv_path, encoding="utf-8-sig")  # the other columns keep their own types
    table = facts.drop(columns=[old for old in column_of.values() if old])
    table.insert(0, "image", renamed["image"].str.replace("\\", "/"))
    table.insert(1, "path", [str(csv_path.parent / image) for image in table["image"]])
    table.insert(2, "label", [LABEL_SEPARATOR.join(sorted(set(split_labels(label)))) for label in renamed["label"]])
    table.insert(3, "split", [_read_split(csv_path, split) for split in renamed.get("split", [""] * len(raw))])
    if column_of["group"]:
        table.insert(4, "group", renamed["group"])
    _check_files(csv_path, table)
    return table


def _find_column(raw: pd.DataFrame, known_names: Sequence[str]) -> str | None:
    column_of = {column.lower().strip(): column for column in raw.columns}
    return next((column_of[name] for name in known_names if name in column_of), None)


def _read_split(csv_path: Path, name: str) -> str:
    if name.strip() and name.strip().lower() not in _SPLIT_OF_NAME:
        raise ValueError(f"{csv_path}: got split {name!r}, expected one of {', '.join(_SPLIT_OF_NAME)} or nothing.")
    return _SPLIT_OF_NAME.get(name.strip().lower(), "")


def _check_files(csv_path: Path, table: pd.DataFrame) -> None:
    missing = [image for image, path in zip(table["image"], table["path"], strict=True) if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{csv_path} lists {len(missing)} of {len(table)} images that do not exist, the first {missing[0]!r}; "
            f"looked in {csv_path.parent}. Paths in the CSV count from its own folder."
        )
    twice = table.loc[table["image"].duplicated(), "image"]
    if len(twice):
        raise ValueError(
            f"{csv_path} lists {len(twice)} images twice, the first {twice.iloc[0]!r}. Keep one row per image; "
            "join several labels by '|'."
        )


def _list_dirs(root: Path) -> list[Path]:
    folders = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(folders, key=lambda path: (path.name.casefold(), path.name))


def _describe(folder: Path) -> str:
    """Say what a folder without images holds, so that a wrong folder is recognized."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if not entries:
        return " The folder is empty."
    files = [path for path in entries if path.is_file()]
    loose = [path for path in files if path.suffix.lower() in {".jpg", ".jpeg", ".png"}]
    if loose:
        return f" Found {len(loose)} images beside each other: put each class into a folder of its own."
    shown = ", ".join(sorted(path.name for path in entries)[:5])
    return f" Found {len(files)} files and {len(entries) - len(files)} folders: {shown}.{_describe_files(folder)}"


def _describe_files(folder: Path) -> str:
    """Say what kinds of files lie anywhere below a folder that has no images, most frequent first."""
    suffixes = Counter(path.suffix.lower() or "none" for path in folder.rglob("*") if path.is_file())
    if not suffixes:
        return " No file lies in any of them."
    kinds = ", ".join(suffix for suffix, _ in suffixes.most_common(5))
    return f" Extensions of the {suffixes.total()} files below it: {kinds}."
