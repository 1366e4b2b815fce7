"""How many injected copies the audit finds, and how often it calls different images copies.

    python benchmarks/audit_recall.py                              # the demo images
    python benchmarks/audit_recall.py --folder my/photos           # any folder of images
    python benchmarks/audit_recall.py --limit 200                  # as in the README of the benchmarks

The images of the folder should be different from each other: a pair of them that is found counts as a false alarm.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from utils_cv.audit.report import audit_images
from utils_cv.data.image_files import list_image_files
from utils_cv.data.images import load_image
from utils_cv.evaluation.intervals import make_fraction_score
from utils_cv.system.machine import describe_machine


def crop(image: Image.Image, random: np.random.Generator, share: float) -> Image.Image:
    """Cut off a share of the width and of the height, at random sides."""
    width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
    left, top = random.integers(0, image.width - width + 1), random.integers(0, image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def mirror(image: Image.Image) -> Image.Image:
    """Mirror left and right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


Change = Callable[[Image.Image, np.random.Generator], Image.Image]
COPIES: dict[str, tuple[Change | None, int]] = {  # what is changed, and the JPEG quality
    "exact": (None, 0),
    "re-encoded, quality 50": (lambda image, random: image, 50),
    "half the size": (
        lambda image, random: image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX),
        90,
    ),
    "10 % brighter": (lambda image, random: ImageEnhance.Brightness(image).enhance(1.10), 90),
    "25 % brighter": (lambda image, random: ImageEnhance.Brightness(image).enhance(1.25), 90),
    "cropped by 5 %": (lambda image, random: crop(image, random, 0.05), 90),
    "cropped by 10 %": (lambda image, random: crop(image, random, 0.10), 90),
    "mirrored": (lambda image, random: mirror(image), 90),
    "mirrored, cropped by 5 %": (lambda image, random: crop(mirror(image), random, 0.05), 90),
}


def measure(paths: list[Path], name: str) -> tuple[int, int]:
    """Make one copy of each image; count the copies found, and other pairs found."""
    change, quality = COPIES[name]
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / f"{number}.jpg" for number in range(len(paths))]
        for path, copy in zip(paths, copies, strict=True):
            if change is None:
                shutil.copyfile(path, copy)
            else:
                change(load_image(path), random).save(copy, quality=quality)
        table = pd.DataFrame({"path": [str(path) for path in (*paths, *copies)], "label": "", "split": ""})
        found = audit_images(table, show_progress=False).duplicates
    place = {path: row for row, path in enumerate(table["path"])}
    n_true = sum(place[row.image] - place[row.duplicate] == len(paths) for row in found.itertuples())
    return n_true, len(found) - n_true


def main() -> None:
    """Make copies of each kind and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="data/fridge_objects", help="folder of images")
    parser.add_argument("--limit", type=int, help="use so many images")
    options = parser.parse_args()
    paths = list_image_files(options.folder)
    paths = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[: options.limit]]
    print(f"{describe_machine()}\n\n{len(paths)} images\n")
    print("| copy | found | 95 % interval | false alarms |\n|---|---|---|---|")
    for name in COPIES:
        n_found, n_false = measure(paths, name)
        found = make_fraction_score(n_found, len(paths))
        print(f"| {name} | {found.value:.1%} | {found.low:.1%} to {found.high:.1%} | {n_false} |", flush=True)


if __name__ == "__main__":
    main()
