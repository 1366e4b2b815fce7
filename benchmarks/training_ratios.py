"""How far training is from the bare work, and what another busy process costs it, as ratios measured in turn.

    python -m benchmarks.training_ratios

Each job runs in a process that has done it once before; ratios are medians of those of the rounds. Results go to
`benchmarks/results/training_ratios.json` and into the README. 20 minutes, on a machine that does nothing else.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tools.refresh_notebooks import fill_document
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/training_ratios.json"
N_TIMES = 3  # so many times the rounds for what takes seconds
SPIN_COUNTS = (300_000, 1_000)  # as GNU's OpenMP comes, and as utils_cv sets it
# What is measured, in terms of which, and the limit that we aim at.
RATIOS = [
    ("select_recipe, of the final training alone", "select_recipe", "final training", 2.7, 1),
    ("linear_probe, of decoding and the bare features", "linear_probe", "decoding and features", 1.25, N_TIMES),
]
WORKER = """
import json, sys, time
from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.images import load_images
from utils_cv.data.splits import complete_splits
from utils_cv.models.features import compute_features
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.model_selection import select_recipe

table = complete_splits(load_image_table("data/fridge_objects"), seed=0)
table = table[table["split"] != "test"].reset_index(drop=True)
images = load_table_images(table, 224)
every = load_table_images(table.assign(split="train"), 224)
few = load_table_images(table.groupby("label").head(20).assign(split="train"), 224)
few_probe = linear_probe(few)
quiet = {"show_progress": False}
JOBS = {
    "decoding and features": lambda: compute_features(load_images(table["path"], 224, **quiet).pixels),
    "linear_probe": lambda: linear_probe(load_table_images(table.assign(split="train"), 224)),
    "final training": lambda: fine_tune(every, trainable="last_stage", **quiet),
    "select_recipe": lambda: select_recipe(images, **quiet),
    "features": lambda: compute_features(few.pixels),
    "last stage": lambda: fine_tune(few, start=few_probe, trainable="last_stage", epochs=2, **quiet),
    "all layers": lambda: fine_tune(few, start=few_probe, epochs=1, **quiet),
}
for line in sys.stdin:
    start, cpu_start = time.perf_counter(), time.process_time()
    JOBS[line.strip()]()
    print(json.dumps([time.perf_counter() - start, time.process_time() - cpu_start]), flush=True)
"""


class Worker:
    """A process that does one job at a time and says how long it took."""

    def __init__(self, spin_count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER],
            env=os.environ | {"GOMP_SPINCOUNT": str(spin_count)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def measure(self, job: str) -> tuple[float, float]:
        """Do a job; give its wall and CPU seconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(job, file=self._process.stdin, flush=True)
        seconds, cpu_seconds = json.loads(self._process.stdout.readline())
        return seconds, cpu_seconds

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def keep_busy(n_processes: int) -> Iterator[None]:
    """Keep processors busy meanwhile."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_processes)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure_bare_work(n_rounds: int) -> list[dict[str, Any]]:
    """Compare each of `RATIOS` in turn, in one process."""
    worker, rows = Worker(SPIN_COUNTS[-1]), []
    for what, job, base, limit, n_times in RATIOS:
        for name in (job, base):
            worker.measure(name)
        pairs = [(worker.measure(job), worker.measure(base)) for _ in tqdm(range(n_rounds * n_times), desc=what)]
        ratios = [[one[i] / other[i] for one, other in pairs] for i in range(2)]
        row = {"what": what, "ratio": statistics.median(ratios[0]), "limit": limit, "n_rounds": len(pairs)}
        row |= {"lowest": min(ratios[0]), "highest": max(ratios[0]), "cpu_ratio": statistics.median(ratios[1])}
        rows.append(row | {"seconds": statistics.median(one[0] for one, _ in pairs)})
    worker.close()
    return rows


def measure_beside_work(n_rounds: int) -> list[dict[str, Any]]:
    """Time three jobs alone and beside one busy process, with each spin count, in turn."""
    workers, rows = {count: Worker(count) for count in SPIN_COUNTS}, []
    for job in ("features", "last stage", "all layers"):
        seconds: dict[tuple[int, int], list[float]] = {}
        order = list(workers.items())
        for worker in workers.values():
            worker.measure(job)
        for _ in tqdm(range(n_rounds), desc=job):
            for n_busy in (0, 1):
                with keep_busy(n_busy):
                    for count, worker in order:
                        seconds.setdefault((count, n_busy), []).append(worker.measure(job)[0])
            order.reverse()  # the first after a pause may have a cooler processor
        for count in SPIN_COUNTS:
            alone, beside, usual = seconds[count, 0], seconds[count, 1], seconds[SPIN_COUNTS[0], 0]
            row = {"job": job, "spin_count": count, "alone_seconds": statistics.median(alone), "n_rounds": n_rounds}
            row["alone_ratio"] = statistics.median(one / other for one, other in zip(alone, usual, strict=True))
            row["beside_ratio"] = statistics.median(one / other for one, other in zip(beside, alone, strict=True))
            rows.append(row)
    for worker in workers.values():
        worker.close()
    return rows


def main() -> None:
    """Measure, print and save both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    n_rounds = parser.parse_args().rounds
    results = {"machine": describe_machine(), "table": measure_bare_work(n_rounds)}
    results["beside"] = measure_beside_work(N_TIMES * n_rounds)
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps(results, indent=1) + "\n")
    fill_document(ROOT / "benchmarks/README.md", ROOT / "notebooks")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
