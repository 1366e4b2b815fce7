"""A training that is killed and started again ends like one that was not; a checkpoint of another one is refused."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from utils_cv.training.checkpoints import FILE_NAME
from utils_cv.training.training import fine_tune, predict_images

SETTINGS = {"depth": "top", "epochs": 3, "batch_size": 8, "n_views": 2, "seed": 1, "show_progress": False}

# The checkpoint of the first epoch is on disk, and the process dies as if the power had failed.
KILLED = """
import os, pickle, signal, sys
from utils_cv.training import checkpoints
from utils_cv.training.training import fine_tune, linear_probe
images, settings = pickle.load(open(sys.argv[1], "rb"))
save = checkpoints.SaveCheckpoint.after_epoch
def save_and_die(self):
    save(self)
    os.kill(os.getpid(), signal.SIGKILL)
checkpoints.SaveCheckpoint.after_epoch = save_and_die
fine_tune(images, start=linear_probe(images), checkpoint_dir=sys.argv[2], **settings)
"""


def test_a_killed_training_ends_like_one_that_was_not(small_images, small_probe, tmp_path):
    import pickle

    (tmp_path / "images").write_bytes(pickle.dumps((small_images, SETTINGS)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "images"), str(tmp_path / "run")]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert torch.load(tmp_path / "run" / FILE_NAME, weights_only=True)["n_epochs_done"] == 1

    resumed = fine_tune(small_images, start=small_probe, checkpoint_dir=tmp_path / "run", **SETTINGS)
    straight = fine_tune(small_images, start=small_probe, **SETTINGS)
    columns = ["epoch", "train_loss", "valid_loss", "valid_accuracy", "is_kept"]
    np.testing.assert_allclose(
        resumed.history[columns].astype(float), straight.history[columns].astype(float), rtol=0, atol=1e-6
    )
    first, second = (predict_images(run, small_images).probabilities for run in (resumed, straight))
    # Memory lies differently in another process, so that sums may be rounded differently: 3e-10 was seen.
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)


@pytest.mark.parametrize("depth", ["top", "all"])
def test_a_finished_training_is_not_done_again(small_images, small_probe, tmp_path, depth):
    settings = SETTINGS | {"depth": depth, "epochs": 1}
    runs = [fine_tune(small_images, start=small_probe, checkpoint_dir=tmp_path, **settings) for _ in range(2)]
    assert runs[0].history.equals(runs[1].history)  # the times, too: nothing was measured again
    first, second = (predict_images(run, small_images).probabilities for run in runs)
    np.testing.assert_array_equal(first, second)


def test_a_checkpoint_of_other_settings_is_refused(small_images, small_probe, tmp_path):
    settings = SETTINGS | {"epochs": 1}
    fine_tune(small_images, start=small_probe, checkpoint_dir=tmp_path, **settings)
    with pytest.raises(ValueError, match="other settings, images or start"):
        fine_tune(small_images, start=small_probe, checkpoint_dir=tmp_path, **settings | {"seed": 2})
