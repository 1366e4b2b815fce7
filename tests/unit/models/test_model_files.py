"""`model.json` and its files: what is written comes back, whole, though a save is killed or others read meanwhile."""

import dataclasses
import hashlib
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.unit.models.tiny_models import change_info, make_tiny_network, save_tiny_model
from utils_cv.models.model_files import (
    ModelInfo,
    check_folder,
    commit_model,
    list_versions,
    read_model,
    read_model_info,
)
from utils_cv.system.files import hash_file

INFO = ModelInfo(
    class_names=["Dose", 'Milchtüte "groß"'], is_multilabel=True,
    backbone="efficientnet_lite0", im_size_px=224, fit="pad", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225],
    thresholds=[0.25, 0.75], scores=[{"name": "accuracy", "value": 0.9, "low": 0.84, "high": 0.94, "n": 160}],
    training={"n_train": 256}, versions={"python": "3.11.7"}, files={"model.onnx": ""},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"network")
    commit_model(INFO, tmp_path, tmp_path)
    return tmp_path


def test_what_is_written_comes_back_with_the_hashes(folder):
    hashed = dataclasses.replace(INFO, files={"model.onnx": hash_file(folder / "model.onnx")})
    assert read_model(folder, ["model.int8.onnx", "model.onnx"]) == (hashed, "model.onnx", b"network")
    text = (folder / "model.json").read_text(encoding="utf-8")
    assert "Milchtüte" in text and list_names(folder) == ["model.json", "model.onnx"]
    content = json.loads(text)
    digest = content.pop("content_sha256")  # as another program would compute it
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_facts_that_are_not_numbers_are_null_and_a_model_that_could_not_be_loaded_is_not_saved(folder):
    scores = [{"name": "macro F1", "value": math.nan, "low": 0.1, "high": math.inf, "n": 3}]
    commit_model(dataclasses.replace(INFO, scores=scores), folder, folder)
    assert read_model_info(folder).scores == [{"name": "macro F1", "value": None, "low": 0.1, "high": None, "n": 3}]
    with pytest.raises(ValueError, match=r"No model can have class_names=\['a', 'a'\].*Nothing was written"):
        commit_model(dataclasses.replace(INFO, class_names=["a", "a"]), folder, folder)
    assert read_model_info(folder).class_names == INFO.class_names


def test_an_unlisted_file_is_missing_and_goes_with_the_next_save(folder):
    (folder / "model.int8.onnx").write_bytes(b"left over from another model")
    with pytest.raises(FileNotFoundError, match=r"model\.int8\.onnx is missing"):
        read_model(folder, ["model.int8.onnx"])
    with pytest.raises(FileNotFoundError, match=r"No finished model .* no model\.json"):
        read_model_info(folder / "nowhere")
    commit_model(INFO, folder, folder)
    assert list_names(folder) == ["model.json", "model.onnx"]


def test_a_file_that_was_not_written_cannot_be_listed(tmp_path):
    with pytest.raises(FileNotFoundError):
        commit_model(INFO, tmp_path, tmp_path)
    assert not (tmp_path / "model.json").exists()


def test_unknown_facts_are_passed_over_and_version_1_is_read_without_a_hash_and_without_later_facts(folder):
    change_info(folder, mood="good")
    assert read_model_info(folder).class_names == INFO.class_names
    for name in ("value_range", "unknown"):
        change_info(folder, version=1, without=name)
    assert read_model_info(folder).value_range == 65535


# Each number of the loop ends the process in front of another change of the folder; at last none is left.
KILL_EVERYWHERE = """
import os, shutil, sys
from pathlib import Path
from tests.unit.models.tiny_models import save_tiny_model
from utils_cv.models.model_files import read_model
base, old, folder = Path({base!r}), Path({base!r}) / "old", Path({base!r}) / "model"
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "open")

def kill_at(number):
    left = [number]
    def count(event, arguments):
        if event in CHANGES and str(base) in str(arguments[0]):
            left[0] -= 1
            if not left[0]:
                os._exit(9)
    sys.addaudithook(count)

for second in (False, True):  # a first save, and one that replaces a model, with a file of the user beside it
    shutil.rmtree(old, ignore_errors=True)
    old.mkdir()
    if second:
        (old / "notes.txt").write_text("mine")
        save_tiny_model(old, (0, 1, 2))
    number, found, code = 0, [], 9
    while code:
        number += 1
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old, folder)
        pid = os.fork()
        if not pid:
            kill_at(number)
            save_tiny_model(folder, (0, 1))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        try:
            info, _, content = read_model(folder, ["model.onnx"])
            found.append(len(info.class_names))
        except FileNotFoundError:
            found.append(0)
        save_tiny_model(folder, (0, 1, 2, 3))
        names = ["README.md", "model.json", "model.onnx"] + ["notes.txt"] * second
        assert sorted(path.name for path in folder.iterdir()) == names, (number, sorted(folder.iterdir()))
        assert len(read_model(folder, ["model.onnx"])[0].class_names) == 4
    print(found)
"""


@pytest.mark.linux
def test_a_save_that_is_killed_at_any_change_of_the_folder_leaves_the_old_model_or_the_new_one(tmp_path):
    script = KILL_EVERYWHERE.format(base=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = map(json.loads, done.stdout.splitlines())
    assert set(first) == {0, 2} and set(second) == {3, 2} and len(second) > 12
    for found in (first, second):
        assert found == sorted(found, key=lambda n_classes: n_classes == 2)  # old until the new one, then no way back


def test_readers_get_the_old_model_or_the_new_one_while_it_is_replaced(tmp_path):
    save_tiny_model(tmp_path, (0, 1))
    expected = {n: make_tiny_network(range(n)).SerializeToString() for n in (2, 3)}

    def replace(n_classes):
        for _ in range(12):
            save_tiny_model(tmp_path, range(n_classes))

    with ThreadPoolExecutor(2) as pool:
        savers, seen = [pool.submit(replace, n_classes) for n_classes in (2, 3)], []  # they wait for each other
        while len(seen) < 36 or not all(saver.done() for saver in savers):
            info, _, content = read_model(tmp_path, ["model.onnx"])
            seen.append(len(info.class_names))
            assert content == expected[seen[-1]]
    assert [saver.result() for saver in savers] == [None, None] and set(seen) == {2, 3}
    assert list_names(tmp_path) == ["README.md", "model.json", "model.onnx"]


def test_a_file_that_moves_to_its_place_while_it_is_read_is_read_there(tmp_path, monkeypatch):
    save_tiny_model(tmp_path)
    final, read = tmp_path / "model.onnx", Path.read_bytes
    digest = read_model_info(tmp_path).files["model.onnx"]
    pending = tmp_path / f".{digest[:16]}.model.onnx"
    final.rename(pending)

    def read_late(path):
        if path == pending and path.exists():
            path.rename(final)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_late)
    assert read_model(tmp_path, ["model.onnx"])[1] == "model.onnx"


def test_a_file_in_the_place_of_the_folder_is_told_before_a_training(tmp_path):
    (tmp_path / "model").write_text("notes")
    with pytest.raises(FileExistsError, match="is a file, expected a folder"):
        check_folder(tmp_path / "model", overwrite=True)


def test_versions_name_what_decides_answers():
    assert {"python", "torch", "onnxruntime", "pillow"} <= set(list_versions())
