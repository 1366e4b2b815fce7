"""Notebook 00: a small copy of a data set with ten faults, to see whether an audit finds what is known to be wrong."""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from utils_cv.data.image_headers import make_printable
from utils_cv.data.images import find_path, find_value_range, load_image, load_images
from utils_cv.data.labels import SPLIT_NAMES, normalize_name

_MAX_PER_SPLIT = 70  # in three splits about 200 images: seconds, whatever the size of the data set
_HUGE_PX = 3200 * 2400  # about 8 megapixels
_MAX_JPEG_SIDE_PX = 65_000
_MAX_NAME_BYTES = 240  # file systems allow 255, and copies get up to 13 in front
_LEAK, _CONFLICT = "copied into another split", "mirrored, cropped, darker, with another label"
_FAULTS = {  # and the words that a report on the image must hold
    "truncated file": "unreadable",
    "empty file": "unreadable",
    "text named like an image": "unreadable",
    "another format than its extension": "named",
    "turned by EXIF": "turned by EXIF",
    "black": "dark",
    "blurred": "blurred",
    "huge": "large",
    _LEAK: "leak",
    _CONFLICT: "label conflict",
}


def corrupt_images(table: pd.DataFrame, out_dir: str | Path, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Copy at most 210 images of a table into an empty folder and inject ten faults there, each into another copy.

    Args:
        table: An image table with splits. Its files stay as they are; those that cannot be opened are left out.
        out_dir: The folder, empty or not there yet.
        seed: Which images are copied, and which of the copies get a fault.

    Returns:
        The image table of the copies; and a row per fault: `fault`, `image`, `expected` words of a report on it.

    Raises:
        FileExistsError: `out_dir` holds files already.
        ValueError: Fewer than 10 train images, no other split, or no second class.
    """
    out_dir, sample = Path(out_dir), _draw_sample(table, np.random.default_rng(seed))
    splits, labels = sample["split"].value_counts().to_dict(), sorted(set(sample["label"]))
    if out_dir.exists() and any(out_dir.iterdir()):
        raise FileExistsError(f"{out_dir} holds files already; remove it or choose another folder.")
    if splits.get("train", 0) < len(_FAULTS) or len(splits) < 2 or len(labels) < 2:
        expected = f"expected 2 labels, {len(_FAULTS)} train images and another split"
        raise ValueError(f"Got labels {labels[:9]} and splits {splits}; {expected}. See utils_cv.data.splits.")
    copies = _copy_sample(sample, out_dir)
    places = dict(zip(_FAULTS, copies[copies["split"] == "train"].to_dict("records"), strict=False))
    other_label = next(label for label in labels if label != places[_CONFLICT]["label"])
    last_split = copies["split"].iloc[-1]
    places[_LEAK] = _add_copy(places[_LEAK], out_dir, f"{last_split}/copy", split=last_split)
    places[_CONFLICT] = _add_copy(places[_CONFLICT], out_dir, "train/mirrored", label=other_label)
    value_range = find_value_range(copies["path"])
    for fault, row in places.items():
        _inject(fault, find_path(row["path"]), value_range)
    injected = [(fault, row["image"], _FAULTS[fault]) for fault, row in places.items()]
    corrupted = pd.concat([copies, pd.DataFrame([places[_LEAK], places[_CONFLICT]])], ignore_index=True)
    return corrupted, pd.DataFrame(injected, columns=["fault", "image", "expected"])


def _draw_sample(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    rows = [random.permutation(np.flatnonzero(table["split"] == name))[:_MAX_PER_SPLIT] for name in SPLIT_NAMES]
    sample = table.iloc[np.concatenate(rows)]
    return sample.iloc[load_images(sample["path"], 32).rows].reset_index(drop=True)


def _copy_sample(sample: pd.DataFrame, out_dir: Path) -> pd.DataFrame:
    """Copy files to `split/number_name`: whatever the source's tree, names are new, flat and unlike each other."""
    names = [find_path(path).name for path in sample["path"]]
    names = [name if len(os.fsencode(name)) <= _MAX_NAME_BYTES else Path(name).suffix for name in names]
    images = [f"{split}/{i:03d}_{name}" for i, (split, name) in enumerate(zip(sample["split"], names, strict=True))]
    for image, source in zip(images, sample["path"], strict=True):
        (out_dir / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(find_path(source), out_dir / image)
    return sample[["label", "split"]].assign(
        image=[normalize_name(image) for image in images], path=[make_printable(out_dir / image) for image in images]
    )


def _add_copy(row: dict, out_dir: Path, prefix: str, **changes: str) -> dict:
    image = f"{prefix}_{find_path(row['path']).name}"
    shutil.copyfile(find_path(row["path"]), out_dir / image)
    return row | {"image": normalize_name(image), "path": make_printable(out_dir / image)} | changes


def _inject(fault: str, path: Path, value_range: int) -> None:
    content, image = path.read_bytes(), load_image(path, value_range=value_range)
    match fault:
        case "truncated file":
            path.write_bytes(content[: len(content) // 2])
        case "empty file":
            path.write_bytes(b"")
        case "text named like an image":
            path.write_text("This was an image once.\n", encoding="utf-8")
        case "another format than its extension":
            image.save(path, "GIF")
        case "turned by EXIF":
            exif = Image.Exif()
            exif[0x0112] = 6  # the upright image is stored lying on its side, as cameras do
            _save(image.transpose(Image.Transpose.ROTATE_90), path, exif=exif)
        case "black":
            _save(Image.new("RGB", image.size), path)
        case "blurred":
            _save(image.filter(ImageFilter.GaussianBlur(min(image.size) / 40)), path)
        case "huge":
            scale = min(math.sqrt(_HUGE_PX / (image.width * image.height)), _MAX_JPEG_SIDE_PX / max(image.size))
            _save(ImageOps.scale(image, scale), path)
        case "mirrored, cropped, darker, with another label":
            cropped = image.crop((0, 0, round(image.width * 0.95), round(image.height * 0.95)))
            _save(ImageEnhance.Brightness(ImageOps.mirror(cropped)).enhance(0.85), path)


def _save(image: Image.Image, path: Path, **options: Image.Exif) -> None:
    image.save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG", quality=92, compress_level=1, **options)
