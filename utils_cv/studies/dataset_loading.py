"""A copy of a data set, damaged on purpose in ten ways: to see whether a check finds what is known to be wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter

from utils_cv.data.images import load_image
from utils_cv.system.files import write_atomic

_EXIF_ORIENTATION = 0x0112
_HUGE_SIDE_PX = 2400  # some 8 megapixels


def corrupt_images(table: pd.DataFrame, out_dir: str | Path, *, seed: int = 0) -> pd.DataFrame:
    """Copy the images of a table into a new folder and damage ten of the copies, each in another way.

    The folder gets a `labels.csv`, so `data.image_table.load_image_table` reads it. The originals stay as they are.

    Args:
        table: An image table with splits and at least two classes.
        out_dir: The folder to make.
        seed: Which images are damaged.

    Returns:
        What was planted, one row a kind: `kind`, `image` (as in the new table), and `expected`, the word that a report
        on this image must hold.

    Raises:
        FileExistsError: `out_dir` holds files already.
        ValueError: Fewer than 20 images, or no two splits or classes.

    Example:
        >>> planted = corrupt_images(table, "outputs/damaged")  # doctest: +SKIP
    """
    out_dir = Path(out_dir)
    _check(table, out_dir)
    copied = _copy_images(table, out_dir)
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(copied["split"] == "train"))
    added, planted = [], []
    for (kind, (expected, damage)), row in zip(_FILE_DAMAGES.items(), rows, strict=False):
        damage(Path(copied["path"].iloc[row]))
        planted.append((kind, copied["image"].iloc[row], expected))
    for (kind, (expected, make)), row in zip(_COPIES.items(), rows[len(_FILE_DAMAGES) :], strict=False):
        added.append(make(copied, copied.iloc[row], out_dir))
        planted.append((kind, added[-1]["image"], expected))
    labels = pd.concat([copied, pd.DataFrame(added)], ignore_index=True)[["image", "label", "split"]]
    with write_atomic(out_dir / "labels.csv") as temporary_path:
        labels.to_csv(temporary_path, index=False)
    return pd.DataFrame(planted, columns=["kind", "image", "expected"])


def _check(table: pd.DataFrame, out_dir: Path) -> None:
    if out_dir.exists() and any(out_dir.iterdir()):
        raise FileExistsError(f"{out_dir} holds files already; remove it or choose another folder.")
    n_train = int((table["split"] == "train").sum())
    n_splits, n_classes = table["split"].nunique(), table["label"].nunique()
    if n_train < len(_FILE_DAMAGES) + len(_COPIES) or n_splits < 2 or n_classes < 2:
        raise ValueError(
            f"Got {n_train} training images, {n_splits} splits and {n_classes} classes; expected at least "
            f"{len(_FILE_DAMAGES) + len(_COPIES)}, 2 and 2. Split the table first: data.splits.complete_splits."
        )


def _copy_images(table: pd.DataFrame, out_dir: Path) -> pd.DataFrame:
    """Copy files to `split/number_name`: whatever the source's tree, names are new, flat and unlike each other."""
    images = []
    for number, (path, split) in enumerate(zip(table["path"], table["split"], strict=True)):
        images.append(f"{split}/{number:05d}_{Path(path).name}")
        target = out_dir / images[-1]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    paths = [str(out_dir / image) for image in images]
    return pd.DataFrame({"image": images, "path": paths, "label": table["label"].to_numpy(), "split": table["split"]})


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _write_text(path: Path) -> None:
    path.write_text("This was an image once.\n", encoding="utf-8")


def _write_other_format(path: Path) -> None:
    file_format = "BMP" if path.suffix.lower() == ".png" else "PNG"
    image = load_image(path)
    with path.open("wb") as file:
        image.save(file, file_format)


def _turn_by_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = 6  # the upright image is stored lying on its side, as cameras do
    _save(load_image(path).transpose(Image.Transpose.ROTATE_90), path, exif=exif.tobytes())


def _blacken(path: Path) -> None:
    _save(Image.new("RGB", load_image(path).size), path)


def _blur(path: Path) -> None:
    image = load_image(path)
    _save(image.filter(ImageFilter.GaussianBlur(min(image.size) / 40)), path)


def _enlarge(path: Path) -> None:
    image = load_image(path)
    scale = _HUGE_SIDE_PX / min(image.size)
    _save(image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC), path)


def _save(image: Image.Image, path: Path, **options: bytes) -> None:
    file_format = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    how = {"compress_level": 1} if file_format == "PNG" else {"quality": 92}  # the default level takes seconds
    with path.open("wb") as file:
        image.save(file, file_format, **how, **options)


def _copy_to_other_split(table: pd.DataFrame, row: pd.Series, out_dir: Path) -> dict[str, str]:
    split = next(name for name in ("test", "valid") if (table["split"] == name).any())
    image = f"{split}/copy_{Path(row['image']).name}"
    shutil.copyfile(row["path"], out_dir / image)
    return {"image": image, "label": row["label"], "split": split}


def _mirror_with_other_label(table: pd.DataFrame, row: pd.Series, out_dir: Path) -> dict[str, str]:
    image = f"{row['split']}/mirrored_{Path(row['image']).stem}.jpg"
    source = load_image(row["path"])
    width, height = source.size
    cropped = source.crop((0, 0, round(width * 0.95), round(height * 0.95))).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    ImageEnhance.Brightness(cropped).enhance(0.85).save(out_dir / image, quality=85)
    label = next(label for label in sorted(table["label"].unique()) if label != row["label"])
    return {"image": image, "label": label, "split": row["split"]}


# Kind: the word a report must hold, and what is done to a file.
_FILE_DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "truncated file": ("unreadable", _truncate),
    "empty file": ("unreadable", _empty),
    "text renamed to an image": ("unreadable", _write_text),
    "another format than its extension": ("named", _write_other_format),
    "turned by EXIF": ("turned by EXIF", _turn_by_exif),
    "black": ("dark", _blacken),
    "blurred": ("blurred", _blur),
    "huge": ("large", _enlarge),
}
# Kind: the word, and what makes another image out of one.
_COPIES: dict[str, tuple[str, Callable[[pd.DataFrame, pd.Series, Path], dict[str, str]]]] = {
    "copied into another split": ("leak", _copy_to_other_split),
    "mirrored, cropped, darker, with another label": ("conflict", _mirror_with_other_label),
}
