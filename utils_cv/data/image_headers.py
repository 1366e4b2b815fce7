"""What the header of an image file says: its format, size, orientation and depth; or why it is no image."""

import codecs
import io
import os
from functools import cache
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImagePalette, TiffImagePlugin, UnidentifiedImageError

# Formats that Pillow may try. Others that it knows (EPS starts another program) are not needed for images.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
SUPPORTED = frozenset({*_FORMATS, "MPO", "HEIF"})
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
    b"version https://git-lfs": "a git-lfs pointer; fetch the image itself by git lfs pull",
    b"\xff\x0a": "a JPEG XL image, which Pillow cannot read; convert it",
    b"\0\0\0\x0cJXL ": "a JPEG XL image, which Pillow cannot read; convert it",
    b"{": "a JSON file",
    b"\0\5\x16\7": "a companion file of macOS, which holds no pixels",
    bytes(8): "zeros, as a broken copy leaves them",
}
_EXIF_ORIENTATION = 0x0112
_EMPTY_EXIF_BYTES = 20  # name, byte order and a directory without entries
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_EXTRA, TIFF_FORMAT = 258, 262, 338, 339
_TIFF_SUBSAMPLING, _TIFF_PALETTE = 530, 320
_TIFF_NUMBERS = {2: "signed ", 3: "floating-point "}
_TIFF_COLORS = {0: "0 is white", 4: "a mask", 6: "YCbCr", 9: "ICC Lab", 10: "ITU Lab", 32803: "camera raw"}


class ImageError(ValueError):
    """A file that cannot be opened as an image; `path` is the file, `cause` says in words what is wrong with it."""

    def __init__(self, path: str | Path, cause: str) -> None:
        self.path = Path(path)
        self.cause = cause
        super().__init__(f"{make_printable(path)}: {cause}")

    def __reduce__(self) -> tuple:  # exceptions with two arguments do not travel between processes without it
        return type(self), (self.path, self.cause)


def make_printable(path: str | Path) -> str:
    r"""Spell bytes that are not UTF-8, as `caf\udce9.jpg`; it can be printed and saved, and `load_image` opens it."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def read_tiff_tags(image: Image.Image, path: str | Path) -> dict[int, Any]:
    """Read what a TIFF file says of its values; other formats say nothing."""
    tags = dict(image.tag_v2) if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    is_raw = tags.get(259, 1) == 1  # not compressed
    has_planes = is_raw and tags.get(284) == 2 and max(tags.get(TIFF_BITS, (8,))) > 8  # Pillow takes them as bytes
    is_packed = is_raw and tags.get(TIFF_PHOTOMETRIC) == 6 and tuple(tags.get(_TIFF_SUBSAMPLING, (2, 2))) != (1, 1)
    is_signed = 2 in tags.get(TIFF_FORMAT, ()) and max(tags.get(TIFF_BITS, (8,))) == 8
    if has_planes or is_packed or is_signed:
        kind = "16-bit values in planes" if has_planes else "signed 8-bit values"
        kind = "subsampled YCbCr colors" if is_packed else kind
        raise ImageError(path, f"a TIFF with {kind}, which Pillow cannot read; convert it to RGB")
    if image.mode == "P" and max(tags.get(_TIFF_PALETTE, (256,))) < 256:  # 8-bit colors, where the format has 16 bits
        image.palette = ImagePalette.raw("RGB;L", bytes(tags[_TIFF_PALETTE]))
    return tags


def is_deep_file(file: IO[bytes]) -> bool:
    """Tell from its header whether a PNG, TIFF, PPM or JPEG 2000 file has more than 8 bits; the rest is not read."""
    start = file.read(26)
    with Image.open(file, formats=_list_formats()) as image:
        return is_deep_image(image, start, read_tiff_tags(image, "image"))


def is_deep_image(image: Image.Image, content: bytes, tags: dict[int, Any]) -> bool:
    """Tell whether a channel has more than 8 bits, from the image, the start of its file and its TIFF tags."""
    has_16_bit_png = image.format == "PNG" and content[24:25] == b"\x10"  # of color images Pillow keeps 8 bits
    has_16_bit_tiff = max(tags.get(TIFF_BITS, (8,))) > 8
    return has_16_bit_png or has_16_bit_tiff or image.mode in {"I", "F"} or image.mode.startswith("I;16")


def read_header(content: bytes, path: str | Path = "image") -> Image.Image:
    """Open an image without decoding its pixels: Pillow's lazy image, neither upright nor RGB yet; or an ImageError."""
    if not content:
        raise ImageError(path, "the file is empty")
    formats = _list_formats()
    if _is_heif(content):
        _register_heif(path)
        formats = ("HEIF",)
    try:
        image: Any = Image.open(io.BytesIO(content), formats=formats)
        if image.format in {"JPEG", "MPO"}:
            image.decodermaxblock = len(content)  # else Pillow copies 64 kB at a time
        return image
    except Image.DecompressionBombError as error:
        raise ImageError(path, f"too many pixels: {error} To open it, raise PIL.Image.MAX_IMAGE_PIXELS.") from error
    except UnidentifiedImageError as error:
        raise ImageError(path, _describe_other_content(content)) from error
    except Exception as error:  # damaged headers raise many unrelated kinds
        raise ImageError(path, f"damaged: {str(error) or type(error).__name__}") from error


@cache
def _list_formats() -> tuple[str, ...]:
    # `Image.init` would import 30 more plugins, in 0.02 s.
    from PIL import AvifImagePlugin, Jpeg2KImagePlugin, WebPImagePlugin  # noqa: F401 - they register themselves

    Image.preinit()
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
    if content[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return _describe_tiff(content)
    if content[128:132] == b"DICM":
        return "not an image but a DICOM file; convert it to PNG, with the window that a reader would choose"
    start = content[:200].removeprefix(codecs.BOM_UTF8)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        start = start.decode("utf-16", "ignore").encode()
    start = start if start.startswith(b"\0") else start.lstrip()
    for magic, description in _OTHER_CONTENT.items():
        if start[: len(magic)].lower() == magic.lower():
            return f"not an image but {description}"
    return f"not an image of a known format; it begins with {content[:8]!r}"


def _describe_tiff(content: bytes) -> str:
    """Say what Pillow cannot read about a TIFF file: its bands, bits and colors."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
        file = io.BytesIO(content)
        file.seek(tags.next)
        tags.load(file)
        photometric, bits = tags[TIFF_PHOTOMETRIC], tags.get(TIFF_BITS, (1,))
    except Exception as error:  # damaged directories raise many unrelated kinds
        return f"a damaged TIFF, whose directory cannot be read: {type(error).__name__}"
    numbers = _TIFF_NUMBERS.get(tags.get(TIFF_FORMAT, (1,))[0], "")
    colors = f" ({_TIFF_COLORS[photometric]})" if photometric in _TIFF_COLORS else ""
    return (
        f"a TIFF of {len(bits)} {'band' if len(bits) == 1 else 'bands'} of {numbers}{max(bits)} bits{colors}, which "
        "Pillow cannot read; convert it to RGB or gray with 8 or 16 bits"
    )


def read_orientation(image: Image.Image) -> tuple[int, str]:
    """Read the EXIF orientation, and why the EXIF data cannot be read, or an empty text."""
    try:
        exif = image.getexif()
        orientation = exif.get(_EXIF_ORIENTATION, 1)
    except Exception as error:  # the parser raises what the damage happens to trigger; the pixels are not affected
        return 1, str(error) or type(error).__name__
    if not len(exif) and len(image.info.get("exif") or b"") > _EMPTY_EXIF_BYTES:
        return 1, "nothing in them can be read"
    return (orientation, "") if orientation in range(1, 9) else (1, "")


def swap_if_turned(size: tuple[int, int], orientation: int, file_format: str) -> tuple[int, int]:
    """Width and height as seen upright; of TIFF files Pillow gives them so."""
    return size[::-1] if orientation >= 5 and file_format != "TIFF" else size
