"""What studies share: draws and splits, results in the order of the settings wherever trials run, and summaries."""

import functools
import os

import joblib
import numpy as np
import pandas as pd
import pytest

from utils_cv.evaluation.intervals import compare_means, measure_mean
from utils_cv.evaluation.multilabel import compare_multilabel, measure_multilabel
from utils_cv.studies import experiment
from utils_cv.studies.experiment import TrialError, make_task, run_trials, summarize, tabulate_trials


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


def make_labels_data(n_images=120, *, seed=0):
    """Images of none, one or both of two labels, and features that show them; of the rarer label are 24 to learn."""
    rng = np.random.default_rng(seed)
    hot = np.array([[0, 0], [1, 0], [1, 0], [1, 1], [0, 1]])[np.arange(n_images) % 5]
    features = (hot @ rng.normal(size=(2, 8)) + rng.normal(size=(n_images, 8))).astype(np.float32)
    labels = ["|".join(np.array(["can", "milk"])[row > 0]) for row in hot]
    split = np.where(np.arange(n_images) % 10 < 5, "train", "test")
    images = [f"{i:04d}.jpg" for i in range(n_images)]
    return pd.DataFrame({"image": images, "path": images, "label": labels, "split": split}), features


def test_several_labels_are_drawn_learned_and_scored_as_notebook_03_does():
    task = make_task(*make_labels_data(), takes_several=True)
    assert (task.measure, task.n_smallest, task.codes.shape) == ("mean_average_precision", 24, (120, 2))
    few, many = (task.draw(n, seed=3) for n in (4, 12))
    assert set(few) <= set(many) <= set(task.pool_rows) and task.codes[many].sum(axis=0).min() == 12
    assert (~task.codes[many].any(axis=1)).sum() == round((task.codes[many].any(axis=1)).sum() / 4)  # as in all
    logits, y_true = [task.predict(rows) for rows in (few, many)], task.codes[task.test_rows]
    rows = pd.DataFrame([{"n": i, "seed": 0} | task.score(values) for i, values in enumerate(logits)])
    first, last = summarize(rows, ["n"], baseline={"n": 0}).to_dict("records")
    answers = [(1 / (1 + np.exp(-values)), 0.5) for values in logits]
    expected = measure_multilabel(y_true, *answers[1])["mean_average_precision"]
    assert list(last.values())[1:5] == pytest.approx(tuple(expected))
    change = compare_multilabel(y_true, answers[1], answers[0])["mean_average_precision"]
    assert [last[f"difference{end}"] for end in ("", "_low", "_high")] == pytest.approx(tuple(change[:3]))
    assert np.isnan(first["difference"]) and rows["right"][0] == pytest.approx(((logits[0] > 0) == y_true).mean(axis=1))


def test_labels_that_cannot_be_learned_are_left_out_and_those_not_drawn_are_never_answered():
    table, features = make_labels_data()
    table.loc[[0, 5], "label"] = "jar|can", "jar"
    with pytest.warns(UserWarning, match="Left out of the study: jar, with 1 image to learn"):
        task = make_task(table, features, takes_several=True)
    assert task.class_names == ["can", "milk"] and task.table["label"][[0, 5]].tolist() == ["can", ""]
    only_cans = task.pool_rows[task.codes[task.pool_rows, 1] == 0]
    assert np.isneginf(task.predict(only_cans)[:, 1]).all() and np.isneginf(task.predict(only_cans[:0])).all()


def test_seeds_that_differ_widen_the_interval_of_several_labels():
    task = make_task(*make_labels_data(), takes_several=True)
    scored = pd.DataFrame([task.score(task.predict(task.draw(n, seed=n))) for n in (2, 24, 24)])
    alone, same, differing = (experiment._measure_trials(scored.iloc[rows]) for rows in ([1], [1, 2], [1, 0, 2]))
    assert same == pytest.approx(alone, abs=1e-3) and differing.high - differing.low > 1.5 * (alone.high - alone.low)


def test_draws_are_nested_balanced_and_of_train_and_validation_images_only():
    table, features = make_data()
    is_first = table.groupby("label").cumcount() < 10
    task = make_task(table.assign(split=table["split"].where(~is_first, "valid")), features)
    assert len(task.pool_rows) == 120 and task.n_smallest == 40
    few, many = (task.draw(n, seed=3) for n in (5, 20))
    assert set(few) <= set(many) and not set(many) & set(task.test_rows)
    assert np.bincount(task.codes[few]).tolist() == [5, 5, 5]
    assert set(task.draw(5, seed=4)) != set(few)


def test_whole_groups_are_drawn_and_count_as_one_in_the_interval():
    table, features = make_data()
    scenes = [f"{name} {i // 5}" for name, part in table.groupby("label") for i in range(len(part))]
    task = make_task(table.assign(group=scenes), features)
    rows = task.draw(10, seed=2)
    assert pd.Series(scenes)[rows].value_counts().tolist() == [5] * 6 and set(task.draw(5, seed=2)) <= set(rows)
    settings = [{"n": n, "seed": seed} for n in (5, 10) for seed in range(3)]
    rows = tabulate_trials(lambda n, seed: task.score(task.predict(task.draw(n, seed=seed))), settings)
    alone, grouped = (summarize(part, ["n"], baseline={"n": 5}).iloc[1] for part in (rows.drop(columns="groups"), rows))
    assert (alone["n_test"], grouped["n_test"]) == (90, 18) and alone["difference_low"] != grouped["difference_low"]


@pytest.mark.parametrize("groups", [None, "scene"], ids=["image", "group"])
def test_a_class_of_one_to_learn_from_is_left_out_and_named(groups):
    table, features = make_data()
    is_first = table.groupby("label").cumcount() < 1 + bool(groups)
    is_kept = is_first | (table["label"] != "milk") | (table["split"] == "test")
    table, features = table[is_kept].reset_index(drop=True), features[is_kept]
    if groups:
        table["group"] = np.where(table["label"] == "milk", "scene", table["image"])
    what = f"Left out of the study: milk, with 1 {'group' if groups else 'image'} to learn"
    with pytest.warns(UserWarning, match=what):
        task = make_task(table, features)
    assert task.class_names == ["can", "carton"]
    assert (task.n_smallest, len(task.pool_rows), len(task.test_rows)) == (40, 80, 60)
    assert task.predict(task.pool_rows).shape == (60, 2) and len(task.draw(5, seed=0)) == 10
    with pytest.raises(ValueError, match="expected two classes of at least 2"):
        make_task(table[table["label"] != "can"].reset_index(drop=True), features[table["label"] != "can"])


def test_a_class_that_wrong_labels_leave_without_images_is_never_answered():
    task = make_task(*make_data())
    logits = task.predict(task.pool_rows, task.codes[task.pool_rows] % 2)
    assert np.isneginf(logits[:, 2]).all() and np.isfinite(logits[:, :2]).all()


def test_a_probe_learns_the_labels_it_is_given_and_answers_for_the_test_images():
    task = make_task(*make_data(distance=3))
    logits = task.predict(task.pool_rows)
    assert logits.shape == (90, 3) and (logits.argmax(axis=1) == task.codes[task.test_rows]).mean() > 0.9
    turned = task.predict(task.pool_rows, (task.codes[task.pool_rows] + 1) % 3)
    assert (turned.argmax(axis=1) == task.codes[task.test_rows]).mean() < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, f: (t, f[:-1]), "rows and features"),
        (lambda t, f: (t.assign(split="train"), f), "complete_splits"),
        (lambda t, f: (t.assign(split=""), f), "complete_splits"),
        (lambda t, f: (t.assign(label="can|carton"), f), "one label per image"),
    ],
    ids=["lengths", "no test split", "no split", "several labels"],
)
def test_tables_that_cannot_be_studied(change, message):
    with pytest.raises(ValueError, match=message):
        make_task(*change(*make_data()))


SETTINGS = [{"x": x, "name": name, "seed": 0} for x in (3, 1, 2) for name in ("plain", "weighted")]


def power(x, name, seed, *, exponent=2):
    return {"y": x**exponent, "right": np.arange(4) < x, "process": os.getpid()}


def fail_at(x, name, seed, *, bad):
    if x == bad:
        raise ZeroDivisionError("nothing to divide by")
    return power(x, name, seed)


def run(trial, settings=SETTINGS):
    return run_trials(trial, settings, show_progress=False)


def test_rows_hold_setting_and_result_in_the_order_of_the_settings():
    rows = tabulate_trials(functools.partial(power, exponent=3), SETTINGS, show_progress=False)
    assert list(rows.columns) == ["x", "name", "seed", "y", "right", "process"]
    assert rows["x"].tolist() == [3, 3, 1, 1, 2, 2] and rows["y"].tolist() == [27, 27, 1, 1, 8, 8]
    assert np.stack(rows["right"]).sum(axis=1).tolist() == rows["x"].tolist()
    assert set(rows["process"]) == {os.getpid()}


def test_processes_are_those_of_the_surrounding_joblib_configuration():
    with joblib.parallel_config(n_jobs=2):
        results = run(power)
    assert [result["y"] for result in results] == [9, 9, 1, 1, 4, 4]
    assert os.getpid() not in {result["process"] for result in results}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_failing_trial_names_its_setting(n_jobs):
    with (
        joblib.parallel_config(n_jobs=n_jobs),
        pytest.raises(TrialError, match=r"x=2, name='\w+', seed=0 failed: ZeroDivisionError: nothing to") as raised,
    ):
        run(functools.partial(fail_at, bad=2))
    assert raised.value.__cause__ is not None


def test_progress_has_a_name_and_a_total(capsys):
    run_trials(dict, [{"x": 1}] * 3, description="study")
    shown = capsys.readouterr().err
    assert "study:" in shown and "3/3" in shown


def test_no_setting_is_refused():
    with pytest.raises(ValueError, match="no settings"):
        run(power, [])


def test_summary_holds_scores_and_differences_of_the_same_seeds():
    rng = np.random.default_rng(0)
    settings = [{"kind": kind, "rate": rate, "seed": seed} for kind in "ab" for rate in (0.0, 0.5) for seed in range(3)]
    rows = pd.DataFrame([setting | {"right": rng.random(50) < 0.8, "cost": setting["rate"]} for setting in settings])
    summary = summarize(rows.sample(frac=1, random_state=0), ["kind", "rate"], baseline={"rate": 0.0}, means=["cost"])
    for row in summary.to_dict("records"):
        right = {
            rate: np.stack(rows[(rows["kind"] == row["kind"]) & (rows["rate"] == rate)]["right"]) for rate in (0.0, 0.5)
        }
        score, change = measure_mean(right[row["rate"]]), compare_means(right[0.5], right[0.0])
        assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"], row["n_test"]) == tuple(score)
        assert row["n_trials"] == 3 and row["cost"] == row["rate"]
        assert row["seed_sd"] == pytest.approx(right[row["rate"]].mean(axis=1).std(ddof=1))
        expected = [np.nan] * 3 if row["rate"] == 0 else change[:3]
        np.testing.assert_equal([row[f"difference{end}"] for end in ("", "_low", "_high")], expected)


def test_images_of_a_group_are_kept_together_where_c_is_chosen(monkeypatch):
    table, features = make_data()
    task = make_task(table.assign(group=table.index // 5), features)
    seen = []

    def fit(features, labels, *, n_classes, **options):
        seen.append(options)
        return np.zeros((n_classes, features.shape[1])), np.zeros(n_classes)

    monkeypatch.setattr(experiment, "fit_known_classes", fit)
    task.predict(task.pool_rows, C=None, seed=4)
    assert seen[0]["groups"].tolist() == (task.pool_rows // 5).astype(str).tolist()
    assert seen[0]["C"] is None and seen[0]["seed"] == 4
