"""`model.json` and its files: what is written comes back, and a file is taken only with the hash that is listed."""

import dataclasses
import json

import pytest

from utils_cv.models.model_files import (
    ModelFileError,
    ModelInfo,
    find_model_file,
    list_versions,
    read_model_info,
    write_model_info,
)
from utils_cv.system.files import hash_file

INFO = ModelInfo(
    class_names=["Dose", "Milchtüte"],
    is_multilabel=True,
    backbone="efficientnet_lite0",
    im_size_px=224,
    fit="pad",
    mean=[0.485, 0.456, 0.406],
    std=[0.229, 0.224, 0.225],
    thresholds=[0.25, 0.75],
    scores=[{"name": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "n": 40}],
    files={"model.onnx": ""},
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"network")
    write_model_info(INFO, tmp_path)
    return tmp_path


def test_what_is_written_comes_back_with_the_hashes(folder):
    hashed = dataclasses.replace(INFO, files={"model.onnx": hash_file(folder / "model.onnx")})
    assert read_model_info(folder) == hashed
    assert "Milchtüte" in (folder / "model.json").read_text(encoding="utf-8")


def test_a_listed_file_is_found(folder):
    assert find_model_file(folder, "model.onnx", read_model_info(folder)).read_bytes() == b"network"


def test_a_changed_file_is_refused_and_an_unlisted_one_is_missing(folder):
    info = read_model_info(folder)
    (folder / "model.onnx").write_bytes(b"network!")
    with pytest.raises(ModelFileError, match="changed, cut short, or belongs to another model"):
        find_model_file(folder, "model.onnx", info)
    (folder / "model.int8.onnx").write_bytes(b"left over from another model")
    with pytest.raises(FileNotFoundError, match=r"model\.int8\.onnx is missing"):
        find_model_file(folder, "model.int8.onnx", info)


def test_a_file_that_was_not_written_cannot_be_listed(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_model_info(INFO, tmp_path)
    assert not (tmp_path / "model.json").exists()


def test_a_newer_schema_says_what_to_do(folder):
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | {"schema_version": 99}))
    with pytest.raises(ModelFileError, match=r"schema version 99, this utils_cv reads 1\..*update utils_cv"):
        read_model_info(folder)


def test_facts_that_this_version_does_not_know_are_passed_over(folder):
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | {"mood": "good"}))
    assert read_model_info(folder).class_names == INFO.class_names


def test_versions_name_what_decides_answers():
    assert {"python", "torch", "onnxruntime", "pillow"} <= set(list_versions())
