"""Learning curve and its fit: the right images are learned from, a known curve is recovered, forecasts hold."""

import numpy as np
import pandas as pd
import pytest

from utils_cv.studies.experiment import draw_pool_rows, make_task
from utils_cv.studies.learning_curve import compare_recipes, list_sizes, measure_learning_curve, summarize_curve
from utils_cv.studies.learning_curve_fit import find_plateau, fit_curve, forecast_last, predict_accuracy, predict_gain


def make_data(n_train=40, n_test=30, *, n_classes=3, n_features=12, distance=1.1, seed=0):
    """Gaussian classes, image table and features, `n_train` and `n_test` images of each class."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_classes), n_train + n_test)
    centers = rng.normal(size=(n_classes, n_features)) * distance
    features = (centers[codes] + rng.normal(size=(len(codes), n_features))).astype(np.float32)
    split = np.tile(["train"] * n_train + ["test"] * n_test, n_classes)
    names = np.array(["can", "carton", "milk"])[codes]
    columns = {"image": [f"{i}.jpg" for i in range(len(codes))], "path": [f"/d/{i:04d}.jpg" for i in range(len(codes))]}
    return pd.DataFrame({**columns, "label": names, "split": split}), features


def make_rows(sizes, error, *, n_seeds=3, n_test=4000, seed=0):
    """Rows of a learning curve whose errors are known."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(n_test)  # one for each test image, as in a real study: sizes share their images
    rows = [
        {"recipe": "probe", "n_per_class": n, "seed": s, "right": difficulty > error(n)}
        for n in sizes
        for s in range(n_seeds)
    ]
    return pd.DataFrame(rows).assign(n_train=lambda t: 3 * t["n_per_class"], accuracy=0.5)


def run(table, features, sizes, **options):
    return measure_learning_curve(table, features, sizes, show_progress=False, **options)


def test_more_images_score_better_and_rows_are_complete():
    table, features = make_data()
    rows = run(table, features, [2, 40], n_seeds=3)
    curve = summarize_curve(rows)
    assert curve["accuracy"].is_monotonic_increasing and curve["accuracy"].iloc[-1] > 0.8
    assert curve["n_train"].tolist() == [6, 120] and (curve["n_test"] == 90).all() and (curve["n_seeds"] == 3).all()
    assert (curve["accuracy_low"] < curve["accuracy"]).all() and (curve["accuracy"] < curve["accuracy_high"]).all()
    assert curve["seed_sd"].iloc[0] > 0 and curve["seed_sd"].iloc[-1] == 0  # nothing left to draw


def test_recipes_are_compared_where_both_were_measured():
    rows = make_rows([5, 10], lambda n: 0.2, n_test=100)
    better = make_rows([10, 20], lambda n: 0.1, n_test=100).assign(recipe="top")
    compared = compare_recipes(pd.concat([rows, better]), "top")
    assert compared["n_per_class"].tolist() == [10] and compared["n"].tolist() == [100]
    expected = better["right"].iloc[0].mean() - rows["right"].iloc[0].mean()
    assert compared["value"].tolist() == pytest.approx([expected])
    assert compare_recipes(rows, "top").empty


def test_draws_are_nested_balanced_and_leave_the_test_split_alone():
    table, features = make_data()
    task = make_task(table, features)
    few, many = (draw_pool_rows(table, n, seed=3) for n in (5, 20))
    assert set(few) <= set(many)
    assert np.bincount(task.codes[few]).tolist() == [5, 5, 5]
    assert not set(many) & set(task.test_rows)
    assert set(draw_pool_rows(table, 5, seed=4)) != set(few)


def test_validation_images_are_learned_from_too():
    table, features = make_data()
    is_first = table.groupby("label").cumcount() < 10
    valid = table.assign(split=table["split"].where(~is_first, "valid"))
    assert list_sizes(valid) == list_sizes(table) == [5, 10, 20, 40]
    assert len(make_task(valid, features).pool_rows) == 120


def test_sizes_end_at_the_smallest_class():
    table, _ = make_data()
    dropped = table[~((table["label"] == "can") & (table["split"] == "train") & (table.index % 2 == 0))]
    assert list_sizes(dropped, smallest=4) == [5, 10, 20]
    with pytest.raises(ValueError, match="smallest class has 20"):
        list_sizes(dropped, smallest=21)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, f: (t, f[:-1]), "rows and inputs"),
        (lambda t, f: (t.assign(split="train"), f), "complete_splits"),
        (lambda t, f: (t.assign(split=""), f), "complete_splits"),
        (lambda t, f: (t.assign(label="can|carton"), f), "one label an image"),
    ],
    ids=["lengths", "no test split", "no split", "several labels"],
)
def test_tables_that_cannot_be_studied(change, message):
    with pytest.raises(ValueError, match=message):
        run(*change(*make_data()), [2])


def test_unknown_recipe():
    with pytest.raises(ValueError, match="probe, top"):
        run(*make_data(), [2], recipe="magic")


def test_fit_recovers_a_known_curve_beyond_what_was_measured():
    rows = make_rows([5, 10, 20, 40, 80], lambda n: 0.8 * n**-0.5 + 0.02)
    predicted = predict_accuracy(fit_curve(rows, n_bootstrap=200), [80, 320])
    truth = 1 - (0.8 * np.array([80, 320]) ** -0.5 + 0.02)
    np.testing.assert_allclose(predicted["accuracy"], truth, atol=0.01)
    assert (predicted["accuracy_low"] <= truth).all() and (truth <= predicted["accuracy_high"]).all()


def test_gain_of_doubling_agrees_with_the_curve():
    gain = predict_gain(fit_curve(make_rows([5, 10, 20, 40, 80], lambda n: 0.8 * n**-0.5), n_bootstrap=200))
    truth = 0.8 * (80**-0.5 - 160**-0.5)
    assert gain.value == pytest.approx(truth, abs=0.004)
    assert gain.low <= truth <= gain.high and gain.n == 4000


def test_enough_is_where_a_doubling_buys_less_than_asked():
    fit = fit_curve(make_rows([5, 10, 20, 40, 80], lambda n: 0.8 * n**-0.5), n_bootstrap=200)
    enough, low, high = find_plateau(fit, 0.02)
    truth = (0.8 * (1 - 0.5**0.5) / 0.02) ** 2
    assert enough == pytest.approx(truth, rel=0.15) and low <= truth <= high
    assert find_plateau(fit, 0.001)[0] == 8000  # the most that is said: a hundred times the largest size
    with pytest.raises(ValueError, match="above 0"):
        find_plateau(fit, 0.0)


@pytest.mark.parametrize("error", [0.0, 0.3], ids=["always right", "flat"])
def test_curve_without_a_slope_promises_nothing(error):
    fit = fit_curve(make_rows([5, 10, 20], lambda n: error), n_bootstrap=100)
    assert predict_gain(fit).value == pytest.approx(0, abs=1e-6)
    assert find_plateau(fit, 0.01)[0] == 1


def test_accuracy_that_falls_is_fitted_by_a_flat_curve():
    fit = fit_curve(make_rows([5, 10, 20], lambda n: 0.1 + n / 100), n_bootstrap=100)
    assert predict_gain(fit).value == pytest.approx(0, abs=1e-9)


def test_last_size_is_forecast_from_those_before():
    check = forecast_last(make_rows([5, 10, 20, 40], lambda n: 0.8 * n**-0.5), n_bootstrap=200)
    assert check["n_per_class"] == 40
    assert check["forecast"] == pytest.approx(check["measured"], abs=0.01)
    assert check["forecast_low"] <= check["measured"] <= check["forecast_high"]


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
                rows.append({"recipe": "probe", "n_per_class": size, "seed": seed, "right": right})
        return pd.DataFrame(rows)

    draws = np.random.default_rng(1).normal(size=(2, 200_000))
    truth = (1 / (1 + np.exp(-2 * (0.4 * np.log(40) - 0.3 + 0.15 * draws[0] + draws[1])))).mean()
    bands = [predict_accuracy(fit_curve(simulate(), n_bootstrap=200), [40]).iloc[0] for _ in range(150)]
    assert np.mean([band["accuracy_low"] <= truth <= band["accuracy_high"] for band in bands]) >= 0.92


@pytest.mark.parametrize(
    "rows",
    [
        make_rows([5], lambda n: 0.2),
        pd.concat([make_rows([5, 10], lambda n: 0.2), make_rows([5], lambda n: 0.2).assign(recipe="top")]),
        make_rows([5, 10], lambda n: 0.2).iloc[:-1],
    ],
    ids=["one size", "two recipes", "a seed is missing"],
)
def test_rows_that_cannot_be_fitted(rows):
    with pytest.raises(ValueError, match="Expected one recipe"):
        fit_curve(rows)
