"""Which epoch is kept, when training stops, and what the history says: on a learner that is played."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastai.callback.core import CancelFitException
from torch import nn

from utils_cv.evaluation.calibration import ValidationScore
from utils_cv.training.callbacks import FreezeStatistics, KeepBest, KeepLast, Record, StopEarly, Validate, soften

START = {"valid_loss": 0.5, "valid_accuracy": 0.9}


class Played:
    """Epochs whose validation loss and accuracy are given, instead of trained."""

    def __init__(self, epochs, patience=99):
        self.validation = SimpleNamespace(has_run=True, n=100)
        start = ValidationScore(np.full(100, START["valid_loss"]), START["valid_accuracy"], 1.0)
        self.keeper = KeepBest(self.validation, start)
        self.record = Record([{"epoch": 0, **START}], self.validation, self.keeper, "played", show_progress=False)
        self.stop = StopEarly(self.keeper, patience)
        self.model = nn.Linear(1, 1, bias=False)
        self.epochs = epochs
        learn = SimpleNamespace(model=self.model, epoch=0, n_epoch=len(epochs), dls=SimpleNamespace(train=[0]))
        for callback in (self.keeper, self.record, self.stop):
            callback.learn = learn
        self.learn = learn

    def run(self):
        """Play the epochs and return the epoch that the kept weights are from."""
        self.set_weight(0)
        self.keeper.before_fit()
        self.record.before_fit()
        for epoch, (loss, accuracy) in enumerate(self.epochs):
            self.learn.epoch = epoch
            self.set_weight(epoch + 1)  # the weight says which epoch it is from
            self.record.before_epoch()
            self.record.losses.append(loss)
            self.validation.valid_loss, self.validation.valid_accuracy = loss, accuracy
            self.validation.score = ValidationScore(np.full(100, loss), accuracy, 1.0)
            self.keeper.after_epoch()
            self.record.after_epoch()
            try:
                self.stop.after_epoch()
            except CancelFitException:
                break
        self.keeper.restore(self.model)
        return self.model.weight.item()

    def set_weight(self, value):
        """Mark the weights."""
        self.model.weight.data.fill_(value)


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [
        pytest.param([(0.4, 0.9), (0.3, 0.92), (0.6, 0.95)], 2, id="the lowest loss"),
        pytest.param([(0.6, 0.95), (0.7, 0.9)], 0, id="a higher loss is not kept however accurate"),
        pytest.param([(0.3, 0.8), (0.4, 0.9)], 2, id="a lower loss is not kept when it is less accurate"),
        pytest.param([(0.5, 0.9)], 0, id="no better is not better"),
        pytest.param([(float("nan"), 0.9)], 0, id="a loss that is no number"),
    ],
)
def test_the_kept_epoch_is_never_worse_than_the_start(epochs, kept):
    played = Played(epochs)
    assert played.run() == kept
    table = played.record.table()
    assert table.loc[table["is_kept"], "epoch"].tolist() == [kept]
    assert table["epoch"].tolist() == list(range(len(epochs) + 1))


def test_training_stops_when_the_best_epoch_is_patience_back():
    played = Played([(0.4, 0.9), (0.5, 0.9), (0.6, 0.9), (0.1, 1.0)], patience=2)
    assert played.run() == 1
    assert len(played.record.rows) == 4  # the start and three epochs


def test_the_peak_of_the_learning_rate_is_waited_for():
    played = Played([(0.6, 0.9)] * 20, patience=3)
    assert played.run() == 0
    assert len(played.record.rows) == 1 + 5 + 3  # the start, the first quarter, three epochs of patience


def test_the_last_epoch_is_kept_when_asked_for():
    played = Played([(0.1, 1.0), (0.9, 0.5)])
    played.keeper = played.record.keeper = played.stop.keeper = KeepLast(played.validation, None)
    played.keeper.learn = played.learn
    assert played.run() == 2
    assert played.record.table()["is_kept"].tolist() == [False, False, True]


def test_softening_divides_the_logits_and_nothing_else():
    model = nn.ModuleDict({"body": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    x, state = torch.rand(4, 3), soften(model.state_dict(), 2.0)
    before, inside = model["head"](model["body"](x)), model["body"](x)
    model.load_state_dict(state)
    torch.testing.assert_close(model["head"](model["body"](x)), before / 2)
    torch.testing.assert_close(model["body"](x), inside)


def test_the_history_carries_the_interval_of_the_accuracy():
    from utils_cv.evaluation.intervals import compute_wilson_interval

    played = Played([(0.4, 0.95)])
    played.run()
    row = played.record.table().iloc[1]
    assert (row["valid_accuracy_low"], row["valid_accuracy_high"]) == compute_wilson_interval(95, 100)


def test_an_epoch_skipped_while_resuming_is_not_recorded():
    played = Played([(0.1, 1.0)])
    played.validation.has_run = False
    assert played.run() == 0
    assert len(played.record.rows) == 1


def test_frozen_statistics_stay_and_everything_else_trains():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    callback = FreezeStatistics()
    callback.learn = SimpleNamespace(model=model)
    callback.before_train()
    before = model[1].running_mean.clone()
    model(torch.rand(2, 3, 4, 4)).sum().backward()
    assert model[1].running_mean.equal(before)
    assert model[1].weight.grad is not None
    assert model[2].training


def test_validation_scores_every_image_by_the_plain_loss():
    validation = Validate()
    validation.learn = SimpleNamespace(training=False)
    validation.before_epoch()
    for logits, truth in (([[1.0, 0.0], [0.0, 1.0]], [0, 0]), ([[0.0, 1.0]], [1])):
        validation.learn.pred, validation.learn.yb = torch.tensor(logits), (torch.tensor(truth),)
        validation.after_pred()
    validation.after_epoch()
    assert (validation.n, len(validation.score.losses)) == (3, 3)
    assert validation.valid_accuracy == pytest.approx(2 / 3)
    assert np.isfinite(validation.valid_loss)


@pytest.mark.parametrize(
    ("n_images", "is_kept"),
    [pytest.param(9, False, id="too few images to tell"), pytest.param(900, True, id="enough images to tell")],
)
def test_a_lower_loss_counts_only_where_the_images_show_it(n_images, is_kept):
    gains = np.resize([0.9, -0.7, 0.0], n_images)  # on average 0.067, single images 0.65 apart
    start = np.full(n_images, 1.0)
    score = ValidationScore(start - gains, 0.9, 1.0)
    validation = SimpleNamespace(has_run=True, score=score, valid_loss=1 - gains.mean(), valid_accuracy=0.9)
    keeper = KeepBest(validation, ValidationScore(start, 0.9, 1.0))
    keeper.learn = SimpleNamespace(model=nn.Linear(1, 1), epoch=0)
    keeper.before_fit()
    keeper.after_epoch()
    assert (keeper.best_epoch == 1) == is_kept
