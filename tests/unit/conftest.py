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
