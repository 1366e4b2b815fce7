"""Training on pixels that are not in memory: the same to the bit, and under a limit far below their size."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from utils_cv.data.lazy_pixels import LazyPixels
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.trained_models import predict_images


@pytest.fixture(scope="module")
def lazy_images(small_images):
    """The same images, of which a part at a time is read."""
    pixels = small_images.pixels
    lazy = LazyPixels(len(pixels), pixels.shape[1], lambda first, stop: pixels[first:stop].copy())
    return dataclasses.replace(small_images, pixels=lazy)


@pytest.mark.parametrize("trainable", ["last_stage", "all"])
def test_a_seed_gives_the_same_network_from_memory_and_from_a_file(
    small_images, lazy_images, small_probe, trainable, tmp_path
):
    found = []
    for images in (small_images, lazy_images):
        start = linear_probe(images)
        options = {"trainable": trainable, "epochs": 1, "show_progress": False, "checkpoint_dir": tmp_path}
        model = fine_tune(images, start=start, **options)  # the second goes on from the first one's checkpoint
        again = fine_tune(images, start=start, **options | {"checkpoint_dir": None})
        found += [start.learn.model.state_dict(), model.learn.model.state_dict(), again.learn.model.state_dict()]
        probabilities = predict_images(small_probe, images).probabilities
        np.testing.assert_array_equal(probabilities, predict_images(small_probe, small_images).probabilities)
    for first, second in ((0, 3), (1, 4), (1, 2), (2, 5)):
        assert all(torch.equal(found[second][name], value) for name, value in found[first].items())


# 1,600 images at 400 px have 768 MB of pixels; the process may take half of it more than its imports. A hundredth is
# broken. The network's features are replaced by pixels: what is tried is memory, not the network. Threads share one
# heap, because glibc would reserve 64 MB of addresses for each.
SCRIPT = """
import resource, sys, warnings
from pathlib import Path
import numpy as np, pandas as pd
from tests.conftest import draw_image
from utils_cv.data.image_table import load_table_images
from utils_cv.models import features
from utils_cv.training.trained_models import predict_images
from utils_cv.training.linear_probe import linear_probe

def run(batch):
    return batch[:, 8::16, 8::16].reshape(len(batch), -1)[:, :1280].astype(np.float32)

features._load_network = lambda *_: run
features._find_source_for = lambda *_: features._Source(400, "cpu", "pixels", 1280, "")
folder, paths = Path(sys.argv[1]), []
for i in range(1600):
    path = folder / f"{i}.jpg"
    draw_image(("can", "carton")[i % 2], seed=i % 50).save(path) if i % 100 != 99 else path.write_bytes(b"")
    paths.append(path)
split = np.where(np.arange(1600) % 20 == 0, "test", "train")
table = pd.DataFrame({"path": paths, "label": ["can", "carton"] * 800, "split": split})
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 384 * 10**6, resource.RLIM_INFINITY))
images = load_table_images(table, 400)
streamed = features.compute_features(table, im_size_px=400)
probe = linear_probe(images)
print(images.pixels.nbytes / 1e6, len(images.skipped), np.isnan(streamed[:, 0]).sum(), probe.history.train_loss[0])
"""


@pytest.mark.linux
def test_a_probe_of_more_pixels_than_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    size_mb, n_skipped, n_nan, loss = map(float, done.stdout.splitlines()[-1].split())
    assert size_mb > 750 and n_skipped == n_nan == 16 and loss < 0.5
    assert "16 of 1600" in done.stderr
