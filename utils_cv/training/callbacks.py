"""What the recipes add to fastai's training loop: frozen statistics, memory order, best epoch, history and progress."""

import copy
import os
import random
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from utils_cv.evaluation.calibration import ValidationScore, measure_gain, score_logits
from utils_cv.evaluation.intervals import compute_wilson_interval
from utils_cv.system.machine import set_seed

with warnings.catch_warnings():
    # Importing fastai with current torch prints a deprecation that readers can do nothing about.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    import fastai.callback.schedule  # noqa: F401  (gives Learner its fit_one_cycle)
    from fastai.callback.core import Callback, CancelFitException

_SCORES = ["train_loss", "valid_loss", "valid_accuracy", "valid_accuracy_low", "valid_accuracy_high", "temperature"]
HISTORY_COLUMNS = ["epoch", *_SCORES, "seconds"]


def unwrap(model: nn.Module) -> nn.Module:
    """Give the network inside torch's wrapper for several processes, or the network itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def soften(state: dict[str, Any], temperature: float) -> dict[str, Any]:
    """Copy a model's weights with those of its head divided by a temperature, which divides its logits."""
    head = ("head.weight", "head.bias")
    return {name: value / temperature if name in head else value.clone() for name, value in state.items()}


class FreezeStatistics(Callback):
    """Keep every normalization layer's running statistics as pretrained; their scale and shift still learn."""

    order = 10  # after fastai has put the whole model into training mode

    def before_train(self) -> None:
        for module in self.learn.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class ChannelsLast(Callback):
    """Hand images to the network in the memory order in which CPU and GPU convolutions are fastest."""

    order = -1

    def before_fit(self) -> None:
        self.learn.model.to(memory_format=torch.channels_last)

    def before_batch(self) -> None:
        self.learn.xb = tuple(x.contiguous(memory_format=torch.channels_last) for x in self.learn.xb)


class SeedEpochs(Callback):
    """Start every epoch from random numbers of its own: one that was resumed is the same as one that was not.

    Args:
        seed: Of the training.
        rank: Number of this process, when several train together: they shuffle alike and augment differently.
    """

    order = 20

    def __init__(self, seed: int, rank: int = 0) -> None:
        super().__init__()
        self.seed, self.rank = seed, rank

    def before_epoch(self) -> None:
        base = (self.seed * 100_003 + self.learn.epoch * 1_009) % 2**31
        set_seed(base + self.rank)
        self.learn.dls.train.rng = random.Random(base)


class Validate(Callback):
    """Collect the logits of the validation images and score them by the plain loss, whatever loss is trained with."""

    order = 55

    def __init__(self) -> None:
        super().__init__()
        self.has_run = False

    def before_epoch(self) -> None:
        self.logits: list[np.ndarray] = []
        self.truth: list[np.ndarray] = []
        self.has_run = False

    def after_pred(self) -> None:
        if not self.learn.training:
            self.logits.append(self.learn.pred.detach().float().cpu().numpy())
            self.truth.append(self.learn.yb[0].cpu().numpy())

    def after_epoch(self) -> None:
        self.has_run = bool(self.logits)  # an epoch skipped while resuming has none
        if self.has_run:
            self.n = sum(map(len, self.truth))
            self.score = score_logits(np.concatenate(self.logits), np.concatenate(self.truth))
            self.valid_loss, self.valid_accuracy = self.score.loss, self.score.accuracy


class KeepBest(Callback):
    """Remember the weights of the best epoch by validation; the start counts as epoch 0.

    The best is the one with the lowest validation loss, among those whose validation accuracy is not below the start's
    and whose loss is below the start's by more than 1.65 standard errors of that difference, image by image: a rung is
    never returned when it is worse than the one below, nor when so few images cannot tell. The logits of the kept
    epoch are divided by the temperature at which it was scored, so that its probabilities are not too sure.

    Args:
        validation: What scores each epoch.
        start: Score of the validation images before training; None when the start was not trained at all.
    """

    order = 56

    def __init__(self, validation: Validate, start: ValidationScore | None) -> None:
        super().__init__()
        self.validation, self.start = validation, start
        self.best_loss, self.best_epoch = np.inf if start is None else start.loss, 0
        self.best_state: dict[str, Any] | None = None

    def before_fit(self) -> None:
        if self.best_state is None:
            self.best_state = copy.deepcopy(unwrap(self.learn.model).state_dict())

    def after_epoch(self) -> None:
        if self.validation.has_run and self.validation.valid_loss < self.best_loss and self._is_gain_shown():
            self.best_loss, self.best_epoch = self.validation.valid_loss, self.learn.epoch + 1
            self.best_state = soften(unwrap(self.learn.model).state_dict(), self.validation.score.temperature)

    def _is_gain_shown(self) -> bool:
        return self.start is None or measure_gain(self.validation.score, self.start).is_shown

    def restore(self, model: nn.Module) -> None:
        if self.best_state is not None:
            model.load_state_dict(self.best_state)


class KeepLast(KeepBest):
    """Keep the last epoch: for a training whose length was chosen before, on images that are now learned too."""

    def before_fit(self) -> None:
        pass

    def after_epoch(self) -> None:
        self.best_epoch = self.learn.epoch + 1


class StopEarly(Callback):
    """End the training when neither the best epoch nor the peak of the learning rate is within `patience` epochs."""

    order = 70  # after the epoch has been recorded and kept

    def __init__(self, keeper: KeepBest, patience: int) -> None:
        super().__init__()
        self.keeper, self.patience = keeper, patience

    def after_epoch(self) -> None:
        # One cycle: up to its peak, a quarter into the training, the rate disturbs what the start knew.
        peak = self.learn.n_epoch // 4
        if self.learn.epoch + 1 - max(self.keeper.best_epoch, peak) >= self.patience:
            raise CancelFitException


class Record(Callback):
    """Write the history and draw the progress bar.

    Args:
        rows: Rows of the history so far.
        validation: What scores each epoch.
        keeper: What knows the best epoch.
        description: Words in front of the bar.
        show_progress: Show a bar with time left, losses and the validation accuracy with its interval.
    """

    order = 60

    def __init__(
        self, rows: list[dict[str, Any]], validation: Validate, keeper: KeepBest, description: str, show_progress: bool
    ) -> None:
        super().__init__()
        self.rows, self.validation, self.keeper = rows, validation, keeper
        self.description, self.show_progress = description, show_progress

    def before_fit(self) -> None:
        n_steps = self.learn.n_epoch * len(self.learn.dls.train)
        first_step = len(self.learn.dls.train) * (len(self.rows) - 1)
        hidden = not self.show_progress or bool(os.environ.get("CI"))
        self.bar = tqdm(total=n_steps, initial=first_step, desc=self.description, unit="step", disable=hidden)

    def before_epoch(self) -> None:
        self.clock = time.perf_counter()
        self.losses: list[float] = []

    def after_batch(self) -> None:
        if self.learn.training:
            self.losses.append(float(self.learn.loss.detach()))
            self.bar.update()

    def after_epoch(self) -> None:
        if not self.validation.has_run:
            return
        loss, accuracy, n = self.validation.valid_loss, self.validation.valid_accuracy, self.validation.n
        low, high = compute_wilson_interval(accuracy * n, n)
        row = {"epoch": self.learn.epoch + 1, "train_loss": float(np.mean(self.losses)), "valid_loss": loss}
        row |= {"valid_accuracy": accuracy, "valid_accuracy_low": low, "valid_accuracy_high": high}
        row["temperature"] = self.validation.score.temperature
        self.rows.append(row | {"seconds": time.perf_counter() - self.clock})
        scores = f"{accuracy:.3f} ({low:.3f} to {high:.3f})"
        self.bar.set_postfix(train_loss=f"{row['train_loss']:.3f}", valid_loss=f"{loss:.3f}", valid_accuracy=scores)

    def after_fit(self) -> None:
        self.bar.close()

    def table(self) -> pd.DataFrame:
        table = pd.DataFrame(self.rows, columns=HISTORY_COLUMNS)
        return table.assign(is_kept=table["epoch"] == self.keeper.best_epoch)
