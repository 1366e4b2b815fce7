"""From a file to a label beside what it cannot do without: `python -m benchmarks.inference_speed [FOLDER]`.

Three aims: one image of 400 x 300 and of 12 megapixels against raw libjpeg-turbo and the bare session, each way in a
process of its own; a folder of photographs against the bare session in threads; the start of a process. All are
measured in turn, so that ratios hold whatever the machine does. Each part is kept in `outputs` once it is done, so that
a call that was stopped goes on; the last one writes `results/inference_speed.json`. About 3 minutes alone. `FOLDER`
holds up to 1,000 photographs; by default the demo images are taken twice.
Needs `pip install -e '.[benchmarks]'`.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference_workers import Worker
from benchmarks.loading import make_files
from tools.refresh_notebooks import fill_document
from utils_cv.data.image_files import list_image_files
from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.images import load_images
from utils_cv.data.splits import complete_splits
from utils_cv.models.features import run_in_batches
from utils_cv.models.runtimes import load_network
from utils_cv.models.saved_classifier import load_classifier, save_classifier
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine
from utils_cv.system.timing import measure_fresh_process
from utils_cv.training.linear_probe import linear_probe

ROOT = Path(__file__).parents[1]
RESULT, PARTS = ROOT / "benchmarks/results/inference_speed.json", ROOT / "outputs/inference_speed.json"
N_ROUNDS, N_IN_A_ROW, N_FILES, N_FOLDER_ROUNDS, N_STARTS = 100, 10, 1000, 5, 5
START = """
from utils_cv.models.saved_classifier import load_classifier
print(load_classifier({folder!r}).predict_labels({path!r})[0])
"""


def summarize(ours: list[float], limit: list[float]) -> dict[str, Any]:
    """Describe two ways that took turns: medians, the median ratio of the rounds, and their middle 80 %."""
    ratios = np.array(ours) / np.array(limit)
    low, high = np.quantile(ratios, [0.1, 0.9])
    values = {"ours": np.median(ours), "limit": np.median(limit), "ratio": np.median(ratios), "low": low, "high": high}
    return {name: round(float(value), 3) for name, value in values.items()} | {"n_rounds": len(ratios)}


def time_one_image(folder: Path, path: str) -> dict[str, Any]:
    """Milliseconds from file to label, ours and the raw decoder with the bare session."""
    times: dict[str, list[float]] = {"ours": [], "limit of floats": []}
    least: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, folder)) for name in times}
        for number in range(N_ROUNDS + 1):  # the first warms up
            for name, worker in workers.items():
                times_ms = worker.time_predictions(path, N_IN_A_ROW)[1]
                least[name] = min(*times_ms, least.get(name, np.inf))
                times[name] += [float(np.median(times_ms))] * (number > 0)
    return summarize(*times.values()) | {"ratio_of_shortest": round(least["ours"] / least["limit of floats"], 3)}


def time_folder(folder: Path, paths: list[str]) -> dict[str, Any]:
    """Milliseconds per image: `predict_table` with its files, and the bare session with opened images.

    The session is called in the fastest way: in a thread per processor, each call with one thread and a few images.
    """
    classifier, bare = load_classifier(folder), load_network(folder, "onnx", n_threads=1)
    pixels = load_images(paths, classifier.info.im_size_px).pixels
    ways: list[Callable[[], object]] = [lambda: classifier.predict_table(paths), lambda: run_in_batches(bare, pixels)]
    times: list[list[float]] = [[], []]
    for _ in range(N_FOLDER_ROUNDS):
        for values, way in zip(times, ways, strict=True):
            start = time.perf_counter()
            way()
            values.append((time.perf_counter() - start) / len(paths) * 1000)
    found = summarize(*times)
    session = "four in a call of one thread, in a thread per processor"
    return found | {"n_files": len(paths), "rate": round(1 / found["ratio"], 3), "session": session}


def time_start(folder: Path, path: str) -> dict[str, Any]:
    """Seconds of a new process, to its first label, and its peak memory."""
    done = [measure_fresh_process(START.format(folder=str(folder), path=path)) for _ in range(N_STARTS)]
    seconds = [float(each.seconds) for each in done]
    facts = {"seconds": round(float(np.median(seconds)), 3), "least_seconds": round(min(seconds), 3), "n": N_STARTS}
    return facts | {"peak_memory_mb": round(max(each.peak_memory_mb for each in done))}


def main() -> None:
    """Measure what is missing, and fill it into the README."""
    given = sys.argv[1:]
    result = {"machine": describe_machine()} | (json.loads(PARTS.read_text()) if PARTS.is_file() else {})
    with tempfile.TemporaryDirectory() as temporary_dir:
        folder, place = Path(temporary_dir) / "model", Path(temporary_dir)
        images = load_table_images(complete_splits(load_image_table(ROOT / "data/fridge_objects")), 224)
        save_classifier(linear_probe(images), folder)
        small, large = (str(make_files(place / f"{w}", 1, w, h, 10)[0]) for w, h in ((400, 300), (4000, 3000)))
        paths = [str(path) for path in list_image_files(given[0])] if given else images.table["path"].tolist() * 2
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "small": lambda: time_one_image(folder, small),
            "large": lambda: time_one_image(folder, large),
            "folder": lambda: time_folder(folder, paths[:N_FILES]) | {"set": Path(given[0]).name if given else "demo"},
            "start": lambda: time_start(folder, small),
        }
        for name, measure in parts.items():
            if name not in result:
                result[name] = [measure() | {"load_average": round(os.getloadavg()[0], 1)}]
                print(name, result[name], flush=True)
                with write_atomic(PARTS) as temporary_path:
                    temporary_path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    shutil.move(PARTS, RESULT)
    fill_document(ROOT / "benchmarks/README.md", ROOT / "notebooks")


if __name__ == "__main__":
    main()
