"""Files and folders: download, unpack, write without half-finished results, hash, cache.

Standard library only, so that every other file may use it.
"""

import contextlib
import hashlib
import logging
import lzma
import os
import secrets
import shutil
import stat
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

_CHUNK_BYTES = 1 << 18
# NotImplementedError: a compression that zipfile does not know. RuntimeError: a zip archive with a password.
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)
_logger = logging.getLogger(__name__)


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
        >>> with write_atomic("results/scores.csv") as temporary_path:
        ...     table.to_csv(temporary_path)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The extension is kept because many writers (Pillow, numpy, pandas) choose the format by it.
    temporary_path = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary_path
        if not temporary_path.exists():
            raise FileNotFoundError(f"Nothing was written to {temporary_path}, so {path} was not made.")
        temporary_path.replace(path)
    finally:
        temporary_path.unlink(missing_ok=True)


def hash_file(path: str | Path) -> str:
    """Compute the SHA-256 of a file's content.

    Args:
        path: The file; it is read in pieces, so it may be larger than the memory.

    Returns:
        64 lower-case hexadecimal digits.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get_cache_dir(name: str) -> Path:
    """Find (and make) the folder in which this package keeps what it can compute or download again.

    Args:
        name: What is kept there, for example `"onnx"`.

    Returns:
        `$UTILS_CV_CACHE/name` where that variable is set, else `utils_cv/name` in the user's cache folder:
        `$XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.

    Raises:
        ValueError: `name` is not a plain folder name.
    """
    if not name or name in {".", ".."} or set(name) & set("/\\:"):
        raise ValueError(f"Got {name!r} as the name of a cache folder, expected a plain name such as 'onnx'.")
    if os.environ.get("UTILS_CV_CACHE"):
        base_dir = Path(os.environ["UTILS_CV_CACHE"]).expanduser()
    elif sys.platform == "darwin":
        base_dir = Path.home() / "Library" / "Caches" / "utils_cv"
    elif sys.platform == "win32":
        base_dir = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "utils_cv"
    else:
        base_dir = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "utils_cv"
    cache_dir = base_dir.absolute() / name
    cache_dir.mkdir(parents=True, exist_ok=True)
    return cache_dir


def fetch_file(
    url: str,
    path: str | Path,
    *,
    sha256: str | None = None,
    timeout_s: float = 30.0,
    show_progress: bool = True,
) -> Path:
    """Download a file once; run again, it finds the file and does nothing.

    Args:
        url: An `https`, `http` or `file` address.
        path: Where the file shall lie. It appears there only when it is complete and verified.
        sha256: The expected checksum. Without it, a file that already lies at `path` is taken as it is.
        timeout_s: Seconds without any answer after which to give up.
        show_progress: Show a progress bar.

    Returns:
        `path`.

    Raises:
        ConnectionError: The server could not be reached, refused, or stopped early.
        FileExistsError: `path` holds something else. It is left alone: remove it, or choose another path.
        ValueError: The download does not have the expected checksum, or the address is of another kind.

    Example:
        >>> fetch_file("https://example.org/fruit.zip", "data/fruit.zip", sha256="9f86d081...")
    """
    path = Path(path)
    if urllib.parse.urlsplit(url).scheme not in {"https", "http", "file"}:
        raise ValueError(f"Got the address {url!r}, expected one that begins with https://, http:// or file://.")
    if path.exists():
        _check_existing(path, sha256)
        return path
    with write_atomic(path) as temporary_path:
        try:
            _download(url, temporary_path, timeout_s, show_progress)
        except OSError as error:  # URLError, HTTPError and time-outs are all of this family
            raise ConnectionError(
                f"Could not download {url}: {error}. Without a network, fetch it elsewhere and put it at {path}."
            ) from error
        _check_download(url, temporary_path, sha256)
    return path


def _check_existing(path: Path, sha256: str | None) -> None:
    if sha256 is None:
        _logger.info("Found %s; not verified because no checksum was given.", path)
        return
    got = hash_file(path)
    if got != sha256.lower():
        raise FileExistsError(
            f"{path} exists with another content: got SHA-256 {got}, expected {sha256.lower()}. "
            "Remove the file to download it again, or choose another path."
        )


def _check_download(url: str, path: Path, sha256: str | None) -> None:
    if sha256 is not None and (got := hash_file(path)) != sha256.lower():
        raise ValueError(
            f"The download from {url} is not the expected file: got SHA-256 {got}, expected {sha256.lower()}. "
            "Nothing was kept. Try again; if it stays, the file on the server has changed."
        )


def _download(url: str, path: Path, timeout_s: float, show_progress: bool) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "utils_cv"})
    with urllib.request.urlopen(request, timeout=timeout_s) as response, path.open("wb") as file:
        n_expected = int(response.headers.get("Content-Length") or 0)
        with _make_progress_bar(path.name, n_expected, show_progress) as show_bytes:
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                show_bytes(len(chunk))
        n_got = file.tell()
    if n_expected and n_got != n_expected:  # urllib reports a connection that closed early as a normal end
        raise ConnectionError(f"the server stopped after {n_got} of {n_expected} bytes")


@contextlib.contextmanager
def _make_progress_bar(name: str, n_bytes: int, show: bool) -> Iterator[Any]:
    if not show:
        yield lambda n: None
        return
    from tqdm.auto import tqdm  # only here: the rest of this file needs the standard library alone

    with tqdm(total=n_bytes or None, unit="B", unit_scale=True, desc=name, leave=False) as bar:
        yield bar.update


def unpack_archive(archive_path: str | Path, out_dir: str | Path) -> Path:
    """Unpack a zip or tar archive (plain, gzip, bzip2 or xz) that need not be trusted.

    Nothing is written outside `out_dir`. Links, devices, absolute paths and `..` are refused before
    anything is unpacked. The folder appears under its name only when it is complete.

    Args:
        archive_path: The archive; its kind is decided by its content.
        out_dir: The folder to make. It may exist only when it is empty.

    Returns:
        `out_dir`.

    Raises:
        FileExistsError: `out_dir` holds files already.
        ValueError: Not an archive of a known kind, damaged, or with members that do not belong in one.
    """
    archive_path, out_dir = Path(archive_path), Path(out_dir)
    if not archive_path.is_file():
        raise FileNotFoundError(f"There is no archive at {archive_path.absolute()}.")
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise FileExistsError(f"{out_dir} exists and is not empty. Remove it or unpack {archive_path.name} elsewhere.")
    temporary_dir = out_dir.with_name(f".{out_dir.name}.{secrets.token_hex(4)}.tmp")
    temporary_dir.mkdir(parents=True)
    try:
        _unpack(archive_path, temporary_dir)
        if out_dir.exists():
            out_dir.rmdir()
        temporary_dir.replace(out_dir)
    finally:
        shutil.rmtree(temporary_dir, ignore_errors=True)
    return out_dir


def _unpack(archive_path: Path, out_dir: Path) -> None:
    try:
        if zipfile.is_zipfile(archive_path):
            with zipfile.ZipFile(archive_path) as archive:
                _unpack_zip(archive, out_dir, archive_path.name)
        elif tarfile.is_tarfile(archive_path):
            with tarfile.open(archive_path) as archive:
                _unpack_tar(archive, out_dir, archive_path.name)
        else:
            raise ValueError(
                f"{archive_path} is not a zip or tar archive. If it was downloaded, look into it: "
                "it may be an error page."
            )
    except _ARCHIVE_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:  # disk full, no permission: not the archive's fault
            raise
        raise ValueError(f"{archive_path} is damaged or cannot be read: {error}. Download it again.") from error


def _unpack_zip(archive: zipfile.ZipFile, out_dir: Path, name: str) -> None:
    members = archive.infolist()
    for member in members:
        file_type = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
        if file_type not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise ValueError(f"{name} holds {member.filename!r}, a link or device. Nothing was unpacked.")
        _check_member_name(member.filename, name)
    for member in members:
        if not member.is_dir():
            with archive.open(member) as source:
                _write_member(source, out_dir / member.filename)


def _unpack_tar(archive: tarfile.TarFile, out_dir: Path, name: str) -> None:
    members = archive.getmembers()
    for member in members:
        if not (member.isfile() or member.isdir()):
            raise ValueError(f"{name} holds {member.name!r}, a link or device. Nothing was unpacked.")
        _check_member_name(member.name, name)
    for member in members:
        source = archive.extractfile(member)
        if source is not None:  # None for folders
            _write_member(source, out_dir / member.name)
    while archive.fileobj and archive.fileobj.read(_CHUNK_BYTES):
        pass  # gzip and xz compare their checksums only when they are read to the end


def _check_member_name(member_name: str, archive_name: str) -> None:
    for pure_path in (PurePosixPath(member_name), PureWindowsPath(member_name)):
        if pure_path.is_absolute() or pure_path.drive or pure_path.root or ".." in pure_path.parts:
            raise ValueError(
                f"{archive_name} holds {member_name!r}, which points outside its folder. Nothing was unpacked."
            )


def _write_member(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise ValueError(f"The archive holds {path.name!r} twice in one folder (perhaps in other capital letters).")
    with source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
