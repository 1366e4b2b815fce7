"""The study on small images: every runtime's own answers, paired differences, nothing trained twice, and the choice."""

import shutil

import numpy as np
import pandas as pd
import pytest

from utils_cv.data.image_table import load_image_table
from utils_cv.data.splits import complete_splits
from utils_cv.models.saved_classifier import load_classifier
from utils_cv.studies import training_accuracy_vs_speed as study
from utils_cv.studies.training_accuracy_vs_speed import compare_settings, list_settings, select_setting

LITE0 = "efficientnet_lite0"
QUICK = {"n_repeats": 2, "batch_size": 2}
SETTINGS = list_settings([LITE0], [64], ["torch", "onnx", "int8"])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from tests.conftest import COLORS, draw_image

    root = tmp_path_factory.mktemp("images")
    for label in COLORS:
        (root / label).mkdir()
        for i in range(15):
            draw_image(label, seed=i + 100 * (label == "can")).save(root / label / f"{i}.png")
    completed = complete_splits(load_image_table(root))
    return completed[completed["split"] != "test"].reset_index(drop=True)  # the study must not look at test images


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
    rows = pd.DataFrame(
        {"runtime": ["onnx", "torch", "int8", "onnx"], "model_dir": ["a", "a", "a", "b"], "is_trained": True}
    )
    rows["answers"] = [["x", "y"], ["x", "y"], ["x", "y"], ["x", "x"]]
    scored = study._add_scores(rows, np.array(["x", "y"]))
    assert scored["valid_accuracy"].tolist() == [1.0, 1.0, 1.0, 0.5]
    np.testing.assert_array_equal(scored["difference"], [np.nan, np.nan, 0.0, -0.5])
    assert (scored["difference_low"] < scored["difference"]).tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("n_images", "int8_ms", "is_offered"),
    [
        pytest.param(600, 2.0, True, id="faster and equal on many images"),
        pytest.param(600, 9.0, False, id="slower"),
        pytest.param(30, 2.0, False, id="too few images to tell"),
    ],
)
def test_8_bits_are_offered_only_after_the_accuracy_check(n_images, int8_ms, is_offered):
    y_true = np.array(["can", "carton"] * (n_images // 2))
    rows = pd.DataFrame({"runtime": ["onnx", "int8", "torch"], "median_ms": [5.0, int8_ms, 20.0], "model_dir": "a"})
    rows["answers"] = [y_true] * 3
    offered = study._add_offers(rows, y_true)
    assert offered["is_offered"].tolist() == [True, is_offered, True]
    assert (offered["note"] == "").tolist()[::2] == [True, True] and offered["note"][1]
    alone = study._add_offers(rows.iloc[[1]].reset_index(drop=True), y_true)
    assert not alone["is_offered"].item() and "nothing in 32-bit floats" in alone["note"].item()


def test_a_second_call_trains_nothing_again(table, rows, no_training):
    again = compare_settings(table, SETTINGS.iloc[[1]], **QUICK)
    same = ["valid_accuracy", "size_mb", "model_dir"]
    assert again[same].iloc[0].tolist() == rows.loc[1, same].tolist()


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
    monkeypatch.setattr(
        study,
        "linear_probe",
        lambda images, **options: trained.append(len(images.pixels[0])) or probe(images, **options),
    )
    assert len(compare_settings(table, settings, **QUICK)) == 2
    assert trained == [56]


def test_a_lost_8_bit_network_is_made_again(table, rows, no_training, cache):
    for path in cache.rglob("*int8*"):
        path.unlink()
    assert compare_settings(table, SETTINGS.iloc[[2]], **QUICK)["median_ms"].item() > 0


def test_other_images_labels_and_seeds_are_another_study(table, cache, tmp_path):
    changed = table.copy()
    (tmp_path / "other.png").write_bytes(b"other")
    changed.loc[0, "path"] = str(tmp_path / "other.png")
    relabeled = table.assign(label=table["label"][::-1].to_numpy())
    folders = {study._find_models_dir(*it) for it in ((table, 0), (table, 1), (changed, 0), (relabeled, 0))}
    assert len(folders) == 4 and study._find_models_dir(table.copy(), 0) in folders


def test_an_architecture_without_weights_is_timed_but_not_scored(table, cache):
    rows = compare_settings(table, list_settings(["resnet18"], [64], ["onnx"]), **QUICK)
    row = rows.iloc[0]
    assert not row["is_trained"] and np.isnan(row["valid_accuracy"]) and row["median_ms"] > 0
    with pytest.raises(ValueError, match="None of 0 offered settings"):
        select_setting(rows)
    shutil.rmtree(row["model_dir"])  # an untrained network is never taken for a trained one
    assert not list(cache.rglob("resnet18_64px"))


def test_a_broken_image_is_left_out(table, cache, tmp_path, no_training):
    path = tmp_path / "broken.png"
    path.write_bytes(b"broken")
    broken = pd.concat([table.iloc[[0]].assign(path=str(path), image="broken.png", split="valid"), table])
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="Skipped 1 of"):
        patch.setattr(study, "_find_models_dir", lambda *_: study.Path(rows_dir(cache)))
        rows = compare_settings(broken, SETTINGS.iloc[[1]], **QUICK)
    assert rows["n_valid"].item() == (table["split"] == "valid").sum()


def rows_dir(cache):
    return next(path.parent for path in sorted(cache.rglob(f"{LITE0}_64px")))


def test_one_thing_is_changed_at_a_time_around_the_first():
    settings = list_settings([LITE0, "efficientnet_lite1"], [0, 96, 224], ["onnx", "int8", "torch"])
    assert settings["name"].tolist() == [
        f"{LITE0} 224 px onnx", f"{LITE0} 224 px int8", f"{LITE0} 224 px torch", f"{LITE0} 96 px onnx",
        "efficientnet_lite1 240 px onnx",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"backbones": []}, "at least one of each", id="no backbone"),
        pytest.param({"runtimes": []}, "at least one of each", id="no runtime"),
        pytest.param({"runtimes": ["tensorrt"]}, "installed here: torch", id="unknown runtime"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        list_settings(**{"backbones": [LITE0], "im_sizes_px": [0], "runtimes": ["onnx"]} | changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"split": "train"}, "no validation images", id="nothing to choose by"),
        pytest.param({"label": "can|carton"}, "one label per image", id="several labels"),
    ],
)
def test_tables_that_cannot_be_studied_are_refused(table, change, message):
    with pytest.raises(ValueError, match=message):
        compare_settings(table.assign(**change), SETTINGS)


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
