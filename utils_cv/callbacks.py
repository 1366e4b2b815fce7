"""What the recipes add to fastai's training loop: frozen statistics, memory order, best epoch, history and progress."""

import copy
import time
import warnings
from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

with warnings.catch_warnings():
    # Importing fastai with current torch prints a deprecation that readers can do nothing about.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    import fastai.callback.schedule  # noqa: F401  (gives Learner its fit_one_cycle)
    from fastai.callback.core import Callback


class FreezeStatistics(Callback):
    """Keep every normalisation layer's running statistics as pretrained; their scale and shift still learn."""

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


class KeepBest(Callback):
    """Remember the weights of the epoch with the lowest validation loss; the start counts as an epoch."""

    def __init__(self, start_loss: float) -> None:
        super().__init__()
        self.best_loss, self.best_epoch, self.best_state = float(start_loss), 0, None

    def before_fit(self) -> None:
        self.best_state = copy.deepcopy(self.learn.model.state_dict())

    def after_epoch(self) -> None:
        valid_loss = float(self.learn.recorder.log[2])
        if valid_loss < self.best_loss:
            self.best_loss, self.best_epoch = valid_loss, self.learn.epoch + 1
            self.best_state = copy.deepcopy(self.learn.model.state_dict())

    def restore(self, model: nn.Module) -> None:
        if self.best_state is not None:
            model.load_state_dict(self.best_state)


class Record(Callback):
    """Write the history and draw the progress bar."""

    order = 60  # after the recorder has logged the epoch

    def __init__(self, start: pd.DataFrame, keeper: KeepBest, epochs: int, *, show_progress: bool) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = start.to_dict("records")
        self.keeper, self.epochs, self.show_progress = keeper, epochs, show_progress

    def before_fit(self) -> None:
        n_steps = self.epochs * len(self.learn.dls.train)
        self.bar = tqdm(total=n_steps, desc="fine-tuning", unit="step", disable=not self.show_progress)

    def before_epoch(self) -> None:
        self.clock = time.perf_counter()

    def after_batch(self) -> None:
        if self.learn.training:
            self.bar.update()

    def after_epoch(self) -> None:
        _, train_loss, valid_loss, valid_accuracy = (float(value) for value in self.learn.recorder.log[:4])
        seconds = time.perf_counter() - self.clock
        values = (self.learn.epoch + 1, train_loss, valid_loss, valid_accuracy, seconds)
        names = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "seconds")
        self.rows.append(dict(zip(names, values, strict=True)))
        self.bar.set_postfix(train_loss=f"{train_loss:.3f}", valid_accuracy=f"{valid_accuracy:.3f}")

    def after_fit(self) -> None:
        self.bar.close()

    def table(self) -> pd.DataFrame:
        table = pd.DataFrame(self.rows)
        return table.assign(is_kept=table["epoch"] == self.keeper.best_epoch)
