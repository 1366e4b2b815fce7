"""One way to find, open, resize and compare images, used by training, prediction, export and notebooks alike."""

import errno
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image

from utils_cv.system.machine import count_cpus
from utils_cv.system.threads import map_in_threads

from .decoding import WHITE, Color, ImageError, decode_image

if TYPE_CHECKING:
    import pandas as pd
from typing import TypeAlias

from .decoding import convert_to_rgb, read_orientation, turn_upright

Fit = Literal["squash", "crop", "pad"]
# Grey is near the mean of photographs: after normalization a network sees about zero in the padding.
GREY: Color = (128, 128, 128)
# The same on every system: the tables of file types that Python asks the operating system for differ.
# With Pillow's name of the format that a file should then have; the content decides how it is opened.
FORMAT_BY_EXTENSION = {
    **dict.fromkeys([".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"], "JPEG"),
    **dict.fromkeys([".tif", ".tiff"], "TIFF"),
    **dict.fromkeys([".ppm", ".pgm", ".pbm", ".pnm"], "PPM"),
    **dict.fromkeys([".heic", ".heif"], "HEIF"),
    **{".png": "PNG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP", ".jp2": "JPEG2000", ".avif": "AVIF"},
}
ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray


class LoadedImages(NamedTuple):
    """Images opened and resized by `load_images`.

    Attributes:
        pixels: (n_ok, size_px, size_px, 3) uint8, RGB from 0 to 255.
        rows: (n_ok,) the position of each image in the list of paths.
        failures: One row a file that could not be opened: `path`, `cause`.
    """

    pixels: np.ndarray
    rows: np.ndarray
    failures: "pd.DataFrame"


class PixelCache(Protocol):
    """What `load_pixels` asks of a cache; `utils_cv.data.image_cache.ImageCache` is one."""

    def make_key(self, path: Path, size_px: int, fit: str) -> str: ...  # noqa: D102

    def find(self, key: str) -> np.ndarray | None: ...  # noqa: D102

    def store(self, key: str, pixels: np.ndarray) -> None: ...  # noqa: D102


def list_image_files(folder: str | Path) -> list[Path]:
    """List the files below a folder that have an extension of an image.

    Dot-files and dot-folders (`.ipynb_checkpoints`, `._photo.jpg`) are left out; linked folders are followed once.

    Args:
        folder: The folder; everything below it is searched.

    Returns:
        Paths beginning with `folder`, in the same order on every system. Capital letters come before small ones.

    Raises:
        NotADirectoryError: There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"Expected a folder of images at {folder.absolute()}, found none there.")
    found, seen = [], set()
    for parent, folder_names, file_names in os.walk(folder, followlinks=True):
        real_parent = os.path.realpath(parent)
        if real_parent in seen:  # a link back to a folder above would never end
            folder_names.clear()
            continue
        seen.add(real_parent)
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        found += [Path(parent, name) for name in file_names if _is_image_name(name)]
    return sorted(found, key=lambda path: unicodedata.normalize("NFC", path.relative_to(folder).as_posix()))


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in FORMAT_BY_EXTENSION


def load_image(path: str | Path, *, target_px: int | None = None, background: Color = WHITE) -> Image.Image:
    """Open an image file as it should be seen: upright, RGB, 8 bits.

    The format is decided by the content, whatever the extension says. The EXIF orientation is applied; broken EXIF
    data gives a warning. Transparent parts show the background. 16-bit and floating-point images are scaled, not
    clipped. Of animations and multi-page files it is the first image. Color profiles are not applied.

    Args:
        path: JPEG, PNG, GIF, BMP, WebP, TIFF, PPM, JPEG 2000, AVIF where Pillow has it, HEIC with the extra `heic`.
        target_px: The shorter side that is wanted in the end. A large JPEG is then decoded at 1/2, 1/4 or 1/8 of its
            size, many times faster, to at least 1.6 times the wanted size. Default: the full size.
        background: Color behind transparent parts, (red, green, blue) from 0 to 255.

    Returns:
        An RGB image without metadata, so that nobody turns it a second time. With `target_px` it may have any size
        from the target upward, or its own size where that is smaller; see `resize_image`.

    Raises:
        ImageError: Missing, empty, truncated, damaged, not an image, or larger than Pillow's limit.

    Example:
        >>> image = load_image("photos/can/1.jpg", target_px=224)  # doctest: +SKIP
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(path, _explain_os_error(error)) from error
    return decode_image(content, path, target_px=target_px, background=background)


def _explain_os_error(error: OSError) -> str:
    known = {errno.ENOENT: "there is no such file", errno.EISDIR: "a folder, not a file", errno.EACCES: "no permission"}
    return known.get(error.errno or 0, f"cannot be read: {error}")


def resize_image(image: Image.Image, size_px: int, *, fit: Fit = "squash") -> Image.Image:
    """Resize an image to a square, smoothly (antialiased bilinear, as torchvision does).

    Args:
        image: An RGB image.
        size_px: Side of the square.
        fit: `squash` changes the shape and keeps everything; `crop` keeps the shape and cuts the longer side at both
            ends; `pad` keeps both and adds grey bars.

    Returns:
        A new image, `size_px` × `size_px`.

    Raises:
        ValueError: Another `fit`.
    """
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
        padded = Image.new(image.mode, square, GREY)
        resized = image.resize(size_wh, Image.Resampling.BILINEAR)
        padded.paste(resized, ((size_px - size_wh[0]) // 2, (size_px - size_wh[1]) // 2))
        return padded
    raise ValueError(f"Got fit={fit!r}, expected 'squash', 'crop' or 'pad'.")


def load_pixels(path: str | Path, size_px: int, *, fit: Fit = "squash", cache: PixelCache | None = None) -> np.ndarray:
    """Open one image file and resize it to a square.

    Args:
        path: See `load_image`.
        size_px: Side of the square.
        fit: See `resize_image`.
        cache: Where to look first, and to put the result.

    Returns:
        (size_px, size_px, 3) uint8. It may be read-only; copy it before changing it.

    Raises:
        ImageError: The file cannot be opened as an image.
    """
    path = Path(path)
    key = None
    if cache is not None:
        try:
            key = cache.make_key(path, size_px, fit)  # before reading: a file that changes meanwhile gets another key
        except OSError as error:
            raise ImageError(path, _explain_os_error(error)) from error
        found = cache.find(key)
        if found is not None:
            return found
    pixels = np.asarray(resize_image(load_image(path, target_px=size_px), size_px, fit=fit))
    if cache is not None and key is not None:
        cache.store(key, pixels)
    return pixels


def load_images(
    paths: Sequence[str | Path],
    size_px: int,
    *,
    fit: Fit = "squash",
    n_threads: int | None = None,
    cache: PixelCache | None = None,
    show_progress: bool = False,
) -> LoadedImages:
    """Open and resize many image files at once; files that cannot be opened are listed, not raised.

    All pixels are held in memory: 0.15 MB an image at 224 px.

    Args:
        paths: The files.
        size_px: Side of the square that every image is resized to.
        fit: See `resize_image`.
        n_threads: Files worked on at a time. Default: one for each processor this process may use.
        cache: Keeps resized images between calls; see `utils_cv.data.image_cache.ImageCache`.
        show_progress: Show a progress bar.

    Returns:
        Pixels, the rows they belong to, and the failures.

    Example:
        >>> loaded = load_images(table.path, 224)  # doctest: +SKIP
        >>> y_true = table.label.iloc[loaded.rows]  # doctest: +SKIP
    """
    paths = [Path(path) for path in paths]
    pixels = np.empty((len(paths), size_px, size_px, 3), np.uint8)

    def load_into_row(row: int) -> str | None:
        try:
            pixels[row] = load_pixels(paths[row], size_px, fit=fit, cache=cache)
        except ImageError as error:
            return error.cause
        return None

    causes = list(
        map_in_threads(
            load_into_row,
            range(len(paths)),
            n_threads=n_threads or count_cpus(),
            description="opening images",
            show_progress=show_progress,
        )
    )
    rows = np.array([row for row, cause in enumerate(causes) if cause is None], dtype=int)
    import pandas as pd  # only here: predicting one image starts twice as fast without it

    failures = pd.DataFrame(
        [(str(path), cause) for path, cause in zip(paths, causes, strict=True) if cause is not None],
        columns=["path", "cause"],
    )
    for new_row, row in enumerate(rows):  # close the gaps in place: a copy would need the memory twice
        if new_row != row:
            pixels[new_row] = pixels[row]
    return LoadedImages(pixels[: len(rows)], rows, failures)


def difference_hash(image: Image.Image) -> np.uint64:
    """Compute a 64-bit fingerprint that hardly changes when an image is resized, re-encoded or made brighter.

    Each bit says whether one of 9 × 8 grey cells is brighter than its left neighbor. Two fingerprints that differ in
    at most 6 bits mean nearly the same image; two unrelated photographs differ in about 32. Mirrored or cropped
    copies are not recognized, and flat images all look alike.

    Args:
        image: Any size.

    Returns:
        The fingerprint; the number of bits in which two differ is `np.bitwise_count(a ^ b)`.

    Source:
        Neal Krawetz, "Kind of Like That", 2013.
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)  # (8, 9)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).view(">u8")[0].astype(np.uint64)


def open_pixels(image: ImageLike, size_px: int, *, fit: Fit = "squash") -> np.ndarray:
    """Open a file, a Pillow image or an RGB array in the one way of `utils_cv.data.images`.

    Args:
        image: A path, a Pillow image of any mode, or uint8 (height, width, 3).
        size_px: Side of the square that it becomes.
        fit: See `utils_cv.data.images.resize_image`.

    Returns:
        uint8 (size_px, size_px, 3). It may be read-only, and is the given array itself where that has this size.

    Raises:
        utils_cv.data.images.ImageError: A file cannot be opened as an image.
        TypeError: It is none of these kinds.

    Example:
        >>> open_pixels(np.zeros((480, 640, 3), np.uint8), 224).shape
        (224, 224, 3)
    """
    if isinstance(image, str | Path):
        opened = load_image(image, target_px=size_px)
    elif isinstance(image, Image.Image):
        opened = turn_upright(convert_to_rgb(image), read_orientation(image))
    elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.shape == (size_px, size_px, 3):  # every fit would leave it as it is, at a tenth of a network's time
            return np.ascontiguousarray(image)
        opened = Image.fromarray(image)
    else:
        shape = f" of shape {image.shape} and type {image.dtype}" if isinstance(image, np.ndarray) else ""
        raise TypeError(
            f"Got {type(image).__name__}{shape}; expected a path, a Pillow image, or an RGB array "
            "(height, width, 3) of uint8."
        )
    return np.asarray(resize_image(opened, size_px, fit=fit))


def list_images(images: ImageLike | Sequence[ImageLike]) -> Sequence[ImageLike]:
    """Make a sequence of one image or many; an array of three dimensions is one image."""
    is_one = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3)
    return [images] if is_one else images  # type: ignore[list-item,return-value]
