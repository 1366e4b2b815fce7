"""From the bytes of a file to an upright RGB image, whatever its format, orientation and depth."""

import codecs
import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImagePalette, TiffImagePlugin, UnidentifiedImageError

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
    b"version https://git-lfs": "a git-lfs pointer; fetch the image itself by git lfs pull",
    b"\xff\x0a": "a JPEG XL image, which Pillow cannot read; convert it",
    b"\0\0\0\x0cJXL ": "a JPEG XL image, which Pillow cannot read; convert it",
    b"{": "a JSON file",
    b"\0\5\x16\7": "a companion file of macOS, which holds no pixels",
    bytes(8): "zeros, as a broken copy leaves them",
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
FULL_RANGE = 2**16 - 1
MAX_MB = 1500.0  # for one image, so for one thread: 125 megapixels
_BYTES_PER_PIXEL = 12  # beside the file: three images of Pillow's, of 4 bytes per pixel; WebP was measured at 3.05
_STRIP_PX = 2**20  # pixels converted at a time, so that nothing else of an image's size is in memory
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_EXTRA, _TIFF_FORMAT, _TIFF_SUBSAMPLING = 258, 262, 338, 339, 530
_TIFF_PALETTE = 320
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
            tags = _read_tiff_tags(image, path)
            loaded = _load_webp(image) if file_format == "WEBP" else image
            loaded.load()
            orientation, problem = _read_orientation(image)
            width, height = _swap_if_turned(size, orientation, file_format)
            mode, is_deep = image.mode, _is_deep(image, content, tags)
            if mode == "I" and tags and 1 in tags.get(_TIFF_FORMAT, (1,)) and np.min(loaded.getextrema()) < 0:
                raise ImageError(path, "a TIFF with values of 2**31 or more, which Pillow cannot read")
            max_value = _find_max_value(loaded) if is_deep and loaded.mode != "F" else 0
            is_unknown = tags.get(_TIFF_PHOTOMETRIC) == 2 and mode == "RGBA" and _TIFF_EXTRA not in tags
            is_transparent = not is_unknown and _is_transparent(loaded)
            rgb = _convert(loaded, value_range, is_transparent=is_transparent and loaded.has_transparency_data)
            if max_value and mode in {"RGB", "RGBA"} and value_range < FULL_RANGE:
                rgb = rgb.point([min(255, round(i * 257 * 255 / value_range)) for i in range(256)] * 3)
            if tags.get(_TIFF_PHOTOMETRIC) == 0 and is_deep:  # Pillow turns 8 bits of these, but not more
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


def _read_tiff_tags(image: Image.Image, path: str | Path) -> dict[int, Any]:
    """Read what a TIFF file says of its values; other formats say nothing."""
    tags = dict(image.tag_v2) if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    is_raw = tags.get(259, 1) == 1  # not compressed
    has_planes = is_raw and tags.get(284) == 2 and max(tags.get(_TIFF_BITS, (8,))) > 8  # Pillow takes them as bytes
    is_packed = is_raw and tags.get(_TIFF_PHOTOMETRIC) == 6 and tuple(tags.get(_TIFF_SUBSAMPLING, (2, 2))) != (1, 1)
    is_signed = 2 in tags.get(_TIFF_FORMAT, ()) and max(tags.get(_TIFF_BITS, (8,))) == 8
    if has_planes or is_packed or is_signed:
        kind = "16-bit values in planes" if has_planes else "signed 8-bit values"
        kind = "subsampled YCbCr colors" if is_packed else kind
        raise ImageError(path, f"a TIFF with {kind}, which Pillow cannot read; convert it to RGB")
    if image.mode == "P" and max(tags.get(_TIFF_PALETTE, (256,))) < 256:  # 8-bit colors, where the format has 16 bits
        image.palette = ImagePalette.raw("RGB;L", bytes(tags[_TIFF_PALETTE]))
    return tags


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


def is_deep_file(file: IO[bytes]) -> bool:
    """Tell from its header whether a PNG, TIFF, PPM or JPEG 2000 file has more than 8 bits; the rest is not read."""
    start = file.read(26)
    with Image.open(file, formats=_list_formats()) as image:
        return _is_deep(image, start, _read_tiff_tags(image, "image"))


def _is_deep(image: Image.Image, content: bytes, tags: dict[int, Any]) -> bool:
    has_16_bit_png = image.format == "PNG" and content[24:25] == b"\x10"  # of color images Pillow keeps 8 bits
    has_16_bit_tiff = max(tags.get(_TIFF_BITS, (8,))) > 8
    return has_16_bit_png or has_16_bit_tiff or image.mode in {"I", "F"} or image.mode.startswith("I;16")


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
        photometric, bits = tags[_TIFF_PHOTOMETRIC], tags.get(_TIFF_BITS, (1,))
    except Exception as error:  # damaged directories raise many unrelated kinds
        return f"a damaged TIFF, whose directory cannot be read: {type(error).__name__}"
    numbers = _TIFF_NUMBERS.get(tags.get(_TIFF_FORMAT, (1,))[0], "")
    colors = f" ({_TIFF_COLORS[photometric]})" if photometric in _TIFF_COLORS else ""
    return (
        f"a TIFF of {len(bits)} {'band' if len(bits) == 1 else 'bands'} of {numbers}{max(bits)} bits{colors}, which "
        "Pillow cannot read; convert it to RGB or gray with 8 or 16 bits"
    )


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


def _make_lab_transform() -> ImageCms.ImageCmsTransform:
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
    else:
        low, high = np.array(image.getextrema(), np.float32).tolist()
    if image.mode == "F":
        if low >= 0 and high <= 255:
            low, high = 0.0, 1.0 if high <= 1 else 255.0
    elif low >= 0 and high <= FULL_RANGE:  # 16-bit values, also where Pillow opens them as 32-bit integers
        low, high = 0.0, float(value_range)
    return low, high


def _read_values(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)  # (height, width)


def _scale_to_8_bits(image: Image.Image, low: float, high: float) -> Image.Image:
    scaled = (_read_values(image) - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.round(scaled).clip(0, 255).astype(np.uint8))
