"""Find image files in folders as people have them, and count what is left out, with the reason."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .images import FORMAT_BY_EXTENSION, ImageError, ImageLike, find_path

# Made by macOS, Windows, Linux and network drives, for themselves; so are names that begin with a dot.
_SYSTEM_NAMES = {
    *("__macosx", "@eadir", "#recycle", "#snapshot", "lost+found", "$recycle.bin", "recycler", "recycled"),
    *("system volume information", "thumbs", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__"),
    *("@recycle", "@recently-snapshot", "@sharebin", "@tmp", "network trash folder", "temporary items", "found.000"),
    *("@__thumb", "_vti_cnf", "_gsdata_", "node_modules", "venv", "wandb"),
}


def list_image_files(folder: str | Path) -> list[Path]:
    """List the files below a folder that have an extension of an image, in the same order on every system.

    Left out are names that begin with a dot, folders of operating systems (`__MACOSX`, `@eaDir`, `lost+found`), and
    what is no file, such as a pipe. Linked folders are followed once, unless they lead back into the folder or above
    it. A folder that does not exist is a NotADirectoryError.

    Example:
        >>> [path.name for path in list_image_files("data/fridge_negatives")][:2]  # doctest: +SKIP
        ['box_00.jpg', 'box_01.jpg']
    """
    return find_image_files(folder)[0]


def find_image_files(folder: str | Path, *, root: str | Path | None = None) -> tuple[list[Path], Counter[str]]:
    """Find the image files below a folder, and count what else is there, also links into `root` or above it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"Expected a folder of images at {folder.absolute()}, found none there.")
    images: list[Path] = []
    left_out: Counter[str] = Counter()
    own = [folder.resolve(), Path(root or folder).resolve()]
    waiting, seen = [os.fspath(folder)], set()
    while waiting:
        parent = waiting.pop()
        if (real_parent := os.path.realpath(parent)) in seen:
            continue
        seen.add(real_parent)
        try:
            entries = [entry for entry in os.scandir(parent) if not is_system_name(entry.name)]
        except PermissionError:
            left_out["folder without permission"] += 1
            continue
        for entry in entries:
            path, is_link = Path(entry.path), entry.is_symlink()
            is_dir = path.is_dir() if is_link else entry.is_dir()
            target = path.resolve() if is_dir and is_link else None
            if target and any(target.is_relative_to(base) or base.is_relative_to(target) for base in own):
                left_out["link to a folder of the set"] += 1
            elif is_dir:
                waiting.append(entry.path)
            elif not is_image_name(entry.name):
                suffix = Path(entry.name).suffix
                left_out[f"extension {suffix}" if suffix else "no extension"] += 1
            elif (path.is_file() or not path.exists()) if is_link else entry.is_file():
                images.append(path)  # or a broken link, which is counted when it is opened
            else:
                left_out["not a file (a pipe, a socket or a device)"] += 1
    by_name = {path: unicodedata.normalize("NFC", path.relative_to(folder).as_posix()) for path in images}
    return sorted(images, key=by_name.__getitem__), left_out


def expand_images(images: ImageLike | Iterable[ImageLike]) -> ImageLike | Iterable[ImageLike]:
    """List the image files of a folder, or the files that fit a pattern; anything else stays as it is."""
    if not isinstance(images, str | Path) or os.path.isfile(images):  # noqa: PTH113 - the most frequent, at one look
        return images
    if not str(images).strip():
        raise ValueError("Got an empty path. Expected an image, a folder (. is this one) or a pattern.")
    path = find_path(images)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises an error for a name that is too long
        return list_image_files(path)
    if os.path.exists(path):  # noqa: PTH110
        return images
    if not set("*?[") & set(str(path)):
        raise ImageError(path, "there is no such file or folder")
    base = next(parent for parent in (*path.parents, Path(path.anchor)) if parent.is_dir())  # such as "[1]"
    found = sorted(base.glob(str(path.relative_to(base))))
    if not (files := [file for file in found if not (file.is_dir() or file.name.startswith("."))]):
        raise FileNotFoundError(f"No file fits the pattern {path}.")
    return files


def list_dirs(root: Path) -> list[Path]:
    """List the folders right below a folder, those of systems and links that lead to it or above it left out."""
    folders = [path for path in root.iterdir() if not is_system_name(path.name) and path.is_dir()]
    folders = [path for path in folders if not root.resolve().is_relative_to(path.resolve())]
    return sorted(folders, key=lambda path: (path.name.casefold(), path.name))


def is_system_name(name: str) -> bool:
    """Tell whether a file or folder belongs to the system or to a tool, not to the data set."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def is_image_name(name: str) -> bool:
    """Tell whether a name has an extension of an image."""
    return not is_system_name(name) and Path(name).suffix.lower() in FORMAT_BY_EXTENSION
