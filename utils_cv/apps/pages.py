"""What all pages of this room have in common: the beginning of their HTML and of their style, in `base_page`."""

import io
from pathlib import Path
from typing import Any

from utils_cv.data.images import load_image

BASE_DIR = Path(__file__).parent / "base_page"


def read_page_file(path: Path) -> bytes:
    """Read a file of a page behind what all pages have in a file of that name."""
    shared = BASE_DIR / path.name
    return (shared.read_bytes() if shared.is_file() else b"") + path.read_bytes()


def encode_thumbnail(path: str | Path, size_px: int, value_range: int, **options: Any) -> bytes:
    """Open an image in its own proportions, and encode it; what cannot be opened is an ImageError."""
    image = load_image(path, target_px=size_px, value_range=value_range)
    image.thumbnail((size_px, size_px))
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()
