"""`model.json`, its files and the card: what is written comes back, files fit their hashes, names are no markup."""

import dataclasses
import json

import pytest
import yaml

from utils_cv.models.model_files import (
    ModelFileError,
    ModelInfo,
    find_model_file,
    list_versions,
    make_model_card,
    read_model_info,
    write_model_info,
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
    write_model_info(INFO, tmp_path)
    return tmp_path


def change_info(folder, without=None, **changes):
    content = json.loads((folder / "model.json").read_text(encoding="utf-8")) | changes
    content.pop(without, None)
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")


def test_what_is_written_comes_back_with_the_hashes(folder):
    hashed = dataclasses.replace(INFO, files={"model.onnx": hash_file(folder / "model.onnx")})
    assert read_model_info(folder) == hashed
    assert "Milchtüte" in (folder / "model.json").read_text(encoding="utf-8")
    assert find_model_file(folder, "model.onnx", hashed).read_bytes() == b"network"


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"schema_version": 99}, r"version 99, this utils_cv reads 1\..*update", id="newer version"),
        pytest.param({"kind": "something else"}, "does not describe", id="another kind"),
        pytest.param({"class_names": ["can"]}, "class_names", id="one class"),
        pytest.param({"im_size_px": "64"}, "im_size_px", id="size as text"),
        pytest.param({"fit": "stretch"}, "fit", id="unknown fit"),
        pytest.param({"std": [0, 1, 1]}, "std", id="division by zero"),
        pytest.param({"mean": [0, 1]}, "mean", id="two channels"),
        pytest.param({"files": {"../../secret": ""}}, "files", id="file outside the folder"),
        pytest.param({"thresholds": [0.5]}, "thresholds", id="thresholds of another model"),
        pytest.param({"without": "std"}, "lacks std", id="missing"),
    ],
)
def test_facts_that_cannot_be_are_refused(folder, changes, message):
    change_info(folder, **changes)
    with pytest.raises(ModelFileError, match=message):
        read_model_info(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"null"], ids=["empty", "cut", "list", "no text", "null"]
)
def test_a_damaged_description_is_refused(folder, content):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.json"):
        read_model_info(folder)


def test_unknown_facts_are_passed_over(folder):
    change_info(folder, mood="good")
    assert read_model_info(folder).class_names == INFO.class_names


def test_versions_name_what_decides_answers():
    assert {"python", "torch", "onnxruntime", "pillow"} <= set(list_versions())


def read_front_matter(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize("title", ['fridge: "objects"', "Kühlschrank", "a\n---\nb # c"])
def test_the_front_matter_has_the_keys_of_the_hub(title):
    front = read_front_matter(make_model_card(INFO, title=title, license="mit"))
    assert front["license"] == "mit" and front["pipeline_tag"] == "image-classification"
    assert {"image-classification", "efficientnet_lite0", "onnx"} == set(front["tags"])
    (model,) = front["model-index"]
    assert model["name"] == " ".join(title.split()) and front["metrics"] == ["accuracy"]
    assert model["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.9}]


def test_the_card_states_interval_images_limits_and_8_bits_where_they_are():
    card = make_model_card(INFO, title="fridge")
    assert "| accuracy | 0.900 | 0.840 to 0.940 | 160 |" in card
    assert "256 images" in card and 'Milchtüte "groß"' in card and "python 3.11.7" in card
    assert "do not protect" in card and "cannot be recognized" in card and "int8" not in card
    with_int8 = dataclasses.replace(INFO, files={**INFO.files, "model.int8.onnx": ""})
    assert 'runtime="int8"' in make_model_card(with_int8, title="fridge")
    assert "Every image gets a label" in make_model_card(dataclasses.replace(INFO, is_multilabel=False), title="fridge")


def test_a_model_without_scores_says_so_and_claims_nothing():
    card = make_model_card(dataclasses.replace(INFO, scores=[], files={}), title="fridge")
    assert "None were recorded." in card and "model-index" not in read_front_matter(card)
    assert "onnx" not in read_front_matter(card)["tags"]


def test_names_are_text_and_no_markup():
    scores = [{"name": "top|1\n", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9}]
    info = dataclasses.replace(INFO, class_names=["<b>", "milk_bottle", "_x_", "[a](b)"], scores=scores)
    card = make_model_card(info, title="a\n# b")
    for text in (r"\<b\>, milk_bottle, \_x\_, \[a\](b).", r"| top\|1 | 0.500 | 0.400 to", "\n# a \\# b\n"):
        assert text in card
