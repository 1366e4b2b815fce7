"""Files and folders: write without half-finished results, hash, and a folder for what can be computed again."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def write_atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that becomes `path` once it is written completely.

    Readers see the old file or the new one, never a half. When the block raises, the temporary file is removed
    and `path` stays as it was. Missing parent folders are made.

    Args:
        path: The file to write. It is replaced when it exists.

    Yields:
        A path in the same folder with the same extension, for the block to write to.

    Raises:
        FileNotFoundError: The block ended without writing the file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with write_atomic(folder / "scores.csv") as temporary_path:
        ...     n_characters = temporary_path.write_text("accuracy")
        >>> [path.name for path in folder.iterdir()]
        ['scores.csv']
    """
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
def lock_folder(folder: Path) -> Iterator[None]:
    """Let one process (or thread) at a time into the block; a killed one leaves no lock. On Windows all enter."""
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # network drives that lock no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def hash_file(path: str | Path) -> str:
    """Compute the SHA-256 of a file's content, as 64 hexadecimal digits; the file may be larger than the memory."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get_cache_dir(name: str) -> Path:
    """Find (and make) the folder in which this package keeps what it can compute again.

    Args:
        name: What is kept there, for example `"onnx"`.

    Returns:
        `$UTILS_CV_CACHE/name` where that variable is set, else `utils_cv/name` in the user's cache folder.

    Raises:
        ValueError: `name` is not a plain folder name.
    """
    from platformdirs import user_cache_path

    if not name or name in {".", ".."} or set(name) & set("/\\:"):
        raise ValueError(f"Got {name!r} as the name of a cache folder, expected a plain name such as 'onnx'.")
    given = os.environ.get("UTILS_CV_CACHE")
    base_dir = Path(given).expanduser() if given else user_cache_path("utils_cv", appauthor=False)
    cache_dir = base_dir.absolute() / name
    cache_dir.mkdir(parents=True, exist_ok=True)
    return cache_dir
