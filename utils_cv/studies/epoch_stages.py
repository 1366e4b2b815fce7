"""Where the time of an epoch goes, and what the batch size does to it; the model is trained in all its layers."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from utils_cv.models.backbones import DEFAULT_BACKBONE, describe_backbone, load_backbone
from utils_cv.system.machine import choose_device, count_cpus, tune_allocator
from utils_cv.system.threads import map_in_threads
from utils_cv.system.timing import Timer, measure_rounds, summarize_rounds
from utils_cv.training.augmentation import augment_pixels
from utils_cv.training.learners import Classifier

from .training_speed import open_content

STAGES = ("read", "decode", "augment", "forward", "backward")


def measure_batch_sizes(
    batch_sizes: Sequence[int],
    *,
    backbone: str = DEFAULT_BACKBONE,
    im_size_px: int = 224,
    n_images: int = 32,
    n_rounds: int = 3,
) -> pd.DataFrame:
    """Measure training steps (forward, backward, update of all layers) at several batch sizes.

    Args:
        batch_sizes: Sizes that divide `n_images`; the first is the baseline.
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        im_size_px: Side of the images.
        n_images: Images a round.
        n_rounds: Rounds.

    Returns:
        `batch_size` and the columns of `summarize_rounds`.

    Raises:
        ValueError: If a size does not divide `n_images`.
    """
    if any(n_images % size for size in batch_sizes):
        raise ValueError(f"batch_sizes: expected divisors of n_images = {n_images}, got {list(batch_sizes)}.")
    trainer = _Trainer(backbone)
    pixels = np.random.default_rng(0).integers(0, 256, (n_images, im_size_px, im_size_px, 3), dtype=np.uint8)
    functions = {f"{size}": functools.partial(trainer.train_epoch, pixels, size) for size in batch_sizes}
    table = summarize_rounds(
        measure_rounds(functions, n_rounds=n_rounds, n_images=n_images), baseline=f"{batch_sizes[0]}"
    )
    return table.rename(columns={"name": "batch_size"}).astype({"batch_size": int})


def measure_stages(
    kinds: Mapping[str, Sequence[str | Path]],
    *,
    backbone: str = DEFAULT_BACKBONE,
    im_size_px: int = 224,
    batch_size: int = 16,
    n_rounds: int = 3,
    in_full: Sequence[str] = (),
) -> pd.DataFrame:
    """Measure where the time of an epoch goes: reading, decoding, augmenting, forward and backward pass.

    Args:
        kinds: Files by kind; repeated up to `batch_size`. Files are read from wherever they are, most likely memory.
        backbone: TrainedModel in all its layers.
        im_size_px: Side of the images.
        batch_size: Images a step.
        n_rounds: Rounds, after one that is not counted.
        in_full: Kinds whose JPEG files are decoded at their full size, as most loaders do.

    Returns:
        One row a kind and stage: `kind`, `stage` (one of `STAGES`), `ms` per image (median of the rounds;
        what comes after opening does not depend on the file, so that its median is over all kinds),
        `share_of_ms`, its share of the kind's total.
    """
    trainer, rows = _Trainer(backbone), []
    for i in range(n_rounds + 1):
        for kind, paths in kinds.items():
            chosen = [Path(paths[k % len(paths)]) for k in range(batch_size)]
            times = _time_stages(trainer, chosen, im_size_px, kind not in in_full)
            rows += [(kind, stage, ms / batch_size) for stage, ms in zip(STAGES, times, strict=True) if i > 0]
    measured = pd.DataFrame(rows, columns=["kind", "stage", "ms"])
    of_network = measured[measured["stage"].isin(STAGES[2:])].groupby("stage")["ms"].median()
    table = measured.groupby(["kind", "stage"], sort=False)["ms"].median()
    table = of_network.reindex(table.index, level="stage").fillna(table)
    shares = table / table.groupby("kind", sort=False).transform("sum")
    return table.to_frame().assign(share_of_ms=shares).reset_index()


def _time_stages(trainer: "_Trainer", paths: Sequence[Path], im_size_px: int, is_reduced: bool) -> list[float]:
    """Milliseconds of each of `STAGES` for one batch."""
    n_threads, size = count_cpus(), im_size_px if is_reduced else None
    with Timer() as read:
        contents = [path.read_bytes() for path in paths]
    with Timer() as decode:
        opened = map_in_threads(lambda content: open_content(content, im_size_px, size), contents, n_threads=n_threads)
        pixels = np.stack(list(opened))
    with Timer() as augment:
        views = augment_pixels(pixels, "upright")
    with Timer() as forward:
        loss = trainer.run_forward(views)
    with Timer() as backward:
        trainer.run_backward(loss)
    return [1e3 * timer.seconds for timer in (read, decode, augment, forward, backward)]


class _Trainer:
    """Training steps of a whole network, without a loader: what the arithmetic alone takes."""

    def __init__(self, backbone: str) -> None:
        tune_allocator()
        facts, body = describe_backbone(backbone), load_backbone(backbone, n_classes=0)
        head = np.random.default_rng(0).normal(0, 0.01, (2, int(body.num_features)))  # type: ignore[arg-type]
        self.device = torch.device(choose_device())
        self.model = Classifier(body, head, head[:, 0], mean=facts.mean, std=facts.std).train().to(self.device)
        if self.device.type == "cpu":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6)

    def run_forward(self, pixels: np.ndarray) -> torch.Tensor:
        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        targets = torch.zeros(len(batch), dtype=torch.long, device=self.device)
        loss = torch.nn.functional.cross_entropy(self.model(batch), targets)
        self._wait()
        return loss

    def run_backward(self, loss: torch.Tensor) -> None:
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._wait()

    def _wait(self) -> None:
        """Wait for a GPU, which works on after a call has returned."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def train_epoch(self, pixels: np.ndarray, batch_size: int) -> None:
        for start in range(0, len(pixels), batch_size):
            self.run_backward(self.run_forward(pixels[start : start + batch_size]))
