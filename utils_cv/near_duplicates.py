"""Pairs of nearly the same image among many, in much less than quadratic time. Arrays in, arrays out.

Images with similar codes of 64 bits are found through shared pieces of the codes; each such pair is then laid on top of
each other, mirrored or cropped as it may be, and kept when the brightness of its cells goes up and down together.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

THUMBNAIL_PX = 32
# Below this spread of brightness (standard deviation, of 255) a thumbnail is nearly flat and resembles every other.
MIN_CONTRAST = 4.0

# How well two thumbnails must fit to be nearly the same image. Of 8,000 pairs of unrelated photographs the best fitted
# to 0.91, one in 10,000 above 0.84; copies with 5 % of the width and height cut off are above 0.93 in 99.7 % of cases.
MIN_OVERLAP = 0.93

_N_BANDS, _BAND_BITS = 4, 16
_MAX_BITS = 12
_MAX_BUCKET = 2_000
_MAX_PAIRS_AT_ONCE = 2_000_000
_MAX_PAIRS_PER_IMAGE = 50
# Below this plain correlation two thumbnails cannot fit on parts of each other either, with very few exceptions.
_MIN_CORRELATION = 0.45
_GRID = 16
_SIDES_KEPT = (1.0, 0.95, 0.9, 0.85)
_N_STARTS = 3
_PAIRS_PER_STEP = 64  # larger steps leave the processor's cache and take several times as long


@cache
def _make_resampling(start: float, stop: float, n_cells: int) -> np.ndarray:
    """Matrix (n_cells, THUMBNAIL_PX) that averages the part from `start` to `stop` of a line of pixels into cells."""
    edges = np.linspace(start, stop, n_cells + 1) * THUMBNAIL_PX
    pixels = np.arange(THUMBNAIL_PX)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def compute_hash_codes(thumbnails: np.ndarray, part: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> np.ndarray:
    """Compute the difference hash of a part of each thumbnail; see `utils_cv.images.difference_hash`.

    Args:
        thumbnails: (n, 32, 32) uint8, grey.
        part: Its left and upper edge and its side, as fractions of the whole.

    Returns:
        (n,) uint64.
    """
    left, top, side = part
    down, across = _make_resampling(top, top + side, 8), _make_resampling(left, left + side, 9)
    cells = down @ thumbnails.astype(np.float32) @ across.T  # (n, 8, 9)
    # A clear step is asked for: rounding would decide about equal cells of a plain background.
    bits = cells[:, :, 1:] > cells[:, :, :-1] + 0.5
    return _pack(bits.reshape(len(bits), 64))


def _pack(bits: np.ndarray) -> np.ndarray:
    """Turn (..., 64) bits into (...) uint64."""
    return np.ascontiguousarray(np.packbits(bits, axis=-1)).view(">u8")[..., 0].astype(np.uint64)


def find_near_duplicates(
    thumbnails: np.ndarray, *, candidates: np.ndarray | None = None, min_overlap: float = MIN_OVERLAP
) -> tuple[np.ndarray, np.ndarray]:
    """Find images that are nearly the same: re-encoded, resized, brighter, cropped by some 10 %, mirrored.

    Pairs that are already connected through others are not measured again, so thousands of copies of one image take
    no more time than thousands of different ones. Nearly flat images are left out: they would resemble each other.

    Args:
        thumbnails: (n, 32, 32) uint8: whole images, grey, squeezed into a square.
        candidates: (n_pairs, 2) more pairs to measure, for example from `find_similar_features`.
        min_overlap: How well two must fit; see `measure_overlap`.

    Returns:
        Pairs (n_pairs, 2), the smaller position first, that connect every group; and how well they fit (n_pairs,).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(thumbnails)
    usable = np.flatnonzero(thumbnails.std(axis=(1, 2)) >= MIN_CONTRAST)
    pairs = usable[_find_candidates(thumbnails[usable])]
    if candidates is not None and len(candidates):
        pairs = _sort_pairs(np.concatenate([pairs, candidates[np.isin(candidates, usable).all(axis=1)]]))
    group = np.arange(n)
    found, overlaps = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for begin in range(0, len(pairs), 4096):
        some = pairs[begin : begin + 4096]
        some = some[group[some[:, 0]] != group[some[:, 1]]]
        overlap = measure_overlap(thumbnails, some)
        found.append(some[overlap >= min_overlap])
        overlaps.append(overlap[overlap >= min_overlap])
        if len(found[-1]):
            links = np.concatenate(found)
            group = connected_components(coo_array((np.ones(len(links)), links.T), shape=(n, n)), directed=False)[1]
    return np.concatenate(found), np.concatenate(overlaps)


def _find_candidates(thumbnails: np.ndarray) -> np.ndarray:
    """Find pairs in which the code of one whole image is like that of the other, its mirror image, or a part of it."""
    codes = compute_hash_codes(thumbnails)
    mirrored = thumbnails[:, :, ::-1]
    pairs = [
        find_similar_codes(compute_hash_codes(images, part), codes)
        for part in _list_parts()
        for images in (thumbnails, mirrored)
    ]
    return _sort_pairs(np.concatenate(pairs))


def _list_parts() -> list[tuple[float, float, float]]:
    """List the whole, and the middle and the corners of 95 % and of 90 % of it."""
    parts = [(0.0, 0.0, 1.0)]
    for side in (0.95, 0.9):
        rest = 1 - side
        parts += [(left, top, side) for left in (0.0, rest) for top in (0.0, rest)] + [(rest / 2, rest / 2, side)]
    return parts


def _sort_pairs(pairs: np.ndarray) -> np.ndarray:
    return np.unique(np.sort(pairs, axis=1), axis=0) if len(pairs) else pairs.reshape(0, 2)


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
    pairs = _sort_pairs(np.concatenate(found))
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
    return np.ascontiguousarray(_pack(bits.reshape(len(bits), n_codes, 64)).T)


def find_similar_codes(queries: np.ndarray, codes: np.ndarray, *, max_bits: int = _MAX_BITS) -> np.ndarray:
    """Find pairs of codes that differ in few bits, without comparing all with all.

    The 64 bits are dealt into 4 bands of 16. Codes that differ in at most 7 bits share one band up to a single bit, so
    all such pairs are found; of pairs that differ in more, a part. Of a query the nearest 50 are kept, and where more
    than 2,000 codes share a band, only those nearest in the order of their bits are compared.

    Args:
        queries: (n,) uint64.
        codes: (n,) uint64, of the same images.
        max_bits: Pairs that differ in more bits are left out.

    Returns:
        (n_pairs, 2) positions in `queries` and in `codes`, never the same image twice, without repeats.

    Source:
        Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", 2012.
    """
    n = len(codes)
    found = [np.empty((0, 3), np.int64)]
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
                found.append(np.stack([rows[near], bits[near], columns[near]], axis=1))
    nearest = np.unique(np.concatenate(found), axis=0) if n else found[0]  # sorted by query, then by bits
    starts = np.searchsorted(nearest[:, 0], nearest[:, 0])
    return nearest[np.arange(len(nearest)) - starts < _MAX_PAIRS_PER_IMAGE][:, [0, 2]]


def _bring_band_to_front(codes: np.ndarray, band: int) -> np.ndarray:
    """Reorder bits so that every fourth one, from `band` on, comes first: neighbours in an image are often alike."""
    bits = np.unpackbits(codes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)  # (n, 64)
    places = np.argsort((np.arange(64) * 29 + 16 * band) % 64)  # 29 is odd: every place once, far from its neighbours
    return _pack(bits[:, places])


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


def measure_overlap(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Measure how well one image of each pair fits on the other, or on a part of it, perhaps mirrored.

    Every part of 85 to 100 % of the width and of the height is tried, from one image on the other and the other way.
    Brightness and contrast do not matter.

    Args:
        thumbnails: (n, 32, 32) uint8, grey.
        pairs: (n_pairs, 2) positions in `thumbnails`.

    Returns:
        (n_pairs,) best correlation of the cells, from -1 to 1.
    """
    best = np.full(len(pairs), -1.0, np.float32)
    for begin in range(0, len(pairs), _PAIRS_PER_STEP):
        a, b = (thumbnails[pairs[begin : begin + _PAIRS_PER_STEP, side]].astype(np.float32) for side in (0, 1))
        mirrored = b[:, :, ::-1]
        straight, turned = (_correlate(_shrink(a), _shrink(other)) for other in (b, mirrored))
        b = np.where((turned > straight)[:, None, None], mirrored, b)
        fit = np.maximum(straight, turned)
        worth = fit >= _MIN_CORRELATION
        fit[worth] = np.maximum(_fit_on_parts(a[worth], b[worth]), _fit_on_parts(b[worth], a[worth]))
        best[begin : begin + _PAIRS_PER_STEP] = fit
    return best


def _shrink(thumbnails: np.ndarray) -> np.ndarray:
    full = _make_resampling(0.0, 1.0, _GRID)
    return full @ thumbnails @ full.T


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (_standardise(a) * _standardise(b)).sum(axis=(1, 2))


def _standardise(cells: np.ndarray) -> np.ndarray:
    centred = cells - cells.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=(1, 2), keepdims=True), 1e-3)


@cache
def _make_windows() -> np.ndarray:
    """Resampling (n_windows * _GRID, THUMBNAIL_PX) of one axis to every part that is tried."""
    parts = []
    for kept in _SIDES_KEPT:
        starts = np.linspace(0, 1 - kept, 1 if kept == 1.0 else _N_STARTS)
        parts += [_make_resampling(start, start + kept, _GRID) for start in starts]
    return np.concatenate(parts)


def _fit_on_parts(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    windows = _make_windows()
    n, n_windows = len(whole), len(windows) // _GRID
    cells = windows @ whole @ windows.T  # every part in one product: (n, n_windows * _GRID, n_windows * _GRID)
    cells = cells.reshape(n, n_windows, _GRID, n_windows, _GRID).transpose(0, 1, 3, 2, 4)
    cells = cells.reshape(n, n_windows**2, _GRID**2)
    target = _standardise(_shrink(part)).reshape(n, _GRID**2, 1)
    n_cells = _GRID**2
    spread = np.einsum("nwc,nwc->nw", cells, cells) - n_cells * cells.mean(axis=2) ** 2
    return ((cells @ target)[:, :, 0] / np.sqrt(np.maximum(spread, 1e-3))).max(axis=1)
