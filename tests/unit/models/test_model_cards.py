"""The card of a finished model: front matter that a YAML reader takes, and no claim without its interval."""

import dataclasses

import pytest

from utils_cv.models.model_files import ModelInfo
from utils_cv.models.saved_classifier import make_model_card

INFO = ModelInfo(
    class_names=["can", 'carton "large"'],
    is_multilabel=False,
    backbone="efficientnet_lite0",
    im_size_px=224,
    fit="squash",
    mean=[0.5] * 3,
    std=[0.5] * 3,
    scores=[{"name": "accuracy", "value": 0.9, "low": 0.84, "high": 0.94, "n": 160}],
    training={"n_train": 256},
    versions={"python": "3.11.7"},
    files={"model.safetensors": "", "model.onnx": ""},
)


def read_front_matter(card):
    yaml = pytest.importorskip("yaml")
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_the_front_matter_has_the_keys_of_the_hub():
    front = read_front_matter(make_model_card(INFO, title='fridge: "objects"', license="mit"))
    assert front["license"] == "mit" and front["pipeline_tag"] == "image-classification"
    assert {"image-classification", "efficientnet_lite0", "onnx"} == set(front["tags"])
    (model,) = front["model-index"]
    assert model["name"] == 'fridge: "objects"'
    assert model["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.9}]


def test_scores_come_with_interval_and_number_of_images():
    card = make_model_card(INFO, title="fridge")
    assert "| accuracy | 0.900 | 0.840 to 0.940 | 160 |" in card
    assert "256 images" in card and 'carton "large"' in card and "python 3.11.7" in card


def test_a_model_without_scores_says_so_and_claims_nothing():
    card = make_model_card(dataclasses.replace(INFO, scores=[], files={}), title="fridge")
    assert "None were recorded." in card and "model-index" not in read_front_matter(card)
    assert "onnx" not in read_front_matter(card)["tags"]


def test_limits_are_named():
    card = make_model_card(INFO, title="fridge")
    assert "Every image gets a label" in card and "do not protect" in card


def test_8_bits_are_mentioned_only_where_they_are():
    assert "int8" not in make_model_card(INFO, title="fridge")
    with_int8 = dataclasses.replace(INFO, files={**INFO.files, "model.int8.onnx": ""})
    assert 'runtime="int8"' in make_model_card(with_int8, title="fridge")
