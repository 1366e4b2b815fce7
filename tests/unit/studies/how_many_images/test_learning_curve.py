"""Learning curve and its fit: the right images are learned from, a known curve is recovered, forecasts hold."""

import numpy as np
import pandas as pd
import pytest

from tests.unit.studies.test_experiment import make_data, make_labels_data
from utils_cv.studies.experiment import make_task, summarize
from utils_cv.studies.how_many_images.learning_curve import (
    fit_curve,
    list_sizes,
    measure_fine_tuning,
    measure_learning_curve,
)


def make_rows(sizes, error, *, n_seeds=3, n_test=4000, seed=0):
    """Rows of a learning curve whose errors are known."""
    difficulty = np.random.default_rng(seed).random(n_test)  # per test image, as in a real study: sizes share images
    rows = [{"n_per_class": n, "seed": s, "right": difficulty > error(n)} for n in sizes for s in range(n_seeds)]
    return pd.DataFrame(rows)


def test_more_images_score_better_and_the_largest_size_leaves_nothing_to_draw():
    rows = measure_learning_curve(make_task(*make_data()), [40, 2], n_seeds=3, seed=5)
    curve = summarize(rows, ["n_per_class"])
    assert rows["seed"].tolist() == [5, 6, 7] * 2 and curve["n_per_class"].tolist() == [2, 40]
    assert curve["accuracy"].is_monotonic_increasing and curve["accuracy"].iloc[-1] > 0.8
    assert curve["seed_sd"].iloc[0] > 0 and curve["seed_sd"].iloc[-1] == 0


@pytest.mark.parametrize(
    ("n_train", "smallest", "sizes"),
    [(40, 5, [5, 10, 20, 40]), (40, 9, [10, 20, 40]), (10, 5, [2, 5, 10]), (3, 5, [1, 3])],
    ids=["halves", "none below the smallest", "small classes", "very small classes"],
)
def test_sizes_end_at_the_smallest_class(n_train, smallest, sizes):
    table, _ = make_data(n_train=n_train)
    more = make_data(n_train=50)[0].query("label != 'can' and split == 'train'")
    task = make_task(pd.concat([table, more]), np.zeros((len(table) + len(more), 2)))
    assert list_sizes(task, smallest=smallest) == sizes


def test_fit_recovers_a_known_curve_beyond_what_was_measured():
    rows = make_rows([5, 10, 20, 40, 80], lambda n: 0.8 * n**-0.5 + 0.02)
    predicted = fit_curve(rows.sample(frac=1, random_state=0), n_bootstrap=200).predict([80, 320])
    truth = 1 - (0.8 * np.array([80, 320]) ** -0.5 + 0.02)
    np.testing.assert_allclose(predicted["accuracy"], truth, atol=0.01)
    assert (predicted["accuracy_low"] <= truth).all() and (truth <= predicted["accuracy_high"]).all()


def test_the_curve_of_several_labels_passes_through_their_mean_average_precision():
    task = make_task(*make_labels_data(), takes_several=True)
    rows = measure_learning_curve(task, list_sizes(task, smallest=6), n_seeds=3)
    curve, fit = summarize(rows, ["n_per_class"]), fit_curve(rows)
    assert curve["n_per_class"].tolist() == [6, 12, 24] and (fit.measure, fit.n_test) == (task.measure, 60)
    fitted = fit.predict(curve["n_per_class"])
    np.testing.assert_allclose(fitted[task.measure], curve[task.measure], atol=0.03)
    assert curve[task.measure].between(fitted[f"{task.measure}_low"], fitted[f"{task.measure}_high"]).all()


def test_copies_of_a_test_image_make_the_band_no_narrower_where_they_are_a_group():
    rows = make_rows([5, 10, 20], lambda n: 0.8 * n**-0.5, n_test=100)
    copied = rows.assign(right=rows["right"].map(lambda right: np.repeat(right, 9)))
    grouped = copied.assign(groups=[np.repeat(range(100), 9)] * len(rows))
    bands = (fit_curve(part, n_bootstrap=300).predict([20]).iloc[0] for part in (rows, copied, grouped))
    alone, narrow, wide = (band["accuracy_high"] - band["accuracy_low"] for band in bands)
    assert wide == pytest.approx(alone, rel=0.1) and narrow < 0.6 * alone


def test_the_band_covers_the_measured_sizes_narrowly_and_reaches_below_them():
    sizes = [5, 10, 20, 40, 80]
    rows = make_rows(sizes, lambda n: 0.1 + 0.9 * n**-0.7, n_test=160, n_seeds=1)  # steep, then flat: power laws differ
    curve, measured = fit_curve(rows, n_bootstrap=300).predict([2, *sizes]), summarize(rows, ["n_per_class"])
    widths = (curve["accuracy_high"] - curve["accuracy_low"]).to_numpy()
    own = (measured["accuracy_high"] - measured["accuracy_low"]).to_numpy()
    assert np.isfinite(widths).all() and (widths[1:] < 1.5 * own).all()


def test_gain_of_doubling_and_plateau_agree_with_the_curve():
    fit = fit_curve(make_rows([5, 10, 20, 40, 80], lambda n: 0.8 * n**-0.5), n_bootstrap=200)
    gain, truth = fit.predict_gain(), 0.8 * (80**-0.5 - 160**-0.5)
    assert gain.value == pytest.approx(truth, abs=0.006)
    assert gain.low <= truth <= gain.high and gain.n == 4000
    low, high = fit.find_plateau(0.02)  # where a doubling buys less than this
    truth = (0.8 * (1 - 0.5**0.5) / 0.02) ** 2
    assert truth / 3 < low <= truth <= high < 3 * truth
    assert fit.find_plateau(0.0005)[1] == 8000  # the most that is said: a hundred times the largest size


@pytest.mark.parametrize(
    "error", [lambda n: 0.0, lambda n: 0.3, lambda n: 0.1 + n / 100], ids=["always right", "flat", "falling accuracy"]
)
def test_curve_without_a_slope_promises_nothing(error):
    fit = fit_curve(make_rows([5, 10, 20], error), n_bootstrap=100)
    assert fit.predict_gain().value == pytest.approx(0, abs=1e-6)
    assert fit.find_plateau(0.01)[0] == 1


def test_the_band_holds_the_true_curve_in_nearly_all_simulated_studies():
    """A study of 150 test images and 4 seeds, 150 times."""
    rng = np.random.default_rng(0)
    sizes = [5, 10, 20, 40]

    def simulate():
        difficulty = rng.normal(size=150)
        rows = []
        for seed in range(4):
            luck = rng.normal(0, 0.15, len(sizes))
            for size, shift in zip(sizes, luck, strict=True):
                skill = 0.4 * np.log(size) - 0.3 + shift
                right = rng.random(150) < 1 / (1 + np.exp(-2 * (skill + difficulty)))
                rows.append({"n_per_class": size, "seed": seed, "right": right})
        return pd.DataFrame(rows)

    draws = np.random.default_rng(1).normal(size=(2, 200_000))
    truth = (1 / (1 + np.exp(-2 * (0.4 * np.log(40) - 0.3 + 0.15 * draws[0] + draws[1])))).mean()
    bands = [fit_curve(simulate(), n_bootstrap=200).predict([40]).iloc[0] for _ in range(150)]
    assert np.mean([band["accuracy_low"] <= truth <= band["accuracy_high"] for band in bands]) >= 0.92


ERROR_02 = make_rows([5, 10], lambda n: 0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: list_sizes(make_task(*make_data(n_train=1))), "two classes of at least 2", id="one image"),
        pytest.param(lambda: fit_curve(ERROR_02[:3]), "two sizes or more, and the same seeds", id="one size"),
        pytest.param(lambda: fit_curve(ERROR_02[:-1]), "two sizes or more, and the same seeds", id="a seed is missing"),
        pytest.param(lambda: fit_curve(ERROR_02).find_plateau(0.0), "above 0", id="no gain asked for"),
    ],
)
def test_what_cannot_be_drawn_or_fitted_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_probe_and_fine_tuning_learn_the_same_images_and_none_is_held_out(monkeypatch):
    from utils_cv.data.image_table import TableImages
    from utils_cv.training import fine_tuning

    table, _ = make_data(n_train=6, n_test=3)
    pixels = np.random.default_rng(0).integers(0, 255, (len(table), 32, 32, 3), dtype=np.uint8)
    images = TableImages(table, pixels, ["can", "carton", "milk"], False, "squash", pd.DataFrame())
    seen = []

    def fine_tune(drawn, *, trainable, start, seed, show_progress):
        seen.append((drawn.table, trainable, seed))
        return start

    monkeypatch.setattr(fine_tuning, "fine_tune", fine_tune)
    task = make_task(table, np.random.default_rng(1).normal(size=(len(table), 1280)).astype(np.float32))
    rows = measure_fine_tuning(task, images, [4], backbone="efficientnet_lite0", n_seeds=2, seed=3)
    assert rows["recipe"].tolist() == ["probe", "averaged", "last_stage"] * 2
    assert rows["seed"].tolist() == [3] * 3 + [4] * 3
    for (drawn, trainable, seed), start in zip(seen, (0, 3), strict=True):
        assert trainable == "last_stage" and seed == rows["seed"][start]
        assert drawn["split"].value_counts().to_dict() == {"train": 12, "test": 9}
        assert set(drawn.loc[drawn["split"] == "train", "image"]) == set(table["image"].iloc[task.draw(4, seed=seed)])
        np.testing.assert_array_equal(rows["right"][start], rows["right"][start + 1])
        np.testing.assert_array_equal(rows["right"][start], rows["right"][start + 2])
        assert rows["right"][start].shape == (9,)
