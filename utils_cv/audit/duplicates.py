"""Groups of the same or nearly the same image among many, in much less than quadratic time. Arrays in, arrays out.

Images with similar codes of 64 bits are found through shared pieces of the codes. Each such pair is then laid on top
of each other, mirrored or cropped as it may be, and kept when the cells of both get brighter and darker together.
By hand, because imagehash, imagededup and cleanvision find neither crops nor mirror images.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd

THUMBNAIL_PX = 32
# Below this spread of brightness (standard deviation, of 255) a thumbnail is nearly flat and resembles every other.
MIN_CONTRAST = 4.0
# How well two thumbnails must fit to be near duplicates. It lies between the best fit found among 480 different
# rendered images (0.85; among 398 photographs 0.55) and the worst 1 in 200 of copies cropped by 5 % (0.91). Recall and
# false alarms: benchmarks/audit_recall.py.
MIN_OVERLAP = 0.88
MIN_TURNED_OVERLAP = 0.88  # of the middles of two images, one turned
MAX_BITS = 12  # codes that differ in more of their 64 bits are not compared further
# Of a large group already found, this many members are compared with parts of the other images: a static camera's
# thousands of nearly equal images would otherwise all be.
_N_STAND_FOR_ALL = 5
_TURNS = (-25.0, -12.0, 12.0, 25.0)  # degrees that candidates are looked for at
_MIN_TURNED_CORRELATION = 0.4  # at the nearest of these angles; below it no angle nearby fits
_FINE_TURNS = (0.0, -2.5, 2.5, -5.0, 5.0)  # from each of them
_TURNED_SIDE = 0.6  # of width and height: what stays inside of an image when it is turned
_WHOLE = (0.0, 0.0, 1.0)  # left and upper edge and side of a part, as fractions of the whole
_STEP = 4096
_N_BANDS, _BAND_BITS = 4, 16
# More codes than this may share a band only where images are near copies by the hundred; few of the pairs will do then.
_MAX_BUCKET = 500
_MAX_PAIRS_AT_ONCE = 2_000_000
_MAX_PAIRS_PER_IMAGE = 50
# Below this correlation of the whole images they cannot fit on parts of each other either, with very few exceptions.
_MIN_CORRELATION = 0.3
_GRID = 16
_SIDES_KEPT, _N_STARTS = (1.0, 0.94, 0.88), 6
_PAIRS_PER_STEP = 64  # larger steps leave the processor's cache and take several times as long


def find_duplicates(hashes: np.ndarray, thumbnails: np.ndarray, aspects: np.ndarray) -> np.ndarray:
    """Number the groups (n,) of images that are the same file, re-encoded, brighter, cropped, mirrored or turned.

    Takes the hash (n,) of each file, empty where it cannot be opened, gray thumbnails (n, 32, 32) uint8, and each
    image's width / height (n,).
    """
    positions = np.arange(len(hashes))
    first = pd.Series(positions).groupby(hashes).transform("min").to_numpy()
    is_open = hashes != ""
    exact = np.stack([first, positions], axis=1)[is_open]
    different = np.flatnonzero(is_open & (first == positions))
    near = different[_find_near_duplicates(thumbnails[different], aspects[different])]
    return group_by_pairs(np.concatenate([exact, near]), len(hashes))


def list_pairs(
    table: pd.DataFrame,
    groups: np.ndarray,
    keys: np.ndarray,
    hashes: np.ndarray,
    thumbnails: np.ndarray,
    aspects: np.ndarray,
) -> pd.DataFrame:
    """List each image whose key is not the smallest of its group, beside a duplicate that has the smallest key.

    That is the same file where there is one, else the first in the table. Columns: `image`, `split`, `label`, those
    of its `duplicate`, `kind` ("exact" or "near") and `overlap`, see `_measure_overlap`. The index is that of `table`.
    """
    rows = pd.DataFrame({"group": groups, "key": keys, "hash": hashes, "position": np.arange(len(groups))})
    is_first = rows["key"] == rows.groupby("group")["key"].transform("min")
    firsts, others = rows[is_first], rows[~is_first]
    near = others["group"].map(firsts.groupby("group")["position"].min())
    same_file = firsts.groupby(["group", "hash"])["position"].min().rename("same_file")
    exact = others.join(same_file, on=["group", "hash"])["same_file"]
    pairs = np.stack([others["position"], exact.fillna(near)], axis=1).astype(np.int64)
    is_exact = exact.notna().to_numpy()
    overlap = np.where(is_exact, 1.0, _measure_overlap(thumbnails, pairs))
    low = np.flatnonzero(overlap < MIN_OVERLAP)
    for degrees in _TURNS:
        overlap[low] = np.maximum(overlap[low], _measure_turned(thumbnails, aspects, pairs[low], degrees))
    overlap = overlap.round(3)
    facts = table.reindex(columns=["image", "split", "label"], fill_value="")
    image, duplicate = (facts.iloc[pairs[:, side]].reset_index(drop=True) for side in (0, 1))
    duplicate.columns = pd.Index(["duplicate", "duplicate_split", "duplicate_label"])
    measured = pd.DataFrame({"kind": np.where(is_exact, "exact", "near"), "overlap": overlap})
    return pd.concat([image, duplicate, measured], axis=1).set_index(table.index[pairs[:, 0]])


def _find_near_duplicates(thumbnails: np.ndarray, aspects: np.ndarray) -> np.ndarray:
    """Find pairs (n_pairs, 2) that connect all images which are nearly the same.

    Pairs that are already connected through others are not measured again, and of a large group five members stand
    for all, so thousands of copies of one image take little more time than different ones. Nearly flat images are
    left out: they would resemble each other.
    """
    usable = np.flatnonzero([thumbnail.std() >= MIN_CONTRAST for thumbnail in thumbnails])
    pairs = _extend_pairs(thumbnails, np.empty((0, 2), np.int64), usable, [_WHOLE])
    groups = group_by_pairs(pairs, len(thumbnails))[usable]
    few = usable[pd.Series(groups).groupby(groups).cumcount() < _N_STAND_FOR_ALL]
    pairs = _extend_pairs(thumbnails, pairs, few, _list_parts())
    return np.concatenate([pairs, _find_turned(thumbnails, aspects, few)])


def _extend_pairs(thumbnails: np.ndarray, pairs: np.ndarray, rows: np.ndarray, parts: list[tuple]) -> np.ndarray:
    """Add to the pairs those of `rows` that fit and are not connected yet."""
    candidates = rows[_find_candidates(thumbnails[rows], parts)]
    groups = group_by_pairs(pairs, len(thumbnails))
    for begin in range(0, len(candidates), _STEP):
        some = candidates[begin : begin + _STEP]
        some = some[groups[some[:, 0]] != groups[some[:, 1]]]
        pairs = np.concatenate([pairs, some[_measure_overlap(thumbnails, some) >= MIN_OVERLAP]])
        groups = group_by_pairs(pairs, len(thumbnails))
    return pairs


def _find_candidates(thumbnails: np.ndarray, parts: list[tuple]) -> np.ndarray:
    """Find pairs in which the code of a part of one image, or of its mirror image, is like that of the whole other."""
    codes = _compute_codes(thumbnails, _WHOLE)
    pairs = [
        _sort_pairs(_find_similar_codes(_compute_codes(images, part), codes))
        for part in parts
        for images in (thumbnails, thumbnails[:, :, ::-1])
    ]
    if len(parts) > 1:  # upside down, and turned by half
        for images in (thumbnails[:, ::-1], thumbnails[:, ::-1, ::-1]):
            pairs.append(_sort_pairs(_find_similar_codes(_compute_codes(images, _WHOLE), codes)))
    return _sort_pairs(np.concatenate(pairs))


def _list_parts() -> list[tuple]:
    """List the whole, and nine parts of 90 % of its width and height."""
    side = 0.9
    starts = (0.0, (1 - side) / 2, 1 - side)
    return [_WHOLE, *((left, top, side) for left in starts for top in starts)]


def _sort_pairs(pairs: np.ndarray) -> np.ndarray:
    """Put the smaller position of each pair first, sort the pairs, and drop repeats."""
    return np.unique(np.sort(pairs, axis=1), axis=0)


def group_by_pairs(pairs: np.ndarray, n: int) -> np.ndarray:
    """Number the groups (n,) that pairs (n_pairs, 2) of positions connect; one without a pair is its own group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def _compute_codes(thumbnails: np.ndarray, part: tuple[float, float, float]) -> np.ndarray:
    """Difference hash (Krawetz 2013) of a part of each thumbnail, (n,) uint64: where its cells get brighter."""
    left, top, side = part
    down, across = _make_resampling(top, top + side, 8), _make_resampling(left, left + side, 9)
    codes = np.empty(len(thumbnails), np.uint64)
    for begin in range(0, len(thumbnails), _STEP):
        cells = down @ thumbnails[begin : begin + _STEP].astype(np.float32) @ across.T  # (n, 8, 9)
        # A clear step is asked for: rounding would decide about equal cells of a plain background.
        bits = cells[:, :, 1:] > cells[:, :, :-1] + 0.5
        codes[begin : begin + _STEP] = _pack_bits(bits.reshape(len(bits), 64))
    return codes


def _pack_bits(bits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(">u8")[:, 0].astype(np.uint64)


def _find_similar_codes(queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Find pairs of codes that differ in at most 12 bits, without comparing all with all.

    The 64 bits are dealt into 4 bands of 16. Codes that differ in at most 7 bits share one band up to a single bit, so
    all such pairs are found; of pairs that differ in more, a part. Of a query the nearest 50 are kept, and where more
    than 500 codes share a band, only those nearest in the order of their bits are compared. Memory grows with the
    number of codes, not of pairs.

    Takes two codes of each image, (n,) uint64. Returns positions in `queries` and in `codes`, (n_pairs, 2), never the
    same image twice, without repeats. Source: Norouzi, Punjani and Fleet, "Fast search in Hamming space with
    multi-index hashing", 2012.
    """
    nearest, waiting = np.empty((0, 3), np.int64), []  # query, bits that differ, code
    for rows, columns in _propose_pairs(queries, codes):
        bits = np.bitwise_count(queries[rows] ^ codes[columns])
        is_near = (bits <= MAX_BITS) & (rows != columns)
        waiting.append(np.stack([rows, bits, columns], axis=1)[is_near])
        if sum(map(len, waiting)) > _MAX_PAIRS_AT_ONCE:
            nearest, waiting = _keep_nearest([nearest, *waiting]), []
    return _keep_nearest([nearest, *waiting])[:, [0, 2]]


def _keep_nearest(found: list[np.ndarray]) -> np.ndarray:
    pairs = np.unique(np.concatenate(found), axis=0)  # sorted by query, then by bits
    return pairs[pd.Series(pairs[:, 0]).groupby(pairs[:, 0]).cumcount() < _MAX_PAIRS_PER_IMAGE]


def _propose_pairs(queries: np.ndarray, codes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give positions of queries and of codes that share a band up to one bit, a bounded number at a time."""
    for band in range(_N_BANDS):
        moved, wanted = _bring_band_to_front(codes, band), _bring_band_to_front(queries, band)
        order = np.argsort(moved)
        in_order = moved[order]
        edges = np.searchsorted(in_order >> np.uint64(48), np.arange(2**_BAND_BITS + 1, dtype=np.uint64))
        for flipped in [0, *(1 << bit for bit in range(_BAND_BITS))]:
            first, last = _find_bucket(wanted ^ np.uint64(flipped << 48), in_order, edges)
            for rows, places in _expand(first, last):
                yield rows, order[places]


def _bring_band_to_front(codes: np.ndarray, band: int) -> np.ndarray:
    """Reorder bits so that every fourth one, from `band` on, comes first: neighbors in an image are often alike."""
    bits = np.unpackbits(codes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)  # (n, 64)
    places = np.argsort((np.arange(64) * 29 + 16 * band) % 64)  # 29 is odd: every place once, far from its neighbors
    return _pack_bits(bits[:, places])


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
def _make_resampling(start: float, stop: float, n_cells: int) -> np.ndarray:
    """Matrix (n_cells, THUMBNAIL_PX) that averages the part from `start` to `stop` of a line of pixels into cells."""
    edges = np.linspace(start, stop, n_cells + 1) * THUMBNAIL_PX
    pixels = np.arange(THUMBNAIL_PX)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def _measure_overlap(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Measure how well one image of each pair fits on the other, or on a part of it, perhaps mirrored or upside down.

    Parts of 88 to 100 % of the width and of the height are tried, from one image on the other and the other way.
    Brightness and contrast do not matter. Where it fits best, the cells must get brighter and darker together, and so
    must their differences from their neighborhood: two photographs of a bright wall above a dark table agree in the
    first, only copies in both. Returns the smaller of the two correlations, (n_pairs,), from -1 to 1.
    """
    best = np.full(len(pairs), -1.0, np.float32)
    for begin in range(0, len(pairs), _PAIRS_PER_STEP):
        a, b = (thumbnails[pairs[begin : begin + _PAIRS_PER_STEP, side]].astype(np.float32) for side in (0, 1))
        views = np.stack([b, b[:, :, ::-1], b[:, ::-1], b[:, ::-1, ::-1]])
        fits = np.stack([_correlate(_shrink(a), _shrink(view)) for view in views])
        b, fit = views[fits.argmax(axis=0), np.arange(len(b))], fits.max(axis=0)
        worth = fit >= _MIN_CORRELATION
        fit[worth] = np.maximum(_fit_on_parts(a[worth], b[worth]), _fit_on_parts(b[worth], a[worth]))
        best[begin : begin + _PAIRS_PER_STEP] = fit
    return best


def _find_turned(thumbnails: np.ndarray, aspects: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Find pairs (n_pairs, 2) of `rows` whose middles show the same, turned by up to 31 degrees."""
    codes = _compute_turned_codes(thumbnails[rows], aspects[rows], 0.0)
    found = [np.empty((0, 2), np.int64)]
    for degrees in _TURNS:
        turned = _compute_turned_codes(thumbnails[rows], aspects[rows], degrees)
        pairs = rows[_find_similar_codes(turned, codes)]
        fits = _measure_turned(thumbnails, aspects, pairs, degrees)
        found.append(pairs[fits >= MIN_TURNED_OVERLAP])
    return np.concatenate(found)


def _compute_turned_codes(thumbnails: np.ndarray, aspects: np.ndarray, degrees: float) -> np.ndarray:
    codes = [np.empty(0, np.uint64)]
    for begin in range(0, len(thumbnails), _STEP):
        some = slice(begin, begin + _STEP)
        cells = _turn(thumbnails[some], aspects[some], degrees, 16, 18).reshape(-1, 8, 2, 9, 2).mean(axis=(2, 4))
        codes.append(_pack_bits((cells[:, :, 1:] > cells[:, :, :-1] + 0.5).reshape(len(cells), 64)))
    return np.concatenate(codes)


def _measure_turned(thumbnails: np.ndarray, aspects: np.ndarray, pairs: np.ndarray, degrees: float) -> np.ndarray:
    """Measure how well the middle of the first image of each pair, turned by about an angle, fits the second's."""
    best = np.full(len(pairs), -1.0, np.float32)
    for begin in range(0, len(pairs), _STEP):
        rows = np.arange(begin, min(begin + _STEP, len(pairs)))
        for step in _FINE_TURNS:
            a, b = pairs[rows].T
            cells = _turn(thumbnails[a], aspects[a], degrees + step, _GRID, _GRID)
            target = _turn(thumbnails[b], aspects[b], 0.0, _GRID, _GRID)
            fit = _correlate(cells, target)
            detail = _correlate(_subtract_neighborhood(cells), _subtract_neighborhood(target))
            best[rows] = np.maximum(best[rows], np.minimum(fit, detail))
            rows = rows[fit >= _MIN_TURNED_CORRELATION]
    return best


def _turn(thumbnails: np.ndarray, aspects: np.ndarray, degrees: float, n_rows: int, n_columns: int) -> np.ndarray:
    """Sample the middle of each image, turned by an angle: (n, n_rows, n_columns)."""
    y, x = (((np.arange(n) + 0.5) / n - 0.5) * _TURNED_SIDE for n in (n_rows, n_columns))
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    y, x, shape = y[:, None], x[None, :], aspects[:, None, None]
    places = (sine * x * shape + cosine * y, cosine * x - sine * y / shape)
    rows, columns = (np.clip((place + 0.5) * THUMBNAIL_PX - 0.5, 0, THUMBNAIL_PX - 1.001) for place in places)
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    image, pixels = np.arange(len(thumbnails))[:, None, None], thumbnails.astype(np.float32)
    upper = pixels[image, top, left] * (1 - right) + pixels[image, top, left + 1] * right
    lower = pixels[image, top + 1, left] * (1 - right) + pixels[image, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def _shrink(thumbnails: np.ndarray) -> np.ndarray:
    full = _make_resampling(0.0, 1.0, _GRID)
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
        parts += [_make_resampling(start, start + kept, _GRID) for start in starts]
    return np.concatenate(parts)


@cache
def _make_local_mean() -> np.ndarray:
    """Matrix (_GRID, _GRID) that averages each cell of a line with its neighbors."""
    cells = np.arange(_GRID)
    near = np.abs(cells[:, None] - cells) <= 2
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
