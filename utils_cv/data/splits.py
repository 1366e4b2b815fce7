"""Splits of an image table into `train`, `valid` and `test`: a table in, a new table out, the same for the same seed.

Splits are stable: a hash of an image's name (column `image`), or of its group, and the seed decide its split, the other
images do not. So images come and go, and an old test image never becomes a train image. The price: shares are as even
as a draw makes them. Of 100 images 20 come into the test split, give or take 4.

Every class gets an image in every part, or a ValueError says why not. Where the hashes leave a part without a class (a
fifth of the classes of 10 images, 1 in 400 of those of 30), the image or group of lowest hash that no other part needs
is moved there, and may move again when images of its class come or go: at most two for one that comes or goes, and none
of another class. Where images have several labels, or groups hold several classes, and there are few of them, such a
move can ask for others; images that share no class with them, directly or by others, keep their splits. A saved table
keeps all splits: `utils_cv.data.csv_tables.save_image_table`.
"""

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from .labels import SPLIT_NAMES, normalize_name, split_labels

_SHARES = MappingProxyType({"train": 0.6, "valid": 0.2, "test": 0.2})
_N_FORCED = 1000  # moves that open another gap, before a split is given up


def complete_splits(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Give every image a split, keeping what the data set says.

    Without splits, or with all images in `train`: about 60 % train, 20 % valid, 20 % test. With `train` and one other
    part, that part becomes the test split and about a fifth of `train` becomes `valid`, because a score is only honest
    on images that no choice has seen. With all three: as they are. Images of one `group` stay together; an image
    without a group is one of its own.

    Beside rows that have a split, rows without one are filled: with `train` and one other part, or with all three, in
    proportion; else they make the parts that are missing. A new image of a known group follows it.

    An image keeps its split when others are added or removed, and whatever the order of the rows. The exception, in
    classes of few images, is described in `utils_cv.data.splits`.

    Args:
        table: An image table; it is not changed. An image is named by its column `image`, else by `path`.
        seed: Another seed gives another split.

    Returns:
        A new table in which every row has a split. `image_table.describe_table` says what its test images are too few
        for.

    Raises:
        ValueError: A class cannot be in every split, there are no train images, or a split has an unknown name.

    Example:
        >>> table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(1000)], "label": ["can", "carton"] * 500})
        >>> split = complete_splits(table)["split"]
        >>> split.value_counts().to_dict()
        {'train': 586, 'test': 211, 'valid': 203}
        >>> complete_splits(table[100:])["split"].tolist() == split[100:].tolist()
        True
    """
    _check_columns(table, "path", "label")
    table = table.reset_index(drop=True)
    unit, split = _name_units(table), _read_split(table)
    given = set(split) - {""}
    known = {name: part for name, part in zip(unit, split, strict=True) if part}
    split[:] = [part or known.get(name, "") for name, part in zip(unit, split, strict=True)]
    if (split == "train").all():
        split[:], given = "", set()
    if given and "train" not in given and (split != "").all():
        raise ValueError(
            f"Got splits {split.value_counts().to_dict()}, but no 'train'. Call the folder or the rows to learn from "
            "'train', or empty the column 'split' to have the splits made."
        )
    has_two = len(given) == 2 and "train" in given
    parts = given if has_two else set(SPLIT_NAMES) - given or set(SPLIT_NAMES)
    what = "groups" if "group" in table else "images"
    split = _fill_splits(split, unit, table["label"], parts, seed, what)
    if has_two:
        split = split.replace({"train": "", "valid": "test"})
        split = _fill_splits(split, unit, table["label"], {"train", "valid"}, seed, what)
    if "group" in table and _is_empty(table["group"]).any():
        table = table.assign(group=unit)
    return table.assign(split=split)


def split_folds(labels: Any, groups: Any = None, *, n_folds: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split into folds, rows to learn and to hold out; each has its share of every class, `groups` stay together.

    `labels` are one per image, or 0 and 1 (n_images, n_labels); an image of no fold is then learned by all of them.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if np.ndim(labels) == 2:
        return _split_label_folds(labels, groups, n_folds, seed)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    return list(kind(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels, groups))


def _split_label_folds(
    targets: np.ndarray, groups: Any, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Spread the rarest label over the folds first, then the next one (Sechidis et al. 2011)."""
    units = np.arange(len(targets)) if groups is None else np.unique(groups, return_inverse=True)[1]
    has_label = np.zeros((units.max() + 1, targets.shape[1] + 1), bool)
    np.logical_or.at(has_label[:, :-1], units, targets > 0)
    has_label[:, -1] = True  # the last column stands for images without a label
    fold_of, counts = np.full(len(has_label), -1), np.zeros((n_folds, has_label.shape[1]))
    order = np.random.default_rng(seed).permutation(len(has_label))
    by_rarity = np.argsort(has_label.sum(axis=0), kind="stable")
    for label in by_rarity:
        for unit in order[has_label[order, label] & (fold_of[order] < 0)]:
            fold_of[unit] = np.lexsort((counts[:, -1], counts[:, label]))[0]
            counts[fold_of[unit]] += has_label[unit]
    for label in by_rarity:  # the only image (or group) of a label is learned by all folds and held out by none
        with_label = order[has_label[order, label]]
        if len(np.unique(fold_of[with_label])) == 1:
            fold_of[with_label[0]] = -1
    if n_fixed := int((fold_of < 0).sum()):
        what = f"{'Image' if groups is None else 'Group'}s that every model learns, because a label has no other"
        warnings.warn(f"{what}: {n_fixed}. Nothing tells how well such a label is recognized.", stacklevel=5)
    if len(found := np.setdiff1d(fold_of, -1)) < 2:
        raise ValueError(f"Got {len(targets)} images; expected at least 2 of some label, to predict one by the other.")
    return [(np.flatnonzero(fold_of[units] != fold), np.flatnonzero(fold_of[units] == fold)) for fold in found]


def take_per_class(
    table: pd.DataFrame, n_per_class: int, *, seed: int = 0, split: str | None = "train"
) -> pd.DataFrame:
    """Keep only some images (or groups) of each class, for learning curves; smaller subsets lie within larger ones.

    Whole groups are drawn one after another, as scenes or patients are collected. Other splits stay whole, unless
    `split` is None.
    """
    _check_columns(table, "path", "label")
    if n_per_class < 1:
        raise ValueError(f"n_per_class: expected at least 1, got {n_per_class}.")
    given = _read_split(table)
    is_chosen = np.full(len(table), split is None) | (given == (split if given.any() else "")).to_numpy()
    rows = np.flatnonzero(is_chosen)
    by_path = rows[np.argsort(table["path"].iloc[rows].astype(str).to_numpy(), kind="stable")]
    rng = np.random.default_rng(seed)
    order = by_path[rng.permutation(len(by_path))]
    groups = list_groups(table.iloc[order])
    if groups is not None:
        order = order[
            np.argsort(rng.permutation(len(groups))[np.unique(groups, return_inverse=True)[1]], kind="stable")
        ]
    labels = _list_labels(table["label"].iloc[order].set_axis(order))
    why = f"The subset needs at least {n_per_class} images in split {split!r} of every class"
    _check_counts(labels.value_counts(sort=False), n_per_class, why)
    rank = labels.groupby(labels).cumcount()  # the how-manieth of its class an image is
    kept = np.union1d(labels.index[rank < n_per_class], np.flatnonzero(~is_chosen))
    return table.iloc[kept].reset_index(drop=True)


def count_units(codes: np.ndarray, groups: np.ndarray | None) -> pd.Series:
    """Count the images of each class, or its groups where there are some; the index is the class, or the column."""
    units = np.arange(len(codes)) if groups is None else np.asarray(groups)
    rows, codes = np.nonzero(codes) if codes.ndim == 2 else (slice(None), codes)
    units = pd.DataFrame({"code": codes, "unit": units[rows]})
    return units.drop_duplicates()["code"].value_counts()


def list_groups(table: pd.DataFrame) -> np.ndarray | None:
    """Name the group of each row, (n_images,), or the image where it has none; None for a table without groups.

    Example:
        >>> list_groups(pd.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "group": ["video 1", "video 1", None]}))
        array(['video 1', 'video 1', 'c.jpg'], dtype=object)
    """
    return _name_units(table).to_numpy(dtype=object) if "group" in table else None


def _fill_splits(
    split: pd.Series, unit: pd.Series, labels: pd.Series, parts: Collection[str], seed: int, what: str
) -> pd.Series:
    """Give the rows without a split one of `parts`, unit by unit, so that each of their classes is in each part."""
    shares = {part: _SHARES[part] for part in SPLIT_NAMES if part in parts}
    is_free = split == ""
    labels = _list_labels(labels)
    pairs = pd.DataFrame({"label": labels, "split": split.loc[labels.index], "unit": unit.loc[labels.index]})
    present = set(pairs[pairs["split"] != ""][["label", "split"]].itertuples(index=False, name=None))
    free = pairs[pairs["split"] == ""].drop_duplicates().sort_values(["label", "unit"])
    units_of_label = {label: rows.tolist() for label, rows in free.groupby("label")["unit"]}
    n_parts_without = {label: sum((label, part) not in present for part in shares) for label in units_of_label}
    why = f"Splitting into {len(shares)} parts needs at least {len(shares)} {what} of every class"
    _check_counts({label: len(units) for label, units in units_of_label.items()}, n_parts_without, why)
    names = unit[is_free].unique()
    limits = np.cumsum(list(shares.values())) / sum(shares.values())
    digests = [hashlib.blake2b(f"{seed} {' '.join(shares)} |{name}".encode(), digest_size=8).digest() for name in names]
    hashes = {name: int.from_bytes(digest) / 2**64 for name, digest in zip(names, digests, strict=True)}
    hashed_parts = np.array(list(shares), dtype=object)[np.searchsorted(limits[:-1], list(hashes.values()), "right")]
    part_of_unit = dict(zip(names, hashed_parts, strict=True))
    if lacking := _move_units(part_of_unit, hashes, units_of_label, list(shares), present):
        label, part = lacking[0]
        raise ValueError(
            f"No split of {len(names)} {what} was found that puts every class into every part: {label!r} is missing in "
            f"{part!r} after {_N_FORCED} moves. Add images of it, or drop the class."
        )
    return split.where(~is_free, unit.map(part_of_unit))


def _move_units(
    part_of_unit: dict[str, str],
    hashes: Mapping[str, float],
    units_of_label: Mapping[str, Sequence[str]],
    parts: Sequence[str],
    present: Collection[tuple[str, str]],
) -> list[tuple[str, str]]:
    """Move units in place to parts that have none of their label; return the labels and parts that stay without.

    Units that no other part needs go first. Where there is none, one is moved all the same, and then those that come
    into its place. Each move of a unit makes its next one dearer, unless it leads back to its first part.
    """
    labels_of_unit = defaultdict(list)
    for label, units in units_of_label.items():
        for unit in units:
            labels_of_unit[unit].append(label)
    counts = Counter((label, part_of_unit[unit]) for unit, labels in labels_of_unit.items() for label in labels)
    counts.update(dict.fromkeys(present, 1))
    first_part = dict(part_of_unit)
    n_moves, n_forced, is_stuck = Counter[str](), 0, False

    def compute_cost(unit: str, part: str) -> int:
        old = part_of_unit[unit]
        n_gaps = sum((counts[label, old] == 1) - (counts[label, part] == 0) for label in labels_of_unit[unit])
        return n_gaps + n_moves[unit] - (part == first_part[unit])

    while lacking := [(label, part) for label in units_of_label for part in parts if not counts[label, part]]:
        if is_stuck and (n_forced := n_forced + 1) > _N_FORCED:
            break
        was_stuck, is_stuck = is_stuck, True
        for label, part in lacking:
            cost, _, unit = min((compute_cost(unit, part), hashes[unit], unit) for unit in units_of_label[label])
            if not counts[label, part] and (cost < 0 or (was_stuck and is_stuck)):
                is_stuck = False
                counts.subtract((name, part_of_unit[unit]) for name in labels_of_unit[unit])
                counts.update((name, part) for name in labels_of_unit[unit])
                part_of_unit[unit] = part
                n_moves[unit] += 1
    return lacking


def _name_units(table: pd.DataFrame) -> pd.Series:
    """Name what stays together: the group of each row, or its image where it has none."""
    names = table["image" if "image" in table else "path"].map(_normalize)
    if "group" not in table:
        return names
    return names.where(_is_empty(table["group"]), table["group"].map(_normalize))


def _is_empty(groups: pd.Series) -> pd.Series:
    return groups.isna() | (groups.astype(str).str.strip() == "")


def _normalize(name: Any) -> str:
    # A column of whole numbers becomes one of fractions when a row of it is empty.
    is_whole = isinstance(name, float) and name.is_integer()
    return normalize_name(str(int(name) if is_whole else name))


def _list_labels(labels: pd.Series) -> pd.Series:
    """One row per label of each image, with the index of the image; images without a label have none."""
    labels = labels.fillna("").astype(str)
    listed = labels.map(split_labels).explode().dropna().astype(str)
    if listed.empty:
        raise ValueError(f"No label in {len(labels)} rows; fill in the column 'label' or check which rows were chosen.")
    return listed


def _read_split(table: pd.DataFrame) -> pd.Series:
    """The column `split` as a new Series, empty where there is none."""
    split = table.get("split", pd.Series("", index=table.index)).astype(object).fillna("")
    unknown = sorted(set(split) - {*SPLIT_NAMES, ""})
    if unknown:
        raise ValueError(f"Column 'split': expected {', '.join(SPLIT_NAMES)} or nothing in a row, got {unknown[:5]}.")
    return split


def _check_columns(table: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"The image table has no column {missing}; it has {list(table.columns)}.")
    if table.empty:
        raise ValueError("The image table is empty; a split needs images.")


def _check_counts(counts: Mapping[str, int] | pd.Series, needed: Mapping[str, int] | int, why: str) -> None:
    """ValueError when a class has fewer images or groups than needed; it lists the classes and what to do."""
    needed = dict.fromkeys(counts.keys(), needed) if isinstance(needed, int) else needed
    few = [f"{label!r} has {n}" for label, n in sorted(counts.items()) if n < needed[label]]
    if few:
        raise ValueError(f"{why}, but {', '.join(few[:10])}. Add images, drop the class, or ask for less.")
