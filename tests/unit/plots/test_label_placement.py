"""Labels beside points: inside the axes, off the points, and with a line where they had to move away."""

import itertools

import numpy as np
import pytest
from matplotlib.text import Text

from utils_cv.plots.label_placement import LEADER_FROM_POINTS, place_labels
from utils_cv.plots.style import make_axes

NOTHING = np.zeros((0, 4))


def draw(x, y, texts, *, obstacles=NOTHING, radius=5.0):
    """Place labels and return the axes and the boxes of the texts in pixels."""
    ax = make_axes(width=6, height=4)
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 10)
    place_labels(ax, x, y, texts, radii=np.full(len(texts), radius), obstacles=obstacles)
    ax.figure.canvas.draw()
    renderer = ax.figure.canvas.get_renderer()
    return ax, [Text.get_window_extent(text, renderer) for text in ax.texts]


def test_one_label_lies_next_to_its_point():
    ax, (box,) = draw([5], [5], ["label"])
    center, corners = ax.transData.transform((5, 5)), np.array([box.min, box.max])
    gap = np.linalg.norm(np.clip(np.maximum(corners[0] - center, center - corners[1]), 0, None))
    assert 0 < gap < 20 * ax.figure.dpi / 72 and ax.texts[0].arrow_patch is None


@pytest.mark.parametrize("corner", list(itertools.product([0.1, 9.9], repeat=2)), ids=str)
def test_labels_in_the_corners_stay_inside_the_axes(corner):
    ax, (box,) = draw([corner[0]], [corner[1]], ["a rather long label"])
    frame = ax.get_window_extent()
    assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def test_labels_of_a_crowd_cover_neither_each_other_nor_the_points():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(4, 6, 8), rng.uniform(4, 6, 8)
    ax, boxes = draw(x, y, [f"point {i}" for i in range(8)])
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-2).overlaps(other.padded(-2))
    for point in ax.transData.transform(np.column_stack([x, y])):
        assert not any(box.padded(-2).contains(*point) for box in boxes)


def test_a_label_that_moved_away_gets_a_line_to_its_point():
    x, y = [5.0] * 6, np.linspace(4.9, 5.1, 6)
    ax, _ = draw(x, y, [f"long label {i}" for i in range(6)])
    assert any(text.arrow_patch is not None for text in ax.texts) and LEADER_FROM_POINTS > 4


def test_a_label_avoids_an_obstacle():
    _, (free,) = draw([5], [5], ["label"])
    obstacle = np.array([[free.x0 - 1, free.y0 - 1, free.x1 + 1, free.y1 + 1]])
    _, (moved,) = draw([5], [5], ["label"], obstacles=obstacle)
    assert not moved.padded(-3).overlaps(free)


def test_the_same_points_give_the_same_places():
    first, second = (draw([2, 3], [4, 4], ["one", "two"])[1] for _ in range(2))
    assert [box.bounds for box in first] == [box.bounds for box in second]
