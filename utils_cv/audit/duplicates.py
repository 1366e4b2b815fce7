"""Groups of nearly the same image among many, in much less than quadratic time. Arrays in, arrays out.

Images with similar codes of 64 bits are found through shared pieces of the codes; each such pair is then laid on top of
each other, mirrored or cropped as it may be, and kept when the cells of both go up and down together.
"""

import numpy as np

from .similar_codes import find_similar_codes, pack_bits, sort_pairs
from .thumbnail_overlap import make_resampling, measure_overlap

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


def find_near_duplicates(
    thumbnails: np.ndarray, *, candidates: np.ndarray | None = None, min_overlap: float = MIN_OVERLAP
) -> tuple[np.ndarray, np.ndarray]:
    """Find images that are nearly the same: re-encoded, resized, brighter, cropped by 5 to 10 %, mirrored.

    Pairs that are already connected through others are not measured again, and of a large group five members stand
    for all, so thousands of copies of one image take little more time than different ones. Nearly flat images are
    left out: they would resemble each other.

    Args:
        thumbnails: (n, 32, 32) uint8: whole images, grey, squeezed into a square.
        candidates: (n_pairs, 2) pairs known to be similar, from `utils_cv.audit.similar_codes.find_similar_features`. They
            need not fit as well as others.
        min_overlap: How well two must fit; see `utils_cv.audit.thumbnail_overlap.measure_overlap`.

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
    """Compute the difference hash of a part of each thumbnail; see `utils_cv.data.images.difference_hash`.

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
