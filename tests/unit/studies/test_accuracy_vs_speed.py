"""The study on small images: every runtime's own answers, paired differences, and nothing lost by a stop."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from utils_cv.data.image_table import load_image_table
from utils_cv.data.splits import complete_splits
from utils_cv.models.runtimes import STUDY_INT8_NAME
from utils_cv.plots.speed import plot_accuracy_vs_latency
from utils_cv.studies import speed_trials
from utils_cv.studies.accuracy_vs_speed import (
    _fingerprint,
    _list_offers,
    _list_settings,
    accuracy_vs_speed,
    load_study_classifier,
)

QUICK = {"im_sizes_px": [64], "n_repeats": 2, "batch_size": 2, "show_progress": False}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from tests.conftest import COLORS, draw_image

    root = tmp_path_factory.mktemp("images")
    for label in COLORS:
        (root / label).mkdir()
        for i in range(15):
            draw_image(label, seed=i + 100 * (label == "can")).save(root / label / f"{i}.png")
    return complete_splits(load_image_table(root))


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def rows(table, work_dir):
    runtimes = ["torch", "onnx", "int8"]
    return accuracy_vs_speed(table, ["efficientnet_lite0"], runtimes=runtimes, work_dir=work_dir, **QUICK)


def test_one_row_a_setting_with_every_column(rows, table):
    assert rows["runtime"].tolist() == ["torch", "onnx", "int8"] and rows["name"].is_unique
    assert (rows["n_test"] == (table["split"] == "test").sum()).all() and rows["is_trained"].all()
    positive = ["min_ms", "median_ms", "p95_ms", "open_ms", "images_per_second", "size_mb", "peak_memory_mb"]
    assert (rows[[*positive, "n_parameters", "n_multiply_adds", "train_seconds"]] > 0).all(axis=None)
    assert not rows.isna().any(axis=None)


def test_the_table_lies_on_the_disk_as_it_was_returned(rows, work_dir):
    pd.testing.assert_frame_equal(pd.read_csv(work_dir / "table.csv"), rows, check_dtype=False)


def test_equal_networks_give_equal_answers_and_8_bits_give_their_own(rows):
    by_runtime = rows.set_index("runtime")
    assert by_runtime.loc["torch", "accuracy"] == by_runtime.loc["onnx", "accuracy"] >= 0.8
    assert by_runtime.loc["int8", "size_mb"] < 0.5 * by_runtime.loc["onnx", "size_mb"]


@pytest.mark.parametrize(
    ("n_images", "int8_ms", "is_offered"),
    [
        pytest.param(600, 2.0, True, id="faster and equal on many images"),
        pytest.param(600, 9.0, False, id="slower"),
        pytest.param(30, 2.0, False, id="too few images to tell"),
    ],
)
def test_8_bits_are_offered_only_behind_the_gate(n_images, int8_ms, is_offered):
    y_true = ["can", "carton"] * (n_images // 2)
    settings = [("onnx", 5.0), ("int8", int8_ms), ("torch", 20.0)]
    rows = pd.DataFrame(settings, columns=["runtime", "median_ms"])
    rows = rows.assign(backbone="net", im_size_px=224, answers=json.dumps(y_true))
    assert _list_offers(rows, y_true) == [True, is_offered, True]
    assert _list_offers(rows.iloc[[1]], y_true) == [False]  # nothing in floats to compare with
    assert _list_offers(rows.replace("int8", "openvino_int8"), y_true) == [True, is_offered, True]


def test_differences_are_paired_with_the_best(rows):
    best = rows["accuracy"].idxmax()
    np.testing.assert_allclose(rows["difference"], rows["accuracy"] - rows["accuracy"][best])
    assert ((rows["difference_low"] <= rows["difference"]) & (rows["difference"] <= rows["difference_high"])).all()
    assert rows["difference_low"][best] < 0 < rows["difference_high"][best]


def test_the_figure_takes_the_rows(rows):
    assert len(plot_accuracy_vs_latency(rows).texts) == len(rows)


def test_a_second_call_trains_nothing_again(table, work_dir, rows, monkeypatch):
    monkeypatch.setattr(speed_trials, "linear_probe", lambda *_, **__: pytest.fail("trained again"))
    again = accuracy_vs_speed(table, ["efficientnet_lite0"], runtimes=["onnx"], work_dir=work_dir, **QUICK)
    same = ["accuracy", "train_seconds", "size_mb", "peak_memory_mb"]
    assert again[same].iloc[0].tolist() == rows.loc[rows["runtime"] == "onnx", same].iloc[0].tolist()


def test_a_stop_loses_no_finished_row(table, rows, work_dir, tmp_path, monkeypatch):
    shutil.copytree(work_dir, tmp_path, dirs_exist_ok=True)
    for folder in tmp_path.glob("trials/**/answer_one"):  # as if the training alone had finished
        shutil.rmtree(folder)
    calls = []

    def answer_then_stop(run, pixels, folder):
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ["can"] * len(pixels)

    monkeypatch.setattr(speed_trials, "predict_labels", answer_then_stop)
    settings = {"runtimes": ["onnx", "torch"], "work_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        accuracy_vs_speed(table, ["efficientnet_lite0"], **settings, **QUICK)
    monkeypatch.setattr(speed_trials, "linear_probe", lambda *_, **__: pytest.fail("trained again"))
    assert len(accuracy_vs_speed(table, ["efficientnet_lite0"], **settings, **QUICK)) == 2
    assert len(calls) == 3, "the row that was finished before the stop was computed again"


@pytest.mark.parametrize("runtime", ["torch", "onnx", "int8"])
def test_the_chosen_row_predicts_in_its_own_runtime(table, rows, work_dir, monkeypatch, runtime):
    monkeypatch.setattr("utils_cv.studies.accuracy_vs_speed._find_work_dir", lambda _: work_dir)
    row = rows.set_index("runtime", drop=False).loc[runtime]
    classifier = load_study_classifier(table, row)
    test = table[table["split"] == "test"]
    is_right = np.array(classifier.predict_labels(test["path"].tolist())) == test["label"].to_numpy(dtype=str)
    assert classifier.runtime == runtime and is_right.mean() == row["accuracy"]


def test_what_was_not_trained_cannot_be_loaded(table, tmp_path, monkeypatch):
    monkeypatch.setattr("utils_cv.studies.accuracy_vs_speed._find_work_dir", lambda _: tmp_path)
    with pytest.raises(FileNotFoundError, match="call accuracy_vs_speed on this table first, with lite9 at 64 px"):
        load_study_classifier(table, {"backbone": "lite9", "im_size_px": 64, "runtime": "onnx"})


def test_what_a_cleaned_cache_has_lost_is_made_again(table, rows, work_dir):
    folder = speed_trials.find_model_dir(work_dir, "efficientnet_lite0", 64)
    (folder / STUDY_INT8_NAME).unlink()
    again = accuracy_vs_speed(table, ["efficientnet_lite0"], runtimes=["int8"], work_dir=work_dir, **QUICK)
    assert again["median_ms"].item() > 0


def test_another_image_means_another_study(table, work_dir, rows, tmp_path):
    changed = table.copy()
    (tmp_path / "other.png").write_bytes(b"other")
    changed.loc[0, "path"] = str(tmp_path / "other.png")
    prints = {_fingerprint(table, 0), _fingerprint(table, 1), _fingerprint(changed, 0)}
    assert len(prints) == 3 and _fingerprint(table, 0) == _fingerprint(table.copy(), 0)


def test_an_architecture_without_weights_is_timed_but_not_scored(table, tmp_path):
    rows = accuracy_vs_speed(table, ["resnet18"], runtimes=["onnx"], work_dir=tmp_path, **QUICK)
    row = rows.iloc[0]
    assert not row["is_trained"] and np.isnan(row["accuracy"]) and np.isnan(row["difference"])
    assert row["median_ms"] > 0 and row["n_parameters"] > 10**7
    assert "not trained" in plot_accuracy_vs_latency(rows).texts[0].get_text()


def test_one_thing_at_a_time_gives_fewer_settings_around_the_first():
    backbones, sizes, runtimes = ["efficientnet_lite0", "efficientnet_lite1"], [0, 96], ["onnx", "int8", "torch"]
    one, every = (_list_settings(backbones, sizes, runtimes, vary, 0) for vary in ("one", "all"))
    assert len(every) == 12 and len(one) == 5 and all(setting in every for setting in one)
    sizes_of_lite1 = {row["im_size_px"] for row in one if row["backbone"] == "efficientnet_lite1"}
    assert sizes_of_lite1 == {240} and [row["im_size_px"] for row in one] == sorted(row["im_size_px"] for row in one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"backbones": []}, "at least one of each", id="no backbone"),
        pytest.param({"runtimes": []}, "at least one of each", id="no runtime"),
        pytest.param({"vary": "some"}, "'all' or 'one'", id="unknown variation"),
        pytest.param({"runtimes": ["tensorrt"]}, "here there are torch", id="unknown runtime"),
    ],
)
def test_requests_without_an_answer_are_refused(table, tmp_path, changes, message):
    request = {"backbones": ["efficientnet_lite0"], "runtimes": ["onnx"], "work_dir": tmp_path} | changes
    with pytest.raises(ValueError, match=message):
        accuracy_vs_speed(table, **request)


def test_a_table_without_test_images_is_refused(table, tmp_path):
    with pytest.raises(ValueError, match="no test images"):
        accuracy_vs_speed(table[table["split"] == "train"], ["efficientnet_lite0"], work_dir=tmp_path)
