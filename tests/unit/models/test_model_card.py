"""The model card: front matter that the hub reads, scores with intervals, limits, and names that are no markup."""

import dataclasses

import pytest
import yaml

from tests.unit.models.test_model_files import INFO
from utils_cv.models.model_card import make_model_card


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
