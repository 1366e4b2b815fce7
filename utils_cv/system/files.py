"""Files and folders: write without half-finished results, hash, and a folder for what can be computed again."""

import contextlib
import functools
import hashlib
import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def write_atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path of the same extension that becomes `path` once all is written, else not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The extension is kept because many writers (Pillow, numpy, pandas) choose the format by it; the rest is not: a
    # name may already be as long as the file system allows.
    suffix = path.suffix if len(path.suffix) <= 16 else ""
    temporary_path = path.with_name(f".{secrets.token_hex(8)}.tmp{suffix}")
    try:
        yield temporary_path
        if not temporary_path.exists():
            raise FileNotFoundError(f"Nothing was written to {temporary_path}, so {path} was not made.")
        temporary_path.replace(path)
    finally:
        temporary_path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock_folder(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Let one process at a time into the block; others wait, or get a BlockingIOError. On Windows all enter."""
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # a killed process leaves no lock
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # network drives that lock no folders
            pass
        yield
    finally:
        os.close(descriptor)


def hash_file(path: str | Path) -> str:
    """Compute the SHA-256 of a file's content, as 64 hexadecimal digits; the file may be larger than the memory."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get_cache_dir(name: str) -> Path:
    """Make a folder in `$UTILS_CV_CACHE`, else in the user's cache; a temporary one where that cannot be written."""
    from platformdirs import user_cache_path

    if not name or name in {".", ".."} or set(name) & set("/\\:"):
        raise ValueError(f"Got {name!r} as the name of a cache folder, expected a plain name such as 'onnx'.")
    given = os.environ.get("UTILS_CV_CACHE")
    base_dir = Path(os.path.expanduser(given)) if given else user_cache_path("utils_cv", appauthor=False)  # noqa: PTH111
    cache_dir = base_dir.absolute() / name
    try:
        if str(base_dir).startswith("~"):
            raise OSError("this user has no home folder")
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_dir) as file:
            file.write(bytes(4096))  # a full disk still makes empty files
    except OSError as error:
        cache_dir = Path(_make_temporary_cache(str(base_dir), str(error)).name) / name
        cache_dir.mkdir(exist_ok=True)
    return cache_dir


@functools.cache
def _make_temporary_cache(wanted: str, cause: str) -> tempfile.TemporaryDirectory:
    """Make a folder in place of a cache folder that cannot be written: one per process, removed at its end."""
    words = f"The cache folder {wanted} cannot be written ({cause}). Set UTILS_CV_CACHE to a folder that can."
    try:
        folder = tempfile.TemporaryDirectory(prefix="utils_cv_")
    except OSError as error:
        raise OSError(f"{words} No temporary folder can be written either ({error}).") from error
    warnings.warn(f"{words} Until then {folder.name} is used, and is lost at the end.", stacklevel=3)
    return folder
