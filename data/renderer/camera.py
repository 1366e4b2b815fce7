"""What a camera does to light after the lens: exposure, contrast, noise of the sensor, sharpening. No Blender.

A path tracer with a denoiser is smoother than any camera. Without this step a network that was trained on photographs
took four bottles of ten for a lotion or a baby's nipple; what was measured is in ../README.md.
"""

import io
import zlib

import jpeg
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

EXPOSURE, CONTRAST = 0.85, 1.25
NOISE_LEVELS = 0.7  # standard deviation in levels of 255, of brightness, and half of it of each colour
SHARPEN_RADIUS_PX, SHARPEN_PERCENT = 1.0, 300
QUALITY = 88


def develop(image, key):
    """Develop one rendered RGB image; the noise comes from `key` alone, so that it is the same every time."""
    image = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(EXPOSURE)).enhance(CONTRAST)
    # RandomState: its stream is frozen across versions of NumPy.
    random = np.random.RandomState(zlib.crc32(key.encode()))
    levels = np.asarray(image, dtype=np.float64)  # (height, width, 3)
    brightness = random.normal(0, NOISE_LEVELS, levels.shape[:2])[..., None]
    levels = levels + brightness + random.normal(0, NOISE_LEVELS / 2, levels.shape)
    noisy = Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    return noisy.filter(ImageFilter.UnsharpMask(SHARPEN_RADIUS_PX, SHARPEN_PERCENT, threshold=0))


def develop_jpeg(data, key):
    """Develop the bytes of a rendered JPEG into those of the final one, without metadata."""
    with Image.open(io.BytesIO(data)) as image:
        developed = develop(image.convert("RGB"), key)
    out = io.BytesIO()
    developed.save(out, "JPEG", quality=QUALITY, optimize=True)
    return jpeg.strip_comments(out.getvalue())
