"""Twins among the images of a table: the same or nearly the same image twice, in two splits, or with two labels."""

import numpy as np
import pandas as pd

from .duplicates import find_near_duplicates, group_by_pairs
from .thumbnail_overlap import measure_overlap

_SPLIT_ORDER = ("train", "valid", "test")
_TWIN_COLUMNS = ["image", "split", "label", "twin", "twin_split", "twin_label", "kind", "overlap"]


def find_twins(
    hashes: np.ndarray, thumbnails: np.ndarray, candidates: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find all images that are the same file, or nearly the same image.

    Args:
        hashes: (n,) text, of the content of each file; empty where it could not be opened.
        thumbnails: (n, 32, 32) uint8, grey.
        candidates: (n_pairs, 2) more pairs to look at.

    Returns:
        Pairs (n_pairs, 2), the smaller position first, that connect all members of a group; and the group of each
        image (n,).
    """
    n = len(hashes)
    positions = np.arange(n)
    is_open = hashes != ""
    first_of_hash = pd.Series(positions).groupby(pd.Series(hashes), sort=False).transform("min").to_numpy(np.int64)
    is_copy = is_open & (first_of_hash != positions)
    exact = np.stack([first_of_hash[is_copy], positions[is_copy]], axis=1)
    different = np.flatnonzero(is_open & ~is_copy)
    place = np.full(n, -1)
    place[different] = np.arange(len(different))
    if candidates is not None and len(candidates):
        candidates = place[first_of_hash[candidates]]
        candidates = candidates[(candidates >= 0).all(axis=1) & (candidates[:, 0] != candidates[:, 1])]
    near, _ = find_near_duplicates(thumbnails[different], candidates=candidates)
    pairs = np.concatenate([exact, different[near].reshape(-1, 2)]).astype(np.int64)
    return pairs, group_by_pairs(pairs, n)


def list_duplicates(
    table: pd.DataFrame, groups: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray
) -> pd.DataFrame:
    """List every image that is in its group a second time: the group's first image is its twin.

    Args:
        table: An image table.
        groups: (n,) from `find_twins`.
        hashes: (n,) of the content of each file.
        thumbnails: (n, 32, 32) uint8, grey.

    Returns:
        `image`, `split`, `label`, those of its `twin`, `kind` (`exact` or `near`) and `overlap`, how well they fit.
    """
    return _list_pairs(table, _pair_with_first(groups, np.arange(len(groups)), hashes), hashes, thumbnails)


def list_leaks(table: pd.DataFrame, groups: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> pd.DataFrame:
    """List every image with a twin in an earlier split (train, valid, test): its score would be too good.

    Args and columns as in `list_duplicates`; the twin is one in the earliest split.
    """
    split = table["split"] if "split" in table else pd.Series("", index=table.index)
    rank = split.map({name: i for i, name in enumerate(_SPLIT_ORDER)}).fillna(-1).to_numpy(np.int64)
    groups = np.where(rank >= 0, groups, groups.max(initial=0) + 1 + np.arange(len(groups)))  # without a split: alone
    return _list_pairs(table, _pair_with_first(groups, rank, hashes), hashes, thumbnails)


def list_conflicts(table: pd.DataFrame, groups: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> pd.DataFrame:
    """List every image whose label is not that of its group's first image; which of the two is wrong, a person says.

    Args and columns as in `list_duplicates`.
    """
    label = table["label"].fillna("").astype(str)
    is_other = (label != label.groupby(groups).transform("first")).to_numpy(np.int64)
    return _list_pairs(table, _pair_with_first(groups, is_other, hashes), hashes, thumbnails)


def _pair_with_first(groups: np.ndarray, keys: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Pair each member with another key than the smallest of its group with a member of that key, (n_pairs, 2).

    The same file is preferred to one that is nearly the same.
    """
    rows = pd.DataFrame({"group": groups, "key": keys, "hash": hashes, "position": np.arange(len(groups))})
    smallest = rows.groupby("group")["key"].transform("min")
    firsts, others = rows[rows["key"] == smallest], rows[rows["key"] != smallest]
    near = others["group"].map(firsts.groupby("group")["position"].min())
    of_hash = firsts.groupby(["group", "hash"])["position"].min()
    exact = of_hash.reindex(pd.MultiIndex.from_frame(others[["group", "hash"]])).to_numpy(float)
    twins = np.where(np.isnan(exact), near.to_numpy(float), exact)
    return np.stack([others["position"].to_numpy(np.int64), twins.astype(np.int64)], axis=1)


def _list_pairs(table: pd.DataFrame, pairs: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> pd.DataFrame:
    is_exact = hashes[pairs[:, 0]] == hashes[pairs[:, 1]]
    overlap = np.where(is_exact, 1.0, measure_overlap(thumbnails, pairs))
    facts = table.reindex(columns=["image", "split", "label"], fill_value="")
    image, twin = (facts.iloc[pairs[:, side]].reset_index(drop=True) for side in (0, 1))
    twin.columns = pd.Index(["twin", "twin_split", "twin_label"])
    measured = pd.DataFrame({"kind": np.where(is_exact, "exact", "near"), "overlap": overlap.round(3)})
    listed = pd.concat([image, twin, measured], axis=1)[_TWIN_COLUMNS]
    return listed.set_index(table.index[pairs[:, 0]])
