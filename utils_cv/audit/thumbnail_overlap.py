"""How well one small grey image fits on another or on a part of it, perhaps mirrored. Arrays in, arrays out."""

from functools import cache

import numpy as np

THUMBNAIL_PX = 32
# Below this correlation of the whole images they cannot fit on parts of each other either, with very few exceptions.
_MIN_CORRELATION = 0.45
_GRID = 16
_SIDES_KEPT = (1.0, 0.95, 0.9, 0.85)
_N_STARTS = 3
_NEIGHBOURHOOD = 5  # cells
_PAIRS_PER_STEP = 64  # larger steps leave the processor's cache and take several times as long


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
    their differences from their neighbourhood: two photographs of a bright wall above a dark table agree in the
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
        parts += [make_resampling(start, start + kept, _GRID) for start in starts]
    return np.concatenate(parts)


@cache
def _make_local_mean() -> np.ndarray:
    """Matrix (_GRID, _GRID) that averages each cell of a line with its neighbours."""
    cells = np.arange(_GRID)
    near = np.abs(cells[:, None] - cells) <= _NEIGHBOURHOOD // 2
    return (near / near.sum(axis=1, keepdims=True)).astype(np.float32)


def _subtract_neighbourhood(cells: np.ndarray) -> np.ndarray:
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
    target = _standardise(shrunk).reshape(n, _GRID**2)
    spread = np.einsum("nwc,nwc->nw", cells, cells) - _GRID**2 * cells.mean(axis=2) ** 2
    correlations = np.einsum("nwc,nc->nw", cells, target) / np.sqrt(np.maximum(spread, 1e-3))  # (n, n_windows**2)
    best = correlations.argmax(axis=1)
    best_cells = cells[np.arange(n), best].reshape(n, _GRID, _GRID)
    detail = _correlate(_subtract_neighbourhood(best_cells), _subtract_neighbourhood(shrunk))
    return np.minimum(correlations[np.arange(n), best], detail)
