"""Find, open and resize image files: the same way in training, prediction, export and notebooks."""

import errno
import functools
import os
import re
import stat
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import PIL
from PIL import Image

from ..system.files import get_cache_dir
from ..system.machine import count_cpus
from ..system.threads import N_MANY, announce, map_in_threads
from .decoding import FULL_RANGE, MAX_MB, convert_to_rgb, decode_image, make_upright, warn_of_exif
from .image_headers import SUPPORTED, ImageError, is_deep_file, make_printable
from .lazy_pixels import STORE, describe_place, fits_memory, hash_files, store_pixels

if TYPE_CHECKING:
    import pandas as pd

Fit = Literal["squash", "crop", "pad"]
ImageLike: TypeAlias = str | Path | bytes | IO[bytes] | Image.Image | np.ndarray
_EXPECTED = (
    "expected a path, the bytes of a file, a file opened in binary mode, a Pillow image, or an array of uint8: grey "
    "(height, width), RGB (height, width, 3) or RGBA"
)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of arrays, by the number of channels
# Grey is near the mean of photographs: after normalization a network sees about zero in the padding.
_PADDING = (128, 128, 128)
# The same on every system: the tables of file types that Python asks the operating system for differ.
# With Pillow's name of the format that a file should then have; the content decides how it is opened.
FORMAT_BY_EXTENSION = {
    **dict.fromkeys([".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"], "JPEG"),
    **dict.fromkeys([".tif", ".tiff"], "TIFF"),
    **dict.fromkeys([".ppm", ".pgm", ".pbm", ".pnm"], "PPM"),
    **dict.fromkeys([".heic", ".heif"], "HEIF"),
    **{".png": "PNG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP", ".jp2": "JPEG2000", ".avif": "AVIF"},
}
_EXTENSIONS_OF_DEEP = {".png", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2"}
VALUE_RANGES = tuple(2**n_bits - 1 for n_bits in (8, 10, 12, 14, 16))  # of cameras, microscopes, X-ray machines


class LoadedImages(NamedTuple):
    """The images that `load_images` could open, and what it could not."""

    pixels: np.ndarray  # uint8 (n_opened, size_px, size_px, 3), RGB
    rows: np.ndarray  # (n_opened,), the position of each image in the list of paths
    failures: "pd.DataFrame"  # one row per file that could not be opened: `path`, `cause`


def load_image(
    path: str | Path, *, target_px: int | None = None, value_range: int = FULL_RANGE, max_mb: float = MAX_MB
) -> Image.Image:
    """Open an image file as it should be seen: upright, RGB, 8 bits.

    The content decides the format, whatever the extension says. The EXIF orientation is applied; broken EXIF data give
    a warning. Transparent parts become white. Floating-point images are scaled, not clipped. Animations and multi-page
    files give their first image. Color profiles are not applied. Of 16-bit colors Pillow keeps the upper 8 bits.

    Args:
        path: JPEG, PNG, GIF, BMP, WebP, TIFF, PPM, JPEG 2000, AVIF where Pillow has it, HEIC with the extra `heic`.
        target_px: The shorter side that is wanted in the end, in pixels. A large JPEG is then decoded at 1/2, 1/4 or
            1/8 of its size, many times faster, to at least 1.6 times the wanted size. Default: the full size.
        value_range: The value of a 16-bit file that becomes white, see `find_value_range`. Larger ones become white.
        max_mb: An image that needs more memory to decode, in 10**6 bytes, is refused; 12 bytes per pixel are counted,
            which no format exceeds but WebP, by 2 %, in Pillow's decoder. Every thread opens one at a time.

    Returns:
        An RGB image without metadata, so that nobody turns it a second time. With `target_px` it may have any size
        from the target upward, or its own size where that is smaller; see `resize_image`.

    Raises:
        ImageError: The file is missing, empty, truncated, damaged, not an image, or larger than `max_mb`
            or Pillow's limit.

    Example:
        >>> load_image("data/fridge_negatives/box/box_00.jpg").size  # doctest: +SKIP
        (400, 300)
    """
    path = find_path(path)
    return _decode(read_file(path), path, target_px, value_range, max_mb)


def read_file(path: Path) -> bytes:
    """Read an image file; what cannot be read is an ImageError, also a pipe or a device, which would never end."""
    try:
        _check_is_file(path)
        with path.open("rb", buffering=0) as file:  # which is read at once
            return file.read()
    except (OSError, ValueError) as error:  # the latter for names with a zero byte
        raise ImageError(path, _explain_reading(error, path)) from error


def _check_is_file(path: Path) -> None:
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("a pipe, a socket or a device, not a file")


def find_value_range(paths: Iterable[str | Path]) -> int:
    """Find what becomes white in the 16-bit files of a set: the smallest of `VALUE_RANGES` that no value exceeds."""
    candidates = [path for path in map(find_path, paths) if path.suffix.lower() in _EXTENSIONS_OF_DEEP]
    largest = max(map_in_threads(_read_max_value, candidates, n_threads=count_cpus()), default=0)
    return next(limit for limit in VALUE_RANGES if largest <= limit) if largest else FULL_RANGE


def _read_max_value(path: Path) -> int:
    try:
        _check_is_file(path)
        with path.open("rb") as file:
            if not is_deep_file(file):
                return 0  # 8 bits, which most are
        return decode_image(read_file(path), path)[1].max_value
    except Exception:  # Pillow raises a dozen unrelated kinds; `load_images` lists them with the cause
        return 0


def find_path(path: str | Path) -> Path:
    """Find what a path means: a leading `~/` is the home folder, and `make_printable` may have spelled its bytes."""
    name = os.fspath(path)
    if "\\ud" in name and not os.path.lexists(name):
        path = re.sub(r"\\u(d[89a-f][0-9a-f]{2})", lambda code: chr(int(code[1], 16)), name)
    path = Path(path)
    return path.expanduser() if name[:1] == "~" and path.parts[0] == "~" else path


def _explain_reading(error: OSError | ValueError, path: Path) -> str:
    is_pattern = bool(set("*?[") & set(path.name))
    missing = "there is no such file" + "; for a pattern pass Path(folder).glob(pattern)" * is_pattern
    folder = "a folder, not a file; list_image_files lists what is in it"
    known = {errno.ENOENT: missing, errno.EISDIR: folder, errno.EACCES: "no permission"}
    return known.get(getattr(error, "errno", None) or 0, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def _decode(
    content: bytes, path: str | Path, target_px: int | None, value_range: int, max_mb: float = MAX_MB
) -> Image.Image:
    image, header = decode_image(content, path, target_px=target_px, value_range=value_range, max_mb=max_mb)
    warn_of_exif(header.exif_problem, path)
    if header.max_value > value_range:
        beyond = f"values up to {header.max_value}; those above {value_range} become white."
        warnings.warn(f"{make_printable(path)}: {beyond}", stacklevel=4)
    return image


def resize_image(image: Image.Image, size_px: int, *, fit: Fit = "squash") -> Image.Image:
    """Resize an RGB image to a square, smoothly: `fit` squashes it, crops its longer side, or pads it with grey."""
    square = (size_px, size_px)
    if fit == "squash":
        return image.resize(square, Image.Resampling.BILINEAR)
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize(square, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    if fit == "pad":
        scale = size_px / max(width, height)
        size_wh = max(1, round(width * scale)), max(1, round(height * scale))
        padded = Image.new(image.mode, square, _PADDING)
        resized = image.resize(size_wh, Image.Resampling.BILINEAR)
        padded.paste(resized, ((size_px - size_wh[0]) // 2, (size_px - size_wh[1]) // 2))
        return padded
    raise ValueError(f"Got fit={fit!r}, expected 'squash', 'crop' or 'pad'.")


def load_pixels(image: ImageLike, size_px: int, *, fit: Fit = "squash", value_range: int = FULL_RANGE) -> np.ndarray:
    """Open one image, of any kind that `ImageLike` names, as uint8 (size_px, size_px, 3).

    A Pillow image that has not been loaded yet is read from its file and gives the same pixels as its path. A loaded
    one has been decoded at its full size; a large JPEG then differs a little from its path, which is decoded reduced.

    The result may be read-only, and is the given array itself where that has this size. What cannot be opened is an
    ImageError, something of another kind a TypeError.

    Example:
        >>> load_pixels(np.zeros((480, 640, 3), np.uint8), 224).shape
        (224, 224, 3)
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == (size_px, size_px, 3):
        return np.ascontiguousarray(image)  # every fit would leave it as it is, at a tenth of a network's time
    return np.asarray(resize_image(_open(image, size_px, value_range), size_px, fit=fit))


def _open(image: ImageLike, target_px: int, value_range: int) -> Image.Image:
    if isinstance(image, str | Path):
        return load_image(image, target_px=target_px, value_range=value_range)
    if isinstance(image, bytes | bytearray | memoryview):
        return _decode(bytes(image), "bytes", target_px, value_range)
    if isinstance(image, Image.Image):
        return _open_pillow(image, target_px, value_range)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size and image.ndim in (2, 3):
        n_channels = image.shape[2] if image.ndim == 3 else 1
        if n_channels in _MODES:
            shape = image.shape if n_channels > 1 else image.shape[:2]
            return convert_to_rgb(Image.fromarray(np.ascontiguousarray(image).reshape(shape)))
    content = _read_open_file(image) if hasattr(image, "read") else None
    if isinstance(content, bytes):
        return _decode(content, str(getattr(image, "name", "file")), target_px, value_range)
    shape_words = f" of shape {image.shape} and type {image.dtype}" if isinstance(image, np.ndarray) else ""
    raise TypeError(f"Got {type(image).__name__}{shape_words}; {_EXPECTED}.")


def _read_open_file(file: Any) -> Any:
    try:
        return _read_from_start(file)
    except UnicodeDecodeError:  # opened as text
        return None
    except (OSError, ValueError) as error:  # the latter for closed files
        raise ImageError(str(getattr(file, "name", "file")), f"cannot be read: {error}") from error


def _open_pillow(image: Image.Image, target_px: int, value_range: int) -> Image.Image:
    path = str(getattr(image, "filename", "") or "image")
    file = getattr(image, "fp", None)
    if file is not None and getattr(image, "tile", None) and image.tell() == 0 and image.format in SUPPORTED:
        return _decode(_read_from_start(file), path, target_px, value_range)
    try:
        return convert_to_rgb(make_upright(image, path), value_range)
    except Exception as error:  # Pillow's decoders raise a dozen unrelated kinds for damaged data
        raise ImageError(path, f"damaged: {str(error) or type(error).__name__}") from error


def _read_from_start(file: IO[bytes]) -> bytes:
    """Read all of an open file, and leave it where it stood; what cannot go back is read from where it stands."""
    if not file.seekable():
        return file.read()
    position = file.tell()
    try:
        file.seek(0)
        return file.read()
    finally:
        file.seek(position)


def iterate_images(images: ImageLike | Iterable[ImageLike]) -> Iterator[ImageLike]:
    """Give images one by one: those of a list, an array (n, height, width, 3), a generator or glob; or the only one."""
    is_one = isinstance(images, str | bytes | bytearray | memoryview | Path | Image.Image) or hasattr(images, "read")
    if is_one or (isinstance(images, np.ndarray) and images.ndim in (0, 2, 3)):
        return iter([images])  # type: ignore[list-item]
    has_order = isinstance(images, Iterable) and not isinstance(images, dict | set | frozenset)
    if not has_order or hasattr(images, "columns"):
        hint = " Of an image table pass the column: table['path']." if hasattr(images, "columns") else ""
        raise TypeError(f"Got {type(images).__name__}; {_EXPECTED}; or a list or generator of these.{hint}")
    return iter(images)  # type: ignore[arg-type]


def load_images(
    paths: Iterable[ImageLike],
    size_px: int,
    *,
    fit: Fit = "squash",
    value_range: int = FULL_RANGE,
    n_threads: int | None = None,
    memory_mb: float | None = None,
    show_progress: bool = False,
) -> LoadedImages:
    """Open and resize many image files at once; files that cannot be opened are listed, not raised.

    At 224 px an image takes 0.15 MB. Pixels that fit a third of the free memory are held there. More are written once
    to a file in the cache folder, from which `pixels[rows]` reads (`utils_cv.data.lazy_pixels.LazyPixels`); an
    interrupted call goes on where it stopped, and a changed file is opened again. Where the disk cannot take them
    either, images are decoded each time they are needed, with a warning.

    Args:
        paths: The files, in any iterable; or any other kind of image that `ImageLike` names.
        size_px: Side of the square that every image is resized to, in pixels.
        fit: "squash" keeps all of the image, "crop" its center, "pad" its proportions; see `resize_image`.
        value_range: The value of 16-bit files that becomes white, see `find_value_range`.
        n_threads: Files worked on at a time. Default: one per processor that this process may use.
        memory_mb: Up to how much is held in memory, in 10**6 bytes. Default: a third of what is free.
        show_progress: Show a progress bar, and before many images one line: how much memory or disk, and how long.

    Returns:
        `pixels`, uint8 (n_opened, size_px, size_px, 3); `rows`, the position in `paths` of each; `failures`, a table of
        `path` and `cause`.

    Raises:
        MemoryError: The pixels fit `memory_mb`, but not the free memory.

    Example:
        >>> loaded = load_images(table["path"], 224)  # doctest: +SKIP
        >>> loaded.pixels.shape, len(loaded.failures)  # doctest: +SKIP
        ((478, 224, 224, 3), 2)
        >>> labels = table["label"].iloc[loaded.rows]  # doctest: +SKIP
    """
    import pandas as pd  # only here: predicting one image starts twice as fast without it

    paths, n_threads, causes = list(iterate_images(paths)), n_threads or count_cpus(), dict[int, str]()
    load = functools.partial(load_or_explain, size_px=size_px, fit=fit, value_range=value_range)
    is_held = fits_memory(len(paths), size_px, memory_mb)

    def load_from(first: int) -> Iterator[np.ndarray | None]:
        bar: dict[str, Any] = {"description": "opening images", "show_progress": show_progress}
        for row, found in enumerate(map_in_threads(load, paths[first:], n_threads=n_threads, **bar), first):
            if isinstance(found, str):
                causes[row] = found
            yield None if isinstance(found, str) else found

    if paths and show_progress and (len(paths) >= N_MANY or not is_held):
        what, needs = f"{len(paths):,} images at {size_px} px", describe_place(len(paths), size_px, is_held)
        announce(what, paths, lambda some: deque(map_in_threads(load, some, n_threads=n_threads), maxlen=0), needs)
    if is_held:
        pixels, n_opened = np.empty((len(paths), size_px, size_px, 3), np.uint8), 0
        for found in load_from(0):
            if found is not None:
                pixels[n_opened] = found
                n_opened += 1
        pixels = pixels[:n_opened]
    else:
        files = [find_path(path) for path in paths if isinstance(path, str | Path)]
        # What is no file has nothing that tells whether it changed.
        key = hash_files(files, size_px, fit, value_range, PIL.__version__, len(files) < len(paths) and token_hex())
        pixels, failed = store_pixels(key, paths, size_px, load, load_from)
        for row in set(failed) - set(causes):  # the file of an earlier call says only that they failed
            again = load(paths[row])
            causes[row] = again if isinstance(again, str) else f"opened only now; delete {get_cache_dir(STORE)} once"
    failed = sorted(causes)
    names = [make_printable(path) if isinstance(path := paths[row], str | Path) else f"image {row}" for row in failed]
    failures = {"path": names, "cause": [causes[row] for row in failed]}
    rows = np.setdiff1d(np.arange(len(paths)), failed)
    return LoadedImages(pixels, rows, pd.DataFrame(failures, columns=["path", "cause"]))


def load_or_explain(image: ImageLike, size_px: int, fit: Fit, value_range: int) -> np.ndarray | str:
    """The pixels of one image, or why it cannot be opened."""
    try:
        return load_pixels(image, size_px, fit=fit, value_range=value_range)
    except ImageError as error:
        return error.cause
