"""The ladder as one call: cross-validation decides, and the chosen rung learns from all images but the test split."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from utils_cv.training import model_selection as ladder
from utils_cv.training.model_selection import select_recipe
from utils_cv.training.training import fine_tune, predict_images

OPTIONS = {"epochs": 2, "batch_size": 4, "n_folds": 2, "show_progress": False}


def test_a_rung_that_does_not_pay_ends_the_climb_and_the_probe_learns_everything(small_images, small_probe):
    climb = select_recipe(small_images, depths=["top", "all"], learning_rate=10.0, **OPTIONS)
    assert climb.rung == "probe"
    assert climb.scores["rung"].tolist() == ["probe", "top"]
    assert not climb.scores["is_climbed"].any()
    n_learned = int((small_images.table["split"] != "test").sum())
    assert climb.scores["n"].tolist() == [n_learned, n_learned]
    both = [predict_images(rung, small_images).probabilities for rung in (climb.trained, small_probe)]
    assert not np.allclose(*both)  # it has learned the validation images too


def test_a_rung_that_pays_is_trained_on_everything_at_the_temperature_of_the_folds(small_images, monkeypatch):
    calls = []

    def note(images, **options):
        calls.append((options["depth"], options["keep"], images.table["split"].nunique()))
        return fine_tune(images, **options)

    def pay(rung, score, below=None):
        return {"rung": rung, "is_climbed": below is not None, "temperature": 4.0}

    monkeypatch.setattr(ladder, "fine_tune", note)
    monkeypatch.setattr(ladder, "_describe", pay)
    climb = select_recipe(small_images, **OPTIONS)
    assert calls == [("top", "last", 3)] * 2 + [("top", "last", 2)]
    assert climb.rung == "top"
    monkeypatch.setattr(ladder, "_describe", lambda *args: pay(*args) | {"temperature": 1.0})
    sharp = select_recipe(small_images, **OPTIONS)
    soft, plain = (np.log(predict_images(rung.trained, small_images).probabilities) for rung in (climb, sharp))
    np.testing.assert_allclose(np.diff(soft), np.diff(plain) / 4, atol=1e-3)


def test_images_of_one_group_stay_in_one_fold(small_images):
    table = small_images.table.assign(scene=[f"scene {i // 3}" for i in range(len(small_images.table))])
    grouped = dataclasses.replace(small_images, table=table.assign(split="train"))
    for fold in ladder._make_folds(grouped, 3, "scene", 0):
        assert fold.table.groupby("scene")["split"].nunique().max() == 1
        assert set(fold.table["split"]) == {"train", "valid"}


def test_the_given_images_are_not_changed(small_images):
    before = small_images.table.copy()
    everything = ladder._learn_all(small_images)
    pd.testing.assert_frame_equal(small_images.table, before)
    assert set(everything.table["split"]) == {"train", "test"}


def test_too_few_images_for_the_folds_say_how_many_there_are(small_images):
    with pytest.raises(ValueError, match="expected at least n_folds=500"):
        select_recipe(small_images, n_folds=500)


def test_the_last_epoch_is_kept_where_nothing_is_left_to_choose_by(small_images, small_probe):
    options = {"epochs": 2, "batch_size": 4, "show_progress": False, "start": small_probe, "learning_rate": 0.05}
    tuned = fine_tune(ladder._learn_all(small_images), keep="last", depth="top", **options)
    assert tuned.history["is_kept"].tolist() == [False, False, True]
    assert tuned.history["train_loss"].notna().all() and tuned.history["valid_loss"].isna().all()


def test_an_unknown_way_of_keeping_says_which_there_are(small_images):
    with pytest.raises(ValueError, match="'best' or 'last'"):
        fine_tune(small_images, keep="first")
