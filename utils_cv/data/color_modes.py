"""From any mode of Pillow (grey, palette, alpha, CMYK, 16 bits, floats) to 8-bit RGB."""

import numpy as np
from PIL import Image, ImageCms

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)


def convert_to_rgb(image: Image.Image, background: Colour = WHITE) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB, on a background where it is transparent.

    Args:
        image: Any mode that Pillow opens. 16-bit grey is divided by 257; other integers and floats are scaled.
        background: Colour behind transparent parts, (red, green, blue) from 0 to 255.

    Returns:
        A new RGB image without metadata.
    """
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        image = _scale_to_8_bits(image)
    if image.mode == "LAB":
        lab, srgb = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)) for name in ("LAB", "sRGB"))
        image = ImageCms.ImageCmsTransform(lab, srgb, "LAB", "RGB").apply(image)
    if image.has_transparency_data:
        premultiplied = {"La": "LA", "RGBa": "RGBA"}
        rgba = image.convert(premultiplied.get(image.mode, image.mode)).convert("RGBA")
        rgb = Image.new("RGB", image.size, background)
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    rgb.info = {}
    return rgb


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float32)  # (height, width)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        if low >= 0 and high <= 255:
            low, high = 0.0, 1.0 if high <= 1 else 255.0
    elif low >= 0 and high <= 65535:  # 16-bit values, also where Pillow opens them as 32-bit integers
        low, high = 0.0, 65535.0
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.round(scaled).astype(np.uint8))
