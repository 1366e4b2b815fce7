"""A training that is killed and started again ends like one that was not; two processes train like one."""

import dataclasses
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

from utils_cv.data.lazy_pixels import LazyPixels, StoredRows
from utils_cv.training.callbacks import CHECKPOINT_NAME, FreezeStatistics
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.learner import compute_logits

SETTINGS = {"epochs": 3, "batch_size": 8, "learning_rate": 0.03, "seed": 1, "show_progress": False}

TRAIN = """
import json, os, pickle, signal, sys
import torch
torch.set_num_threads(1)
from utils_cv.training import callbacks
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.learner import compute_logits, make_dataloaders, make_learner, make_trained_model
folder, settings, is_killed = json.loads(sys.argv[1])
images = pickle.load(open(f"{folder}/{settings.pop('images', 'held')}", "rb"))
start = make_trained_model(make_learner(make_dataloaders(images), "test_efficientnet", pretrained=False))
if is_killed:  # the checkpoint of the first epoch is on disk, and the process dies as if the power had failed
    save = callbacks.Checkpoint._save
    callbacks.Checkpoint._save = lambda self: (save(self), os.kill(os.getpid(), signal.SIGKILL))
sizes, start_epoch = [], callbacks.StartEpoch.before_epoch
callbacks.StartEpoch.before_epoch = lambda self: (sizes.append(self.learn.dls.train.bs), start_epoch(self))
model = fine_tune(images, start=start, **settings)
result = {"logits": compute_logits(model.learn.model, images.pixels).tolist(), "batch": sizes[-1]}
result |= {name: model.history[name].tolist() for name in ("train_loss", "valid_loss")}
open(f"{folder}/{os.environ.get('RANK', 'alone')}.json", "w").write(json.dumps(result))
"""


@pytest.fixture(scope="module")
def folder(small_images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "train.py").write_text(TRAIN)
    (folder / "held").write_bytes(pickle.dumps(small_images))
    pixels = small_images.pixels
    pixels.tofile(folder / "rows.bin")
    stored = LazyPixels(len(pixels), pixels.shape[1], StoredRows((folder / "rows.bin").open("rb"), pixels.shape[1]))
    (folder / "stored").write_bytes(pickle.dumps(dataclasses.replace(small_images, pixels=stored)))
    return folder


def run(folder, settings, *, is_killed=False, launcher=()):
    arguments = json.dumps([str(folder), settings, is_killed])
    command = [sys.executable, *launcher, str(folder / "train.py"), arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_equal(first, second, images):
    scores = ["epoch", "train_loss", "valid_loss", "valid_accuracy", "is_kept"]
    np.testing.assert_array_equal(first.history[scores].astype(float), second.history[scores].astype(float))
    logits = [compute_logits(model.learn.model, images.pixels) for model in (first, second)]
    np.testing.assert_array_equal(*logits)


KINDS = [pytest.param("all", "sampling", id="all layers, classes drawn"), pytest.param("last_stage", "none", id="last")]


@pytest.mark.parametrize(("trainable", "balance"), KINDS)
def test_a_killed_training_ends_like_one_that_was_not(folder, small_images, tiny_start, tmp_path, trainable, balance):
    settings = SETTINGS | {"trainable": trainable, "balance": balance}
    killed = run(folder, settings | {"checkpoint_dir": str(tmp_path)}, is_killed=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert len(torch.load(tmp_path / CHECKPOINT_NAME, weights_only=True)["rows"]) == 1

    resumed, straight = (
        fine_tune(small_images, start=tiny_start, checkpoint_dir=place, **settings) for place in (tmp_path, None)
    )
    assert_equal(resumed, straight, small_images)


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


@pytest.mark.parametrize(("trainable", "balance"), KINDS)
def test_two_processes_that_share_a_file_of_pixels_end_like_one_with_the_same_batch(folder, trainable, balance):
    settings = SETTINGS | {"trainable": trainable, "balance": balance}
    settings |= {"augment": "none", "epochs": 2, "learning_rate": 0.01}
    done = [run(folder, settings)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done.append(run(folder, settings | {"images": "stored"}, launcher=launcher))
    assert not any(process.returncode for process in done), done[-1].stderr[-3000:]
    alone, first, second = (json.loads((folder / f"{name}.json").read_text()) for name in ("alone", "0", "1"))
    assert first["logits"] == second["logits"]
    assert [alone["batch"], first["batch"], second["batch"]] == [8, 4, 4]
    # Weights after one cycle differ by rounding only: sums are added up in another order.
    for name in ("logits", "train_loss", "valid_loss"):
        np.testing.assert_allclose(first[name], alone[name], atol=1e-4)


def test_a_batch_that_does_not_divide_by_the_processes_names_one_that_does(small_images, tiny_start, monkeypatch):
    from utils_cv.training import callbacks

    monkeypatch.setattr(callbacks, "_join_processes", lambda: 3)
    with pytest.raises(ValueError, match="use batch_size=9"):
        fine_tune(small_images, start=tiny_start, **SETTINGS)


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
