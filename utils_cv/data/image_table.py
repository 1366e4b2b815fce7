"""The image table: one row an image, from a folder of folders, from train/valid/test folders, or from a CSV.

Columns: `image` (path inside the data set, with forward slashes), `path` (absolute), `label` (several joined by
`|` in multi-label sets), `split` (`train`, `valid`, `test`, or empty where none is given), optional `group`, and
whatever else the CSV holds. Row order is the same on every system.
"""

import difflib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utils_cv.evaluation import metrics as label_arrays
from utils_cv.evaluation.metrics import LABEL_SEPARATOR
from utils_cv.system.files import get_cache_dir

from .images import Fit, list_image_files, load_images
from .splits import hold_out_valid, split_grouped, split_stratified

# What each set in data/ is for; data/README.md is their card.
DEMO_SETS = {
    "fridge_objects": "loading, training, accuracy against speed, learning curves",
    "fridge_objects_video": "leakage: a random split against a split by scene (column group)",
    "fridge_objects_shifted": "test sets that resemble the deployment (column shift), accuracy against object size",
    "fridge_objects_multilabel": "several labels an image",
    "fridge_negatives": "hard negatives: images of none of the classes; load with min_classes=1",
}
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


def load_image_table(source: str | Path, *, min_classes: int = 2) -> pd.DataFrame:
    """Load the image table of a data set.

    A CSV file, or a folder that holds `labels.csv`, gives what the CSV lists. Otherwise folders named `train`,
    `val` or `valid`, and `test` give the splits, and the folders below them the labels; otherwise each folder is
    a class. Files are found by extension, in a fixed order; dot-files and dot-folders are left out.

    Args:
        source: The folder or CSV file; see `find_dir` for what a relative path means.
        min_classes: Fewest classes to accept; 1 loads a set of one kind, such as hard negatives.

    Returns:
        The image table, without opening any image. Column `split` is empty where the layout gives none.

    Raises:
        FileNotFoundError: If the folder, or an image that the CSV lists, does not exist.
        ValueError: If no layout fits, a class is empty, or there are fewer classes than `min_classes`.

    Example:
        >>> table = load_image_table("data/fridge_objects")  # doctest: +SKIP
    """
    source = find_dir(source)
    csv_path = source if source.is_file() else source / "labels.csv"
    table = load_csv(csv_path) if csv_path.is_file() else load_folders(source)
    class_names = list_class_names(table)
    if len(class_names) < min_classes:
        raise ValueError(
            f"{source} holds {len(table)} images of {_count(class_names)}; expected at least "
            f"{'two' if min_classes == 2 else min_classes} classes. "
            "Put the images of each class into a folder of its own; if one class is meant, load with min_classes=1."
        )
    return table


def complete_splits(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Give every image a split, keeping what the data set says.

    Without splits: 60 % train, 20 % valid, 20 % test. With `train` and one other part, that part becomes the test
    split and a fifth of `train` becomes `valid`, because a score is only honest on images that no choice has
    seen. With all three: as they are. Stratified by label; images of one `group` stay together.

    Args:
        table: An image table; it is not changed.
        seed: Seed of the split.

    Returns:
        A new table in which every row has a split.

    Raises:
        ValueError: If a class cannot be in every split, or only some rows have a split.
    """
    given = set(table["split"]) if "split" in table else {""}
    group = "group" if "group" in table else None
    if given == {""}:
        fractions = {"train": 0.6, "valid": 0.2, "test": 0.2}
        if group:
            return split_grouped(table, fractions=fractions, group=group, seed=seed)
        return split_stratified(table, fractions=fractions, seed=seed)
    if "" in given or "train" not in given or len(given) < 2:
        counts = table["split"].replace("", "(none)").value_counts().to_dict()
        raise ValueError(
            f"Got splits {counts}; expected none at all, or 'train' with 'valid', 'test' or both. "
            "Mend the split column or the folders, or drop the column to have the splits made."
        )
    if given == set(SPLITS):
        return table.reset_index(drop=True).copy()
    completed = table.assign(split=table["split"].replace({"valid": "test"}))
    return hold_out_valid(completed, fraction=0.2, seed=seed, group=group)


def find_dir(name: str | Path) -> Path:
    """Find a data folder or file: absolute, else from the working directory, else from the repository's root.

    Raises:
        FileNotFoundError: If it is nowhere; names the places and, where there is one, a similar neighbor.
    """
    given = Path(name).expanduser()
    places = [given] if given.is_absolute() else [Path.cwd() / given, find_repository() / given]
    for place in places:
        if place.exists():
            return place.resolve()
    looked_in = " and ".join(str(place) for place in dict.fromkeys(places))
    raise FileNotFoundError(f"No folder or CSV file {str(name)!r}; looked for {looked_in}.{_suggest(places)}")


def find_repository() -> Path:
    """Find the folder that holds `utils_cv`, `notebooks` and `data`."""
    return Path(__file__).resolve().parents[2]


def list_demo_sets() -> pd.DataFrame:
    """List the demo sets that belong to this repository.

    Returns:
        One row a set: `name`, `source` (for `load_image_table`), `purpose`, `n_images` (0 where it is missing),
        `is_here` (whether its folder and its labels.csv exist).

    Example:
        >>> list_demo_sets()[["name", "n_images"]]  # doctest: +SKIP
    """
    rows = []
    for name, purpose in DEMO_SETS.items():
        csv_path = find_repository() / "data" / name / "labels.csv"
        n_images = len(pd.read_csv(csv_path)) if csv_path.is_file() else 0
        rows.append((name, f"data/{name}", purpose, n_images, csv_path.is_file()))
    return pd.DataFrame(rows, columns=["name", "source", "purpose", "n_images", "is_here"])


def fetch_public_set(name: str, data_dir: str | Path | None = None) -> pd.DataFrame:
    """Fetch a well-known public photo set through torchvision, once, and return its image table.

    torchvision downloads, with its progress bar and its checksums, and unpacks; a set that is there already is only
    read. The photos are not part of this repository: their licenses are those of their makers.

    Args:
        name: "oxford_pets" (37 breeds, 0.8 GB), "flowers_102" (0.35 GB), "eurosat" (10 kinds of land, 0.1 GB) or "dtd"
            (47 textures, 0.6 GB).
        data_dir: Folder to keep it in. None takes `public_sets` in the cache folder, see `files.get_cache_dir`.

    Returns:
        The image table, with the splits of the set's makers, or none where they gave none (eurosat).

    Raises:
        ConnectionError: If a file cannot be downloaded; says which, from where, and where to put it by hand.
        ValueError: If the name is unknown, or the set on the disk is incomplete.

    Example:
        >>> table = fetch_public_set("eurosat")  # doctest: +SKIP
    """
    from .public_sets import load_public_set

    return load_public_set(name, get_cache_dir("public_sets") if data_dir is None else Path(data_dir).expanduser())


def _count(class_names: list[str]) -> str:
    return f"one class, {class_names[0]!r}" if len(class_names) == 1 else f"{len(class_names)} classes"


def _suggest(places: Iterable[Path]) -> str:
    for place in places:
        parent = next(parent for parent in place.parents if parent.is_dir())
        wanted = place.relative_to(parent).parts[0]
        close = difflib.get_close_matches(wanted, [path.name for path in parent.iterdir()], n=1)
        if close:
            return f" Did you mean {parent / close[0]}?"
    return " Check the spelling, and whether the drive is mounted."


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


def list_class_names(table: pd.DataFrame) -> list[str]:
    """List the classes of an image table, sorted; the labels of a multi-label row count one by one."""
    return sorted({label for labels in table["label"] for label in split_labels(labels)})


def is_multilabel(table: pd.DataFrame) -> bool:
    """Tell whether any image has several labels, or none."""
    return any(len(split_labels(labels)) != 1 for labels in table["label"])


def split_labels(labels: str) -> list[str]:
    """Split `"can|carton"` into its labels; an image without labels gives an empty list."""
    return [label.strip() for label in labels.split(label_arrays.LABEL_SEPARATOR) if label.strip()]


def encode_labels(labels: Iterable[str], class_names: Sequence[str], *, multilabel: bool = False) -> np.ndarray:
    """Turn labels into what a loss takes.

    Args:
        labels: Labels of an image table.
        class_names: Their order.
        multilabel: Whether to give one column a class.

    Returns:
        (n,) int64 class codes, or (n, n_classes) float32 of zeros and ones.

    Raises:
        ValueError: If a label is not a class.
    """
    if multilabel:
        return label_arrays.make_multi_hot(list(labels), class_names).astype(np.float32)
    return label_arrays.encode_labels(list(labels), class_names)


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
        fit: "squash" keeps all of the image, "crop" its center, "pad" its proportions.

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
