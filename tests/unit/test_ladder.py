"""The ladder as one call: it climbs only where it pays, and then learns from the validation images too."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from utils_cv import ladder
from utils_cv.ladder import climb_ladder, learn_valid
from utils_cv.training import fine_tune, predict_images

OPTIONS = {"epochs": 2, "batch_size": 4, "show_progress": False}


def test_a_rung_that_does_not_pay_ends_the_climb_and_the_probe_learns_everything(small_images):
    climb = climb_ladder(small_images, learning_rate=10.0, **OPTIONS)
    assert (climb.rung, list(climb.tried)) == ("probe", ["probe", "top"])
    assert len(climb.trained.history) == 1
    assert climb.seconds > climb.tried["top"].seconds
    assert np.isnan(climb.trained.history["valid_accuracy"].item())
    assert not np.allclose(
        predict_images(climb.trained, small_images).probabilities,
        predict_images(climb.tried["probe"], small_images).probabilities,
    )


def test_a_rung_that_pays_is_trained_again_for_its_epochs(small_images, monkeypatch):
    calls = []

    def note(images, **options):
        calls.append((options["depth"], options.get("keep"), options["epochs"], images.table["split"].nunique()))
        tuned = fine_tune(images, **options)
        history = tuned.history.assign(is_kept=tuned.history["epoch"] == 1)
        return dataclasses.replace(tuned, history=history)

    monkeypatch.setattr(ladder, "fine_tune", note)
    climb = climb_ladder(small_images, depths=["top"], **OPTIONS)
    assert calls == [("top", None, 2, 3), ("top", "last", 1, 2)]
    assert climb.rung == "top"


def test_the_last_epoch_is_kept_where_nothing_is_left_to_choose_by(small_images, small_probe):
    options = OPTIONS | {"depth": "top", "start": small_probe, "learning_rate": 0.05}
    tuned = fine_tune(learn_valid(small_images), keep="last", **options)
    assert tuned.history["is_kept"].tolist() == [False, False, True]
    assert tuned.history["train_loss"].notna().all() and tuned.history["valid_loss"].isna().all()


def test_moving_the_validation_images_changes_no_argument(small_images):
    before = small_images.table.copy()
    everything = learn_valid(small_images)
    pd.testing.assert_frame_equal(small_images.table, before)
    assert set(everything.table["split"]) == {"train", "test"}


def test_an_unknown_way_of_keeping_says_which_there_are(small_images):
    with pytest.raises(ValueError, match="'best' or 'last'"):
        fine_tune(small_images, keep="first")
