"""Pairs of similar codes of 64 bits among many, without comparing all with all. Arrays in, arrays out."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

_MAX_BITS = 14  # codes that differ in more of their 64 bits are not compared further
_N_BANDS, _BAND_BITS = 4, 16
# More codes than this may share a band only where images are near copies by the hundred; few of the pairs will do then.
_MAX_BUCKET = 500
_MAX_PAIRS_AT_ONCE = 2_000_000
_MAX_PAIRS_PER_IMAGE = 50


def make_index(codes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Sort codes by each band: positions, the codes with that band in front, and where each value of it begins."""
    index = []
    for band in range(_N_BANDS):
        moved = _bring_band_to_front(codes, band)
        order = np.argsort(moved)
        counts = np.bincount((moved >> np.uint64(48)).astype(np.int64), minlength=2**_BAND_BITS)
        index.append((order, moved[order], np.concatenate([[0], np.cumsum(counts)])))
    return index


def find_similar_codes(queries: np.ndarray, index: list[tuple]) -> np.ndarray:
    """Find pairs of codes, (n,) uint64, that differ in at most 14 bits: (n_pairs, 2), never the same image.

    All that differ in at most 7 share one of 4 bands up to a bit; of others a part (Norouzi, Punjani and Fleet 2012).
    """
    nearest, waiting = np.empty((0, 3), np.int64), []  # query, bits that differ, code
    for rows, bits, columns in _propose_pairs(queries, index):
        is_near = (bits <= _MAX_BITS) & (rows != columns)
        waiting.append(np.stack([rows[is_near], bits[is_near], columns[is_near]], axis=1))
        if sum(map(len, waiting)) > _MAX_PAIRS_AT_ONCE:
            nearest, waiting = _keep_nearest([nearest, *waiting]), []
    return _keep_nearest([nearest, *waiting])[:, [0, 2]]


def _keep_nearest(found: list[np.ndarray]) -> np.ndarray:
    pairs = np.unique(np.concatenate(found), axis=0)  # sorted by query, then by bits
    return pairs[pd.Series(pairs[:, 0]).groupby(pairs[:, 0]).cumcount() < _MAX_PAIRS_PER_IMAGE]


def _propose_pairs(queries: np.ndarray, index: list[tuple]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Give queries, bits that differ, and codes that share a band up to one bit, a bounded number at a time."""
    for band, (order, in_order, edges) in enumerate(index):
        wanted = _bring_band_to_front(queries, band)
        for flipped in [0, *(1 << bit for bit in range(_BAND_BITS))]:
            first, last = _find_bucket(wanted ^ np.uint64(flipped << 48), in_order, edges)
            for rows, places in _expand(first, last):
                yield rows, np.bitwise_count(wanted[rows] ^ in_order[places]), order[places]


def _bring_band_to_front(codes: np.ndarray, band: int) -> np.ndarray:
    """Reorder bits so that every fourth one, from `band` on, comes first: neighbors in an image are often alike."""
    bits = np.unpackbits(codes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)  # (n, 64)
    places = np.argsort((np.arange(64) * 29 + 16 * band) % 64)  # 29 is odd: every place once, far from its neighbors
    return pack_bits(bits[:, places])


def _find_bucket(wanted: np.ndarray, in_order: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    band = (wanted >> np.uint64(48)).astype(np.int64)
    first, last = edges[band], edges[band + 1]
    crowded = np.flatnonzero(last - first > _MAX_BUCKET)
    if len(crowded):
        nearest = np.searchsorted(in_order, wanted[crowded])
        first[crowded] = np.maximum(first[crowded], nearest - _MAX_BUCKET // 2)
        last[crowded] = np.minimum(last[crowded], nearest + _MAX_BUCKET // 2)
    return first, last


def _expand(first: np.ndarray, last: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """List the places from `first` to `last` of every row, a bounded number at a time."""
    counts = last - first
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + _MAX_PAIRS_AT_ONCE, side="right")))
        some = counts[begin:stop]
        rows = np.repeat(np.arange(begin, stop), some)
        within = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
        yield rows, np.repeat(first[begin:stop], some) + within
        begin = stop


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Pack bits (n, 64) into codes (n,) uint64."""
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(">u8")[:, 0].astype(np.uint64)
