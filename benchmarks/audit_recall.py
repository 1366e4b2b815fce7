"""How many injected copies the audit finds, and how often it calls different images copies.

    python benchmarks/audit_recall.py                              # the demo images
    python benchmarks/audit_recall.py --photos my/photos           # any folders of images
    python benchmarks/audit_recall.py --limit 200 --held-out --photos my/photos --peers    # as in the README

`--peers` needs `pip install imagededup cleanvision`, with their default settings; all tools get the same files. Results
are kept in benchmarks/results/audit_recall.json. A pair is right if it joins an image and its own copy. All others
count as false alarms and are listed, to be looked at. Photographs that are there twice, as a person saw, are in
benchmarks/results/audit_same_photographs.json: the second of each such pair is left out for all tools.
"""

import argparse
import hashlib
import importlib.metadata
import itertools
import json
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
from utils_cv.system.files import write_atomic
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
    "cropped to 87.5 %": (lambda image, random: crop(image, random, 0.125), 90),
    "upside down": (lambda image, random: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), 90),
    "turned by 90 degrees": (lambda image, random: image.transpose(Image.Transpose.ROTATE_90), 90),
    "turned by half": (lambda image, random: image.transpose(Image.Transpose.ROTATE_180), 90),
    "turned by 270 degrees": (lambda image, random: image.transpose(Image.Transpose.ROTATE_270), 90),
    "turned by 25 degrees": (lambda image, random: image.rotate(25, Image.Resampling.BICUBIC), 90),
    "squeezed": (lambda image, random: image.resize((image.width, round(image.height * 0.6))), 90),
    "mirrored, cropped by 5 %": (lambda image, random: crop(mirror(image), random, 0.05), 90),
}


RESULTS = Path(__file__).parent / "results"
Pairs = set[frozenset[str]]


def find_by_audit(folder: Path) -> Pairs:
    """Pairs that the audit joins, through as many others as it may be."""
    table = pd.DataFrame({"path": [str(path) for path in sorted(folder.iterdir())], "label": "", "split": ""})
    groups = audit_images(table, show_progress=False).groups
    names = [Path(path).name for path in table["path"]]
    members = pd.Series(names).groupby(groups.to_numpy()).agg(list)
    return {frozenset(pair) for group in members for pair in itertools.combinations(group, 2)}


def find_by_imagededup(folder: Path) -> Pairs:
    """Pairs of imagededup's PHash, at its default distance."""
    from imagededup.methods import PHash

    found = PHash(verbose=False).find_duplicates(image_dir=str(folder))
    return {frozenset((name, other)) for name, others in found.items() for other in others}


def find_by_cleanvision(folder: Path) -> Pairs:
    """Pairs in the sets of exact and near duplicates of cleanvision."""
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(folder), verbose=False)
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    sets = [each for kind in ("exact_duplicates", "near_duplicates") for each in lab.info[kind]["sets"]]
    names = [[Path(path).name for path in each] for each in sets]
    return {frozenset(pair) for each in names for pair in itertools.combinations(each, 2)}


TOOLS = {"audit": find_by_audit, "imagededup": find_by_imagededup, "cleanvision": find_by_cleanvision}


def measure(paths: list[Path], name: str, tools: list[str]) -> list[dict]:
    """Make one copy of each image; count the copies that each tool finds, and other pairs that it finds."""
    change, quality = COPIES[name]
    random, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(paths):
            shutil.copyfile(path, Path(folder) / f"{number}_original{path.suffix.lower()}")
            copy = Path(folder) / f"{number}_copy.jpg"
            if change is None:
                shutil.copyfile(path, copy)
            else:
                change(load_image(path), random).save(copy, quality=quality)
        for tool in tools:
            pairs = TOOLS[tool](Path(folder))
            numbers = [sorted({int(one.split("_")[0]) for one in pair}) for pair in pairs]
            n_true = sum(len(pair) == 1 for pair in numbers)
            others = sorted({" and ".join(paths[k].name for k in pair) for pair in numbers if len(pair) > 1})
            recall = make_fraction_score(n_true, len(paths))
            row = {"copy": name, "tool": tool, "n": len(paths), "n_found": n_true, "n_false": len(pairs) - n_true}
            row |= {"recall": recall.value, "recall_low": recall.low, "recall_high": recall.high}
            rows.append(row | {"precision": n_true / max(1, len(pairs)), "false_alarms": others})
    return rows


def is_held_out(path: Path) -> bool:
    """Whether no setting of the audit was chosen on a photograph: half of them, by a hash of the name."""
    return int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % 2 == 1


def main() -> None:
    """Make copies of each kind, print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", nargs="+", default=["data/fridge_objects"], help="folders of images")
    parser.add_argument("--limit", type=int, help="use so many images")
    parser.add_argument("--held-out", action="store_true", help="only images that no setting was chosen on")
    parser.add_argument("--peers", action="store_true", help="measure imagededup and cleanvision as well")
    options = parser.parse_args()
    paths = [path for folder in options.photos for path in list_image_files(folder)]
    if options.held_out:
        paths = [path for path in paths if is_held_out(path)]
    paths = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[: options.limit]]
    tools, rows = list(TOOLS) if options.peers else ["audit"], []
    twice = json.loads((RESULTS / "audit_same_photographs.json").read_text(encoding="utf-8"))
    left_out = {second for first, second in twice}
    paths = [path for path in paths if path.name not in left_out]
    print(f"{describe_machine()}\n\n{len(paths)} images\n")
    print("| copy | tool | found (95 % interval) | other pairs | precision |\n|---|---|---|---|---|")
    for name in COPIES:
        for row in measure(paths, name, tools):
            limits = f"{row['recall']:.1%} ({row['recall_low']:.1%} to {row['recall_high']:.1%})"
            print(f"| {name} | {row['tool']} | {limits} | {row['n_false']} | {row['precision']:.3f} |", flush=True)
            for pair in row["false_alarms"]:
                print(f"{row['tool']}: {pair} are alike")
            rows.append(row)
    packages = ("utils_cv", "pillow", "imagededup", "cleanvision") if options.peers else ("utils_cv", "pillow")
    versions = {name: importlib.metadata.version(name) for name in packages}
    sets = [Path(folder).name for folder in options.photos]
    content = {
        "machine": str(describe_machine()),
        "versions": versions,
        "sets": sets,
        "held_out": options.held_out,
        "table": rows,
    }
    with write_atomic(RESULTS / "audit_recall.json") as temporary_path:
        temporary_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
