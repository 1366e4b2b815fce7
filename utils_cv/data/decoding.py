"""From the bytes of a file to an upright RGB image, whatever its format, orientation and depth."""

import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

# Formats that Pillow may try. Others that it knows (EPS starts another program) are not needed for images.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_OTHER_CONTENT = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"<svg": "an SVG drawing",
    b"<!DO": "a web page",
    b"<htm": "a web page",
    b"<?xm": "an XML or SVG file",
    b"%!PS": "a PostScript file",
    b"8BPS": "a Photoshop file",
}
# Reduced decoding keeps at least this many times the wanted pixels, so that the final resize smooths what it left.
# At 1.6 even hard edges stay above 44 dB of a full decode; at 1.0 photographs fall to 40 dB; 2.0 costs speed.
_DECODE_MARGIN = 1.6
_EXIF_ORIENTATION = 0x0112
_EMPTY_EXIF_BYTES = 20  # name, byte order and a directory without entries
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


class ImageError(ValueError):
    """A file that cannot be opened as an image; `path` is the file, `cause` says in words what is wrong with it."""

    def __init__(self, path: str | Path, cause: str) -> None:
        self.path = Path(path)
        self.cause = cause
        super().__init__(f"{make_printable(path)}: {cause}")

    def __reduce__(self) -> tuple:  # exceptions with two arguments do not travel between processes without it
        return type(self), (self.path, self.cause)


def make_printable(path: str | Path) -> str:
    """Spell a path whose bytes are not UTF-8 so that it can be printed and saved; others stay as they are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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


def decode_image(
    content: bytes, path: str | Path = "image", *, target_px: int | None = None
) -> tuple[Image.Image, HeaderFacts]:
    """Open an image from the bytes of a file as `load_image` does, and tell what its header says.

    `path` is the name to use in an ImageError; for `target_px` see `load_image`.
    """
    try:
        with read_header(content, path) as image:
            file_format, size = image.format or "", image.size
            is_animated = bool(getattr(image, "is_animated", False))
            if target_px is not None:
                needed_px = int(target_px * _DECODE_MARGIN)
                image.draft(None, (needed_px, needed_px))  # only JPEG does anything here
            image.load()
            orientation, problem = _read_orientation(image)
            width, height = _swap_if_turned(size, orientation, file_format)
            is_deep, is_transparent = _is_deep(image, content), _is_transparent(image)
            facts = (file_format, image.mode, width, height, orientation, problem, is_deep, is_animated, is_transparent)
            return _turn(convert_to_rgb(image), orientation), HeaderFacts(*facts)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen unrelated kinds for damaged data
        raise ImageError(path, f"damaged: {str(error) or type(error).__name__}") from error


def _is_deep(image: Image.Image, content: bytes) -> bool:
    has_16_bit_png = image.format == "PNG" and content[24:25] == b"\x10"  # of color images Pillow keeps 8 bits
    return has_16_bit_png or image.mode in {"I", "F"} or image.mode.startswith("I;16")


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in {"LA", "RGBA"}:  # many programs write an alpha channel that hides nothing
        return image.getchannel("A").getextrema() != (255, 255)
    return image.has_transparency_data


def read_header(content: bytes, path: str | Path = "image") -> Image.Image:
    """Open an image without decoding its pixels: Pillow's lazy image, neither upright nor RGB yet; or an ImageError."""
    if not content:
        raise ImageError(path, "the file is empty")
    formats = _list_formats()
    if _is_heif(content):
        _register_heif(path)
        formats = ("HEIF",)
    try:
        return Image.open(io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError as error:
        raise ImageError(path, f"too many pixels: {error} To open it, raise PIL.Image.MAX_IMAGE_PIXELS.") from error
    except UnidentifiedImageError as error:
        raise ImageError(path, _describe_other_content(content)) from error
    except Exception as error:  # damaged headers raise many unrelated kinds
        raise ImageError(path, f"damaged: {str(error) or type(error).__name__}") from error


@cache
def _list_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def is_supported(file_format: str | None) -> bool:
    """Tell whether files of a format, as Pillow calls it, are opened."""
    return file_format in {*_FORMATS, "MPO", "HEIF"}


def _is_heif(content: bytes) -> bool:
    # An AVIF file may call itself mif1 first and avif among its compatible brands.
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS and b"avif" not in content[8:64]


def _register_heif(path: str | Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ImageError(path, "a HEIC image; to open these, pip install 'utils_cv[heic]'") from error
    register_heif_opener()


def _describe_other_content(content: bytes) -> str:
    start = content.lstrip()[:4]
    for magic, description in _OTHER_CONTENT.items():
        if start[: len(magic)].lower() == magic.lower():
            return f"not an image but {description}"
    return f"not an image of a known format; it begins with {content[:8]!r}"


def make_upright(image: Image.Image, path: str | Path = "image") -> Image.Image:
    """Turn an image as its EXIF data ask; where these are broken, warn and leave it. The given image stays as it is."""
    image.load()  # Pillow turns TIFF files while loading, and removes their orientation
    orientation, problem = _read_orientation(image)
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


def _read_orientation(image: Image.Image) -> tuple[int, str]:
    """Read the EXIF orientation, and why the EXIF data cannot be read, or an empty text."""
    try:
        exif = image.getexif()
        orientation = exif.get(_EXIF_ORIENTATION, 1)
    except Exception as error:  # the parser raises what the damage happens to trigger; the pixels are not affected
        return 1, str(error) or type(error).__name__
    if not len(exif) and len(image.info.get("exif") or b"") > _EMPTY_EXIF_BYTES:
        return 1, "nothing in them can be read"
    return (orientation, "") if orientation in _TURN_BY_ORIENTATION else (1, "")


def read_upright_size(image: Image.Image) -> tuple[int, int]:
    """Read width and height in pixels as seen upright, from the lazy image that `read_header` gives."""
    return _swap_if_turned(image.size, _read_orientation(image)[0], image.format or "")


def _swap_if_turned(size: tuple[int, int], orientation: int, file_format: str) -> tuple[int, int]:
    # Pillow gives the upright size of TIFF files, but not of other formats.
    return size[::-1] if orientation >= 5 and file_format != "TIFF" else size


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB without metadata, on white where it is transparent."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        image = _scale_to_8_bits(image)
    if image.mode == "LAB":
        lab, srgb = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)) for name in ("LAB", "sRGB"))
        image = ImageCms.ImageCmsTransform(lab, srgb, "LAB", "RGB").apply(image)
    if image.has_transparency_data:
        premultiplied = {"La": "LA", "RGBa": "RGBA"}
        rgba = image.convert(premultiplied.get(image.mode, image.mode)).convert("RGBA")
        rgb = Image.new("RGB", image.size, _BACKGROUND)
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
