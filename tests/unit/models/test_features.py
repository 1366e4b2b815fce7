"""Features of a frozen backbone: the same from every runtime, and refused for other arrays."""

import functools
import re
import shutil
import sys
import threading

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import write_images
from utils_cv.data.images import load_images
from utils_cv.models import features, onnx_export
from utils_cv.models.backbones import load_backbone
from utils_cv.models.features import compute_features, find_similar, prepare_network, run_in_batches
from utils_cv.models.onnx_export import Normalized
from utils_cv.system import row_store

SIZE_PX = 64


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.fixture(params=["ONNX Runtime on a CPU", "torch on another device"])
def device(request, monkeypatch, tmp_path):
    """A machine without, and one with another device, which is a CPU by another name."""
    name = "cpu" if "ONNX" in request.param else "cpu:0"
    monkeypatch.setattr("utils_cv.models.features.choose_device", lambda: name)
    return name


def test_features_are_those_of_the_backbone_on_normalized_images(pixels, device):
    body = load_backbone(n_classes=0)
    normalized = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 * 2 - 1  # mean and std are 0.5
    with torch.inference_mode():
        expected = body(normalized).numpy()
    np.testing.assert_allclose(compute_features(pixels), expected, atol=2e-3)
    assert len(compute_features(pixels[:0])) == 0


def test_a_prepared_network_runs_in_batches_and_is_not_changed(pixels, device, monkeypatch, tmp_path):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path))
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Dropout(), torch.nn.Flatten())
    network = Normalized(body, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)).train()
    run = prepare_network(network, SIZE_PX, name="small")
    assert network.training and body[0].weight.is_contiguous()
    assert bool(list(tmp_path.rglob("small_64px_*.onnx"))) == (device == "cpu")
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(run_in_batches(run, pixels), expected, atol=1e-4)
    np.testing.assert_array_equal(run_in_batches(run, pixels[:, ::-1]), run_in_batches(run, pixels[:, ::-1].copy()))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(np.zeros((2, 3, 64, 64), np.uint8), id="channels first"),
        pytest.param(np.zeros((2, 64, 32, 3), np.uint8), id="not square"),
        pytest.param(np.zeros((64, 64, 3), np.uint8), id="one image"),
        pytest.param(np.zeros((2, 64, 64, 3), np.float32), id="floats"),
    ],
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected uint8 \(n, size, size, 3\)"):
        compute_features(wrong)


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """Forty files of which one is broken and one is missing, in shards of sixteen."""
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "_SHARD_SIZE", 16)
    found = write_images(tmp_path, 40)
    found[20].write_bytes(b"no image")
    found[39].unlink()
    return found


def compute(paths, **options):
    with pytest.warns(UserWarning, match=r"2 of 40 images could not be opened.*20\.png \(.*39\.png \(there is no"):
        return compute_features(paths, im_size_px=SIZE_PX, **options)


def test_files_have_the_features_of_their_pixels_and_broken_ones_rows_of_nan(paths, capsys):
    found, loaded = compute(paths), load_images(paths, SIZE_PX)
    np.testing.assert_allclose(found[loaded.rows], compute_features(loaded.pixels), atol=1e-4)
    assert np.isnan(found).all(axis=1).nonzero()[0].tolist() == [20, 39]
    part = compute_features(pd.DataFrame({"path": paths}), [3, 1], im_size_px=SIZE_PX, fit="crop")
    cropped = load_images([paths[3], paths[1]], SIZE_PX, fit="crop")
    np.testing.assert_array_equal(part, compute_features(cropped.pixels))


def test_a_stopped_call_goes_on_where_it_stopped_and_a_finished_one_is_kept(paths, monkeypatch):
    expected, load, opened = compute(paths), features.load_or_explain, []
    shutil.rmtree(paths[0].parent / "cache" / "features")

    def stop_at_the_third_shard(path, *args):
        opened.append(path)
        if path == paths[35]:
            raise KeyboardInterrupt
        return load(path, *args)

    monkeypatch.setattr(features, "load_or_explain", stop_at_the_third_shard)
    with pytest.raises(KeyboardInterrupt):
        compute_features(paths, im_size_px=SIZE_PX)
    monkeypatch.setattr(features, "load_or_explain", lambda path, *args: opened.append(path) or load(path, *args))
    opened.clear()
    np.testing.assert_array_equal(compute(paths), expected)
    assert set(opened) == {*paths[32:], paths[20]}  # the broken one only to say why
    opened.clear()
    np.testing.assert_array_equal(compute(paths), expected)
    assert opened == [paths[20], paths[39]]


def test_without_a_cache_folder_to_write_to_features_are_held(paths, monkeypatch):
    expected = compute(paths)
    monkeypatch.setattr(row_store.shutil, "disk_usage", lambda _: row_store.shutil._ntuple_diskusage(1, 1, 1))
    shutil.rmtree(paths[0].parent / "cache" / "features")
    with pytest.warns(UserWarning, match=r"set UTILS_CV_CACHE .* lost at the end of the process"):
        np.testing.assert_array_equal(compute(paths), expected)
    monkeypatch.setattr(features, "measure_free_memory_mb", lambda: 0.1)
    with pytest.raises(MemoryError, match="the memory is too small as well"):
        compute_features(paths, im_size_px=SIZE_PX)


def test_without_a_place_for_the_export_torch_runs_the_network(pixels, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_export, "export_to_cache", fail)
    network = Normalized(load_backbone(n_classes=0), (0.5,) * 3, (0.5,) * 3)
    with pytest.warns(UserWarning, match=r"No space left.*torch runs the network.*UTILS_CV_CACHE"):
        run = prepare_network(network, SIZE_PX, name="small")
    np.testing.assert_allclose(run(pixels), compute_features(pixels), atol=2e-3)


def test_without_torch_in_memory_another_process_exports_the_network(pixels, monkeypatch):
    expected = compute_features(pixels)
    monkeypatch.delitem(sys.modules, "torch")
    features._find_source_for.cache_clear()
    np.testing.assert_array_equal(compute_features(pixels), expected)
    assert "torch" not in sys.modules


def test_one_line_says_before_what_many_images_take(paths, pixels, capsys, monkeypatch):
    monkeypatch.setattr(features, "N_MANY", 40)
    compute(paths, show_progress=True)
    said = capsys.readouterr()
    assert re.search(r"Features of 40 images at 64 px: about \d+ s here, 0 MB in .*features\. Interrupted", said.out)
    assert re.search(r"40/40 .*image/s", said.err)
    compute_features(np.repeat(pixels, 10, axis=0), np.arange(41), show_progress=True)
    said = capsys.readouterr()
    assert re.search(r"features of 41 images at 64 px: about \d+ s here", said.out) and "41/41" in said.err


def test_joblib_may_run_shards_side_by_side(paths):
    expected = compute(paths)
    shutil.rmtree(paths[0].parent / "cache" / "features")
    with joblib.parallel_config(backend="threading", n_jobs=2):
        np.testing.assert_allclose(compute(paths), expected, atol=1e-5)


@pytest.mark.parametrize(("n_threads", "seen"), [(None, [3]), (1, [2, 1])], ids=["one by one", "at once"])
def test_rows_are_run_in_their_order_and_changed_in_batches(pixels, n_threads, seen, monkeypatch):
    monkeypatch.setattr(features, "_N_PER_CALL", 2)
    order, run = [4, 0, 3], functools.partial(np.take, indices=0, axis=1)
    run.n_threads = n_threads
    found = run_in_batches(run, pixels, order, change=lambda batch: batch // len(batch), dtype=np.float16)
    expected = pixels[order, 0] // np.repeat(seen, seen)[:, None, None]
    np.testing.assert_array_equal(found, expected.astype(np.float16), strict=True)


@pytest.mark.parametrize("n_cpus", [1, 2, 5])
def test_so_many_calls_as_there_are_processors_give_the_same_to_the_bit(pixels, n_cpus, monkeypatch):
    many, meeting = np.repeat(pixels, 4, axis=0), threading.Barrier(n_cpus, timeout=20)
    expected = compute_features(many)
    monkeypatch.setattr(features, "count_cpus", lambda: n_cpus)
    np.testing.assert_array_equal(compute_features(many), expected)

    def fail(batch):
        meeting.wait()  # raises another error unless so many calls are at work at once
        raise KeyboardInterrupt

    fail.n_threads = 1
    with pytest.raises(KeyboardInterrupt):
        run_in_batches(fail, many[: 4 * n_cpus])


def test_similar_images_are_those_of_the_smallest_angle_around_the_mean():
    features = np.random.default_rng(0).normal(5, 1, (40, 6))
    rows, similarity = find_similar(features, features[:7], n_similar=3)
    unit = features - features.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = unit[:7] @ unit.T
    np.testing.assert_array_equal(rows, np.argsort(-expected, axis=1)[:, :3])
    np.testing.assert_allclose(similarity, -np.sort(-expected, axis=1)[:, :3], atol=1e-12)
    assert rows[:, 0].tolist() == list(range(7))  # an image finds itself
    assert find_similar(features[:2], features)[0].shape == (40, 2)
