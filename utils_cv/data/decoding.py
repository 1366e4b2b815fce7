"""From the bytes of a file to an upright RGB image, whatever its format, orientation and depth."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops

from .image_headers import (
    TIFF_EXTRA,
    TIFF_FORMAT,
    TIFF_PHOTOMETRIC,
    ImageError,
    is_deep_image,
    make_printable,
    read_header,
    read_orientation,
    read_tiff_tags,
    swap_if_turned,
)

# Reduced decoding keeps at least this many times the wanted pixels, so that the final resize smooths what it left.
# At 1.6 even hard edges stay above 44 dB of a full decode; at 1.0 photographs fall to 40 dB; 2.0 costs speed.
_DECODE_MARGIN = 1.6
_TURN_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACKGROUND = (255, 255, 255)  # behind transparent parts
FULL_RANGE = 2**16 - 1
MAX_MB = 1500.0  # for one image, so for one thread: 125 megapixels
_BYTES_PER_PIXEL = 12  # beside the file: three images of Pillow's, of 4 bytes per pixel; WebP was measured at 3.05
_STRIP_PX = 2**20  # pixels converted at a time, so that nothing else of an image's size is in memory


class HeaderFacts(NamedTuple):
    """What the header of an image says."""

    format: str  # as Pillow calls it, for example JPEG
    mode: str  # as Pillow calls it, for example CMYK
    width_px: int  # as seen upright, like the height
    height_px: int
    orientation: int  # EXIF orientation, 1 to 8; 1 is upright
    exif_problem: str  # why the EXIF data cannot be read; empty where they can or there are none
    is_deep: bool  # a channel has more than 8 bits
    is_animated: bool  # there are several images in the file
    is_transparent: bool  # a part is, or in images with a palette may be, transparent
    max_value: int  # the largest value of whole numbers with more than 8 bits, at most 65535; else 0
    has_unknown_channel: bool  # a TIFF has a fourth channel and does not say what it is; it is left out


def decode_image(
    content: bytes,
    path: str | Path = "image",
    *,
    target_px: int | None = None,
    value_range: int = FULL_RANGE,
    max_mb: float = MAX_MB,
) -> tuple[Image.Image, HeaderFacts]:
    """Open the bytes of a file as `load_image` does, and tell what its header says; `path` is for an ImageError."""
    try:
        return _decode(content, path, target_px, value_range, max_mb)
    except ImageError as error:
        if "MAX_TEXT_" not in error.cause:
            raise
    return _decode(_drop_png_text(content), path, target_px, value_range, max_mb)


def _drop_png_text(content: bytes) -> bytes:
    """Leave out texts and the color profile of a PNG file, whose size Pillow limits for the whole process."""
    kept, begin = [content[:8]], 8
    while begin < len(content):
        end = begin + 12 + int.from_bytes(content[begin : begin + 4])
        if content[begin + 4 : begin + 8] not in {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}:
            kept.append(content[begin:end])
        begin = end
    return b"".join(kept)


def _decode(
    content: bytes, path: str | Path, target_px: int | None, value_range: int, max_mb: float
) -> tuple[Image.Image, HeaderFacts]:
    try:
        with read_header(content, path) as image:
            file_format, size = image.format or "", image.size
            is_animated = bool(getattr(image, "is_animated", False))
            if target_px is not None:
                needed_px = int(target_px * _DECODE_MARGIN)
                image.draft(None, (needed_px, needed_px))  # only JPEG does anything here
            _check_memory(image, path, max_mb)
            tags = read_tiff_tags(image, path)
            loaded = _load_webp(image) if file_format == "WEBP" else image
            loaded.load()
            orientation, problem = read_orientation(image)
            width, height = swap_if_turned(size, orientation, file_format)
            mode, is_deep = image.mode, is_deep_image(image, content, tags)
            if mode == "I" and tags and 1 in tags.get(TIFF_FORMAT, (1,)) and np.min(loaded.getextrema()) < 0:
                raise ImageError(path, "a TIFF with values of 2**31 or more, which Pillow cannot read")
            max_value = _find_max_value(loaded) if is_deep and loaded.mode != "F" else 0
            is_unknown = tags.get(TIFF_PHOTOMETRIC) == 2 and mode == "RGBA" and TIFF_EXTRA not in tags
            is_transparent = not is_unknown and _is_transparent(loaded)
            rgb = _convert(loaded, value_range, is_transparent=is_transparent and loaded.has_transparency_data)
            if max_value and mode in {"RGB", "RGBA"} and value_range < FULL_RANGE:
                rgb = rgb.point([min(255, round(i * 257 * 255 / value_range)) for i in range(256)] * 3)
            if tags.get(TIFF_PHOTOMETRIC) == 0 and is_deep:  # Pillow turns 8 bits of these, but not more
                rgb = ImageChops.invert(rgb)
        del loaded  # frees the pixels of the file before the turned ones are made
        facts = (file_format, mode, width, height, orientation, problem, is_deep, is_animated, is_transparent)
        return _turn(rgb, orientation), HeaderFacts(*facts, max_value, is_unknown)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen unrelated kinds for damaged data
        raise ImageError(path, f"damaged: {str(error) or type(error).__name__}") from error


def _check_memory(image: Image.Image, path: str | Path, max_mb: float) -> None:
    needed_mb = image.width * image.height * _BYTES_PER_PIXEL / 1e6
    if needed_mb > max_mb:
        raise ImageError(
            path,
            f"too many pixels: {image.width} x {image.height} need {needed_mb:,.0f} MB to decode, more than "
            f"max_mb={max_mb:g}. Make it smaller, or open it by load_image(path, max_mb=...).",
        )


def _load_webp(image: Image.Image) -> Image.Image:
    """Decode the first frame, and free the decoder's own two copies of it before anything else is made."""
    opened: Any = image
    decoder, opened._decoder = opened._decoder, None
    frame = decoder.get_next()
    del decoder
    if frame is None:
        raise ValueError("the first image cannot be decoded")
    mode = "RGBX" if image.mode == "RGB" else image.mode
    return Image.frombuffer(mode, image.size, frame[0], "raw", mode, 0, 1)


def _find_max_value(image: Image.Image) -> int:
    image = image.convert("I") if image.mode == "I;16B" else image  # of which Pillow finds no extrema
    extrema = np.reshape(image.getextrema(), (-1, 2))[:3]
    low, high = int(extrema.min()), int(extrema.max())
    if len(extrema) > 1 or image.mode == "L":  # of colors Pillow keeps the upper 8 of 16 bits
        return high * 256 + 255
    return high if low >= 0 and high <= FULL_RANGE else 0


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in {"LA", "RGBA"}:  # many programs write an alpha channel that hides nothing
        return image.getchannel("A").getextrema() != (255, 255)
    return image.has_transparency_data


def make_upright(image: Image.Image, path: str | Path = "image") -> Image.Image:
    """Turn an image as its EXIF data ask; where these are broken, warn and leave it. The given image stays as it is."""
    image.load()  # Pillow turns TIFF files while loading, and removes their orientation
    orientation, problem = read_orientation(image)
    warn_of_exif(problem, path)
    return _turn(image, orientation)


def warn_of_exif(problem: str, path: str | Path) -> None:
    """Warn that EXIF data cannot be read, unless `problem` is empty."""
    if problem:
        warnings.warn(f"{make_printable(path)}: EXIF data are broken ({problem}); taken as upright.", stacklevel=4)


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    # Pillow's exif_transpose also writes the EXIF data again, which fails on many files whose pixels are fine.
    turn = _TURN_BY_ORIENTATION.get(orientation)
    return image if turn is None else image.transpose(turn)


def convert_to_rgb(image: Image.Image, value_range: int = FULL_RANGE) -> Image.Image:
    """Convert any image to 8-bit RGB without metadata, on white where transparent; one of RGB shares its pixels."""
    image.load()
    return _convert(image, value_range, is_transparent=image.has_transparency_data)


def _convert(image: Image.Image, value_range: int, *, is_transparent: bool) -> Image.Image:
    if image.mode == "RGB" and not is_transparent:
        rgb = Image.Image()._new(image.im)  # the same pixels: a copy would need the memory twice
        rgb.info = {}
        return rgb
    scale = _find_scale(image, value_range)
    rgb = Image.new("RGB", image.size, _BACKGROUND)
    for box in _list_strips(image):
        strip = image.crop(box)
        strip = strip if scale is None else _scale_to_8_bits(strip, *scale)
        if is_transparent:
            premultiplied = {"La": "LA", "RGBa": "RGBA"}
            strip = strip.convert(premultiplied.get(strip.mode, strip.mode)).convert("RGBA")
            rgb.paste(strip, box, mask=strip.getchannel("A"))
        elif strip.mode == "LAB":
            rgb.paste(_make_lab_transform().apply(strip), box)
        else:
            rgb.paste(strip.convert("RGB"), box)
    return rgb


def _list_strips(image: Image.Image) -> list[tuple[int, int, int, int]]:
    n_rows = max(1, _STRIP_PX // image.width)
    return [(0, top, image.width, min(top + n_rows, image.height)) for top in range(0, image.height, n_rows)]


def _make_lab_transform() -> Any:
    from PIL import ImageCms

    lab, srgb = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)) for name in ("LAB", "sRGB"))
    return ImageCms.ImageCmsTransform(lab, srgb, "LAB", "RGB")


def _find_scale(image: Image.Image, value_range: int) -> tuple[float, float] | None:
    """Find the values that become black and white; None for images of 8 bits."""
    if image.mode not in {"I", "F"}:
        return (0.0, float(value_range)) if image.mode.startswith("I;16") else None
    if image.mode == "F":
        parts = (_read_values(image.crop(box)) for box in _list_strips(image))
        limits = np.array([(part.min(), part.max()) for part in parts])
        low, high = float(limits[:, 0].min()), float(limits[:, 1].max())
        return (0.0, 1.0 if high <= 1 else 255.0) if low >= 0 and high <= 255 else (low, high)
    low, high = np.array(image.getextrema(), np.float32).tolist()
    # 16-bit values, also where Pillow opens them as 32-bit integers
    return (0.0, float(value_range)) if low >= 0 and high <= FULL_RANGE else (low, high)


def _read_values(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)  # (height, width)


def _scale_to_8_bits(image: Image.Image, low: float, high: float) -> Image.Image:
    scaled = (_read_values(image) - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.round(scaled).clip(0, 255).astype(np.uint8))
