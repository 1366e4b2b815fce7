"""Public sets through torchvision: a prepared cache of each, a local server, no network. Nothing is downloaded."""

import dataclasses
import functools
import hashlib
import http.server
import inspect
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest
import scipy.io
from torchvision import datasets as torchvision_datasets
from torchvision.datasets.utils import download_and_extract_archive

from tests.conftest import draw_image
from utils_cv.data.image_table import fetch_public_set
from utils_cv.data.public_sets import PUBLIC_SETS

CLASSES = ("Abyssinian", "pug")


def _save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_image("can", seed=seed).save(path)


def _make_pets(root):
    for i, name in enumerate(CLASSES):
        for k in (1, 2):
            _save(root / "images" / f"{name}_{k}.jpg", seed=i)
    (root / "annotations").mkdir()
    for k, part in enumerate(("trainval", "test"), start=1):
        lines = [f"{name}_{k} {i + 1} 1 1" for i, name in enumerate(CLASSES)]
        (root / "annotations" / f"{part}.txt").write_text("\n".join(lines))


def _make_flowers(root):
    for i in range(1, 7):
        _save(root / "jpg" / f"image_{i:05d}.jpg", seed=i)
    scipy.io.savemat(root / "imagelabels.mat", {"labels": [1, 2, 1, 2, 1, 2]})
    scipy.io.savemat(root / "setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6]})


def _make_eurosat(root):
    for i, name in enumerate(CLASSES * 2):
        _save(root / "2750" / name / f"{name}_{i}.jpg", seed=i)


def _make_dtd(root):
    (root / "dtd" / "labels").mkdir(parents=True)
    for i, part in enumerate(("train", "val", "test")):
        lines = [f"{name}/{name}_{i}.jpg" for name in CLASSES]
        for line in lines:
            _save(root / "dtd" / "images" / line, seed=i)
        (root / "dtd" / "labels" / f"{part}1.txt").write_text("\n".join(lines))


MAKERS = {
    "oxford_pets": (_make_pets, {"train": 2, "test": 2}),
    "flowers_102": (_make_flowers, {"train": 2, "valid": 2, "test": 2}),
    "eurosat": (_make_eurosat, {"": 4}),
    "dtd": (_make_dtd, {"train": 2, "valid": 2, "test": 2}),
}


def _prepare(tmp_path, monkeypatch, name):
    """Put a small set where torchvision keeps the large one."""
    make, counts = MAKERS[name]
    facts = PUBLIC_SETS[name]
    (tmp_path / facts.folder).mkdir()
    make(tmp_path / facts.folder)
    monkeypatch.setitem(PUBLIC_SETS, name, dataclasses.replace(facts, n_images=sum(counts.values())))
    # The label files of a small set have other checksums than those that torchvision knows.
    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda path, md5: True)


@pytest.mark.parametrize("name", MAKERS)
def test_a_set_that_is_there_is_read_without_a_network(tmp_path, monkeypatch, name):
    _prepare(tmp_path, monkeypatch, name)
    table = fetch_public_set(name, tmp_path)
    assert list(table.columns) == ["image", "path", "label", "split"]
    assert table["split"].value_counts().to_dict() == MAKERS[name][1]
    assert table["label"].nunique() == 2
    assert all(pd.Series(table["path"]).map(lambda path: path.startswith(str(tmp_path))))


def test_labels_are_names(tmp_path, monkeypatch):
    _prepare(tmp_path, monkeypatch, "oxford_pets")
    table = fetch_public_set("oxford_pets", tmp_path)
    assert table["label"].tolist() == ["Abyssinian", "Pug"] * 2
    assert table["image"].iloc[1] == "oxford-iiit-pet/images/pug_1.jpg"


@pytest.fixture
def server(tmp_path):
    """Serve a folder on this machine; gives its address and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def _serve_eurosat(monkeypatch, address, folder, md5=None):
    """Let torchvision's own EuroSAT loader find a small archive on a local server."""
    _make_eurosat(folder / "made")
    archive = shutil.make_archive(str(folder / "EuroSAT"), "zip", folder / "made")
    md5 = md5 or hashlib.md5(Path(archive).read_bytes()).hexdigest()

    def fetch(url, download_root, md5_of_the_large_set=None, **_):
        download_and_extract_archive(f"{address}/EuroSAT.zip", download_root, md5=md5)

    monkeypatch.setattr("torchvision.datasets.eurosat.download_and_extract_archive", fetch)
    monkeypatch.setitem(PUBLIC_SETS, "eurosat", dataclasses.replace(PUBLIC_SETS["eurosat"], n_images=4))


def test_a_download_is_unpacked_and_used_again(tmp_path, monkeypatch, server):
    address, folder = server
    _serve_eurosat(monkeypatch, address, folder)
    first = fetch_public_set("eurosat", tmp_path / "data")
    shutil.rmtree(folder)  # a second download would fail
    pd.testing.assert_frame_equal(first, fetch_public_set("eurosat", tmp_path / "data"))
    assert len(first) == 4


def test_another_checksum_is_refused(tmp_path, monkeypatch, server):
    _serve_eurosat(monkeypatch, *server, md5="0" * 32)
    with pytest.raises(ConnectionError, match="corrupted"):
        fetch_public_set("eurosat", tmp_path / "data")


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch, name):
    def refuse(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", refuse)
    with pytest.raises(ConnectionError) as caught:
        fetch_public_set(name, tmp_path)
    message = str(caught.value)
    assert all(url in message for url in PUBLIC_SETS[name].urls)
    assert str(tmp_path / PUBLIC_SETS[name].folder) in message
    assert "Name or service not known" in message


def test_interrupted_unpacking_is_noticed(tmp_path, monkeypatch):
    _prepare(tmp_path, monkeypatch, "eurosat")
    next((tmp_path / "eurosat").rglob("*.jpg")).unlink()
    with pytest.raises(ValueError, match="got 3 images, expected 4"):
        fetch_public_set("eurosat", tmp_path)


def test_an_unknown_name_gets_the_closest(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'oxford_pets'"):
        fetch_public_set("oxford_pet", tmp_path)


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_the_addresses_are_those_that_torchvision_uses(name):
    loader = getattr(torchvision_datasets, PUBLIC_SETS[name].loader)
    source = inspect.getsource(loader)
    for url in PUBLIC_SETS[name].urls:
        prefix, _, file = url.rpartition("/")
        assert prefix in source
        assert file in source
    assert f'"{PUBLIC_SETS[name].folder}"' in source or name == "dtd"
