"""What is measured about speed: which files, which ways, which settings. Never how long anything takes."""

import pytest
from PIL import Image

from utils_cv.data.images import list_image_files
from utils_cv.studies import epoch_stages, training_speed
from utils_cv.studies.epoch_stages import STAGES, measure_batch_sizes, measure_stages
from utils_cv.studies.storage import Storage
from utils_cv.studies.training_speed import (
    WAYS,
    measure_opening,
    measure_storages,
    measure_threads_and_cache,
    write_large_images,
)


@pytest.fixture
def paths(image_dir):
    return list_image_files(image_dir)


def test_large_images_have_the_size_asked_for_and_repeat(paths, tmp_path):
    first, again = (write_large_images(paths, tmp_path / name, 1.5, seed=1) for name in ("a", "b"))
    for path, same in zip(first, again, strict=True):
        width, height = Image.open(path).size
        assert width * height == pytest.approx(1.5e6, rel=0.01) and width / height == pytest.approx(4 / 3, rel=0.01)
        assert path.read_bytes() == same.read_bytes()
    assert first[0].read_bytes() != first[1].read_bytes()


def test_opening_measures_every_size_in_every_way(paths, tmp_path):
    rows = measure_opening(paths, tmp_path, [0.2, 1], im_size_px=64, n_images=1, n_rounds=2)
    assert list(zip(rows["megapixels"], rows["way"], strict=True)) == [(s, w) for s in (0.2, 1.0) for w in WAYS]
    assert (rows.loc[rows["way"] == WAYS[0], "ratio"] == 1.0).all() and (rows["n_rounds"] == 2).all()
    size = rows.set_index(["megapixels", "way"])["file_mb"]
    assert size[1.0, WAYS[2]] < size[1.0, WAYS[0]] == size[1.0, WAYS[1]]


def test_ways_differ_in_how_they_decode(paths, tmp_path, monkeypatch):
    wanted = []
    monkeypatch.setattr(training_speed, "decode_image", lambda content, target_px=None: _note(wanted, target_px))
    measure_opening(paths, tmp_path, [0.2], im_size_px=32, n_images=1, n_rounds=1)
    assert wanted == [None, 32, 32] * 2  # one round that does not count, one that does


def _note(wanted, target_px):
    wanted.append(target_px)
    return Image.new("RGB", (40, 30)), None


def test_storages_are_compared_with_memory(paths):
    quick = [Storage("quick", 1e6, 0.0)]
    rows = measure_storages({"small": paths}, storages=quick, im_size_px=32, n_images=3, n_rounds=2)
    assert rows["storage"].tolist() == ["memory", "quick"] and rows["kind"].unique().tolist() == ["small"]
    assert rows["ratio"].iloc[0] == 1.0


def test_the_cache_opens_each_image_once(paths, tmp_path, monkeypatch):
    opened = []
    load_image = training_speed.load_images.__globals__["load_image"]

    def count(path, **options):
        opened.append(path)
        return load_image(path, **options)

    monkeypatch.setitem(training_speed.load_images.__globals__, "load_image", count)
    monkeypatch.setattr(training_speed, "count_cpus", lambda: 2)
    rows = measure_threads_and_cache(paths, tmp_path / "cache", im_size_px=32, n_rounds=3)
    assert rows["name"].tolist() == ["1 thread", "2 threads", "4 threads", "cache on disk", "cache in memory"]
    assert len(opened) == len(paths) * (3 * 4 + 2)  # three settings in four rounds, and once for each cache


def test_one_processor_gives_one_thread_and_two(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(training_speed, "count_cpus", lambda: 1)
    rows = measure_threads_and_cache(paths[:2], tmp_path / "cache", im_size_px=32, n_rounds=1)
    assert rows["name"].tolist()[:2] == ["1 thread", "2 threads"]


class FakeTrainer:
    """Counts steps in place of a network."""

    def __init__(self, backbone):
        self.sizes = []
        made.append(self)

    def run_forward(self, pixels):  # noqa: D102
        self.sizes.append(len(pixels))
        return len(pixels)

    def run_backward(self, loss):  # noqa: D102
        assert loss == self.sizes[-1]

    train_epoch = epoch_stages._Trainer.train_epoch


made: list[FakeTrainer] = []


@pytest.fixture
def fake_trainer(monkeypatch):
    made.clear()
    monkeypatch.setattr(epoch_stages, "_Trainer", FakeTrainer)


def test_every_batch_size_sees_all_images(fake_trainer):
    rows = measure_batch_sizes([4, 16], n_images=16, im_size_px=8, n_rounds=1)
    assert rows["batch_size"].tolist() == [4, 16]
    assert made[0].sizes == [4, 4, 4, 4, 16] * 2


def test_batch_sizes_that_leave_a_rest_are_refused():
    with pytest.raises(ValueError, match="divisors of n_images = 32"):
        measure_batch_sizes([5])


def test_stages_of_every_kind_add_up(fake_trainer, paths):
    rows = measure_stages({"a": paths, "b": paths[:1]}, im_size_px=32, batch_size=4, n_rounds=2, in_full=["b"])
    assert rows["kind"].tolist() == ["a"] * 5 + ["b"] * 5 and rows["stage"].tolist() == [*STAGES] * 2
    assert rows.groupby("kind")["share_of_ms"].sum().tolist() == pytest.approx([1.0, 1.0])
    assert made[0].sizes == [4] * 6


def test_stages_after_opening_do_not_depend_on_the_file(fake_trainer, paths):
    rows = measure_stages({"a": paths, "b": paths[:1]}, im_size_px=32, batch_size=4, n_rounds=2)
    ms = rows.pivot(index="stage", columns="kind", values="ms")
    assert (ms.loc[["augment", "forward", "backward"], "a"] == ms.loc[["augment", "forward", "backward"], "b"]).all()
    assert ms.loc["decode", "a"] != ms.loc["decode", "b"]


def test_a_training_step_changes_every_layer():
    import numpy as np
    import torch

    trainer = epoch_stages._Trainer("efficientnet_lite0")
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train_epoch(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), 2)
    after = list(trainer.model.parameters())
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > 0.9 * len(after)
