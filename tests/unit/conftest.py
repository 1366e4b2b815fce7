"""What unit tests share: figures without a screen, properties that repeat and know no deadline."""

import sys

import matplotlib
import pytest
from hypothesis import settings

matplotlib.use("agg")
# Deadlines are timing assertions, and random examples would fail one run and pass the next.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def close_figures():
    """Close the figures of a test that drew some."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def small_images(tmp_path_factory):
    """Thirty learnable images of two classes at 64 px, in three splits; more than enough for every recipe to learn."""
    from tests.conftest import COLORS, draw_image
    from utils_cv.data.image_table import load_image_table, load_table_images

    root = tmp_path_factory.mktemp("images")
    for label in COLORS:
        (root / label).mkdir()
        for i in range(15):
            draw_image(label, seed=i + 100 * (label == "can")).save(root / label / f"{i}.png")
    split = 6 * ["train", "valid", "train", "test", "train"]
    return load_table_images(load_image_table(root).assign(split=split), 64)


@pytest.fixture(scope="session")
def small_probe(small_images):
    """The linear probe on `small_images`."""
    from utils_cv.training.linear_probe import linear_probe

    return linear_probe(small_images)
