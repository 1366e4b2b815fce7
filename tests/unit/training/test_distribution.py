"""Two processes that share every batch train the same network as one."""

import json
import subprocess
import sys

import numpy as np
import pytest

from utils_cv.training.distribution import join_processes

# Weights after one cycle differ by rounding only: sums are added up in another order.
TOLERANCE = 1e-3

TRAIN = """
import json, os, pickle, sys
import torch
torch.set_num_threads(1)
from utils_cv.training.training import fine_tune, linear_probe, predict_images
images = pickle.load(open(sys.argv[1], "rb"))
trained = fine_tune(
    images, start=linear_probe(images), depth=sys.argv[2], epochs=2, batch_size=8, augment="none", n_views=1,
    show_progress=False,
)
result = {
    "probabilities": predict_images(trained, images).probabilities.tolist(),
    "valid_loss": trained.history["valid_loss"].tolist(),
    "train_loss": trained.history["train_loss"].tolist(),
}
open(f"{sys.argv[3]}/{os.environ.get('RANK', 'alone')}.json", "w").write(json.dumps(result))
"""


@pytest.fixture(scope="module")
def folder(small_images, tmp_path_factory):
    import pickle

    folder = tmp_path_factory.mktemp("distribution")
    (folder / "train.py").write_text(TRAIN)
    (folder / "images").write_bytes(pickle.dumps(small_images))
    return folder


def run(folder, depth, launcher):
    command = [sys.executable, *launcher, str(folder / "train.py"), str(folder / "images"), depth, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("depth", ["top", "all"])
def test_two_processes_end_like_one_with_the_same_batch(folder, depth):
    run(folder, depth, [])
    run(folder, depth, ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])
    alone, first, second = (json.loads((folder / f"{name}.json").read_text()) for name in ("alone", "0", "1"))
    assert first["probabilities"] == second["probabilities"]
    assert first["train_loss"] != alone["train_loss"]  # each saw its own half of the batches
    np.testing.assert_allclose(first["valid_loss"], alone["valid_loss"], atol=TOLERANCE)
    np.testing.assert_allclose(first["probabilities"], alone["probabilities"], atol=TOLERANCE)


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes() == (0, 1)
