"""From the bytes of a file to an upright RGB image, whatever the format, orientation, depth or damage."""

import io
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
Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)


class ImageError(ValueError):
    """A file that cannot be opened as an image.

    Attributes:
        path: The file.
        cause: What is wrong with it, in words.
    """

    def __init__(self, path: str | Path, cause: str) -> None:
        self.path = Path(path)
        self.cause = cause
        super().__init__(f"{path}: {cause}")

    def __reduce__(self) -> tuple:  # exceptions with two arguments do not travel between processes without it
        return type(self), (self.path, self.cause)


class HeaderFacts(NamedTuple):
    """What the header of an image says.

    Attributes:
        format: As Pillow calls it, for example `JPEG`.
        mode: As Pillow calls it, for example `CMYK`.
        width_px: As seen upright.
        height_px: As seen upright.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        exif_problem: Why the EXIF data cannot be read; empty where they can or there are none.
        is_deep: Whether a channel has more than 8 bits.
        is_animated: Whether there are several images in the file.
        is_transparent: Whether a part is, or in images with a palette may be, transparent.
    """

    format: str
    mode: str
    width_px: int
    height_px: int
    orientation: int
    exif_problem: str
    is_deep: bool
    is_animated: bool
    is_transparent: bool


def decode_image(
    content: bytes, path: str | Path = "image", *, target_px: int | None = None, background: Color = WHITE
) -> Image.Image:
    """Open an image from the content of a file, for example an upload; otherwise like `data.images.load_image`.

    Args:
        content: The bytes of the file.
        path: The name to use in errors and warnings.
        target_px: See `utils_cv.data.images.load_image`.
        background: See `utils_cv.data.images.load_image`.
    """
    image, facts = read_image(content, path, target_px=target_px, background=background)
    if facts.exif_problem:
        warnings.warn(f"{path}: EXIF data are broken ({facts.exif_problem}); taken as upright.", stacklevel=3)
    return image


def read_image(
    content: bytes, path: str | Path = "image", *, target_px: int | None = None, background: Color = WHITE
) -> tuple[Image.Image, HeaderFacts]:
    """Open an image as `decode_image` does, and tell what its header says instead of warning about it.

    Args:
        content: The bytes of the file.
        path: The name to use in errors.
        target_px: See `utils_cv.data.images.load_image`.
        background: See `utils_cv.data.images.load_image`.

    Returns:
        The upright RGB image, and the facts.

    Raises:
        ImageError: See `utils_cv.data.images.load_image`.
    """
    try:
        with open_image(content, path) as image:
            file_format, size = image.format or "", image.size
            is_animated = bool(getattr(image, "is_animated", False))
            if target_px is not None:
                needed_px = int(target_px * _DECODE_MARGIN)
                image.draft(None, (needed_px, needed_px))  # only JPEG does anything here
            image.load()
            orientation, problem = _parse_orientation(image)
            is_turned = orientation >= 5 and file_format != "TIFF"  # Pillow gives the upright size of TIFF files
            width, height = size[::-1] if is_turned else size
            is_deep, is_transparent = _is_deep(image, content), _is_transparent(image)
            facts = (file_format, image.mode, width, height, orientation, problem, is_deep, is_animated, is_transparent)
            return turn_upright(convert_to_rgb(image, background), orientation), HeaderFacts(*facts)
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


def open_image(content: bytes, path: str | Path = "image") -> Image.Image:
    """Read the header of an image (format, mode, size) without decoding its pixels.

    Args:
        content: The bytes of the file, or at least those of its header.
        path: The name to use in errors.

    Returns:
        Pillow's lazy image: neither upright nor RGB yet.

    Raises:
        ImageError: Empty, not an image, a damaged header, or more pixels than Pillow's limit.
    """
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


def read_orientation(image: Image.Image, path: str | Path = "image") -> int:
    """Read how an image must be turned to be upright.

    Pillow's `exif_transpose` also writes the EXIF data again, which fails on many files whose pixels are fine.

    Args:
        image: As it was opened; of a TIFF file, after loading, because Pillow has turned it by then.
        path: The name to use in the warning.

    Returns:
        EXIF orientation from 1 to 8; 1, with a warning, where the EXIF data are broken.
    """
    orientation, problem = _parse_orientation(image)
    if problem:
        warnings.warn(f"{path}: EXIF data are broken ({problem}); taken as upright.", stacklevel=2)
    return orientation


def _parse_orientation(image: Image.Image) -> tuple[int, str]:
    """Read the EXIF orientation, and why the EXIF data cannot be read, or an empty text."""
    try:
        exif = image.getexif()
        orientation = exif.get(_EXIF_ORIENTATION, 1)
    except Exception as error:  # the parser raises what the damage happens to trigger; the pixels are not affected
        return 1, str(error) or type(error).__name__
    if not len(exif) and len(image.info.get("exif") or b"") > _EMPTY_EXIF_BYTES:
        return 1, "nothing in them can be read"
    return (orientation, "") if orientation in _TURN_BY_ORIENTATION else (1, "")


def read_upright_size(image: Image.Image, path: str | Path = "image") -> tuple[int, int]:
    """Read width and height in pixels as seen upright, from the header alone.

    Args:
        image: As `open_image` gives it, not loaded yet.
        path: The name to use in a warning.
    """
    width, height = image.size
    is_turned_already = image.format == "TIFF"  # Pillow gives the upright size of this format, but not of the others
    return (height, width) if read_orientation(image, path) >= 5 and not is_turned_already else (width, height)


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn or mirror an image as its EXIF orientation (1 to 8) asks; the given image stays as it is."""
    turn = _TURN_BY_ORIENTATION.get(orientation)
    return image if turn is None else image.transpose(turn)


def convert_to_rgb(image: Image.Image, background: Color = WHITE) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB, on a background where it is transparent.

    Args:
        image: Any mode that Pillow opens. 16-bit grey is divided by 257; other integers and floats are scaled.
        background: Color behind transparent parts, (red, green, blue) from 0 to 255.

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
