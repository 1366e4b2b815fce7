"""Training that survives a kill: its state after every epoch, in a file that cannot run code."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils_cv.system.files import write_atomic

from .callbacks import Callback, KeepBest, Record, unwrap

FILE_NAME = "checkpoint.pt"


class SaveCheckpoint(Callback):
    """Save the training after every epoch: weights, optimizer, best epoch, history.

    Args:
        folder: Where; made when it is missing. The file in it is replaced whole, never half.
        fingerprint: Of everything that the training depends on, see `make_fingerprint`.
        keeper: What holds the best weights.
        record: What holds the history.
    """

    order = 65  # after the epoch has been kept and recorded

    def __init__(self, folder: str | Path, fingerprint: str, keeper: KeepBest, record: Record) -> None:
        super().__init__()
        self.path, self.fingerprint, self.keeper, self.recorder_ = Path(folder) / FILE_NAME, fingerprint, keeper, record

    def after_epoch(self) -> None:
        if not self.keeper.validation.has_run:
            return
        state = {
            "fingerprint": self.fingerprint,
            "n_epochs_done": self.learn.epoch + 1,
            "model": unwrap(self.learn.model).state_dict(),
            "optimizer": list(self.learn.opt.state_dict()["state"]),
            "best_state": self.keeper.best_state,
            "best_loss": self.keeper.best_loss,
            "best_epoch": self.keeper.best_epoch,
            "rows": self.recorder_.rows,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomic(self.path) as out_path:
            torch.save(state, out_path)


def resume_checkpoint(folder: str | Path, fingerprint: str, learn: Any, keeper: KeepBest, record: Record) -> int:
    """Put a learner where an earlier training of the same settings left off.

    Args:
        folder: As given to `SaveCheckpoint`.
        fingerprint: Of this training.
        learn: The learner; its weights and optimizer are set.
        keeper: Its best epoch is set.
        record: Its history is set.

    Returns:
        How many epochs are done; 0 when there is no checkpoint.

    Raises:
        ValueError: If the checkpoint belongs to other settings or other images.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return 0
    device = next(learn.model.parameters()).device  # the optimizer's state must be where the weights are
    state = torch.load(path, map_location=device, weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise ValueError(
            f"{path} belongs to a training with other settings, images or start. Give another checkpoint_dir, "
            "or the same settings as then."
        )
    learn.create_opt()
    learn.model.load_state_dict(state["model"])
    learn.opt.load_state_dict({"state": state["optimizer"], "hypers": learn.opt.state_dict()["hypers"]})
    keeper.best_state, keeper.best_loss = state["best_state"], state["best_loss"]
    keeper.best_epoch = state["best_epoch"]
    record.rows = state["rows"]
    return int(state["n_epochs_done"])


def make_fingerprint(settings: dict[str, Any], arrays: list[np.ndarray], model: torch.nn.Module) -> str:
    """Hash everything that a training depends on.

    Args:
        settings: Numbers and strings.
        arrays: Images and targets.
        model: The start.
    """
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for array in arrays:
        digest.update(str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
