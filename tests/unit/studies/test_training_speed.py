"""What is measured about speed: which files, which ways, which settings. Never how long anything takes."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from utils_cv.data.image_files import list_image_files
from utils_cv.studies import training_speed
from utils_cv.studies.training_speed import (
    STAGES,
    WAYS,
    measure_batch_sizes,
    measure_opening,
    measure_stages,
    measure_threads,
    write_large_images,
)


@pytest.fixture
def paths(image_dir):
    return list_image_files(image_dir)


@pytest.fixture
def steps(monkeypatch):
    """What is run in place of a network: number of images of each forward pass, minus that of each training step."""
    sizes = []
    network = SimpleNamespace(
        run_forward=lambda pixels: sizes.append(len(pixels)),
        train_epoch=lambda pixels, batch_size: sizes.extend([-batch_size] * (len(pixels) // batch_size)),
    )
    monkeypatch.setattr(training_speed, "_TrainingSteps", lambda backbone, im_size_px: network)
    return sizes


@pytest.fixture
def set_times(monkeypatch):
    """Let functions take these times, in milliseconds."""

    def measure(functions, times_ms):
        return pd.DataFrame({"name": list(functions), "median_ms": times_ms})

    return lambda *times_ms: monkeypatch.setattr(training_speed, "measure_in_turn", lambda f, **_: measure(f, times_ms))


def test_large_images_have_the_size_asked_for_and_repeat(paths, tmp_path):
    first, again = (write_large_images(paths, tmp_path / name, 1.5, seed=1) for name in ("a", "b"))
    for path, same in zip(first, again, strict=True):
        width, height = Image.open(path).size
        assert width * height == pytest.approx(1.5e6, rel=0.01) and width / height == pytest.approx(4 / 3, rel=0.01)
        assert path.read_bytes() == same.read_bytes()
    assert first[0].read_bytes() != first[1].read_bytes()


def test_opening_measures_every_size_in_every_way(paths, tmp_path):
    rows = measure_opening(paths, tmp_path, [0.2, 1], im_size_px=64, n_images=1, n_repeats=2)
    assert list(zip(rows["megapixels"], rows["way"], strict=True)) == [(s, w) for s in (0.2, 1.0) for w in WAYS]
    size = rows.set_index(["megapixels", "way"])["file_mb"]
    assert size[1.0, "downsized"] < size[1.0, "full"] == size[1.0, "reduced"]
    for _, part in rows.groupby("megapixels"):
        np.testing.assert_allclose(part["ratio"], part["median_ms"].iloc[0] / part["median_ms"])
    np.testing.assert_allclose(rows["images_per_second"] * rows["median_ms"], 1000)


def test_ways_differ_in_how_they_decode(paths, tmp_path, monkeypatch):
    wanted = []

    def note(content, target_px=None):
        wanted.append(target_px)
        return Image.new("RGB", (40, 30)), None

    monkeypatch.setattr(training_speed, "decode_image", note)
    measure_opening(paths, tmp_path, [0.2], im_size_px=32, n_images=1, n_repeats=1)
    assert wanted == [None, 32, 32] * 2  # one warm-up, one timed


def test_times_are_per_image(paths, set_times, monkeypatch):
    set_times(40.0, 10.0)
    monkeypatch.setattr(training_speed, "count_cpus", lambda: 1)
    rows = measure_threads(paths[:4], im_size_px=32)
    assert rows.to_dict("list") == {
        "n_threads": [1, 2], "median_ms": [10.0, 2.5], "images_per_second": [100.0, 400.0], "ratio": [1.0, 4.0],
    }  # fmt: skip


@pytest.mark.parametrize(("n_cpus", "counts"), [(1, [1, 2]), (2, [1, 2, 4]), (8, [1, 8, 16])], ids=str)
def test_every_number_of_threads_opens_all_images(paths, monkeypatch, n_cpus, counts):
    asked = []
    monkeypatch.setattr(training_speed, "count_cpus", lambda: n_cpus)
    monkeypatch.setattr(training_speed, "_keep_readable", list)
    monkeypatch.setattr(
        training_speed, "load_images", lambda paths, size, *, n_threads: asked.append((len(paths), size, n_threads))
    )
    rows = measure_threads(paths[:3], im_size_px=32, n_repeats=1)
    assert rows["n_threads"].tolist() == counts
    assert asked == [(3, 32, n) for n in counts] * 2


def test_every_batch_size_sees_all_images(steps):
    rows = measure_batch_sizes([8, 32], im_size_px=8)
    assert rows["batch_size"].tolist() == [8, 32] and rows["ratio"].iloc[0] == 1
    assert steps == [-8, -8, -8, -8, -32] * 4  # one warm-up, three timed


@pytest.mark.parametrize("sizes", [[5], [4, 5], []], ids=str)
def test_batch_sizes_that_leave_a_rest_are_refused(sizes):
    with pytest.raises(ValueError, match="divisors of 32"):
        measure_batch_sizes(sizes)


def test_stages_of_every_kind_add_up(steps, paths):
    rows = measure_stages({"a": paths, "b": paths[:1]}, im_size_px=32, in_full=["b"])
    assert rows["kind"].tolist() == ["a"] * 5 + ["b"] * 5 and rows["stage"].tolist() == [*STAGES] * 2
    assert rows.groupby("kind")["share_of_ms"].sum().tolist() == pytest.approx([1.0, 1.0])
    assert steps == [16, -16] * 4


def test_stages_after_decoding_are_the_same_and_backward_is_what_a_step_takes_more(steps, paths, set_times):
    set_times(16.0, 320.0, 32.0, 480.0, 64.0, 800.0, 2880.0)  # read, decode a; read, decode b; augment, forward, step
    rows = measure_stages({"a": paths, "b": paths}, im_size_px=32)
    assert rows["median_ms"].tolist() == [1.0, 20.0, 4.0, 50.0, 130.0, 2.0, 30.0, 4.0, 50.0, 130.0]


def test_only_the_kinds_named_are_decoded_in_full(steps, paths, monkeypatch):
    wanted = []
    monkeypatch.setattr(training_speed, "_decode", lambda contents, size, target_px, n: wanted.append(target_px))
    measure_stages({"a": paths, "b": paths}, im_size_px=32, in_full=["b"])
    assert wanted == [32, None] * 4


def test_a_training_step_changes_every_layer():
    steps = training_speed._TrainingSteps("efficientnet_lite0", 32)
    before = [parameter.detach().clone() for parameter in steps.model.parameters()]
    steps.train_epoch(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), 2)
    after = list(steps.model.parameters())
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > 0.9 * len(after)
