"""Tests of utils_cv.plots.style; the figures drawn with it are tested where they are made."""

import matplotlib
import matplotlib.pyplot as plt
import pytest

from utils_cv.plots.style import make_axes_grid


@pytest.mark.parametrize("is_interactive", [True, False])
def test_the_mode_that_a_backend_sets_with_the_first_figure_stays(monkeypatch, is_interactive):
    """Jupyter's backend turns the interactive mode on when it is loaded, which the first figure does."""
    make_subplots = plt.subplots

    def make_first_figure(*args, **options):
        matplotlib.interactive(is_interactive)
        return make_subplots(*args, **options)

    monkeypatch.setattr(plt, "subplots", make_first_figure)
    before = matplotlib.is_interactive()
    try:
        make_axes_grid(1, 1, width=2, height=2)
        assert matplotlib.is_interactive() is is_interactive
    finally:
        matplotlib.interactive(before)


def test_other_settings_stay_as_they_were():
    before = dict(matplotlib.rcParams)
    make_axes_grid(1, 2, width=2, height=2)
    assert dict(matplotlib.rcParams) == before
