"""One image from file to label: ours against fastai, Hugging Face's pipeline and plain torchvision.

    python benchmarks/inference_peers.py                        # the demo images
    python benchmarks/inference_peers.py --data-dir my/photos   # any folder of images

The same network (lite0, 224 px) with the same weights, each way in a process of its own, in turn, so that the ratios
hold whatever the machine does: a small image of the folder, and a 12 megapixel JPEG such as phones take, made of
demo images. The limits are the raw decoder and the bare session, without what lies between them.
Needs `pip install -e '.[benchmarks,openvino]'`.
"""

import argparse
import contextlib
import functools
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from inference_workers import LEARNER_NAME, WAYS, Worker
from loading import make_files

from utils_cv.data.image_table import TableImages, load_image_table, load_table_images
from utils_cv.data.images import load_images, load_pixels
from utils_cv.data.splits import complete_splits
from utils_cv.models.features import run_in_batches
from utils_cv.models.quantization import add_int8
from utils_cv.models.runtimes import load_network
from utils_cv.models.saved_classifier import load_classifier, save_classifier
from utils_cv.system.machine import describe_machine, tune_allocator
from utils_cv.system.timing import measure_fresh_process, measure_in_turn
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.trained_models import TrainedModel

N_IN_A_ROW = 10  # predictions per turn: enough for caches and clocks to settle
OURS = """
from utils_cv.models.saved_classifier import load_classifier
print(load_classifier({folder!r}).predict_labels({path!r})[0])
"""
FASTAI = """
import warnings
warnings.simplefilter("ignore")
from fastai.vision.all import load_learner
print(load_learner({learner!r}).predict({path!r})[0])
"""


def save_models(trained: TrainedModel, folder: Path, images: TableImages) -> None:
    """Save the classifier, its 8-bit copy, and fastai's own learner as its documentation makes and exports it."""
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.vision.augment import Resize
    from fastai.vision.data import ImageDataLoaders

    save_classifier(trained, folder, images=images)
    add_int8(folder, images, is_checked=False)
    few = images.table.groupby("label").head(8)
    resize = Resize(trained.im_size_px, method="squash")
    paths, labels = few["path"].tolist(), few["label"].tolist()
    loaders = ImageDataLoaders.from_lists(".", paths, labels, item_tfms=resize, bs=8, num_workers=0, seed=0)
    model = trained.learn.model.to(memory_format=torch.contiguous_format)
    learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.export((folder / LEARNER_NAME).absolute())


def compare_peers(folder: Path, path: str, ways: list[str], n_rounds: int) -> None:
    """From file to label, in processes that stay: a first turn to warm up, then rounds in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, folder)) for name in ways}
        labels = {name: worker.time_predictions(path, N_IN_A_ROW)[0] for name, worker in workers.items()}
        for _ in range(n_rounds):
            for name, worker in workers.items():
                times[name] += worker.time_predictions(path, N_IN_A_ROW)[1]
    rows = []
    for name, ms in times.items():
        row = {"way": name, "label": labels[name], "median ms": np.median(ms), "min ms": min(ms)}
        rows.append(row | {"p95 ms": np.quantile(ms, 0.95)})
    table = pd.DataFrame(rows)
    table["times ours"] = table["median ms"] / table["median ms"].iloc[0]
    # One ratio per round: they show how far the ratio itself can be trusted.
    rounds = {name: np.median(np.reshape(ms, (n_rounds, -1)), axis=1) for name, ms in times.items()}
    ratios = [rounds[name] / rounds[ways[0]] for name in ways]
    table["of rounds"] = [f"{ratio.min():.2f} to {ratio.max():.2f}" for ratio in ratios]
    print(f"\nfrom file to label: {Path(path).name} (n = {n_rounds} rounds of {N_IN_A_ROW} each, in turn)")
    print(table.round(2).to_string(index=False), flush=True)


def compare_runtimes(folder: Path, pixels: np.ndarray, runtimes: list[str], n_repeats: int) -> None:
    """The network alone, one image; and what we add around the bare session."""
    tune_allocator()
    runs = {runtime: load_network(folder, runtime) for runtime in runtimes}
    one = np.ascontiguousarray(pixels[:1])
    show("the network alone, one image", {name: functools.partial(run, one) for name, run in runs.items()}, n_repeats)
    del runs
    classifier, bare = load_classifier(folder), load_network(folder, "onnx")
    image = pixels[0]
    functions = {"bare session": lambda: bare(one), "predict_labels": lambda: classifier.predict_labels(image)}
    medians = show("around the session, an array of the right size", functions, n_repeats)
    print(f"  added: {medians['predict_labels'] / medians['bare session'] - 1:.1%} of the session's time")


def compare_folder_rates(folder: Path, paths: list[str], n_rounds: int) -> None:
    """A folder of files to a table, against the bare session, called in threads with images that are open already."""
    classifier, bare = load_classifier(folder), load_network(folder, "onnx", n_threads=1)
    pixels = load_images(paths, classifier.info.im_size_px).pixels
    functions: dict[str, Callable[[], object]] = {
        "bare session": lambda: run_in_batches(bare, pixels),
        "load_images": lambda: load_images(paths, classifier.info.im_size_px),
        "predict_table": lambda: classifier.predict_table(paths),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(n_rounds):
        for name, function in functions.items():
            start = time.perf_counter(), time.process_time()
            function()
            seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    print(f"\na folder of {len(paths)} files (n = {n_rounds} rounds, in turn; processor time is that of all threads)")
    bare_s = np.array(seconds["bare session"])
    for name, values in seconds.items():
        wall_ms, cpu_ms = np.median(values, axis=0) / len(paths) * 1000
        rate, cpu_rate = np.median(bare_s / np.array(values), axis=0)
        print(f"  {name:14s} {wall_ms:7.2f} ms per image, processor {cpu_ms:6.2f} ms; rate {rate:.2f}, {cpu_rate:.2f}")


def show(title: str, functions: dict[str, Callable[[], object]], n_repeats: int) -> dict[str, float]:
    """Time in turn, print medians and their ratios to the first."""
    table = measure_in_turn(functions, n_repeats=n_repeats)
    medians = dict(zip(table["name"], table["median_ms"], strict=True))
    table["ratio"] = table["median_ms"] / table["median_ms"].iloc[0]
    print(f"\n{title} (n = {n_repeats} runs each, in turn)")
    print(table[["name", "median_ms", "min_ms", "p95_ms", "ratio", "busy"]].round(2).to_string(index=False))
    return medians


def compare_cold_starts(folder: Path, path: str, n_repeats: int) -> None:
    """A new process, to the first label."""
    scripts = {
        "ours": OURS.format(folder=str(folder), path=path),
        "fastai load_learner": FASTAI.format(learner=str((folder / LEARNER_NAME).absolute()), path=path),
    }
    results: dict[str, list[Any]] = {name: [] for name in scripts}
    for _ in range(n_repeats):
        for name, script in scripts.items():
            results[name].append(measure_fresh_process(script))
    print(f"\ncold start to the first label (n = {n_repeats} fresh processes each, in turn)")
    medians = {name: float(np.median([done.seconds for done in each])) for name, each in results.items()}
    for name, seconds in medians.items():
        peak_mb = max(done.peak_memory_mb for done in results[name])
        print(f"  {name:24s} {seconds:6.2f} s  peak {peak_mb:6.0f} MB  ratio {seconds / medians['ours']:6.2f}")


def main() -> None:
    """Train, save, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data/fridge_objects")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--runtimes", nargs="*", default=["torch", "channels_last", "onnx", "int8", "openvino_int8"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--cold-starts", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    images = load_table_images(complete_splits(load_image_table(arguments.data_dir)), 224)
    print(describe_machine())
    with tempfile.TemporaryDirectory() as temporary_dir:
        folder = Path(temporary_dir) / "model"
        save_models(linear_probe(images), folder, images)
        small = str(images.table.loc[images.table["split"] == "test", "path"].iloc[0])
        large = str(make_files(Path(temporary_dir), 1, 4000, 3000, 10)[0])
        for path in (small, large):
            compare_peers(folder, path, arguments.ways, arguments.rounds)
        compare_runtimes(folder, load_pixels(small, 224)[None], arguments.runtimes, arguments.repeats)
        compare_folder_rates(folder, images.table["path"].tolist(), arguments.rounds)
        compare_cold_starts(folder, small, arguments.cold_starts)


if __name__ == "__main__":
    main()
