"""Pairs of similar 64-bit codes, or of similar feature vectors, without comparing all with all: arrays in and out."""

from collections.abc import Iterator

import numpy as np

MAX_BITS = 12
_N_BANDS, _BAND_BITS = 4, 16
# More codes than this may share a band only where images are near copies by the hundred; few of the pairs will do then.
_MAX_BUCKET = 500
_MAX_PAIRS_AT_ONCE = 2_000_000
_MAX_PAIRS_PER_IMAGE = 50


def find_similar_codes(queries: np.ndarray, codes: np.ndarray, *, max_bits: int = MAX_BITS) -> np.ndarray:
    """Find pairs of codes that differ in few bits, without comparing all with all.

    The 64 bits are dealt into 4 bands of 16. Codes that differ in at most 7 bits share one band up to a single bit, so
    all such pairs are found; of pairs that differ in more, a part. Of a query the nearest 50 are kept, and where more
    than 500 codes share a band, only those nearest in the order of their bits are compared. Memory grows with the
    number of codes, not of pairs.

    Args:
        queries: (n,) uint64.
        codes: (n,) uint64, of the same images.
        max_bits: Pairs that differ in more bits are left out.

    Returns:
        (n_pairs, 2) positions in `queries` and in `codes`, never the same image twice, without repeats.

    Source:
        Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", 2012.
    """
    nearest = np.empty((0, 3), np.int64)  # query, bits that differ, code
    waiting = [nearest]
    for band in range(_N_BANDS):
        moved, wanted = _bring_band_to_front(codes, band), _bring_band_to_front(queries, band)
        order = np.argsort(moved)
        in_order = moved[order]
        edges = np.searchsorted(in_order >> np.uint64(48), np.arange(2**_BAND_BITS + 1, dtype=np.uint64))
        for flipped in [0, *(1 << bit for bit in range(_BAND_BITS))]:
            first, last = _find_bucket(wanted ^ np.uint64(flipped << 48), in_order, edges)
            for rows, places in _expand(first, last):
                columns = order[places]
                bits = np.bitwise_count(queries[rows] ^ codes[columns])
                near = (bits <= max_bits) & (rows != columns)
                waiting.append(np.stack([rows[near], bits[near], columns[near]], axis=1))
                if sum(map(len, waiting)) > _MAX_PAIRS_AT_ONCE + len(nearest):
                    nearest = _keep_nearest(np.concatenate([nearest, *waiting]))
                    waiting = []
    return _keep_nearest(np.concatenate([nearest, *waiting]))[:, [0, 2]]


def _keep_nearest(found: np.ndarray) -> np.ndarray:
    found = np.unique(found, axis=0)  # sorted by query, then by bits
    starts = np.searchsorted(found[:, 0], found[:, 0])
    return found[np.arange(len(found)) - starts < _MAX_PAIRS_PER_IMAGE]


def find_similar_features(features: np.ndarray, *, min_cosine: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Find pairs of similar feature vectors without comparing all with all.

    Args:
        features: (n, d) floats, for example from a pretrained backbone.
        min_cosine: Least cosine of the angle between two vectors.

    Returns:
        Pairs (n_pairs, 2), the smaller position first, and their cosines (n_pairs,). Some 1 % of the pairs are missed.
    """
    features = np.asarray(features, np.float32)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    found = [find_similar_codes(codes, codes, max_bits=24) for codes in compute_sign_codes(unit)]
    pairs = sort_pairs(np.concatenate(found))
    cosines = np.empty(len(pairs), np.float32)
    for begin in range(0, len(pairs), 10_000):
        some = pairs[begin : begin + 10_000]
        cosines[begin : begin + 10_000] = np.einsum("nd,nd->n", unit[some[:, 0]], unit[some[:, 1]])
    return pairs[cosines >= min_cosine], cosines[cosines >= min_cosine]


def compute_sign_codes(features: np.ndarray, *, n_codes: int = 4, seed: int = 0) -> np.ndarray:
    """Turn feature vectors into codes whose differing bits count the angle between them (random hyperplanes).

    Args:
        features: (n, d) floats; their mean is subtracted.
        n_codes: Codes of 64 bits for each image; more find more of the moderately similar pairs.
        seed: Of the random directions.

    Returns:
        (n_codes, n) uint64.

    Source:
        Charikar, "Similarity estimation techniques from rounding algorithms", 2002.
    """
    directions = np.random.default_rng(seed).normal(size=(features.shape[1], 64 * n_codes)).astype(np.float32)
    bits = (features - features.mean(axis=0)) @ directions > 0
    return np.ascontiguousarray(pack_bits(bits.reshape(len(bits), n_codes, 64)).T)


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Turn (..., 64) bits into (...) uint64."""
    return np.ascontiguousarray(np.packbits(bits, axis=-1)).view(">u8")[..., 0].astype(np.uint64)


def sort_pairs(pairs: np.ndarray) -> np.ndarray:
    """Put the smaller position of each pair (n_pairs, 2) first, sort the pairs, and drop repeats."""
    return np.unique(np.sort(pairs, axis=1), axis=0) if len(pairs) else pairs.reshape(0, 2)


def _bring_band_to_front(codes: np.ndarray, band: int) -> np.ndarray:
    """Reorder bits so that every fourth one, from `band` on, comes first: neighbours in an image are often alike."""
    bits = np.unpackbits(codes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)  # (n, 64)
    places = np.argsort((np.arange(64) * 29 + 16 * band) % 64)  # 29 is odd: every place once, far from its neighbours
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
