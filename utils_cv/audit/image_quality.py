"""Facts of one image file: what is odd about it, and how bright, sharp and full it is."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from utils_cv.data.decoding import HeaderFacts, ImageError, decode_image
from utils_cv.data.images import FORMAT_BY_EXTENSION

from .duplicates import THUMBNAIL_PX

# Sharpness is judged at about the size that a network sees: a large image, soft at its full size, is sharp enough.
_VIEW_PX = 256
_BLUR_PX = 11


class ImageFacts(NamedTuple):
    """What is known of one image file.

    Attributes:
        cause: Why it cannot be opened; empty where it can. All that follows is then 0 or empty, except the size.
        size_mb: Of the file, megabytes (10**6 bytes).
        sha256: Of the file, hexadecimal.
        format: As Pillow calls it.
        mode: As Pillow calls it.
        width_px: As seen upright.
        height_px: As seen upright.
        megapixels: Width × height in 10**6.
        oddities: What deserves a second look about the file, joined by `; `.
        brightness: Mean grey value, 0 black to 1 white.
        contrast: Standard deviation of the grey values, 0 to 0.5; 0 is one plain color.
        blur: 0 sharp to 1 blurred, see `measure_blur`.
    """

    cause: str = ""
    size_mb: float = 0.0
    sha256: str = ""
    format: str = ""
    mode: str = ""
    width_px: int = 0
    height_px: int = 0
    megapixels: float = 0.0
    oddities: str = ""
    brightness: float = 0.0
    contrast: float = 0.0
    blur: float = 0.0


def measure_image(path: str | Path) -> tuple[ImageFacts, np.ndarray]:
    """Read a file once and measure what it holds.

    Large JPEGs are decoded at reduced size. A file that cannot be opened is no error here but a fact.

    Args:
        path: The file.

    Returns:
        The facts, and a grey thumbnail (32, 32) uint8, black where the file cannot be opened.

    Example:
        >>> facts, thumbnail = measure_image("photos/can/1.jpg")  # doctest: +SKIP
    """
    path = Path(path)
    nothing = np.zeros((THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    try:
        content = path.read_bytes()
    except OSError as error:
        return ImageFacts(cause=f"cannot be read: {error.strerror or error}"), nothing
    known = ImageFacts(size_mb=len(content) / 1e6, sha256=hashlib.sha256(content).hexdigest())
    try:
        image, header = decode_image(content, path, target_px=_VIEW_PX)
    except ImageError as error:
        return known._replace(cause=error.cause), nothing
    grey = image.convert("L")
    view = _shrink_to_view(grey)
    values = np.asarray(view, np.float32) / 255
    facts = known._replace(
        format=header.format,
        mode=header.mode,
        width_px=header.width_px,
        height_px=header.height_px,
        megapixels=header.width_px * header.height_px / 1e6,
        oddities="; ".join(list_oddities(path, header)),
        brightness=float(values.mean()),
        contrast=float(values.std()),
        blur=measure_blur(values),
    )
    return facts, np.asarray(grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def list_oddities(path: str | Path, header: HeaderFacts) -> list[str]:
    """List what is unusual about a file that opens all the same.

    Args:
        path: Its extension is compared with the content.
        header: From `utils_cv.data.decoding.decode_image`.

    Returns:
        Short descriptions; empty for an ordinary image.
    """
    suffix = Path(path).suffix.lower()
    file_format = "JPEG" if header.format == "MPO" else header.format  # a JPEG with a preview, as some phones write
    is_named_wrong = FORMAT_BY_EXTENSION.get(suffix) != file_format
    checks = {
        f"named {suffix or 'without an extension'}, but is {file_format}": is_named_wrong,
        f"turned by EXIF (orientation {header.orientation})": header.orientation > 1,
        f"broken EXIF: {header.exif_problem}": bool(header.exif_problem),
        "transparent": header.is_transparent,
        "CMYK": header.mode == "CMYK",
        "more than 8 bits": header.is_deep,
        "animated or several pages": header.is_animated and header.format != "MPO",
    }
    return [description for description, applies in checks.items() if applies]


def _shrink_to_view(grey: Image.Image) -> Image.Image:
    scale = _VIEW_PX / min(grey.size)
    if scale >= 1:
        return grey
    return grey.resize(
        (max(1, round(grey.width * scale)), max(1, round(grey.height * scale))), Image.Resampling.BILINEAR
    )


def measure_blur(values: np.ndarray) -> float:
    """Measure how little an image loses when it is blurred once more: a sharp one loses much, a blurred one little.

    Args:
        values: (height, width) grey values of any scale.

    Returns:
        0 sharp to 1 blurred; 0 also for images without any detail, or smaller than 12 pixels.

    Source:
        Crété, Dolmiere, Ladret and Nicolas, "The blur effect: perception and estimation with a new no-reference
        perceptual blur metric", 2007.
    """
    if min(values.shape) <= _BLUR_PX:
        return 0.0
    return max(_measure_blur_of_lines(values), _measure_blur_of_lines(values.T))


def _measure_blur_of_lines(values: np.ndarray) -> float:
    values = np.asarray(values, np.float64)
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    blurred = (sums[:, _BLUR_PX:] - sums[:, :-_BLUR_PX]) / _BLUR_PX
    middle = values[:, _BLUR_PX // 2 : _BLUR_PX // 2 + blurred.shape[1]]
    steps, blurred_steps = np.abs(np.diff(middle, axis=1)), np.abs(np.diff(blurred, axis=1))
    total = float(steps.sum())
    lost = float(np.maximum(0, steps - blurred_steps).sum())
    return (total - lost) / total if total > 1e-9 else 0.0
