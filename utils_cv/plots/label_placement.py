"""Labels beside points that cover neither each other nor the data: a greedy search over places around each point."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

FONT_SIZE = 10  # points
INK, GREY = "#000000", "#595959"
Box = np.ndarray  # left, bottom, right, top in pixels of the screen
DISTANCES_POINTS = (4, 10, 18, 28, 40, 54)
N_DIRECTIONS = 16
LEADER_FROM_POINTS = 10  # labels at least this far away get a line to their point
N_LEADER_DOTS, LEADER_DOT_AREA = 10, 4.0  # lines are weighed as a few dots of so many square pixels


def place_labels(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    texts: Sequence[str],
    *,
    radii: ArrayLike,
    obstacles: np.ndarray,
) -> None:
    """Write each text near its point where it covers least; a thin line leads to those that had to move away.

    Call it last, when limits and sizes are settled.

    Args:
        ax: Axes with the points.
        x: Data coordinates (n_points,).
        y: Data coordinates (n_points,).
        texts: Labels (n_points,).
        radii: Of the markers, points (1/72 inch) (n_points,).
        obstacles: Boxes in pixels (n_obstacles, 4), left, bottom, right, top, that labels should not cover.
    """
    ax.figure.figure.draw_without_rendering()  # settles the layout, so that pixels are final
    pixels_per_point = ax.figure.dpi / 72
    centers = ax.transData.transform(np.column_stack([x, y]))
    marker_radii = np.asarray(radii)[:, None] * pixels_per_point
    markers = np.column_stack([centers - marker_radii, centers + marker_radii])
    sizes = [_measure_text(ax, text) for text in texts]
    places = [_list_places(*point, pixels_per_point) for point in zip(centers, marker_radii, sizes, strict=True)]
    frame = np.array(ax.get_window_extent().extents) + np.array([4, 4, -4, -4])  # a margin inside the axes
    fixed_costs = [
        _weigh_place(boxes, distances, i, markers, obstacles, frame) for i, (boxes, distances) in enumerate(places)
    ]
    for i, k in enumerate(_choose_places(places, fixed_costs, centers, markers)):
        boxes, distances = places[i]
        _write(ax, texts[i], centers[i], boxes[k], has_leader=distances[k] >= LEADER_FROM_POINTS)


def _weigh_place(
    boxes: Box, distances: np.ndarray, i: int, markers: np.ndarray, obstacles: np.ndarray, frame: Box
) -> np.ndarray:
    """Cost of each place of label i (n_places,) that does not depend on the other labels."""
    area = np.prod(boxes[0, 2:] - boxes[0, :2])
    cost = (1 - _sum_overlaps(boxes, frame[None]) / area) * 10 + distances / 100
    cost += (_sum_overlaps(boxes, markers) + _sum_overlaps(boxes, obstacles)) / area * 4
    gaps = _measure_gaps(boxes, markers)  # (n_places, n_points)
    nearest_other = np.delete(gaps, i, axis=1).min(axis=1, initial=np.inf)
    return cost + np.clip((gaps[:, i] - nearest_other + 6) / 12, 0, 1) * 1.5  # else it seems to belong to another


def _choose_places(
    places: list[tuple[Box, np.ndarray]], fixed_costs: list[np.ndarray], centers: np.ndarray, markers: np.ndarray
) -> list[int]:
    """Index of the cheapest place of each label, given the others; a few passes let early labels give way."""
    leaders = [_sample_leaders(center, *place) for center, place in zip(centers, places, strict=True)]
    chosen = [0] * len(places)
    for n_pass in range(4):
        for i, (boxes, _) in enumerate(places):
            settled = [j for j in range(len(places)) if j != i and (n_pass or j < i)]
            labels = np.array([places[j][0][chosen[j]] for j in settled]).reshape(-1, 4)
            lines = np.array([leaders[j][chosen[j]] for j in settled]).reshape(-1, 4)
            covered_by_leader = np.concatenate([labels, np.delete(markers, i, axis=0)])
            dots = _sum_overlaps(leaders[i].reshape(-1, 4), covered_by_leader).reshape(len(boxes), -1).sum(axis=1)
            cost = fixed_costs[i] + _sum_overlaps(boxes, labels) / np.prod(boxes[0, 2:] - boxes[0, :2]) * 10
            cost += (_sum_overlaps(boxes, lines) + dots) / LEADER_DOT_AREA * 0.3
            chosen[i] = int(cost.argmin())
    return chosen


def _measure_text(ax: Axes, text: str) -> np.ndarray:
    """Width and height of a text in pixels."""
    artist = ax.text(0, 0, text, fontsize=FONT_SIZE)
    box = artist.get_window_extent()
    artist.remove()
    return np.array([box.width, box.height])


def _list_places(
    center: np.ndarray, radius: np.ndarray, size: np.ndarray, pixels_per_point: float
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n_places, 4) around a marker, and their distances from it in points; nearest first."""
    angles = np.linspace(0, 2 * np.pi, N_DIRECTIONS, endpoint=False)
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    boxes = []
    for distance in DISTANCES_POINTS:
        edge = center + directions * (radius + distance * pixels_per_point)
        # the box hangs on the side that faces away from the point: right of it, its left edge touches, and so on
        low = edge + size * (np.clip(directions * 1.5, -1, 1) - 1) / 2
        boxes.append(np.column_stack([low, low + size]))
    return np.concatenate(boxes), np.repeat(DISTANCES_POINTS, N_DIRECTIONS).astype(float)


def _sample_leaders(center: np.ndarray, boxes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Dots along the line from each box to its point (n_places, n_dots, 4); empty boxes where there is no line."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    shares = np.linspace(0.1, 0.9, N_LEADER_DOTS)[:, None]
    dots = center + (middles - center)[:, None] * shares  # (n_places, n_dots, 2)
    half = np.where(distances >= LEADER_FROM_POINTS, np.sqrt(LEADER_DOT_AREA) / 2, 0.0)[:, None, None]
    return np.concatenate([dots - half, dots + half], axis=2)


def _measure_gaps(boxes: Box, others: Box) -> np.ndarray:
    """Distance in pixels between each box (n, 4) and each other (m, 4), 0 where they touch: (n, m)."""
    gaps = np.maximum(boxes[:, None, :2] - others[None, :, 2:], others[None, :, :2] - boxes[:, None, 2:])
    return np.linalg.norm(np.clip(gaps, 0, None), axis=2)


def _sum_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area in square pixels that each box (n, 4) shares with all others (m, 4) together."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)


def _write(ax: Axes, text: str, center: np.ndarray, box: Box, *, has_leader: bool) -> None:
    to_points = 72 / ax.figure.dpi
    middle = (box[:2] + box[2:]) / 2
    arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 2} if has_leader else None
    ax.annotate(
        text,
        xy=tuple(ax.transData.inverted().transform(center)),
        xytext=tuple((middle - center) * to_points),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=FONT_SIZE,
        color=INK,
        arrowprops=arrow,
        path_effects=[withStroke(linewidth=3, foreground="white")],  # readable where it crosses a line
        zorder=5,
    )
