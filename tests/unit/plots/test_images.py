"""Figures of images and data sets: what they say, never their pixels."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from utils_cv.plots.images import plot_class_counts, plot_images, plot_mistakes

GREY = np.full((30, 40), 128, np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(GREY, id="grey array"),
        pytest.param(np.zeros((30, 40, 3)), id="floats"),
        pytest.param(np.zeros((30, 40, 4), np.uint8), id="with alpha"),
        pytest.param(Image.new("P", (4000, 30)), id="wide palette image"),
        pytest.param(Image.new("L", (1, 1)), id="one pixel"),
    ],
)
def test_plot_images_accepts(image):
    (ax,) = plot_images([image])
    assert max(ax.images[0].get_array().shape) <= 300  # no more pixels than are shown


@pytest.mark.parametrize(
    ("images", "titles", "message"),
    [
        pytest.param([], None, "got none", id="no image"),
        pytest.param([GREY], ["a", "b"], "images 1, titles 2", id="too many titles"),
        pytest.param([np.zeros((3, 30, 40))], None, "moveaxis", id="channels first"),
        pytest.param([np.full((30, 40, 3), -1.5)], None, "mean and standard deviation", id="normalized"),
        pytest.param([np.zeros(9)], None, "shape", id="one dimension"),
    ],
)
def test_plot_images_refuses(images, titles, message):
    with pytest.raises(ValueError, match=message):
        plot_images(images, titles)


def test_plot_images_fills_rows_and_hides_free_places():
    axes = plot_images(np.zeros((5, 9, 9, 3), np.uint8), list("abcde"), n_columns=3)
    assert [ax.get_title() for ax in axes] == list("abcde")
    assert len(axes[0].figure.axes) == 6 and not any(ax.axison for ax in axes[0].figure.axes)


def test_long_titles_are_wrapped_to_three_lines():
    (ax,) = plot_images([GREY], ["a title that is far too long for the little room above a small image, really"])
    lines = ax.get_title().split("\n")
    assert len(lines) == 3 and lines[-1].endswith("…") and max(map(len, lines)) <= 25


def test_plot_mistakes_shows_the_surest_first_and_reads_no_other_image():
    class Images(list):
        def __getitem__(self, index):
            read.append(index)
            return GREY

    read = []
    axes = plot_mistakes(Images(range(4)), list("aaaa"), list("abbb"), [0.9, 0.6, 0.8, 0.7], n_images=2)
    assert read == [2, 3]
    assert [ax.get_title() for ax in axes] == ["true: a\npredicted: b (80 %)", "true: a\npredicted: b (70 %)"]
    assert axes[0].figure.get_suptitle() == "2 of 3 mistakes among 4 images, the surest first"


def test_plot_mistakes_takes_all_probabilities():
    (ax,) = plot_mistakes([GREY], ["a"], ["b"], [[0.25, 0.75]])
    assert "(75 %)" in ax.get_title()


def test_plot_mistakes_without_a_mistake_says_so():
    (ax,) = plot_mistakes([GREY], ["a"], ["a"], [0.9])
    assert ax.texts[0].get_text() == "No mistakes among 1 images"


def test_plot_class_counts_writes_totals_and_counts_every_label():
    table = pd.DataFrame({"label": ["can", "can|carton", "carton", "can"], "split": ["train", "train", "test", "test"]})
    ax = plot_class_counts(table)
    assert [text.get_text() for text in ax.texts] == ["3", "2"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train", "test"]


def test_plot_class_counts_draws_into_given_axes_and_refuses_nothing():
    _, ax = plt.subplots()
    assert plot_class_counts(pd.DataFrame({"label": ["can"]}), ax) is ax
    with pytest.raises(ValueError, match="empty"):
        plot_class_counts(pd.DataFrame({"label": []}))


def test_plots_leave_settings_and_random_state_alone():
    before, state = dict(matplotlib.rcParams), np.random.get_state()[1].copy()
    plot_images([GREY])
    plot_class_counts(pd.DataFrame({"label": ["can"]}))
    assert dict(matplotlib.rcParams) == before and (np.random.get_state()[1] == state).all()
