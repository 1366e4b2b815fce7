"""What 1,000 to 100,000 images cost, step by step, and the pass over the files beside fastai's and torch's loaders.

    python benchmarks/scale.py --work-dir /tmp/scale                # all numbers of images; about two hours on 2 cores
    python benchmarks/scale.py --work-dir /tmp/scale --counts 1000  # one of them
    python benchmarks/scale.py --table                              # what was measured, as tables for README.md

Distinct JPEGs of 160 x 120 pixels in ten classes are made once in the work folder, one in a hundred of them broken.
Every step runs in a process of its own, so that its memory is its own; a step that is in the JSON is not run again.
"""

import argparse
import itertools
import json
import math
import os
import pickle
import resource
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "scale.json"
COUNTS, N_CLASSES, SIZE_PX, BROKEN_EVERY = (1_000, 5_000, 20_000, 100_000), 10, 224, 100
MEMORY_MB = 500  # pixels beyond it are kept in a file
N_RATES = 1_000  # images whose rates are compared, in turn


def make_files(folder: Path, n: int) -> None:
    """Write the first n files that are missing: smooth cells with grain, in a tint of the class."""
    for number in range(n):
        path = folder / f"class_{number % N_CLASSES}" / f"{number:06d}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(number)
        cells = random.integers(0, 200, (9, 12, 3)) + np.random.default_rng(number % N_CLASSES).integers(0, 55, 3)
        image = Image.fromarray(cells.astype(np.uint8)).resize((160, 120), Image.Resampling.BICUBIC)
        pixels = np.asarray(image) + random.normal(0, 4, (120, 160, 1))
        temporary = path.with_suffix(".tmp")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(temporary, "JPEG", quality=85)
        if number % BROKEN_EVERY == BROKEN_EVERY // 2:
            temporary.write_bytes(temporary.read_bytes()[:200])
        temporary.rename(path)


def link_files(folder: Path, target: Path, n: int) -> None:
    """Make a folder of the first n files, by hard links."""
    for number in range(n):
        name = f"class_{number % N_CLASSES}/{number:06d}.jpg"
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if not (target / name).exists():
            os.link(folder / name, target / name)


class Steps:
    """The steps, in their order; each reads what it needs from those before, and is timed without that."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder.parent / f"{folder.name}.pickle"
        self.model = folder.parent / f"{folder.name}_model"

    def load(self) -> Any:
        """The image table with splits."""
        return pickle.loads(self.state.read_bytes())

    def table(self) -> Callable[[], Any]:
        """List the files."""
        from utils_cv.data.image_table import load_image_table

        return lambda: self.state.write_bytes(pickle.dumps(load_image_table(self.folder)))

    def split(self) -> Callable[[], Any]:
        """Split train, valid and test."""
        from utils_cv.data.splits import complete_splits

        table = self.load()
        return lambda: self.state.write_bytes(pickle.dumps(complete_splits(table)))

    def audit(self) -> Callable[[], Any]:
        """Audit the files."""
        from utils_cv.audit.report import audit_images

        table = self.load()
        return lambda: print(audit_images(table, show_progress=False))

    def pixels(self) -> Callable[[], Any]:
        """Open all images into a file of the cache folder."""
        from utils_cv.data.image_table import load_table_images

        table = self.load()
        shutil.rmtree(Path(os.environ["UTILS_CV_CACHE"]) / "pixels", ignore_errors=True)
        return lambda: load_table_images(table, SIZE_PX, memory_mb=0)

    def features(self) -> Callable[[], Any]:
        """Compute the features of all files, from the files."""
        from utils_cv.models.features import compute_features

        table = self.load()
        compute_features(table["path"].iloc[:1], im_size_px=SIZE_PX)  # the export, which is done once
        shutil.rmtree(Path(os.environ["UTILS_CV_CACHE"]) / "features", ignore_errors=True)
        return lambda: compute_features(table, im_size_px=SIZE_PX, show_progress=True)

    def load_images(self) -> Any:
        """Opened images."""
        from utils_cv.data.image_table import load_table_images

        return load_table_images(self.load(), SIZE_PX, memory_mb=MEMORY_MB)

    def probe(self) -> Callable[[], Any]:
        """Fit the linear probe to the features of the step before, and save it."""
        from utils_cv.models.features import compute_features
        from utils_cv.models.saved_classifier import save_classifier
        from utils_cv.training.linear_probe import linear_probe

        images, table = self.load_images(), self.load()
        is_opened = table["path"].isin(images.table["path"]).to_numpy()
        features = compute_features(table, im_size_px=SIZE_PX)[is_opened]
        options: dict[str, Any] = {"onnx": False, "overwrite": True}
        return lambda: save_classifier(linear_probe(images, features=features), self.model, **options)

    def predict(self) -> Callable[[], Any]:
        """Predict the test images, a fifth of all, by the probe."""
        from utils_cv.training.trained_models import load_trained, predict_images

        images, probe = self.load_images(), load_trained(self.model)
        return lambda: print((predict_images(probe, images).y_true >= 0).sum())


STEPS = ("table", "split", "audit", "pixels", "features", "probe", "predict")


def measure_step(step: str, folder: Path) -> None:
    """Run one step in this process and print what it took, as the last line."""
    own_mb = [0.0]
    threading.Thread(target=watch_memory, args=(own_mb,), daemon=True).start()
    run = getattr(Steps(folder), step)()
    start, cpu = time.perf_counter(), time.process_time()
    run()
    facts = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    facts |= {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, "own_mb": own_mb[0]}
    print(json.dumps(facts))


def watch_memory(peak_mb: list[float]) -> None:
    """Keep the peak of memory without the pages of files, which the system takes back when it needs them."""
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        peak_mb[0] = max(peak_mb[0], kilobytes * 1024 / 1e6)
        time.sleep(0.05)


def measure_rates(folder: Path) -> None:
    """Images per second of decoding, of the bare session, of both streamed, and of others' loaders; in turn."""
    import torch

    from utils_cv.data.images import load_images
    from utils_cv.models import features
    from utils_cv.system.timing import measure_in_turn

    table = Steps(folder).load().iloc[: N_RATES + N_RATES // 50]
    paths = [path for path in table["path"] if int(Path(path).stem) % BROKEN_EVERY != BROKEN_EVERY // 2][:N_RATES]
    name = features.DEFAULT_BACKBONE
    network = features._load_network(name, features._find_source(name, SIZE_PX))
    batch = np.random.default_rng(0).integers(0, 256, (16, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    rows = np.arange(len(paths)) % len(batch)

    def stream() -> None:
        shutil.rmtree(Path(os.environ["UTILS_CV_CACHE"]) / "features", ignore_errors=True)
        features.compute_features(paths, im_size_px=SIZE_PX)

    functions = {
        "decoding alone: load_images": lambda: load_images(paths, SIZE_PX),
        "bare session alone": lambda: features.run_in_batches(network, batch, rows),
        "decoding and session streamed: compute_features": stream,
        "torch DataLoader, 2 workers": lambda: list(torch.utils.data.DataLoader(_Files(paths), 16, num_workers=2)),
        "fastai DataLoaders, 2 workers": lambda: _pass_fastai(paths),
    }
    times = measure_in_turn(functions, n_warmup=0, n_repeats=5, settle_ms=0)
    print(json.dumps(dict(zip(times["name"], len(paths) / times["median_ms"] * 1e3, strict=True))))


class _Files:
    """A data set of torch: PIL, resized by torchvision."""

    def __init__(self, paths: list[str]) -> None:
        from torchvision.transforms import v2

        self.paths, self.change = paths, v2.Compose([v2.Resize((SIZE_PX, SIZE_PX)), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Any:
        return self.change(Image.open(self.paths[i]).convert("RGB"))


def _pass_fastai(paths: list[str]) -> None:
    from fastai.vision.all import ImageDataLoaders, Resize, ResizeMethod

    loaders = ImageDataLoaders.from_lists(
        "/", paths, [Path(path).parent.name for path in paths], valid_pct=0.01, bs=16, num_workers=2,
        item_tfms=Resize(SIZE_PX, ResizeMethod.Squish), device="cpu",
    )  # fmt: skip
    for part in (loaders.train, loaders.valid):
        for _ in part:
            pass


def run_measured(arguments: list[str], cache: Path) -> dict[str, float]:
    """Run this script in a process of its own; the JSON of its last line."""
    environment = os.environ | {"UTILS_CV_CACHE": str(cache)}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(work_dir: Path, counts: list[int]) -> None:
    """Measure what the JSON lacks, and write it after every step."""
    from utils_cv.system.machine import describe_machine

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for n in counts:
        make_files(work_dir / "files", n)
        folder, cache = work_dir / f"n_{n}", work_dir / "cache"
        link_files(work_dir / "files", folder, n)
        jobs = [(f"{n}.{step}", ["--step", step, "--folder", str(folder)]) for step in STEPS]
        if n == min(counts):
            jobs.append((f"{n}.rates", ["--step", "rates", "--folder", str(folder)]))
        for key, arguments in jobs:
            if key not in results or (key.endswith(("table", "split")) and not Steps(folder).state.exists()):
                load = os.getloadavg()[0]
                results[key] = run_measured(arguments, cache) | {"load_before": load}
                results["machine"] = describe_machine()
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                print(key, results[key], flush=True)


def describe_row(row: dict[str, float]) -> str:
    """What a step took; its time by the clock only where nothing else ran before it."""
    clock = f"{row['seconds']:.1f} s, " if row["load_before"] < 1 else ""
    own = f" (own {row['own_mb']:,.0f})" if "own_mb" in row else ""
    return f"{clock}CPU {row['cpu_s']:.1f} s, {row['peak_mb']:,.0f} MB{own}"


def print_tables() -> None:
    """The results as tables, with the exponents of growth between the smallest and the largest number."""
    results = json.loads(RESULTS.read_text())
    counts = sorted({int(key.split(".")[0]) for key in results if key[0].isdigit()})
    print(f"Machine: {results['machine']}.\n")
    print(f"| step | {' | '.join(f'{n:,}' for n in counts)} | CPU grows with n to the power of |")
    print(f"|{'---|' * (len(counts) + 2)}")
    for step in STEPS:
        rows = [results.get(f"{n}.{step}") for n in counts]
        cells = [describe_row(row) if row else "" for row in rows]
        known = [(n, row["cpu_s"]) for n, row in zip(counts, rows, strict=True) if row]
        powers = [math.log(b[1] / a[1]) / math.log(b[0] / a[0]) for a, b in itertools.pairwise(known)]
        print(f"| {step} | {' | '.join(cells)} | {', '.join(f'{power:.2f}' for power in powers)} |")
    for key, rates in results.items():
        if key.endswith(".rates"):
            print(f"\n| {N_RATES:,} images, 5 rounds in turn | images/s |\n|---|---|")
            for name, rate in rates.items():
                print(f"| {name} | {rate:.0f} |" if name != "load_before" else "", end="\n")


def main() -> None:
    """Measure, or print tables of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, help="folder for files and caches: 25 GB at 100,000 images")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of images")
    parser.add_argument("--table", action="store_true", help="print what was measured")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    if options.step == "rates":
        measure_rates(options.folder)
    elif options.step:
        measure_step(options.step, options.folder)
    elif options.table or not options.work_dir:
        print_tables()
    else:
        measure_all(options.work_dir.absolute(), options.counts)


if __name__ == "__main__":
    main()
