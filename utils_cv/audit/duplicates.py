"""Groups of nearly the same image among many, in much less than quadratic time. Arrays in, arrays out.

Images with similar codes of 64 bits are found through shared pieces of the codes; each such pair is then laid on top of
each other, mirrored or cropped as it may be, and kept when the cells of both go up and down together.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd

from utils_cv.data.image_table import SPLIT_NAMES

_TWIN_COLUMNS = ["image", "split", "label", "twin", "twin_split", "twin_label", "kind", "overlap"]
# Below this spread of brightness (standard deviation, of 255) a thumbnail is nearly flat and resembles every other.
MIN_CONTRAST = 4.0
# How well two thumbnails must fit to be nearly the same image. It lies between the best fit found among 480 different
# rendered images (0.85; among 398 photographs 0.55) and the worst 1 in 200 of copies cropped by 5 % (0.91). Recall and
# false alarms: benchmarks/audit_recall.py.
MIN_OVERLAP = 0.88
# Pairs whose features are similar as well (cosine 0.9 or more) need to fit only so far: copies cropped by 10 % or with
# burnt-out lights fit to 0.36 or better, and of 480 rendered images and 398
# photographs no two are that similar (0.87 and 0.82 at most).
MIN_OVERLAP_OF_SIMILAR = 0.3
_WHOLE = (0.0, 0.0, 1.0)
_STEP = 4096
# Of a large group already found, this many members are compared with parts of the other images: a static camera's
# thousands of nearly equal images would otherwise all be.
_N_STAND_FOR_ALL = 5
MAX_BITS = 12
_N_BANDS, _BAND_BITS = 4, 16
# More codes than this may share a band only where images are near copies by the hundred; few of the pairs will do then.
_MAX_BUCKET = 500
_MAX_PAIRS_AT_ONCE = 2_000_000
_MAX_PAIRS_PER_IMAGE = 50
THUMBNAIL_PX = 32
# Below this correlation of the whole images they cannot fit on parts of each other either, with very few exceptions.
_MIN_CORRELATION = 0.45
_GRID = 16
_SIDES_KEPT = (1.0, 0.95, 0.9, 0.85)
_N_STARTS = 3
_NEIGHBORHOOD = 5  # cells
_PAIRS_PER_STEP = 64  # larger steps leave the processor's cache and take several times as long


def find_duplicates(
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
        groups: (n,) from `find_duplicates`.
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
    rank = split.map({name: i for i, name in enumerate(SPLIT_NAMES)}).fillna(-1).to_numpy(np.int64)
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


def find_near_duplicates(
    thumbnails: np.ndarray, *, candidates: np.ndarray | None = None, min_overlap: float = MIN_OVERLAP
) -> tuple[np.ndarray, np.ndarray]:
    """Find images that are nearly the same: re-encoded, resized, brighter, cropped by 5 to 10 %, mirrored.

    Pairs that are already connected through others are not measured again, and of a large group five members stand
    for all, so thousands of copies of one image take little more time than different ones. Nearly flat images are
    left out: they would resemble each other.

    Args:
        thumbnails: (n, 32, 32) uint8: whole images, grey, squeezed into a square.
        candidates: (n_pairs, 2) pairs known to be similar, from `utils_cv.audit.duplicates.find_similar_features`. They
            need not fit as well as others.
        min_overlap: How well two must fit; see `utils_cv.audit.duplicates.measure_overlap`.

    Returns:
        Pairs (n_pairs, 2), the smaller position first, that connect every group; and how well they fit (n_pairs,).

    Example:
        >>> image = np.arange(1024, dtype=np.float32).reshape(32, 32) % 37 * 6
        >>> find_near_duplicates(np.stack([image, image[:, ::-1]]).astype(np.uint8))[0].tolist()
        [[0, 1]]
    """
    usable = np.flatnonzero(_measure_contrast(thumbnails) >= MIN_CONTRAST)
    links, overlaps = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    whole = usable[_find_candidates(thumbnails[usable], [_WHOLE])]
    links, overlaps = _extend_links(thumbnails, links, overlaps, whole, min_overlap)
    few = usable[_count_earlier(group_by_pairs(links, len(thumbnails))[usable]) < _N_STAND_FOR_ALL]
    others = few[_find_candidates(thumbnails[few], _list_parts())]
    links, overlaps = _extend_links(thumbnails, links, overlaps, others, min_overlap)
    if candidates is not None and len(candidates):
        similar = sort_pairs(candidates[np.isin(candidates, usable).all(axis=1)])
        links, overlaps = _extend_links(thumbnails, links, overlaps, similar, min(min_overlap, MIN_OVERLAP_OF_SIMILAR))
    return links, overlaps


def _extend_links(
    thumbnails: np.ndarray, links: np.ndarray, overlaps: np.ndarray, candidates: np.ndarray, min_overlap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the candidates that links do not connect yet, and add those that fit."""
    group = group_by_pairs(links, len(thumbnails))
    for begin in range(0, len(candidates), _STEP):
        some = candidates[begin : begin + _STEP]
        some = some[group[some[:, 0]] != group[some[:, 1]]]
        overlap = measure_overlap(thumbnails, some)
        fits = overlap >= min_overlap
        if fits.any():
            links, overlaps = np.concatenate([links, some[fits]]), np.concatenate([overlaps, overlap[fits]])
            group = group_by_pairs(links, len(thumbnails))
    return links, overlaps


def _count_earlier(group: np.ndarray) -> np.ndarray:
    """Count for each member how many of its group come before it."""
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])
    count = np.empty(len(group), np.int64)
    count[order] = np.arange(len(group)) - first
    return count


def group_by_pairs(pairs: np.ndarray, n: int) -> np.ndarray:
    """Number the groups that pairs connect.

    Args:
        pairs: (n_pairs, 2) positions from 0 to `n` - 1.
        n: How many things there are.

    Returns:
        (n,) number of the group of each; without a pair it is a group of its own.

    Example:
        >>> group_by_pairs(np.array([[0, 2], [2, 3]]), 5).tolist()
        [0, 1, 0, 0, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = np.asarray(pairs, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def compute_hash_codes(thumbnails: np.ndarray, part: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> np.ndarray:
    """Compute the difference hash of a part of each thumbnail (Krawetz, "Kind of Like That", 2013).

    A bit says whether one of 9 × 8 grey cells is brighter than its left neighbor.

    Args:
        thumbnails: (n, 32, 32) uint8, grey.
        part: Its left and upper edge and its side, as fractions of the whole.

    Returns:
        (n,) uint64.
    """
    left, top, side = part
    down, across = make_resampling(top, top + side, 8), make_resampling(left, left + side, 9)
    codes = np.empty(len(thumbnails), np.uint64)
    for begin in range(0, len(thumbnails), _STEP):
        cells = down @ thumbnails[begin : begin + _STEP].astype(np.float32) @ across.T  # (n, 8, 9)
        # A clear step is asked for: rounding would decide about equal cells of a plain background.
        bits = cells[:, :, 1:] > cells[:, :, :-1] + 0.5
        codes[begin : begin + _STEP] = pack_bits(bits.reshape(len(bits), 64))
    return codes


def _measure_contrast(thumbnails: np.ndarray) -> np.ndarray:
    steps = [thumbnails[begin : begin + _STEP] for begin in range(0, len(thumbnails), _STEP)]
    return np.concatenate([np.empty(0, np.float32), *(step.std(axis=(1, 2), dtype=np.float32) for step in steps)])


def _find_candidates(thumbnails: np.ndarray, parts: list[tuple[float, float, float]]) -> np.ndarray:
    """Find pairs in which the code of a part of one image, or of its mirror image, is like that of the whole other."""
    codes = compute_hash_codes(thumbnails)
    mirrored = thumbnails[:, :, ::-1]
    pairs = [
        sort_pairs(find_similar_codes(compute_hash_codes(images, part), codes))
        for part in parts
        for images in (thumbnails, mirrored)
    ]
    return sort_pairs(np.concatenate(pairs))


def _list_parts() -> list[tuple[float, float, float]]:
    """List the whole, and the middle and the corners of 95 % and of 90 % of it."""
    parts = [_WHOLE]
    for side in (0.95, 0.9):
        rest = 1 - side
        parts += [(left, top, side) for left in (0.0, rest) for top in (0.0, rest)] + [(rest / 2, rest / 2, side)]
    return parts


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


@cache
def make_resampling(start: float, stop: float, n_cells: int) -> np.ndarray:
    """Matrix (n_cells, THUMBNAIL_PX) that averages the part from `start` to `stop` of a line of pixels into cells."""
    edges = np.linspace(start, stop, n_cells + 1) * THUMBNAIL_PX
    pixels = np.arange(THUMBNAIL_PX)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def measure_overlap(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Measure how well one image of each pair fits on the other, or on a part of it, perhaps mirrored.

    Every part of 85 to 100 % of the width and of the height is tried, from one image on the other and the other way.
    Brightness and contrast do not matter. Where it fits best, the cells must go up and down together and so must
    their differences from their neighborhood: two photographs of a bright wall above a dark table agree in the
    first, only copies in both.

    Args:
        thumbnails: (n, 32, 32) uint8, grey.
        pairs: (n_pairs, 2) positions in `thumbnails`.

    Returns:
        (n_pairs,) the smaller of the two correlations, from -1 to 1.
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
    full = make_resampling(0.0, 1.0, _GRID)
    return full @ thumbnails @ full.T


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (_standardize(a) * _standardize(b)).sum(axis=(1, 2))


def _standardize(cells: np.ndarray) -> np.ndarray:
    centered = cells - cells.mean(axis=(1, 2), keepdims=True)
    return centered / np.maximum(np.linalg.norm(centered, axis=(1, 2), keepdims=True), 1e-3)


@cache
def _make_windows() -> np.ndarray:
    """Resampling (n_windows * _GRID, THUMBNAIL_PX) of one axis to every part that is tried."""
    parts = []
    for kept in _SIDES_KEPT:
        starts = np.linspace(0, 1 - kept, 1 if kept == 1.0 else _N_STARTS)
        parts += [make_resampling(start, start + kept, _GRID) for start in starts]
    return np.concatenate(parts)


@cache
def _make_local_mean() -> np.ndarray:
    """Matrix (_GRID, _GRID) that averages each cell of a line with its neighbors."""
    cells = np.arange(_GRID)
    near = np.abs(cells[:, None] - cells) <= _NEIGHBORHOOD // 2
    return (near / near.sum(axis=1, keepdims=True)).astype(np.float32)


def _subtract_neighborhood(cells: np.ndarray) -> np.ndarray:
    local_mean = _make_local_mean()
    return cells - local_mean @ cells @ local_mean.T


def _fit_on_parts(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    windows = _make_windows()
    n, n_windows = len(whole), len(windows) // _GRID
    # One window of columns at a time, and no product above 2**18 multiplications: on larger ones OpenBLAS starts its
    # threads, which then wait for each other longer than they work (20 times slower on a busy machine).
    lines = windows @ whole  # (n, n_windows * _GRID, THUMBNAIL_PX)
    columns = windows.reshape(n_windows, _GRID, THUMBNAIL_PX).transpose(0, 2, 1)
    cells = np.stack([(lines @ column).reshape(n, n_windows, _GRID**2) for column in columns], axis=2)
    cells = cells.reshape(n, n_windows**2, _GRID**2)
    shrunk = _shrink(part)
    target = _standardize(shrunk).reshape(n, _GRID**2)
    spread = np.einsum("nwc,nwc->nw", cells, cells) - _GRID**2 * cells.mean(axis=2) ** 2
    correlations = np.einsum("nwc,nc->nw", cells, target) / np.sqrt(np.maximum(spread, 1e-3))  # (n, n_windows**2)
    best = correlations.argmax(axis=1)
    best_cells = cells[np.arange(n), best].reshape(n, _GRID, _GRID)
    detail = _correlate(_subtract_neighborhood(best_cells), _subtract_neighborhood(shrunk))
    return np.minimum(correlations[np.arange(n), best], detail)
