"""What the audit costs with the number of files: seconds and peak memory at 5,000, 10,000 and 20,000.

    python benchmarks/audit_scale.py

Small files are made in a temporary folder, 1 in 100 of them a smaller copy of another; each number of files is
audited in a process of its own, so that its memory is its own.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from utils_cv.audit.report import audit_images
from utils_cv.system.machine import describe_machine

COPY_EVERY = 100


def make_files(folder: Path, n_files: int) -> None:
    """Write small JPEGs of smooth random cells; every hundredth is a smaller copy of the one before."""
    random = np.random.default_rng(0)
    image = Image.new("RGB", (96, 72))
    for number in range(n_files):
        if number % COPY_EVERY == COPY_EVERY - 1:
            image = image.resize((80, 60))
        else:
            cells = Image.fromarray(random.integers(0, 255, (6, 8, 3), dtype=np.uint8))
            image = cells.resize((96, 72), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:06d}.jpg", quality=85)


def measure(folder: Path, n_files: int) -> None:
    """Audit the first files of the folder and print seconds, memory and what was found."""
    paths = [str(folder / f"{number:06d}.jpg") for number in range(n_files)]
    table = pd.DataFrame({"path": paths, "label": ["can", "carton"] * (n_files // 2), "split": "train"})
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    begin, begin_cpu = time.perf_counter(), time.process_time()
    report = audit_images(table, show_progress=False)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(seconds, cpu_seconds, peak_mb, peak_mb - before_mb, len(report.duplicates))


def main() -> None:
    """Make the files, audit them in processes of their own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "N"), help=argparse.SUPPRESS)
    parser.add_argument("--counts", type=int, nargs="+", default=[5_000, 10_000, 20_000], help="numbers of files")
    options = parser.parse_args()
    counts = options.counts
    if options.measure:
        measure(Path(options.measure[0]), int(options.measure[1]))
        return
    print(f"{describe_machine()}; load before: {os.getloadavg()[0]:.1f}\n")
    print("| files | seconds | CPU seconds | peak memory, MB | of it the audit's, MB | copies found |")
    print("|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), max(counts))
        for n_files in counts:
            command = [sys.executable, __file__, "--measure", folder, str(n_files)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append([float(value) for value in done.stdout.split()])
            seconds, cpu_seconds, peak_mb, own_mb, n_found = rows[-1]
            print(
                f"| {n_files:,} | {seconds:.1f} | {cpu_seconds:.1f} | {peak_mb:.0f} | {own_mb:.0f} | "
                f"{n_found:.0f} of {n_files // COPY_EVERY} |",
                flush=True,
            )
    power = math.log(rows[-1][1] / rows[0][1]) / math.log(counts[-1] / counts[0])
    print(f"\nCPU time grows with the number of files to the power of {power:.2f}; comparing all with all has 2.")


if __name__ == "__main__":
    main()
