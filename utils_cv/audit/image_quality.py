"""Facts of one image file: what is unusual about the file, and how bright, sharp and full the image is."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from utils_cv.data.decoding import FULL_RANGE, HeaderFacts, decode_image
from utils_cv.data.image_headers import ImageError
from utils_cv.data.images import FORMAT_BY_EXTENSION, find_path, read_file

from .duplicates import THUMBNAIL_PX

# Blur is measured at about the size that a network sees: a large image, soft at its full size, is sharp enough.
_VIEW_PX = 256
_BLUR_PX = 11  # Crété, Dolmiere, Ladret and Nicolas 2007; by hand, scikit-image would be one more dependency


class ImageFacts(NamedTuple):
    """What is known of one image file. Where it cannot be opened, the fields after `sha256` stay 0 or empty."""

    cause: str = ""  # why it cannot be opened; empty where it can
    size_mb: float = 0.0  # of the file, 10**6 bytes
    sha256: str = ""  # of the file, hexadecimal
    format: str = ""  # as Pillow calls it
    mode: str = ""  # as Pillow calls it
    width_px: int = 0  # as seen upright
    height_px: int = 0  # as seen upright
    megapixels: float = 0.0  # width × height in 10**6
    file_issues: str = ""  # what is unusual about the file, joined by `; `
    brightness: float = 0.0  # mean gray value, 0 black to 1 white
    contrast: float = 0.0  # standard deviation of the gray values, 0 (a single color) to 0.5
    blur: float = 0.0  # 0 sharp to 1 blurred: how little it changes when blurred once more
    max_value: int = 0  # the largest value of a file with more than 8 bits; 0 for others


def measure_image(path: str | Path, value_range: int = FULL_RANGE) -> tuple[ImageFacts, np.ndarray]:
    """Read a file once: its facts, and a gray thumbnail (32, 32) uint8, black where the file cannot be opened."""
    path = find_path(path)
    black = np.zeros((THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    try:
        content = read_file(path)
    except ImageError as error:
        return ImageFacts(cause=error.cause), black
    known = ImageFacts(size_mb=len(content) / 1e6, sha256=hashlib.sha256(content).hexdigest())
    try:
        image, header = decode_image(content, path, target_px=_VIEW_PX, value_range=value_range)
    except ImageError as error:
        return known._replace(cause=error.cause), black
    gray = image.convert("L")
    view = ImageOps.cover(gray, (_VIEW_PX, _VIEW_PX), Image.Resampling.BILINEAR) if min(gray.size) > _VIEW_PX else gray
    values = np.asarray(view, np.float32) / 255
    facts = known._replace(
        **{name: getattr(header, name) for name in ("format", "mode", "width_px", "height_px", "max_value")},
        megapixels=header.width_px * header.height_px / 1e6,
        file_issues="; ".join(_list_file_issues(path, header)),
        brightness=float(values.mean()),
        contrast=float(values.std()),
        blur=_measure_blur(values),
    )
    return facts, np.asarray(gray.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def _list_file_issues(path: Path, header: HeaderFacts) -> list[str]:
    suffix = path.suffix.lower()
    file_format = "JPEG" if header.format == "MPO" else header.format  # a JPEG with a preview, as some phones write
    is_misnamed = FORMAT_BY_EXTENSION.get(suffix) != file_format
    checks = {
        f"named {suffix or 'without an extension'}, but is {file_format}": is_misnamed,
        f"turned by EXIF (orientation {header.orientation})": header.orientation > 1,
        f"broken EXIF: {header.exif_problem}": bool(header.exif_problem),
        "transparent": header.is_transparent,
        "CMYK": header.mode == "CMYK",
        "more than 8 bits" + f", values up to {header.max_value}" * bool(header.max_value): header.is_deep,
        "a fourth channel that the file does not explain, left out": header.has_unknown_channel,
        "animated or several pages": header.is_animated and header.format != "MPO",
    }
    return [issue for issue, applies in checks.items() if applies]


def _measure_blur(values: np.ndarray) -> float:
    """Measure how little gray values (height, width) change when blurred once more: 0 sharp to 1 blurred."""
    if min(values.shape) <= _BLUR_PX:
        return 0.0
    return max(_measure_line_blur(values), _measure_line_blur(values.T))


def _measure_line_blur(values: np.ndarray) -> float:
    sums = np.cumsum(np.pad(np.asarray(values, np.float64), ((0, 0), (1, 0))), axis=1)
    blurred = (sums[:, _BLUR_PX:] - sums[:, :-_BLUR_PX]) / _BLUR_PX
    middle = values[:, _BLUR_PX // 2 : _BLUR_PX // 2 + blurred.shape[1]].astype(np.float64)
    steps, blurred_steps = np.abs(np.diff(middle, axis=1)), np.abs(np.diff(blurred, axis=1))
    total = float(steps.sum())
    lost = float(np.maximum(0, steps - blurred_steps).sum())
    return (total - lost) / total if total > 1e-9 else 0.0
