"""The same training in several processes, one a GPU or machine, started by `torchrun`."""

import atexit
import os
from typing import Any

import torch
from torch import nn

from .callbacks import Callback, unwrap


def join_processes() -> tuple[int, int]:
    """Join the processes that `torchrun` started, once; alone nothing happens.

    Returns:
        The number of this process, from 0, and how many there are.
    """
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


class Distribute(Callback):
    """Give each process its part of every batch, and average the gradients.

    fastai's own trainer for several processes splits the images into one row a process and moves their order through
    a GPU; here a batch over all processes holds the same images as one process would have put into it, and CPUs do as
    well. All processes score all validation images, so that they agree on the best epoch without asking each other.

    Args:
        rank: Number of this process.
        n_processes: How many there are.

    Raises:
        ValueError: When training starts, if the batch does not divide by the processes.
    """

    order = 11  # after the model is on its device

    def __init__(self, rank: int, n_processes: int) -> None:
        super().__init__()
        self.rank, self.n_processes = rank, n_processes

    def before_fit(self) -> None:
        loader = self.learn.dls.train
        if loader.bs % self.n_processes:
            raise ValueError(
                f"A batch of {loader.bs} images does not divide by {self.n_processes} processes; "
                f"use batch_size={loader.bs + -loader.bs % self.n_processes}."
            )
        self.before = (loader.bs, loader.n, loader.get_idxs)
        loader.get_idxs = self._make_indices(loader, loader.n)
        loader.bs, loader.n = loader.bs // self.n_processes, loader.n // self.n_processes
        self.learn.model = nn.parallel.DistributedDataParallel(self.learn.model)

    def _make_indices(self, loader: Any, n: int) -> Any:
        # Every n-th image of the common order: the k-th batches of all processes make up the k-th batch of one.
        return lambda: loader.shuffle_fn(list(range(n)))[self.rank :: self.n_processes][: n // self.n_processes]

    def after_fit(self) -> None:
        loader = self.learn.dls.train
        loader.bs, loader.n, loader.get_idxs = self.before
        self.learn.model = unwrap(self.learn.model)
