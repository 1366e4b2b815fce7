"""Fixtures: a headless, offline test run and small learnable image folders."""

import doctest
import os
import re
import sys

# Before anything imports these libraries: no window, no bars, and proof that no test needs a hub. One thread for each
# process of the tests, because threads that wait for each other make small networks ten times slower.
os.environ.update({"MPLBACKEND": "Agg", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
# What the tests expect is of a CPU; `UTILS_CV_DEVICE=cuda` tries a GPU, which rounds otherwise and exports nothing.
os.environ.setdefault("UTILS_CV_DEVICE", "cpu")

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from xdist.scheduler import LoadScopeScheduling

# One core for each process of pytest-xdist, for what counts the cores itself, such as ONNX Runtime.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
if _WORKER and hasattr(os, "sched_setaffinity"):
    _CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_CORES[int(_WORKER) % len(_CORES)]})

ROOT = Path(__file__).resolve().parents[1]  # of the repository
COLORS = {"can": (200, 30, 30), "carton": (30, 60, 200)}


def draw_image(label: str, seed: int) -> Image.Image:
    """Draw a red disc for `can` and a blue square for `carton` on a noisy ground."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(90, 160, (48, 64, 3), dtype=np.uint8))
    x, y = rng.integers(4, 24), rng.integers(2, 16)
    draw = ImageDraw.Draw(image)
    shape = draw.ellipse if label == "can" else draw.rectangle
    shape((x, y, x + 28, y + 28), fill=COLORS[label])
    return image


def write_images(folder: Path, n_images: int) -> list[Path]:
    """Write images of one class, numbered from 0."""
    paths = [folder / f"{i}.png" for i in range(n_images)]
    for i, path in enumerate(paths):
        draw_image("can", seed=i).save(path)
    return paths


def touch(folder: Path, *names: str) -> None:
    """Make empty files, and the folders they are in."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def make_photo(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Smooth color cells with grain: as detailed as a photograph, and unlike those of other seeds."""
    random = np.random.default_rng(seed)
    cells = Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = random.normal(0, 6, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(cells) + grain, 0, 255).astype(np.uint8))


def make_exif(orientation: int) -> bytes:
    """EXIF data that say how an image is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def make_broken_dir(root: Path) -> Path:
    """Three splits of two classes with broken files in each, and a class of three images."""
    for n, (split, n_images) in enumerate({"train": 12, "val": 5, "test": 5}.items()):
        for label in (*COLORS, "rare"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(1 if label == "rare" else n_images):
                draw_image(label if label in COLORS else "can", seed=100 * n + i).save(folder / f"{i}.png")
            if label in COLORS:
                (folder / "empty.jpg").write_bytes(b"")
                (folder / "text.png").write_text("no image")
                (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:300])
    return root


@pytest.fixture
def image_dir(tmp_path: Path) -> Path:
    """A folder of two classes with ten learnable images each."""
    for label in COLORS:
        folder = tmp_path / "my images" / label
        folder.mkdir(parents=True)
        for i in range(10):
            draw_image(label, seed=i + 100 * (label == "can")).save(folder / f"{i}.png")
    return tmp_path / "my images"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--data-dir=FOLDER` executes every notebook on a folder of your own images."""
    parser.addoption("--data-dir", default=None, help="folder of images for the notebooks instead of the demo set")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out examples without a line to run, and elsewhere what only Linux has; pytest says how many."""
    left_out = {
        item
        for item in items
        if (item.get_closest_marker("linux") and sys.platform != "linux")
        or (
            isinstance(item, pytest.DoctestItem)
            and all(doctest.SKIP in example.options for example in item.dtest.examples)
        )
    }
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


class FileScheduling(LoadScopeScheduling):
    """The tests of one file, or of one notebook, run in one process: they share fixtures and folders."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        notebook = re.search(r"\[(\d\d)", test) if path.endswith("notebooks/test_execution.py") else None
        return f"{path}[{notebook[1]}" if notebook else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FileScheduling:
    """Send whole files to processes; `--dist loadgroup` of xdist 3.8 does nothing with pytest 9.2."""
    return FileScheduling(config, log)
