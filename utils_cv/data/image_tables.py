"""The layouts of an image data set: folders of classes, train/valid/test folders, and a CSV file.

Each gives the image table that `datasets.load_image_table` describes.
"""

from collections import Counter
from pathlib import Path

import pandas as pd

from utils_cv.evaluation.label_arrays import LABEL_SEPARATOR

from .images import list_image_files
from .labels import split_labels

SPLITS = ("train", "valid", "test")
# What a folder or a CSV may call each split.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}
CSV_COLUMNS = {
    "image": ("image", "path", "file", "filename", "file_name", "image_path"),
    "label": ("label", "labels", "class", "class_name"),
    "split": ("split", "subset"),
    "group": ("group", "group_id"),
}


def load_folders(root: Path) -> pd.DataFrame:
    """Load folders of classes, or `train`, `val`/`valid` and `test` folders that hold them.

    Raises:
        ValueError: If there are no images, a class is empty, or other folders stand beside `train`.
    """
    split_dirs = {path: SPLIT_NAMES[path.name.lower()] for path in _list_dirs(root) if path.name.lower() in SPLIT_NAMES}
    if "train" in split_dirs.values():
        _refuse_strays(root, [path for path in _list_dirs(root) if path not in split_dirs])
        parts = [_load_classes(path, root, split) for path, split in split_dirs.items()]
    else:
        parts = [_load_classes(root, root, "")]
    table = pd.concat(parts, ignore_index=True)
    unseen = _list_unseen(table)
    if unseen:
        raise ValueError(
            f"{root}: classes {', '.join(unseen)} have test or validation images but none to train on. "
            "Every class needs a folder under train/."
        )
    order = table["split"].map({split: i for i, split in enumerate(SPLITS)}).fillna(0)
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


def load_csv(csv_path: Path) -> pd.DataFrame:
    """Load a CSV file with a column for the image, counted from the CSV's folder, and one for its label.

    Raises:
        FileNotFoundError: If an image that it lists does not exist.
        ValueError: If a column is missing, a split is unknown, or an image is listed twice.
    """
    raw = pd.read_csv(csv_path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    columns = {name: _find_column(raw, name) for name in CSV_COLUMNS}
    missing = [name for name in ("image", "label") if columns[name] is None]
    if missing or raw.empty:
        what = f"no column for {' and '.join(missing)}" if missing else "no rows"
        raise ValueError(
            f"{csv_path} has {what}; it has columns {list(raw.columns)}. Expected at least 'image' (path from "
            "the CSV's folder) and 'label' (several joined by '|')."
        )
    renamed = raw.rename(columns={old: name for name, old in columns.items() if old})
    facts = pd.read_csv(csv_path, encoding="utf-8-sig")  # the other columns keep their own types
    table = facts.drop(columns=[old for old in columns.values() if old])
    table.insert(0, "image", renamed["image"].str.replace("\\", "/"))
    table.insert(1, "path", [str(csv_path.parent / image) for image in table["image"]])
    table.insert(2, "label", [LABEL_SEPARATOR.join(sorted(set(split_labels(label)))) for label in renamed["label"]])
    table.insert(3, "split", [_read_split(csv_path, split) for split in renamed.get("split", [""] * len(raw))])
    if columns["group"]:
        table.insert(4, "group", renamed["group"])
    _check_files(csv_path, table)
    return table


def _find_column(raw: pd.DataFrame, name: str) -> str | None:
    lower = {column.lower().strip(): column for column in raw.columns}
    return next((lower[known] for known in CSV_COLUMNS[name] if known in lower), None)


def _read_split(csv_path: Path, name: str) -> str:
    if name.strip() and name.strip().lower() not in SPLIT_NAMES:
        raise ValueError(f"{csv_path}: got split {name!r}, expected one of {', '.join(SPLIT_NAMES)} or nothing.")
    return SPLIT_NAMES.get(name.strip().lower(), "")


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
            f"{csv_path} lists {len(twice)} images twice, the first {twice.iloc[0]!r}. Keep one row an image; "
            "join several labels by '|'."
        )


def _list_dirs(root: Path) -> list[Path]:
    return sorted((path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")), key=_sort_key)


def _sort_key(path: Path) -> tuple[str, str]:
    return path.name.casefold(), path.name


def _list_unseen(table: pd.DataFrame) -> list[str]:
    train_labels = set(table.loc[table["split"].isin(["train", ""]), "label"])
    return sorted(set(table["label"]) - train_labels)


def _refuse_strays(root: Path, strays: list[Path]) -> None:
    if strays:
        raise ValueError(
            f"{root} holds train/ and also {', '.join(path.name for path in strays)}. Expected either only "
            "train/, val/ (or valid/) and test/, or only class folders."
        )


def _describe(folder: Path) -> str:
    """Say what a folder without images holds, so that a wrong folder is recognised."""
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
