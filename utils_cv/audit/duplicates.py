"""Groups of the same or nearly the same image among many, in much less than quadratic time. Arrays in, arrays out.

Images with similar codes of 64 bits are found through shared pieces of the codes. Each such pair is then laid on top
of each other, mirrored or cropped as it may be, and kept when the cells of both get brighter and darker together.
By hand, because imagehash, imagededup and cleanvision find neither crops nor mirror images.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pandas as pd

from .similar_codes import find_similar_codes, make_index, pack_bits

THUMBNAIL_PX = 32
# Below this spread of brightness (standard deviation, of 255) a thumbnail is nearly flat and resembles every other.
MIN_CONTRAST = 4.0
# How well two thumbnails must fit to be near duplicates, at least. It lies between the best fit found among 480
# different rendered images (0.85; among 398 photographs 0.55) and the worst 1 in 200 of copies cropped by 5 % (0.91).
# Recall and false alarms: benchmarks/audit_recall.py.
MIN_OVERLAP = 0.88
# Where all images of a set look alike, a pair must fit better than that: by so many standard deviations better than
# pairs drawn at random. It asks 0.96 of 743 photographs of surfaces; of photographs of things it is below 0.88.
_N_SIGMAS, _N_RANDOM_PAIRS, _MIN_IMAGES = 6.0, 2000, 30
# Of a large group already found, this many members are compared with parts of the other images: a static camera's
# thousands of nearly equal images would otherwise all be.
_N_STAND_FOR_ALL = 5
_TURNS = (-25.0, -12.0, 12.0, 25.0)  # degrees that candidates are looked for at
_MIN_TURNED_CORRELATION = 0.4  # at the nearest of these angles; below it no angle nearby fits
_FINE_TURNS = (0.0, -2.5, 2.5, -5.0, 5.0)  # from each of them
_TURNED_SIDE = 0.6  # of width and height: what stays inside of an image when it is turned
_ASPECT_STEPS = 10  # per doubling of width / height
_WHOLE = (0.0, 0.0, 1.0)  # left and upper edge and side of a part, as fractions of the whole
_PART_SIDE = 0.9  # of width and height, of the parts that candidates are looked for with
_MIN_ROUGH_FIT = 0.8  # of 8 × 9 cells; below it a pair is not measured (99 % of cropped copies have 0.9)
_STEP = 4096
# Below this correlation of the whole images they seldom fit on parts of each other.
_MIN_CORRELATION = 0.3
_GRID = 16
_SIDES_KEPT, _N_STARTS = (1.0, 0.94, 0.88), 6
_PAIRS_PER_STEP = 64  # larger steps leave the processor's cache and take several times as long


def find_duplicates(hashes: np.ndarray, thumbnails: np.ndarray, aspects: np.ndarray) -> np.ndarray:
    """Number the groups (n,) of images that are the same file, re-encoded, brighter, cropped, mirrored or turned.

    Of each: the hash of its file, empty where it cannot be opened, a gray thumbnail (32, 32), and width / height.
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
    """Find pairs (n_pairs, 2) that connect all images which are nearly the same, but for nearly flat ones."""
    usable = np.flatnonzero([thumbnail.std() >= MIN_CONTRAST for thumbnail in thumbnails])
    overlap = partial(_measure_overlap, thumbnails)
    limit = _find_limit(thumbnails[usable])
    candidates = usable[_find_candidates(thumbnails[usable], [(_WHOLE, 0), (_WHOLE, 1)])]
    pairs = _extend_pairs(np.empty((0, 2), np.int64), candidates, overlap, limit, len(thumbnails))
    groups = group_by_pairs(pairs, len(thumbnails))[usable]
    few = usable[pd.Series(groups).groupby(groups).cumcount() < _N_STAND_FOR_ALL]
    candidates = few[_find_candidates(thumbnails[few], _list_views())]
    pairs = _extend_pairs(pairs, candidates, overlap, limit, len(thumbnails))
    middles = _average_turned(thumbnails[few], aspects[few], 0.0)
    index = make_index(_encode(middles))
    for degrees in _TURNS:
        candidates = few[_match(_average_turned(thumbnails[few], aspects[few], degrees), middles, index)]
        turned = partial(_measure_turned, thumbnails, aspects, degrees=degrees)
        pairs = _extend_pairs(pairs, candidates, turned, limit, len(thumbnails))
    return pairs


def _find_limit(thumbnails: np.ndarray) -> float:
    """Find how well two images must fit to stand out from pairs of this set that are drawn at random."""
    pairs = np.random.default_rng(0).integers(0, max(len(thumbnails), 1), (_N_RANDOM_PAIRS, 2))
    fits = _measure_overlap(thumbnails, pairs[pairs[:, 0] < pairs[:, 1]])
    fits = fits[fits < MIN_OVERLAP]  # where most are copies, as of a camera that stands still, these say nothing
    if len(thumbnails) < _MIN_IMAGES or len(fits) < _MIN_IMAGES:
        return MIN_OVERLAP
    low, middle, high = np.arctanh(np.quantile(fits, [0.25, 0.5, 0.75]))  # arctanh makes correlations nearly normal
    sigma = (high - low) / 1.349  # the distance of the quartiles of a normal distribution
    return max(MIN_OVERLAP, float(np.tanh(middle + _N_SIGMAS * sigma)))


def _extend_pairs(pairs: np.ndarray, candidates: np.ndarray, measure: Callable, limit: float, n: int) -> np.ndarray:
    """Add to the pairs those candidates, of n images, that fit and are not connected yet."""
    groups = group_by_pairs(pairs, n)
    for begin in range(0, len(candidates), _STEP):
        some = candidates[begin : begin + _STEP]
        some = some[groups[some[:, 0]] != groups[some[:, 1]]]
        pairs = np.concatenate([pairs, some[measure(some) >= limit]])
        groups = group_by_pairs(pairs, n)
    return pairs


def _list_views() -> list[tuple]:
    """List the orientations of the whole that a first search leaves out, and nine parts, each also mirrored."""
    starts = (0.0, (1 - _PART_SIDE) / 2, 1 - _PART_SIDE)
    parts = [((left, top, _PART_SIDE), orientation) for left in starts for top in starts for orientation in range(2)]
    # Of turns by 90 and 270 degrees one will do: one image is turned by 90 where the other is turned by 270.
    return [(_WHOLE, orientation) for orientation in (2, 3, 4, 5, 7)] + parts


def _find_candidates(thumbnails: np.ndarray, views: list[tuple]) -> np.ndarray:
    """Find pairs in which a part of one image, perhaps mirrored or turned, is roughly like the whole other."""
    wholes = _average_part(thumbnails, _WHOLE)
    index = make_index(_encode(wholes))
    found = [_match(_average_part(_orient(thumbnails, turn), part), wholes, index) for part, turn in views]
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _match(cells: np.ndarray, others: np.ndarray, index: list[tuple]) -> np.ndarray:
    """Find pairs of cells (n, 8, 9) and of others, whose codes are in the index, that are roughly alike."""
    pairs = find_similar_codes(_encode(cells), index)
    cells, others = _standardize(cells), _standardize(others)
    steps = np.split(pairs, range(_STEP, len(pairs), _STEP))
    fits = [np.einsum("nij,nij->n", cells[some[:, 0]], others[some[:, 1]]) for some in steps]
    return pairs[np.concatenate(fits) >= _MIN_ROUGH_FIT]


def _orient(images: np.ndarray, orientation: int) -> np.ndarray:
    """Mirror (1), turn upside down (2) and swap rows and columns (4) of images (n, side, side); 0 to 7 are sums."""
    images = images.swapaxes(1, 2) if orientation & 4 else images
    return images[:, :: -1 if orientation & 2 else 1, :: -1 if orientation & 1 else 1]


def group_by_pairs(pairs: np.ndarray, n: int) -> np.ndarray:
    """Number the groups (n,) that pairs (n_pairs, 2) of positions connect; one without a pair is its own group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def _average_part(thumbnails: np.ndarray, part: tuple[float, float, float]) -> np.ndarray:
    """Average a part of each thumbnail into cells (n, 8, 9)."""
    left, top, side = part
    down, across = _make_resampling(top, top + side, 8), _make_resampling(left, left + side, 9)
    cells = np.empty((len(thumbnails), 8, 9), np.float32)
    for begin in range(0, len(thumbnails), _STEP):
        cells[begin : begin + _STEP] = down @ thumbnails[begin : begin + _STEP].astype(np.float32) @ across.T
    return cells


def _encode(cells: np.ndarray) -> np.ndarray:
    """Difference hash (Krawetz 2013) of cells (n, 8, 9), (n,) uint64: where they get brighter to the right."""
    # A clear step is asked for: rounding would decide about equal cells of a plain background.
    return pack_bits((cells[:, :, 1:] > cells[:, :, :-1] + 0.5).reshape(len(cells), 64))


@cache
def _make_resampling(start: float, stop: float, n_cells: int) -> np.ndarray:
    """Matrix (n_cells, THUMBNAIL_PX) that averages the part from `start` to `stop` of a line of pixels into cells."""
    edges = np.linspace(start, stop, n_cells + 1) * THUMBNAIL_PX
    pixels = np.arange(THUMBNAIL_PX)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def _measure_overlap(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Measure how well images of pairs fit on each other's parts, mirrored or turned by 90°: (n_pairs,), -1 to 1.

    The smaller of two correlations: of cells, and of their differences from the neighborhood. Photographs of a bright
    wall above a dark table agree in the first alone.
    """
    best = np.full(len(pairs), -1.0, np.float32)
    for begin in range(0, len(pairs), _PAIRS_PER_STEP):
        a, b = (thumbnails[pairs[begin : begin + _PAIRS_PER_STEP, side]].astype(np.float32) for side in (0, 1))
        small_a, small_b = _standardize(_shrink(a)), _standardize(_shrink(b))
        fits = np.stack([np.einsum("nij,nij->n", small_a, _orient(small_b, k)) for k in range(8)])
        for k in range(1, 8):
            is_best = fits.argmax(axis=0) == k
            b[is_best] = _orient(b[is_best], k)
        fit = fits.max(axis=0)
        worth = fit >= _MIN_CORRELATION
        fit[worth] = np.maximum(_fit_on_parts(a[worth], b[worth]), _fit_on_parts(b[worth], a[worth]))
        best[begin : begin + _PAIRS_PER_STEP] = fit
    return best


def _average_turned(thumbnails: np.ndarray, aspects: np.ndarray, degrees: float) -> np.ndarray:
    """Average the middle of each thumbnail, turned by an angle, into cells (n, 8, 9)."""
    return _turn(thumbnails, aspects, degrees, 16, 18).reshape(-1, 8, 2, 9, 2).mean(axis=(2, 4))


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
    from scipy.ndimage import affine_transform

    turned = np.empty((len(thumbnails), n_rows, n_columns), np.float32)
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    shape, middle = np.array([n_rows, n_columns]), THUMBNAIL_PX / 2 - 0.5
    steps = np.round(np.log2(aspects) * _ASPECT_STEPS)
    for step in np.unique(steps):  # images of nearly the same aspect at once
        rows, aspect = np.flatnonzero(steps == step), 2 ** (step / _ASPECT_STEPS)
        matrix, offset = np.eye(3), np.zeros(3)  # the first axis is that of the images
        matrix[1:, 1:] = np.array([[cosine, sine * aspect], [-sine / aspect, cosine]]) / shape
        matrix[1:, 1:] *= _TURNED_SIDE * THUMBNAIL_PX
        offset[1:] = middle - matrix[1:, 1:] @ (shape / 2 - 0.5)
        size = (len(rows), n_rows, n_columns)
        turned[rows] = affine_transform(thumbnails[rows], matrix, offset, size, np.float32, order=1, mode="nearest")
    return turned


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
    """Resampling (n_windows, _GRID, THUMBNAIL_PX) of one axis to every part that is tried."""
    parts = []
    for kept in _SIDES_KEPT:
        starts = np.linspace(0, 1 - kept, 1 if kept == 1.0 else _N_STARTS)
        parts += [_make_resampling(start, start + kept, _GRID) for start in starts]
    return np.stack(parts)


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
    n, n_windows = len(whole), len(windows)
    # One window of columns at a time, and no product above 2**18 multiplications: on larger ones OpenBLAS starts its
    # threads, which then wait for each other longer than they work (20 times slower on a busy machine).
    lines = windows.reshape(-1, THUMBNAIL_PX) @ whole  # (n, n_windows * _GRID, THUMBNAIL_PX)
    shrunk = _shrink(part)
    target = np.ones((n, _GRID**2, 2), np.float32)  # beside the ones, which give the means
    target[:, :, 0] = _standardize(shrunk).reshape(n, _GRID**2)
    correlations = np.empty((n, n_windows, n_windows), np.float32)
    for k, window in enumerate(windows):
        cells = (lines @ window.T).reshape(n, n_windows, _GRID**2)
        products = cells @ target
        spread = np.einsum("nwc,nwc->nw", cells, cells) - (products[:, :, 1] / _GRID) ** 2
        correlations[:, :, k] = products[:, :, 0] / np.sqrt(np.maximum(spread, 1e-3))
    rows, columns = np.divmod(correlations.reshape(n, n_windows**2).argmax(axis=1), n_windows)
    best_cells = windows[rows] @ whole @ windows[columns].transpose(0, 2, 1)
    detail = _correlate(_subtract_neighborhood(best_cells), _subtract_neighborhood(shrunk))
    return np.minimum(correlations[np.arange(n), rows, columns], detail)
