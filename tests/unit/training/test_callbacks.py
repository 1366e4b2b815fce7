"""A training that is killed and started again ends like one that was not; two processes train like one."""

import dataclasses
import functools
import json
import pickle
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from utils_cv.data.lazy_pixels import LazyPixels, _StoredRows
from utils_cv.training import callbacks
from utils_cv.training.callbacks import CHECKPOINT_NAME, Checkpoint, FreezeStatistics, StartEpoch
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.trained_models import compute_logits

SETTINGS = {"epochs": 3, "batch_size": 8, "learning_rate": 0.03, "seed": 1, "show_progress": False}

TRAIN = """
import json, os, pickle, signal, sys
import torch
torch.set_num_threads(1)
from utils_cv.training import callbacks
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.learner import make_dataloaders, make_learner
from utils_cv.training.trained_models import compute_logits, make_trained_model
folder, several, is_killed = json.loads(sys.argv[1])
images = pickle.load(open(f"{folder}/{'held' if is_killed else 'stored'}", "rb"))
start = make_trained_model(make_learner(make_dataloaders(images), "test_efficientnet", pretrained=False))
if is_killed:  # the checkpoint of the first epoch is on disk, and the process dies as if the power had failed
    save = callbacks.Checkpoint._save
    callbacks.Checkpoint._save = lambda self: (save(self), os.kill(os.getpid(), signal.SIGKILL))
sizes, start_epoch, results = [], callbacks.StartEpoch.before_epoch, []
callbacks.StartEpoch.before_epoch = lambda self: (sizes.append(self.learn.dls.train.bs), start_epoch(self))
for settings in several:
    model = fine_tune(images, start=start, **settings)
    results.append({"logits": compute_logits(model.learn.model, images.pixels).tolist(), "batch": sizes[-1]})
    results[-1] |= {name: model.history[name].tolist() for name in ("train_loss", "valid_loss")}
open(f"{folder}/{os.environ['RANK']}.json", "w").write(json.dumps(results))
"""


@pytest.fixture(scope="module")
def folder(small_images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "train.py").write_text(TRAIN)
    (folder / "held").write_bytes(pickle.dumps(small_images))
    pixels = small_images.pixels
    pixels.tofile(folder / "rows.bin")
    stored = LazyPixels(len(pixels), pixels.shape[1], _StoredRows((folder / "rows.bin").open("rb"), pixels.shape[1]))
    (folder / "stored").write_bytes(pickle.dumps(dataclasses.replace(small_images, pixels=stored)))
    return folder


def run(folder, several, *, is_killed=False, launcher=()):
    arguments = json.dumps([str(folder), several, is_killed])
    command = [sys.executable, *launcher, str(folder / "train.py"), arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_equal(first, second, images):
    scores = ["epoch", "train_loss", "valid_loss", "valid_accuracy", "is_kept"]
    np.testing.assert_array_equal(first.history[scores].astype(float), second.history[scores].astype(float))
    logits = [compute_logits(model.learn.model, images.pixels) for model in (first, second)]
    np.testing.assert_array_equal(*logits)


KINDS = {"all layers, classes drawn": ("all", "sampling"), "last": ("last_stage", "none")}


class PowerFailureError(BaseException):
    """What ends a training in this process as abruptly as a signal ends another one."""


@pytest.mark.parametrize("kind", [pytest.param("all layers, classes drawn", marks=pytest.mark.linux), "last"])
def test_a_killed_training_ends_like_one_that_was_not(folder, small_images, tiny_start, tmp_path, monkeypatch, kind):
    settings = SETTINGS | dict(zip(("trainable", "balance"), KINDS[kind], strict=True))
    if kind == "last":
        with monkeypatch.context() as patch, pytest.raises(PowerFailureError):
            patch.setattr(Checkpoint, "_save", functools.partialmethod(save_and_fail, Checkpoint._save))
            fine_tune(small_images, start=tiny_start, checkpoint_dir=tmp_path, **settings)
    else:
        killed = run(folder, [settings | {"checkpoint_dir": str(tmp_path)}], is_killed=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert len(torch.load(tmp_path / CHECKPOINT_NAME, weights_only=True)["rows"]) == 1

    resumed, straight = (
        fine_tune(small_images, start=tiny_start, checkpoint_dir=place, **settings) for place in (tmp_path, None)
    )
    assert_equal(resumed, straight, small_images)


def save_and_fail(checkpoint, save):
    save(checkpoint)
    raise PowerFailureError


def test_a_stop_after_the_best_epoch_returns_that_epoch(small_images, tiny_start, tmp_path):
    """The second epoch is made the best by far; the third, after the stop, must not replace it."""
    fine_tune(small_images, start=tiny_start, checkpoint_dir=tmp_path, **SETTINGS)
    state = torch.load(tmp_path / CHECKPOINT_NAME, weights_only=True)
    state["rows"] = state["rows"][:2]
    state["rows"][1][1] = -1.0  # its validation loss
    state["best_state"] = {name: torch.full_like(value, 0.5) for name, value in state["best_state"].items()}
    torch.save(state, tmp_path / CHECKPOINT_NAME)
    resumed = fine_tune(small_images, start=tiny_start, checkpoint_dir=tmp_path, **SETTINGS)
    assert resumed.history["is_kept"].tolist() == [False, False, True, False]
    assert all((value == 0.5).all() for value in resumed.learn.model.head.parameters())


def test_a_finished_training_is_not_done_again(small_images, tiny_start, tmp_path):
    runs = [fine_tune(small_images, start=tiny_start, checkpoint_dir=tmp_path, **SETTINGS) for _ in range(2)]
    assert runs[0].history["seconds"].equals(runs[1].history["seconds"])  # nothing was measured again
    assert_equal(*runs, small_images)


@pytest.mark.parametrize("changed", ["seed", "images", "start", "split"])
def test_a_checkpoint_of_another_training_is_refused(small_images, tiny_start, tmp_path, changed):
    settings = SETTINGS | {"epochs": 1, "checkpoint_dir": tmp_path}
    other = fine_tune(small_images, start=tiny_start, **settings)
    images, start = small_images, other if changed == "start" else tiny_start
    if changed == "images":
        images = dataclasses.replace(images, pixels=images.pixels[::-1])
    if changed == "split":
        images = dataclasses.replace(images, table=images.table.assign(split=images.table["split"].to_numpy()[::-1]))
    with pytest.raises(ValueError, match="other settings, images or start"):
        fine_tune(images, start=start, **settings | ({"seed": 2} if changed == "seed" else {}))


def test_two_processes_that_share_a_file_of_pixels_end_like_one_with_the_same_batch(folder, small_images, tiny_start):
    settings = SETTINGS | {"augment": "none", "epochs": 2, "learning_rate": 0.01}
    several = [settings | {"trainable": trainable, "balance": balance} for trainable, balance in KINDS.values()]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = run(folder, several, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    processes = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    for given, first, second in zip(several, *processes, strict=True):
        assert first["logits"] == second["logits"] and first["batch"] == second["batch"] == 4
        alone = fine_tune(small_images, start=tiny_start, **given)
        # Weights after one cycle differ by rounding only: sums are added up in another order.
        np.testing.assert_allclose(first["logits"], compute_logits(alone.learn.model, small_images.pixels), atol=1e-4)
        for name in ("train_loss", "valid_loss"):
            np.testing.assert_allclose(first[name], alone.history[name], atol=1e-4)


def test_a_batch_that_does_not_divide_by_the_processes_names_one_that_does(small_images, tiny_start, monkeypatch):
    monkeypatch.setattr(callbacks, "_join_processes", lambda: 3)
    with pytest.raises(ValueError, match="use batch_size=9"):
        fine_tune(small_images, start=tiny_start, **SETTINGS)


def test_every_seed_and_epoch_has_its_own_numbers_and_processes_share_the_order_alone(monkeypatch):
    def start(seed, epoch, rank):
        monkeypatch.setattr(callbacks, "rank_distrib", lambda: rank)
        callback, train = StartEpoch(seed), SimpleNamespace()
        callback.learn = SimpleNamespace(epoch=epoch, dls=SimpleNamespace(train=train))
        callback.before_epoch()
        return float(torch.rand(())), np.random.rand(), train.rng.random()  # of views, of libraries, of the order

    first, again, *others, other_process = (start(*of) for of in [(0, 1, 0)] * 2 + [(0, 2, 0), (1, 1, 0), (0, 1, 1)])
    assert first == again and not any(set(first) & set(other) for other in others)
    assert [a == b for a, b in zip(first, other_process, strict=True)] == [False, False, True]


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
