"""Small pictures of image files as text, for pages that hold all they show."""

import base64
import io

from PIL import Image

from utils_cv.data.images import load_image


def load_thumbnail(path: str, size_px: int, *, value_range: int) -> Image.Image:
    """Open an image in its own proportions, its longer side `size_px` at most; ImageError where it cannot be."""
    image = load_image(path, target_px=size_px, value_range=value_range)
    image.thumbnail((size_px, size_px))
    return image


def encode_image(image: Image.Image) -> str:
    """Write an image as a data URI, in WebP: half the size of a JPEG that looks as good."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
