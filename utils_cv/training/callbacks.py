"""What fastai's training loop lacks: frozen statistics, seeded epochs, safe checkpoints, several processes on CPUs."""

import atexit
import os
import random
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():
    # Importing fastai with current torch prints a deprecation that readers can do nothing about.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
    from fastai.callback.core import Callback, CancelEpochException
    from fastai.callback.tracker import TrackerCallback
    from fastai.torch_core import get_model, rank_distrib

from utils_cv.system.files import write_atomic
from utils_cv.system.machine import set_seed

CHECKPOINT_NAME = "checkpoint.pt"


class FreezeStatistics(Callback):
    """Keep running statistics as pretrained, while scale and shift learn; fastai's BnFreeze freezes these, too."""

    order = 10  # after fastai has put the whole model into training mode

    def before_train(self) -> None:
        for module in self.learn.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class StartEpoch(Callback):
    """Start each epoch's clock and random numbers, so that a resumed one is the same; processes augment differently."""

    order = 20

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.clock = seed, 0.0
        self.rows: list[Sequence[float]] = []  # scores of the epochs of all trainings of this learner

    def before_epoch(self) -> None:
        base = (self.seed * 100_003 + self.learn.epoch * 1_009) % 2**31
        set_seed(base + rank_distrib())
        self.learn.dls.train.rng = random.Random(base)
        self.clock = time.perf_counter()

    def after_fit(self) -> None:
        # Predicting and the search for a learning rate leave incomplete rows, which are no epochs of a training.
        if all(len(row) == 4 for row in self.learn.recorder.values):
            self.rows += self.learn.recorder.values


class BalanceValidation(Callback):
    """Take a loss in which classes count alike for validation, where training draws classes equally often."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.balanced = loss

    def before_validate(self) -> None:
        self.plain, self.learn.loss_func = self.learn.loss_func, self.balanced

    def after_validate(self) -> None:
        self.learn.loss_func = self.plain


class KeepBest(TrackerCallback):
    """Put the best epoch's weights back after the last; fastai's SaveModelCallback takes a pickled file, and prints."""

    order = TrackerCallback.order + 1

    def __init__(self) -> None:
        super().__init__(monitor="valid_loss")
        self.best_state: dict[str, torch.Tensor] | None = None
        self.best_epoch = 0

    def after_epoch(self) -> None:
        super().after_epoch()
        if self.new_best:
            state = get_model(self.learn.model).state_dict()
            self.best_state = {name: value.clone() for name, value in state.items()}
            self.best_epoch = self.learn.epoch + 1

    def after_fit(self) -> None:
        super().after_fit()
        if self.best_state is not None:
            get_model(self.learn.model).load_state_dict(self.best_state)


class Checkpoint(Callback):
    """Save a training after every epoch, and go on from there; a checkpoint of another fingerprint is a ValueError."""

    order = KeepBest.order + 5  # after the epoch has been recorded and kept

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        super().__init__()
        self.path, self.fingerprint = Path(folder) / CHECKPOINT_NAME, fingerprint
        self.keeper: KeepBest | None = None
        self.rows: list[list[float | None]] = []
        self.n_done, self.best_state = 0, None

    def before_fit(self) -> None:
        if not self.path.is_file():
            return
        device = next(self.learn.model.parameters()).device  # the optimizer's state must be where the weights are
        state = torch.load(self.path, map_location=device, weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"{self.path} belongs to a training with other settings, images or start. Give another "
                "checkpoint_dir, or the same settings as then."
            )
        get_model(self.learn.model).load_state_dict(state["model"])
        self.learn.opt.load_state_dict({"state": state["optimizer"], "hypers": self.learn.opt.state_dict()["hypers"]})
        self.rows, self.n_done, self.best_state = state["rows"], len(state["rows"]), state["best_state"]
        smooth = self.learn.recorder.smooth_loss
        smooth.val, smooth.count = torch.tensor(state["smooth_loss"][0]), state["smooth_loss"][1]

    def before_epoch(self) -> None:
        if self.learn.epoch < self.n_done:
            raise CancelEpochException

    def after_cancel_epoch(self) -> None:
        self.learn.recorder.log += self.rows[self.learn.epoch]

    def after_epoch(self) -> None:
        if self.learn.epoch >= self.n_done:
            self._save()
        elif self.keeper is not None:
            self.keeper.best_state = self.best_state

    def _save(self) -> None:
        self.rows.append(list(self.learn.recorder.values[-1]))
        state = {
            "fingerprint": self.fingerprint,
            "model": get_model(self.learn.model).state_dict(),
            "optimizer": list(self.learn.opt.state_dict()["state"]),
            "best_state": self.keeper.best_state if self.keeper else None,
            "rows": self.rows,
            "smooth_loss": (float(self.learn.recorder.smooth_loss.val), self.learn.recorder.smooth_loss.count),
        }
        if rank_distrib() == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with write_atomic(self.path) as out_path:
                torch.save(state, out_path)


class Distribute(Callback):
    """Give each process its part of every batch, and average the gradients; alone it does nothing.

    fastai's own trainer needs GPUs and splits images otherwise. All score all validation images, to agree on the best
    epoch.
    """

    order = 11  # after the model is on its device

    def __init__(self) -> None:
        super().__init__()
        self.n_processes = _join_processes()

    def before_fit(self) -> None:
        loader = self.learn.dls.train
        if self.n_processes == 1:
            return
        if loader.bs % self.n_processes:
            raise ValueError(
                f"A batch of {loader.bs} images does not divide by {self.n_processes} processes; "
                f"use batch_size={loader.bs + -loader.bs % self.n_processes}."
            )
        self.before = (loader.bs, loader.n, loader.get_idxs)
        n, first, step = loader.n, rank_distrib(), self.n_processes
        # Every n-th image of the common order: the k-th batches of all processes make up the k-th batch of one.
        loader.get_idxs = lambda: loader.shuffle_fn(list(range(n)))[first::step][: n // step]
        loader.bs, loader.n = loader.bs // self.n_processes, loader.n // self.n_processes
        self.learn.model = nn.parallel.DistributedDataParallel(self.learn.model)

    def after_fit(self) -> None:
        if self.n_processes > 1:
            loader = self.learn.dls.train
            loader.bs, loader.n, loader.get_idxs = self.before
            self.learn.model = get_model(self.learn.model)


def _join_processes() -> int:
    """Join the processes that `torchrun` started, once, and count them."""
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes > 1 and not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    return n_processes
