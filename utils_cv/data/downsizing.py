"""Copies of a folder of images in which large images are smaller, so that opening them takes less time."""

import io
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from ..system.files import write_atomic
from ..system.machine import count_cpus
from ..system.threads import map_in_threads
from .decoding import convert_to_rgb, decode_image, make_upright
from .image_files import is_system_name, list_image_files
from .image_headers import ImageError, make_printable, read_header, read_orientation, swap_if_turned
from .images import FORMAT_BY_EXTENSION, find_path

# Modes that Pillow resizes and these formats store as they are; everything else becomes RGB.
_KEPT_MODES = {
    "JPEG": {"L", "RGB", "CMYK"},
    "PNG": {"L", "LA", "RGB", "RGBA", "I;16"},
    "TIFF": {"L", "LA", "RGB", "RGBA", "CMYK", "I;16"},
    "WEBP": {"RGB", "RGBA"},
    "AVIF": {"RGB", "RGBA"},
}
_VIEW_PX, _MAX_CHANGE = 16, 8.0  # side of the views that are compared, and gray levels of 255 between copies
_IN_THE_WAY = "out_dir has another file of this name; it was left as it is"


class _Row(NamedTuple):
    """One row of the table that `downsize_images` returns."""

    image: str
    action: str
    cause: str
    width_px: int = 0
    height_px: int = 0
    new_width_px: int = 0
    new_height_px: int = 0
    size_mb: float = 0.0
    new_size_mb: float = 0.0


def downsize_images(
    in_dir: str | Path, out_dir: str | Path, *, min_side_px: int, quality: int = 92, show_progress: bool = True
) -> pd.DataFrame:
    """Copy a folder of images into another one, with large images made smaller.

    The tree and the names stay, so CSV files (copied as well) still fit. Images whose shorter side is at most
    `min_side_px` are copied byte by byte. The others are made upright and smaller (Lanczos) and written in the format
    of their extension. They keep grey, alpha, 16 bits, CMYK and the color profile where the format can, and lose EXIF
    and other metadata (place and time among them). Animations keep their first image.

    Copies have the times of their sources. Run again after an interruption, it goes on where it stopped: what has the
    expected size and shows the same image is done. Nothing in `in_dir` is changed, and no file that is
    already in `out_dir` is overwritten.

    Args:
        in_dir: The folder of images.
        out_dir: The folder to make; not inside `in_dir`.
        min_side_px: Shorter side of the smaller images, in pixels. Twice the size that the network sees leaves room
            for augmentation.
        quality: Quality of JPEG and WebP, 1 to 95. At 92 the loss is hard to see.
        show_progress: Show a progress bar.

    Returns:
        One row per file: `image` (its path below `in_dir`), `action` (`downsized`, `copied`, `done before`, `failed`
        or `left out`), `cause` (why it failed or was left out), `width_px`, `height_px`, `new_width_px`,
        `new_height_px`, `size_mb`, `new_size_mb` (megabytes of 10**6 bytes).

    Raises:
        NotADirectoryError: There is no `in_dir`.
        ValueError: `out_dir` is `in_dir` or lies inside it, or a number is out of range.

    Example:
        >>> done = downsize_images("photos", "photos_small", min_side_px=448)  # doctest: +SKIP
        >>> done["action"].value_counts().to_dict()  # doctest: +SKIP
        {'downsized': 1200, 'copied': 31, 'failed': 1}
    """
    in_dir, out_dir = find_path(in_dir), find_path(out_dir)
    if out_dir.resolve().is_relative_to(in_dir.resolve()):
        raise ValueError(f"Got out_dir {out_dir} inside in_dir {in_dir}; choose a folder beside it.")
    if min_side_px < 1 or not 1 <= quality <= 95:
        raise ValueError(f"Got min_side_px={min_side_px}, quality={quality}; expected at least 1, and 1 to 95.")
    images = list_image_files(in_dir)
    others = [path for path in set(in_dir.rglob("*")).difference(images) if path.is_file()]
    others = sorted(path for path in others if not any(map(is_system_name, path.relative_to(in_dir).parts)))

    def work_on(path: Path) -> _Row:
        out_path, name = out_dir / path.relative_to(in_dir), make_printable(path.relative_to(in_dir).as_posix())
        try:
            return _downsize_file(path, out_path, name, min_side_px, quality)
        except ImageError as error:
            return _Row(name, "failed", error.cause)
        except OSError as error:
            return _Row(name, "failed", f"cannot be read or written: {make_printable(str(error))}")

    done = map_in_threads(
        work_on, images + others, n_threads=count_cpus(), description="downsizing", show_progress=show_progress
    )
    return pd.DataFrame(done, columns=list(_Row._fields))


def _downsize_file(path: Path, out_path: Path, name: str, min_side_px: int, quality: int) -> _Row:
    if path.suffix.lower() == ".csv":
        return _copy(path, out_path, _Row(name, "copied", ""))
    if path.suffix.lower() not in FORMAT_BY_EXTENSION:
        return _Row(name, "left out", "neither an image nor a CSV file")
    content = path.read_bytes()
    with read_header(content, path) as image:
        width, height = swap_if_turned(image.size, read_orientation(image)[0], image.format or "")
        row = _Row(name, "downsized", "", width, height, width, height, len(content) / 1e6)
        if min(width, height) <= min_side_px:
            return _copy(path, out_path, row._replace(action="copied"))
        scale = min_side_px / min(width, height)
        size_wh = round(width * scale), round(height * scale)
        row = row._replace(new_width_px=size_wh[0], new_height_px=size_wh[1])
        if out_path.exists():
            return _describe_existing(content, out_path, row)
        with write_atomic(out_path) as temporary_path:
            temporary_path.write_bytes(_encode_smaller(image, path, size_wh, quality))
            times = path.stat()
            os.utime(temporary_path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return row._replace(new_size_mb=out_path.stat().st_size / 1e6)


def _copy(path: Path, out_path: Path, row: _Row) -> _Row:
    size_mb = path.stat().st_size / 1e6
    row = row._replace(size_mb=size_mb, new_size_mb=size_mb)
    if out_path.exists():
        is_ours = out_path.read_bytes() == path.read_bytes()
        return row._replace(action="done before") if is_ours else row._replace(action="failed", cause=_IN_THE_WAY)
    with write_atomic(out_path) as temporary_path:
        shutil.copy2(path, temporary_path)
    return row


def _describe_existing(content: bytes, out_path: Path, row: _Row) -> _Row:
    """Tell the result of an earlier call from another file, by size and content; copies may have other times."""
    try:
        views, sizes = [], []
        for encoded in (content, out_path.read_bytes()):
            image, header = decode_image(encoded, target_px=8 * _VIEW_PX)  # smaller, JPEG's own reduction would show
            views.append(np.asarray(image.convert("L").resize((_VIEW_PX, _VIEW_PX), Image.Resampling.BOX), np.float32))
            sizes.append((header.width_px, header.height_px))
        is_ours = sizes[1] == (row.new_width_px, row.new_height_px) and np.abs(views[0] - views[1]).mean() < _MAX_CHANGE
    except ImageError:
        is_ours = False
    if is_ours:
        return row._replace(action="done before", new_size_mb=out_path.stat().st_size / 1e6)
    return row._replace(action="failed", cause=_IN_THE_WAY)


def _encode_smaller(image: Image.Image, path: Path, size_wh: tuple[int, int], quality: int) -> bytes:
    file_format = FORMAT_BY_EXTENSION[path.suffix.lower()]
    kept_modes = _KEPT_MODES.get(file_format, {"RGB"})
    buffer = io.BytesIO()
    try:
        image.draft(None, (2 * min(size_wh),) * 2)  # only JPEG does anything here
        image.load()
        # A profile describes the colors of a mode; where the mode is given up, the profile goes with it.
        keeps_profile = image.mode in kept_modes | {"P", "RGB", "RGBA"}
        profile = image.info.get("icc_profile") if keeps_profile else None
        smaller = _choose_mode(make_upright(image, path), kept_modes).resize(size_wh, Image.Resampling.LANCZOS)
        smaller.info = {}
        smaller.save(buffer, file_format, quality=quality, icc_profile=profile)
    except Exception as error:  # decoders and encoders raise a dozen unrelated kinds for damaged or unusual files
        raise ImageError(path, f"cannot be made smaller: {str(error) or type(error).__name__}") from error
    return buffer.getvalue()


def _choose_mode(image: Image.Image, kept_modes: set[str]) -> Image.Image:
    if image.mode == "I;16B":  # as microscopes write it; formats take the other order of bytes
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in kept_modes and "transparency" not in image.info:
        return image
    if image.has_transparency_data and "RGBA" in kept_modes:
        return image.convert("RGBA")
    return convert_to_rgb(image)
