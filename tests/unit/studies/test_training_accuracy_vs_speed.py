"""The study on small images: every runtime's own answers, paired differences, nothing trained twice, and the choice."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from utils_cv.models.saved_classifier import load_classifier
from utils_cv.studies import training_accuracy_vs_speed as study
from utils_cv.studies.training_accuracy_vs_speed import compare_settings, list_settings, select_setting

LITE0 = "efficientnet_lite0"
QUICK = {"n_repeats": 2, "batch_size": 2}
SETTINGS = list_settings([LITE0], [64], ["torch", "onnx", "int8"])


@pytest.fixture(scope="module")
def table(small_images):
    """Without test images: the study must not look at them."""
    return small_images.table[small_images.table["split"] != "test"].reset_index(drop=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The study's part of the cache folder; exports of backbones stay in the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("studies")
        patch.setattr(study, "get_cache_dir", lambda name: folder)
        yield folder


@pytest.fixture(scope="module")
def rows(table, cache):
    return compare_settings(table, SETTINGS, **QUICK)


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(study, "linear_probe", lambda *_, **__: pytest.fail("trained again"))


def test_one_row_per_setting_with_every_column(rows, table):
    assert rows["name"].tolist() == SETTINGS["name"].tolist() and rows["is_trained"].all()
    assert (rows["n_valid"] == (table["split"] == "valid").sum()).all()
    positive = ["min_ms", "median_ms", "p95_ms", "open_ms", "images_per_second", "size_mb", "peak_memory_mb"]
    assert (rows[positive] > 0).all(axis=None)
    assert not rows.drop(columns=["difference", "difference_low", "difference_high"]).isna().any(axis=None)


def test_equal_networks_give_equal_answers_and_8_bits_give_their_own(rows):
    by_runtime = rows.set_index("runtime")
    assert by_runtime.loc["torch", "valid_accuracy"] == by_runtime.loc["onnx", "valid_accuracy"] >= 0.8
    assert by_runtime.loc["int8", "size_mb"] < 0.5 * by_runtime.loc["onnx", "size_mb"]


@pytest.mark.parametrize("i", range(len(SETTINGS)), ids=SETTINGS["runtime"].tolist())
def test_each_row_names_the_model_that_gave_its_answers(table, rows, i):
    row, valid = rows.iloc[i], table[table["split"] == "valid"]
    labels = load_classifier(row["model_dir"], runtime=row["runtime"]).predict_labels(valid["path"].tolist())
    assert (np.array(labels) == valid["label"].to_numpy(dtype=str)).mean() == row["valid_accuracy"]


def test_differences_are_paired_with_the_first_setting_and_left_out_for_the_same_network():
    runtimes, folders = ["onnx", "torch", "int8", "onnx"], ["a", "a", "a", "b"]
    rows = pd.DataFrame({"runtime": runtimes, "model_dir": folders, "is_trained": True})
    rows["answers"] = [["x", "y"], ["x", "y"], ["x", "y"], ["x", "x"]]
    scored = study._add_scores(rows, np.array(["x", "y"]))
    assert scored["valid_accuracy"].tolist() == [1.0, 1.0, 1.0, 0.5]
    np.testing.assert_array_equal(scored["difference"], [np.nan, np.nan, 0.0, -0.5])
    assert (scored["difference_low"] < scored["difference"]).tolist() == [False, False, True, True]


def test_images_of_one_group_do_not_count_as_independent():
    y_true = np.array(["x", "y"]).repeat(40)
    rows = pd.DataFrame({"runtime": ["onnx", "int8"], "model_dir": "a", "is_trained": True})
    rows["answers"] = [y_true, np.where(np.arange(80) % 16 < 4, "x", y_true)]
    alone, grouped = (study._add_scores(rows, y_true, groups) for groups in (None, np.arange(80) // 4))
    assert (alone["n_valid"][0], grouped["n_valid"][0]) == (80, 20)
    for name in ("valid_accuracy", "difference"):
        widths = [table[f"{name}_high"][1] - table[f"{name}_low"][1] for table in (alone, grouped)]
        assert widths[1] > 1.5 * widths[0], name


@pytest.mark.parametrize(
    ("n_images", "int8_ms", "is_offered"),
    [
        pytest.param(600, 2.0, True, id="faster and equal on many images"),
        pytest.param(600, 9.0, False, id="slower"),
        pytest.param(64, 2.0, True, id="faster and equal on few images"),
        pytest.param(30, 2.0, False, id="too few images to tell"),
    ],
)
def test_8_bits_are_offered_only_after_the_accuracy_check(n_images, int8_ms, is_offered):
    y_true = np.array(["can", "carton"] * (n_images // 2))
    rows = pd.DataFrame({"runtime": ["onnx", "int8", "torch"], "median_ms": [5.0, int8_ms, 20.0], "model_dir": "a"})
    rows["answers"], rows["logits"] = [y_true] * 3, [np.eye(n_images)] * 3
    offered = study._add_offers(rows, y_true)
    assert offered["is_offered"].tolist() == [True, is_offered, True]
    assert (offered["note"] == "").tolist()[::2] == [True, True] and offered["note"][1]
    alone = study._add_offers(rows.iloc[[1]].reset_index(drop=True), y_true)
    assert not alone["is_offered"].item() and "nothing in 32-bit floats" in alone["note"].item()


def test_a_second_call_trains_nothing_again_and_makes_only_a_lost_8_bit_network(table, cache, rows, no_training):
    for path in cache.rglob("*int8*"):
        path.unlink()
    again, same = compare_settings(table, SETTINGS.iloc[1:], **QUICK), ["valid_accuracy", "size_mb", "model_dir"]
    assert again[same].equals(rows.loc[1:, same].reset_index(drop=True)) and (again["median_ms"] > 0).all()


def test_a_stop_loses_no_trained_model(table, cache, monkeypatch):
    settings, calls = list_settings([LITE0], [48, 56], ["onnx"]), []
    answer = study._answer

    def stop_at_the_second(images, setting, *rest):
        calls.append(setting["im_size_px"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(images, setting, *rest)

    monkeypatch.setattr(study, "_answer", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        compare_settings(table, settings, **QUICK)
    trained, probe = [], study.linear_probe

    def train(images, **options):
        trained.append(len(images.pixels[0]))
        return probe(images, **options)

    monkeypatch.setattr(study, "linear_probe", train)
    assert len(compare_settings(table, settings, **QUICK)) == 2
    assert trained == [56]


def test_other_images_labels_and_seeds_are_another_study(table, cache, tmp_path):
    changed = table.copy()
    (tmp_path / "other.png").write_bytes(b"other")
    changed.loc[0, "path"] = str(tmp_path / "other.png")
    relabeled = table.assign(label=table["label"][::-1].to_numpy())
    folders = {study._find_models_dir(*it) for it in ((table, 0), (table, 1), (changed, 0), (relabeled, 0))}
    assert len(folders) == 4 and study._find_models_dir(table.copy(), 0) in folders


def test_an_architecture_without_weights_is_timed_but_not_scored(table, cache):
    rows = compare_settings(table, list_settings(["resnet18", "efficientnet_lite0"], [64], ["onnx"]), **QUICK)
    row, trained = rows.iloc[0], rows.iloc[1]
    assert not row["is_trained"] and np.isnan(row["valid_accuracy"]) and row["median_ms"] > 0
    assert "resnet18 needs model.safetensors" in row["note"] and np.isnan(trained["difference"])
    assert rows["weights_license"].tolist() == ["apache-2.0", "Apache-2.0"]
    assert select_setting(rows)["backbone"] == "efficientnet_lite0"
    with pytest.raises(ValueError, match=r"None of 1 settings.*not trained: resnet18 needs"):
        select_setting(rows[:1])
    shutil.rmtree(row["model_dir"])  # an untrained network is never taken for a trained one
    assert not list(cache.rglob("resnet18_64px"))


def test_a_broken_image_is_left_out(table, rows, tmp_path, no_training, monkeypatch):
    path = tmp_path / "broken.png"
    path.write_bytes(b"broken")
    broken = pd.concat([table.iloc[[0]].assign(path=str(path), image="broken.png", split="valid"), table])
    monkeypatch.setattr(study, "_find_models_dir", lambda *_: Path(rows["model_dir"][0]).parent)
    with pytest.warns(UserWarning, match="Skipped 1 of"):
        row = compare_settings(broken, SETTINGS.iloc[[1]], **QUICK)
    assert row["n_valid"].item() == (table["split"] == "valid").sum()


def test_one_thing_is_changed_at_a_time_around_the_first():
    settings = list_settings([LITE0, "efficientnet_lite1"], [0, 96, 224], ["onnx", "int8", "torch"])
    assert settings["name"].tolist() == [
        f"{LITE0} 224 px onnx", f"{LITE0} 224 px int8", f"{LITE0} 224 px torch", f"{LITE0} 96 px onnx",
        "efficientnet_lite1 240 px onnx",
    ]  # fmt: skip


def list_changed_settings(**changes):
    return list_settings(**{"backbones": [LITE0], "im_sizes_px": [0], "runtimes": ["onnx"]} | changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda _: list_changed_settings(backbones=[]), "at least one of each", id="no backbone"),
        pytest.param(lambda _: list_changed_settings(runtimes=[]), "at least one of each", id="no runtime"),
        pytest.param(lambda _: list_changed_settings(runtimes=["rt"]), "installed here: torch", id="unknown runtime"),
        pytest.param(lambda t: compare_settings(t.assign(split="train"), SETTINGS), "no validation", id="no choice"),
        pytest.param(lambda t: compare_settings(t.assign(label="a|b"), SETTINGS), "one label", id="several labels"),
    ],
)
def test_settings_and_tables_that_cannot_be_studied_are_refused(table, call, message):
    with pytest.raises(ValueError, match=message):
        call(table)


CHOICES = pd.DataFrame(
    [
        ("small", 0.85, 3.0, 4.0, True),
        ("middle", 0.90, 8.0, 17.0, True),
        ("middle, slow", 0.90, 20.0, 15.0, True),
        ("large", 0.92, 30.0, 90.0, True),
        ("untrained", np.nan, 1.0, 1.0, True),
        ("not offered", 0.95, 2.0, 2.0, False),
    ],
    columns=["name", "valid_accuracy", "median_ms", "size_mb", "is_offered"],
)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({}, "large"),
        ({"max_latency_ms": 10}, "middle"),
        ({"max_latency_ms": 20}, "middle"),  # of equals the faster
        ({"max_latency_ms": 3}, "small"),  # the limit itself is allowed
        ({"prefer": "speed"}, "small"),
        ({"prefer": "speed", "min_accuracy": 0.90}, "middle"),
        ({"prefer": "size", "min_accuracy": 0.90}, "middle, slow"),
        ({"prefer": "size", "min_accuracy": 0.90, "max_latency_ms": 10}, "middle"),
    ],
    ids=str,
)
def test_the_best_within_the_limits_is_selected_in_any_order_of_rows(limits, name):
    for seed in range(4):
        assert select_setting(CHOICES.sample(frac=1, random_state=seed), **limits)["name"] == name


@pytest.mark.parametrize("limits", [{"max_latency_ms": 2}, {"min_accuracy": 0.94}], ids=str)
def test_what_nothing_meets_is_said_with_what_comes_nearest(limits):
    with pytest.raises(ValueError, match=r"at best accuracy 0\.920 and 3\.0 ms"):
        select_setting(CHOICES, **limits)
