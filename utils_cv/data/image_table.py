"""The image table: one row an image, from a folder of folders, from train/valid/test folders, or from a CSV.

Columns: `image` (path inside the data set, with forward slashes), `path` (absolute), `label` (several joined by
`|` in multi-label sets), `split` (`train`, `valid`, `test`, or empty where none is given), optional `group`, and
whatever else the CSV holds. Row order is the same on every system.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from utils_cv.system.files import get_cache_dir

from .image_tables import SPLITS, load_csv, load_folders
from .labels import list_class_names
from .splits import hold_out_valid, split_grouped, split_stratified

# What each set in data/ is for; data/README.md is their card.
DEMO_SETS = {
    "fridge_objects": "loading, training, accuracy against speed, learning curves",
    "fridge_objects_video": "leakage: a random split against a split by scene (column group)",
    "fridge_objects_shifted": "test sets that resemble the deployment (column shift), accuracy against object size",
    "fridge_objects_multilabel": "several labels an image",
    "fridge_negatives": "hard negatives: images of none of the classes; load with min_classes=1",
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
        FileNotFoundError: If it is nowhere; names the places and, where there is one, a similar neighbour.
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
    return Path(__file__).resolve().parent.parent


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
    read. The photos are not part of this repository: their licences are those of their makers.

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
