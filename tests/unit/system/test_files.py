"""Tests of system.files: nothing half-finished, nothing outside the folder, nothing of the user's overwritten."""

import hashlib
import io
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from utils_cv.system.files import fetch_file, get_cache_dir, hash_file, unpack_archive, write_atomic


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder, and one file that ends before its announced length."""

    def log_message(self, *args):  # noqa: D102
        pass

    def do_GET(self):  # noqa: D102
        if self.path != "/short.bin":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"only this")


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "fruit.bin").write_bytes(b"apple" * 1000)
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
    threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_port}"
    http_server.shutdown()
    http_server.server_close()


FRUIT_SHA256 = hashlib.sha256(b"apple" * 1000).hexdigest()


def list_names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_write_atomic_makes_the_file_and_its_folder(tmp_path):
    with write_atomic(tmp_path / "new" / "a.txt") as temporary_path:
        assert temporary_path.suffix == ".txt"
        temporary_path.write_text("done")
    assert list_names(tmp_path) == ["new", "new/a.txt"]


def test_write_atomic_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomic(path) as temporary_path:
        temporary_path.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list_names(tmp_path) == ["a.txt"]


def test_write_atomic_says_when_nothing_was_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="Nothing was written"), write_atomic(tmp_path / "a.txt"):
        pass


def test_hash_file_equals_hashlib(tmp_path):
    (tmp_path / "a").write_bytes(b"apple" * 1000)
    assert hash_file(tmp_path / "a") == FRUIT_SHA256


def test_get_cache_dir_follows_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("UTILS_CV_CACHE", str(tmp_path / "cache"))
    assert get_cache_dir("onnx") == tmp_path / "cache" / "onnx"
    assert (tmp_path / "cache" / "onnx").is_dir()


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        pytest.param("linux", "XDG_CACHE_HOME", "utils_cv/onnx", id="Linux with its own variable"),
        pytest.param("linux", "HOME", ".cache/utils_cv/onnx", id="Linux"),
        pytest.param("darwin", "HOME", "Library/Caches/utils_cv/onnx", id="macOS"),
        pytest.param("win32", "LOCALAPPDATA", "utils_cv/onnx", id="Windows"),
    ],
)
def test_get_cache_dir_of_each_system(tmp_path, monkeypatch, platform, variable, expected):
    for name in ("UTILS_CV_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert get_cache_dir("onnx") == tmp_path / expected


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "C:"])
def test_get_cache_dir_refuses_paths(name):
    with pytest.raises(ValueError, match="plain name"):
        get_cache_dir(name)


def test_fetch_file_downloads_and_verifies(server, tmp_path):
    path = fetch_file(f"{server}/fruit.bin", tmp_path / "out" / "fruit.bin", sha256=FRUIT_SHA256.upper())
    assert path.read_bytes() == b"apple" * 1000
    assert list_names(tmp_path / "out") == ["fruit.bin"]


def test_fetch_file_does_nothing_the_second_time(server, tmp_path):
    path = fetch_file(f"{server}/fruit.bin", tmp_path / "fruit.bin", sha256=FRUIT_SHA256)
    assert fetch_file("http://127.0.0.1:1/gone", path, sha256=FRUIT_SHA256) == path
    assert fetch_file("http://127.0.0.1:1/gone", path) == path


def test_fetch_file_keeps_nothing_of_a_wrong_download(server, tmp_path):
    with pytest.raises(ValueError, match=f"got SHA-256 {FRUIT_SHA256}, expected 0000"):
        fetch_file(f"{server}/fruit.bin", tmp_path / "out" / "fruit.bin", sha256="0" * 64, show_progress=False)
    assert list_names(tmp_path / "out") == []


def test_fetch_file_leaves_another_file_alone(server, tmp_path):
    path = tmp_path / "fruit.bin"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="another content"):
        fetch_file(f"{server}/fruit.bin", path, sha256=FRUIT_SHA256)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("/missing.bin", "404", id="not there"),
        pytest.param("/short.bin", "stopped after 9 of 1000 bytes", id="ends early"),
    ],
)
def test_fetch_file_explains_a_failure(server, tmp_path, name, message):
    path = tmp_path / "out" / "a.bin"
    with pytest.raises(ConnectionError, match=message) as caught:
        fetch_file(server + name, path, show_progress=False)
    assert str(path) in str(caught.value)
    assert list_names(tmp_path / "out") == []


def test_fetch_file_without_a_network_names_the_place_for_the_file(tmp_path):
    with pytest.raises(ConnectionError, match="Without a network"):
        fetch_file("http://127.0.0.1:1/a.bin", tmp_path / "a.bin", timeout_s=2)


def test_fetch_file_refuses_other_addresses(tmp_path):
    with pytest.raises(ValueError, match="https://"):
        fetch_file("ftp://example.org/a.bin", tmp_path / "a.bin")


def make_zip(path, members, mode=None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode or 0) << 16
            archive.writestr(info, content)
    return path


def make_tar(path, members, kind="w:gz", **attributes):
    with tarfile.open(path, kind) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def damage(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20] = b"\xff" * 20
    path.write_bytes(content)
    return path


GOOD_MEMBERS = [("a/one.txt", b"1"), ("a/b/two.txt", b"22")]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: make_zip(path, GOOD_MEMBERS), id="zip"),
        pytest.param(lambda path: make_tar(path, GOOD_MEMBERS), id="tar.gz"),
        pytest.param(lambda path: make_tar(path, GOOD_MEMBERS, kind="w"), id="tar"),
        pytest.param(lambda path: make_tar(path, GOOD_MEMBERS, kind="w:xz"), id="tar.xz"),
    ],
)
def test_unpack_archive_of_each_kind(tmp_path, make):
    out_dir = unpack_archive(make(tmp_path / "archive"), tmp_path / "out")
    assert (out_dir / "a/b/two.txt").read_bytes() == b"22"
    assert list_names(tmp_path) == ["archive", "out", "out/a", "out/a/b", "out/a/b/two.txt", "out/a/one.txt"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: make_zip(path, [("../evil.txt", b"")]), id="zip going up"),
        pytest.param(lambda path: make_zip(path, [("/evil.txt", b"")]), id="zip absolute"),
        pytest.param(lambda path: make_zip(path, [("C:\\evil.txt", b"")]), id="zip with a drive"),
        pytest.param(lambda path: make_zip(path, [("a\\..\\..\\evil.txt", b"")]), id="zip going up the Windows way"),
        pytest.param(lambda path: make_zip(path, [("link", b"/etc/passwd")], mode=0o120777), id="zip with a link"),
        pytest.param(lambda path: make_tar(path, [("a/../../evil.txt", b"")]), id="tar going up"),
        pytest.param(lambda path: make_tar(path, [("/evil.txt", b"")]), id="tar absolute"),
        pytest.param(
            lambda path: make_tar(path, [("l", b"")], type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            id="link in a tar",
        ),
        pytest.param(
            lambda path: make_tar(path, [("l", b"")], type=tarfile.LNKTYPE, linkname="a"), id="hard link in a tar"
        ),
        pytest.param(lambda path: make_tar(path, [("d", b"")], type=tarfile.CHRTYPE), id="tar with a device"),
        pytest.param(lambda path: path.write_bytes(b"<html>Not found</html>") and path, id="a web page"),
        pytest.param(lambda path: path.write_bytes(b"") or path, id="empty"),
        pytest.param(
            lambda path: path.write_bytes(make_zip(path, GOOD_MEMBERS).read_bytes()[:-30]) and path, id="cut zip"
        ),
        pytest.param(
            lambda path: path.write_bytes(make_tar(path, [("a", bytes(range(256)) * 99)]).read_bytes()[:-90]) and path,
            id="cut tar.gz",
        ),
        pytest.param(lambda path: damage(make_tar(path, [("a", bytes(range(256)) * 99)])), id="damaged tar.gz"),
        pytest.param(lambda path: damage(make_tar(path, [("a", b"b" * 999)], kind="w:xz")), id="damaged tar.xz"),
        pytest.param(lambda path: make_zip(path, [("a.txt", b"1"), ("a.txt", b"2")]), id="a name twice"),
    ],
)
def test_unpack_archive_refuses_and_leaves_nothing(tmp_path, make):
    archive_path = make(tmp_path / "archive")
    with pytest.raises(ValueError, match="archive"):
        unpack_archive(archive_path, tmp_path / "out")
    assert list_names(tmp_path) == ["archive"]


def test_unpack_archive_refuses_a_folder_in_use(tmp_path):
    archive_path = make_zip(tmp_path / "a.zip", GOOD_MEMBERS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        unpack_archive(archive_path, tmp_path / "out")
    assert list_names(tmp_path / "out") == ["mine.txt"]


def test_unpack_archive_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.zip"):
        unpack_archive(tmp_path / "gone.zip", tmp_path / "out")
