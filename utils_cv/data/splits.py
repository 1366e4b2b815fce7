"""Splits of an image table into `train`, `valid` and `test`: a table in, a new table out, the same for the same seed.

Every class gets an image in every part, or a ValueError says why not. The split of an image does not depend on the
order of the rows.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from .image_table import SPLIT_NAMES, encode_labels, list_class_names

_DEFAULT_FRACTIONS = MappingProxyType({"train": 0.6, "valid": 0.2, "test": 0.2})
_N_ATTEMPTS = 20  # other random orders, tried when groups or several labels per image leave a part without a class


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
        ValueError: A class cannot be in every split, or only some rows have a split.

    Example:
        >>> table = pd.DataFrame({"path": list("abcdefghij"), "label": ["can", "carton"] * 5})
        >>> complete_splits(table)["split"].value_counts().to_dict()
        {'train': 6, 'valid': 2, 'test': 2}
    """
    given = set(table["split"]) if "split" in table else {""}
    group = "group" if "group" in table else None
    if given == {""}:
        return split_grouped(table, group=group, seed=seed) if group else _split_stratified(table, seed=seed)
    if "" in given or "train" not in given or len(given) < 2:
        counts = table["split"].replace("", "(none)").value_counts().to_dict()
        raise ValueError(
            f"Got splits {counts}; expected none at all, or 'train' with 'valid', 'test' or both. "
            "Correct the split column or the folders, or drop the column to have the splits made."
        )
    if given == set(SPLIT_NAMES):
        return table.reset_index(drop=True).copy()
    completed = table.assign(split=table["split"].replace({"valid": "test"}))
    return _hold_out_valid(completed, seed=seed, group=group)


def _split_stratified(
    table: pd.DataFrame, *, fractions: Mapping[str, float] = _DEFAULT_FRACTIONS, seed: int = 0
) -> pd.DataFrame:
    """Split at random so that every class has the same share in every part; an earlier split is replaced.

    Images with several labels are balanced label by label, the rarest label first (iterative stratification,
    Sechidis, Tsoumakas and Vlahavas 2011). Near-duplicates, such as frames of one video, need `split_grouped`.

    Example:
        >>> table = pd.DataFrame({"path": list("abcdef"), "label": ["can"] * 3 + ["carton"] * 3})
        >>> _split_stratified(table).groupby(["label", "split"]).size().tolist()
        [1, 1, 1, 1, 1, 1]
    """
    _check_columns(table, "path", "label")
    return _split_units(table, np.arange(len(table)), fractions, seed, unit="images")


def split_grouped(
    table: pd.DataFrame, *, fractions: Mapping[str, float] = _DEFAULT_FRACTIONS, group: str = "group", seed: int = 0
) -> pd.DataFrame:
    """Split at random but keep every group (scene, video, patient) within one part, as stratified as groups allow.

    Args:
        table: Image table with `path`, `label` and the column `group`.
        fractions: Share of each part in [0, 1]; any of train, valid and test, adding up to 1. Default: 0.6, 0.2, 0.2.
        group: Column whose equal values stay together.
        seed: The same seed gives the same split.

    Returns:
        A new table in the same row order with the column `split`; an earlier split is replaced.

    Raises:
        ValueError: A class occurs in fewer groups than there are parts, or a row has no group.

    Example:
        >>> table = pd.DataFrame({"path": list("abcd"), "label": ["can"] * 4, "group": [1, 1, 2, 2]})
        >>> split_grouped(table, fractions={"train": 0.5, "test": 0.5}).groupby("group")["split"].nunique().tolist()
        [1, 1]
    """
    _check_columns(table, "path", "label", group)
    missing = int(table[group].isna().sum())
    if missing:
        raise ValueError(f"Column {group!r}: {missing} of {len(table)} rows have no group; fill them in or drop them.")
    return _split_units(table, pd.factorize(table[group])[0], fractions, seed, unit=f"groups ({group!r})")


def _hold_out_valid(
    table: pd.DataFrame, *, fraction: float = 0.2, seed: int = 0, group: str | None = None
) -> pd.DataFrame:
    """Turn a fraction of the training images into validation images; the test part stays as it is.

    Without a column `split`, or with an empty one, every row counts as training. Equal values of the column `group`
    stay together. A table that has validation images already is a ValueError.

    Example:
        >>> table = pd.DataFrame({"path": list("abcde"), "label": ["can"] * 5})
        >>> _hold_out_valid(table)["split"].value_counts().to_dict()
        {'train': 4, 'valid': 1}
    """
    _check_columns(table, "path", "label")
    split = _read_split(table)
    n_valid = int((split == "valid").sum())
    if n_valid:
        raise ValueError(f"The table has {n_valid} validation images already: use them, or relabel them as 'train'.")
    fractions = {"train": 1 - fraction, "valid": fraction}
    train = table[split == "train"]
    if group is None:
        held_out = _split_stratified(train, fractions=fractions, seed=seed)
    else:
        held_out = split_grouped(train, fractions=fractions, group=group, seed=seed)
    split[split == "train"] = held_out["split"].to_numpy()
    return table.assign(split=split).reset_index(drop=True)


def split_folds(labels: Any, groups: Any = None, *, n_folds: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split images into folds, each with its share of every class: row numbers to learn and to hold out, per fold.

    Equal values of `groups` stay in one fold. The caller checks that every class has as many images or groups as folds.

    Example:
        >>> [held_out.tolist() for _, held_out in split_folds(["a", "b", "a", "b"], n_folds=2)]
        [[1, 2], [0, 3]]
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    return list(kind(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels, groups))


def take_per_class(
    table: pd.DataFrame, n_per_class: int, *, seed: int = 0, split: str | None = "train"
) -> pd.DataFrame:
    """Keep only some images of each class, for learning curves; smaller subsets lie within larger ones.

    Args:
        table: Image table.
        n_per_class: Images of each class to keep. With several labels per image, every label gets at least as many.
        seed: The same seed gives the same order of images, hence nested subsets.
        split: Which part shrinks, all other parts stay whole; None shrinks the whole table.

    Returns:
        A new table, the kept rows in their old order.

    Raises:
        ValueError: A class has fewer images than asked for.

    Example:
        >>> table = pd.DataFrame({"path": list("abcdef"), "label": ["can", "carton"] * 3})
        >>> len(take_per_class(table, 2))
        4
    """
    _check_columns(table, "path", "label")
    if n_per_class < 1:
        raise ValueError(f"n_per_class: expected at least 1, got {n_per_class}.")
    is_chosen = np.ones(len(table), dtype=bool) if split is None else (_read_split(table) == split).to_numpy()
    rows = np.flatnonzero(is_chosen)
    has_label, class_names = _mark_labels(table.iloc[rows])
    _check_counts(has_label.sum(axis=0), class_names, n_per_class, f"images in split {split!r}", "The subset needs")
    order = _shuffle(table["path"].iloc[rows], np.random.default_rng(seed))
    rank = np.cumsum(has_label[order], axis=0)  # (n_rows, n_classes): the how-manieth of its class an image is
    is_kept = ((rank <= n_per_class) & has_label[order]).any(axis=1)
    kept = np.sort(np.concatenate([rows[order[is_kept]], np.flatnonzero(~is_chosen)]))
    return table.iloc[kept].reset_index(drop=True)


def _split_units(
    table: pd.DataFrame, unit_of_row: np.ndarray, fractions: Mapping[str, float], seed: int, *, unit: str
) -> pd.DataFrame:
    """Split so that rows of one unit (an image, or a group of images) stay together."""
    parts = _check_fractions(fractions)
    has_label, class_names = _mark_labels(table)
    n_units = int(unit_of_row.max()) + 1
    columns = np.column_stack([has_label, ~has_label.any(axis=1)])  # images without a label are balanced as well
    labels_of_unit = np.zeros((n_units, columns.shape[1]))
    np.add.at(labels_of_unit, unit_of_row, columns)
    n_units_of_class = (labels_of_unit > 0).sum(axis=0)[:-1]
    _check_counts(n_units_of_class, class_names, len(parts), unit, f"Splitting into {len(parts)} parts needs")
    first_path = table["path"].groupby(unit_of_row).min()
    shares = np.array(list(parts.values()))
    for attempt in range(_N_ATTEMPTS):
        order = _shuffle(first_path, np.random.default_rng((seed, attempt)))
        part_of_unit = np.empty(n_units, dtype=int)
        part_of_unit[order] = _assign_parts(labels_of_unit[order], shares)
        split = np.array(list(parts), dtype=object)[part_of_unit[unit_of_row]]
        counts = np.stack([has_label[split == part].sum(axis=0) for part in parts])  # (n_parts, n_classes)
        if counts.all():
            return table.assign(split=split).reset_index(drop=True)
    part, column = np.argwhere(counts == 0)[0]
    raise ValueError(
        f"No split of {n_units} {unit} was found that puts every class into every part: {class_names[column]!r} is "
        f"missing in {list(parts)[part]!r} in the last of {_N_ATTEMPTS} tries. Add images of it, or use fewer parts."
    )


def _assign_parts(labels_of_unit: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Part of each unit: the rarest label first, its largest units first, each to the part that lacks it most.

    `labels_of_unit`, (n_units, n_classes), says how many images of a unit have a label, units in random order;
    `shares`, (n_parts,), add up to 1.
    """
    lacks = np.outer(shares, labels_of_unit.sum(axis=0))  # (n_parts, n_classes), images that a part still lacks
    is_empty = np.ones_like(lacks, dtype=bool)  # which part has no unit of a label yet
    part_of_unit = np.full(len(labels_of_unit), -1)
    by_rarity = np.argsort((labels_of_unit > 0).sum(axis=0), kind="stable")
    for n_done, label in enumerate(by_rarity, start=1):
        units = np.flatnonzero((labels_of_unit[:, label] > 0) & (part_of_unit < 0))
        units = units[np.argsort(-labels_of_unit[units, label], kind="stable")]
        for n_left, unit in zip(range(len(units), 0, -1), units, strict=True):
            empty_parts = np.flatnonzero(is_empty[:, label])
            # the last units go to parts that would otherwise stay without this label
            candidates = empty_parts if 0 < n_left <= len(empty_parts) else np.arange(len(shares))
            lack = lacks[candidates, label]
            # less than one image is rounding; it goes where the labels so far were rounded down
            need = np.where(lack >= 1, lack, (lack > 1e-9) * 0.5)
            rounded_down = lacks[np.ix_(candidates, by_rarity[:n_done])].sum(axis=1)
            part = candidates[np.lexsort((-rounded_down, -need))[0]]
            part_of_unit[unit] = part
            lacks[part] -= labels_of_unit[unit]
            is_empty[part] &= labels_of_unit[unit] == 0
    return part_of_unit


def _mark_labels(table: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Which row has which label, bool (n_rows, n_classes), and the class names in order."""
    labels = table["label"].fillna("").astype(str)
    class_names = list_class_names(labels.to_frame())
    if not class_names:
        raise ValueError(f"No label in {len(table)} rows; fill in the column 'label' or check which rows were chosen.")
    return encode_labels(labels, class_names, multilabel=True).astype(bool), class_names


def _read_split(table: pd.DataFrame) -> pd.Series:
    """The column `split` as a new Series; where there is none or it is empty, every row is `train`."""
    if "split" not in table:
        return pd.Series("train", index=table.index, dtype=object)
    split = table["split"].astype(object).where(table["split"].notna(), "")
    if (split == "").all():
        split[:] = "train"
    unknown = sorted(set(split) - set(SPLIT_NAMES))
    if unknown:
        raise ValueError(f"Column 'split': expected {', '.join(SPLIT_NAMES)} in every row, got {unknown[:5]}.")
    return split


def _shuffle(paths: pd.Series, rng: np.random.Generator) -> np.ndarray:
    """Random order of positions that depends on the paths and the seed, not on the order of the rows."""
    by_path = np.argsort(paths.astype(str).to_numpy(), kind="stable")
    return by_path[rng.permutation(len(by_path))]


def _check_columns(table: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"The image table has no column {missing}; it has {list(table.columns)}.")
    if table.empty:
        raise ValueError("The image table is empty; a split needs images.")


def _check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(fractions) - set(SPLIT_NAMES))
    if unknown:
        raise ValueError(f"fractions: expected the parts {', '.join(SPLIT_NAMES)}, got {unknown}.")
    if not all(0 < fraction <= 1 for fraction in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f"fractions: expected numbers above 0 that add up to 1, got {dict(fractions)}.")
    return dict(fractions)


def _check_counts(counts: np.ndarray, class_names: list[str], n_needed: int, unit: str, why: str) -> None:
    """ValueError when a class has fewer units than needed; it lists the classes, their counts and what to do."""
    few = [f"{class_names[column]!r} has {int(counts[column])}" for column in np.flatnonzero(counts < n_needed)]
    if few:
        raise ValueError(
            f"{why} at least {n_needed} {unit} of every class, but {', '.join(few[:10])}. "
            "Add images, drop the class, or ask for less."
        )
