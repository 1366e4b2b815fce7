"""What many images take: rate and memory as they grow, after a stop, and with workers."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance
from tqdm.auto import tqdm

from utils_cv.data.image_table import load_table_images
from utils_cv.system.files import get_cache_dir, write_atomic
from utils_cv.system.timing import measure_fresh_process

_SIZE_PX = 160  # side of the copies
# A process of its own with a cache folder of its own: nothing is known from before, and its memory is its own.
_SCRIPT = """
import json, os, pathlib, time
os.environ["UTILS_CV_CACHE"] = {folder!r}
import joblib, numpy
from utils_cv.models.features import compute_features
paths = json.loads(pathlib.Path({folder!r}, "paths.json").read_text())
compute_features(paths[:1], im_size_px={size_px})  # the network is loaded before the clock starts
start = time.perf_counter()
with joblib.parallel_config(n_jobs={n_workers}):
    features = compute_features(paths, im_size_px={size_px})
print(time.perf_counter() - start)
numpy.save(pathlib.Path({folder!r}, "features.npy"), features)
"""


def make_copies(table: pd.DataFrame, folder: str | Path, n: int, *, seed: int = 0) -> pd.DataFrame:
    """Make many images of a few: each is cropped, perhaps mirrored, and in another light. Files that exist stay.

    Args:
        table: An image table. Images that cannot be opened are not copied; a warning counts them.
        folder: Where the JPEG files of 160 x 160 pixels go, about 5 kB each.
        n: How many to make.
        seed: Seed of the edits.

    Returns:
        An image table of the copies. Its `group` is the image copied, so that all its copies get one split.

    Example:
        >>> copies = make_copies(load_image_table("data/fridge_objects"), "outputs/copies", 500)  # doctest: +SKIP
    """
    images = load_table_images(table, _SIZE_PX)
    sources = images.table.iloc[np.arange(n) % len(images.table)].reset_index(drop=True)
    names = [f"{seed}_{number:06d}.jpg" for number in range(n)]
    paths = [Path(folder).absolute() / name for name in names]
    Path(folder).mkdir(parents=True, exist_ok=True)

    for number, path in enumerate(tqdm(paths, desc="making images")):
        if not path.exists():
            edited = _edit(images.pixels[number % len(images.pixels)], np.random.default_rng([seed, number]))
            with write_atomic(path) as temporary_path:
                edited.save(temporary_path, "JPEG", quality=85)
    columns = {"image": names, "path": map(str, paths), "label": sources["label"], "split": ""}
    return pd.DataFrame(columns | {"group": sources["image"]})


def _edit(pixels: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Keep 80 to 100 % of each side, mirror every second image, change brightness and color by up to 30 %."""
    kept = rng.uniform(0.8, 1, 2) * _SIZE_PX
    corner = rng.random(2) * (_SIZE_PX - kept)
    image = Image.fromarray(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
    edited = image.resize((_SIZE_PX, _SIZE_PX), Image.Resampling.BILINEAR, box=(*corner, *(corner + kept)))
    brightness, color = rng.uniform(0.7, 1.3, 2)
    return ImageEnhance.Color(ImageEnhance.Brightness(edited).enhance(brightness)).enhance(color)


def measure_growth(paths: Sequence[str], counts: Sequence[int], *, im_size_px: int) -> pd.DataFrame:
    """Compute the features of the first files in fresh processes: how rate and memory change with their number.

    Returns:
        One row per count: `n`, `seconds`, `images_per_second`, `peak_mb` of the whole process with its packages, and
        `pixels_mb`, what the opened images would take, both in 10**6 bytes.

    Example:
        >>> measure_growth(table["path"], [1000, 4000], im_size_px=128)  # doctest: +SKIP
    """
    rows = []
    for n in sorted({min(count, len(paths)) for count in counts}):
        with tempfile.TemporaryDirectory() as folder:
            done = measure_fresh_process(_prepare(paths[:n], im_size_px, folder))
        seconds = float(done.output)
        rows.append((n, seconds, n / seconds, done.peak_memory_mb, n * im_size_px**2 * 3 / 1e6))
    return pd.DataFrame(rows, columns=["n", "seconds", "images_per_second", "peak_mb", "pixels_mb"])


def compare_ways(paths: Sequence[str], features: np.ndarray, *, im_size_px: int, n_workers: int = 2) -> pd.DataFrame:
    """Compute known features again: in a process that is killed half-way and started again, and by several workers.

    Returns:
        One row per `way`: `seconds`, where it was killed those after it; `n_kept`, images whose features were kept; and
        `difference`, the largest one from the known features.

    Example:
        >>> compare_ways(paths, compute_features(paths, im_size_px=128), im_size_px=128)  # doctest: +SKIP
    """
    rows = []
    for way, n in {"killed, and started again": 1, f"workers: {n_workers}": n_workers}.items():
        with tempfile.TemporaryDirectory() as folder:
            script = _prepare(paths, im_size_px, folder, n)
            n_kept = _kill_half_way(script, len(paths), Path(folder)) if "killed" in way else 0
            seconds = float(measure_fresh_process(script).output)
            found = np.load(Path(folder) / "features.npy")
        difference = float(np.nanmax(np.abs(found - features)))
        rows.append({"way": way, "seconds": seconds, "n_kept": n_kept, "difference": difference})
    return pd.DataFrame(rows)


def _prepare(paths: Sequence[str], size_px: int, folder: str, n_workers: int = 1) -> str:
    (Path(folder) / "paths.json").write_text(json.dumps(list(paths)))
    shutil.copytree(get_cache_dir("onnx"), Path(folder) / "onnx")  # an export takes seconds
    return _SCRIPT.format(folder=folder, size_px=size_px, n_workers=n_workers)


def _kill_half_way(script: str, n: int, folder: Path) -> int:
    """Kill a process as soon as half of the features are kept; say of how many images they are."""
    n_kept = 0
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while run.poll() is None and n_kept < n / 2:
            time.sleep(0.02)
            n_kept = max((path.stat().st_size for path in folder.glob("features/*/log.bin")), default=0)  # a byte each
        run.kill()
    return n_kept
