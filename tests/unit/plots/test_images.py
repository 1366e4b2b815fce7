"""Figures of images and data sets: what they say, never their pixels."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from utils_cv.plots.images import plot_class_counts, plot_decisions, plot_images, plot_mistakes

GRAY = np.full((30, 40), 128, np.uint8)


ACCEPTED = {
    "gray array": GRAY,
    "floats": np.zeros((30, 40, 3)),
    "with alpha": np.zeros((30, 40, 4), np.uint8),
    "wide palette image": Image.new("P", (4000, 30)),
    "one pixel": Image.new("L", (1, 1)),
}


@pytest.mark.parametrize("image", ACCEPTED.values(), ids=ACCEPTED)
def test_plot_images_accepts(image):
    (ax,) = plot_images([image])
    assert max(ax.images[0].get_array().shape) <= 300  # no more pixels than are shown


@pytest.mark.parametrize(
    ("images", "titles", "message"),
    [
        pytest.param([], None, "got none", id="no image"),
        pytest.param([GRAY], ["a", "b"], "images 1, titles 2", id="too many titles"),
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


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("can", "can"),
        ("why carton? (true: milk_bottle)", "why carton? (true:\nmilk_bottle)"),
        ("can|carton|water_bottle|can", "can|carton|\nwater_bottle|can"),
        ("Chlorophytum_comosum_variegatum", "Chlorophytum_\ncomosum_variegatum"),
        ("翘头剪翘头剪翘头剪翘头剪", "翘头剪翘头剪翘头剪翘\n头剪"),
        ("a word " * 20, "a word a word a word\n" * 4 + "a word a word a wor…"),
    ],
    ids=["short", "spaces", "several labels", "underscores", "Chinese", "cut"],
)
def test_long_titles_are_wrapped_between_words(title, shown):
    (ax,) = plot_images([GRAY], [title])
    ax.figure.canvas.draw()
    assert ax.get_title() == shown
    assert ax.title.get_window_extent().width < 1.1 * ax.get_window_extent().width  # no wider than the image


def test_plot_mistakes_shows_the_surest_first_and_reads_no_other_image():
    class Images(list):
        def __getitem__(self, index):
            read.append(index)
            return GRAY

    read = []
    confidence = [0.5] + [0.9 - i / 100 for i in range(10)]
    axes = plot_mistakes(Images(range(11)), ["a"] * 11, ["a"] + ["b"] * 10, confidence)
    assert read == [1, 2, 3, 4, 5, 6, 7, 8]
    assert axes[1].get_title() == "true: a\npredicted: b (89\u00a0%)"
    assert axes[0].figure.get_suptitle().startswith("8 of 10 mistakes among 11 images")


def test_plot_mistakes_takes_none_long_names_and_all_probabilities_but_no_other_numbers_of_labels():
    (ax,) = plot_mistakes([GRAY], ["a"], ["a"], [0.9])
    assert ax.texts[0].get_text() == "No mistakes among 1 images" and not ax.axison
    (ax,) = plot_mistakes([GRAY], ["carton"], ["can with a long, long name"], [[0.25, 0.75]])  # of all classes
    assert ax.get_title().startswith("true: carton\npredicted: can with") and ax.get_title().endswith("… (75\u00a0%)")
    with pytest.raises(ValueError, match=r"got \[1, 2, 1, 1\]"):
        plot_mistakes([GRAY], ["a", "b"], ["a"], [0.9])


def test_plot_class_counts_writes_totals_and_counts_every_label_in_the_order_of_the_splits():
    labels = ["can", "can|carton", "carton", "can", "box"]
    ax = plot_class_counts(pd.DataFrame({"label": labels, "split": ["test", "train", "test", "valid", "mine"]}))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["box", "can", "carton"]
    assert [text.get_text() for text in ax.texts] == ["1", "3", "2"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train", "valid", "test", "mine"]


def test_of_many_classes_the_largest_and_the_smallest_are_counted():
    table = pd.DataFrame({"label": np.repeat([f"{i:03d}" for i in range(500)], np.arange(1, 501))})
    ax = plot_class_counts(table)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [f"{i:03d}" for i in (*range(499, 479, -1), *range(19, -1, -1))]
    assert "20 largest and the 20 smallest of 500" in ax.get_title("left") and ax.figure.get_figheight() <= 17
    with pytest.raises(ValueError, match="expected at least one"):
        plot_class_counts(table.head(0))


def test_decisions_are_named_colored_and_counted():
    y_true, y_pred = [[1, 0, 1], [1, 1, 0]], [[1, 0, 0], [1, 1, 1]]
    ax = plot_decisions([GRAY, GRAY], y_true, y_pred, ["can", "carton", "jar"])
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["found", "found", "F1 1.00", "found", "F1 1.00", "missed", "added", "F1 0.00", "2 of 3", "2 of 3"]
    assert ax.get_title("left").split(": ")[1].startswith("0 of 2") and "4 of 6 cells" in ax.get_title("left")
    wrong = [patch for patch in ax.patches if patch.get_facecolor() == ax.patches[-1].get_facecolor()]
    assert len(wrong) == 2 and len(ax.images) == 2
    many = plot_decisions([GRAY], np.zeros((1, 40)), np.zeros((1, 40)), [f"label {i}" for i in range(40)])
    assert len(many.get_yticklabels()) == 12 and many.texts[-1].get_text() == "12 of 12"
