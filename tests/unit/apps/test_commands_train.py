"""The command `train`: a model that predicts, its score, and no training whose model could not be saved."""

import json

import pytest

from tests.conftest import draw_image

from .conftest import read_lines


@pytest.mark.parametrize("recipe", ["probe", "select"])
def test_the_model_is_there_with_its_score(image_dir, tmp_path, run, recipe):
    model = tmp_path / "my model"
    words = [image_dir, model, "--recipe", recipe, "--size", 48, "--license", "mit"]
    code, printed, said = run("train", *words, "--json")
    (facts,) = read_lines(printed)
    assert code == 0 and "20 images of 2 classes" in said and f"predict '{model}' FOLDER" in said
    assert facts["recipe"] in ({"probe"} if recipe == "probe" else {"probe", "averaged"})
    (score,) = facts["scores"]
    assert score["name"] == "accuracy" and score["low"] <= score["value"] <= score["high"]
    assert "license: mit" in (model / "README.md").read_text()
    draw_image("can", seed=999).save(tmp_path / "a.png")
    (row,) = read_lines(run("predict", model, tmp_path / "a.png", "--json")[1])
    assert row["label"] == "can" and row["is_unknown"] in (True, False)


def test_labels_of_several_classes_are_scored_by_f1(image_dir, tmp_path, run):
    names = [path.relative_to(image_dir).as_posix() for path in sorted(image_dir.rglob("*.png"))]
    rows = [f"{name},{name.split('/')[0]}{'|both' if i % 2 else ''}" for i, name in enumerate(names)]
    (image_dir / "labels.csv").write_text("\n".join(["image,label", *rows]))
    code, printed, _ = run("train", image_dir, tmp_path / "model", "--recipe", "probe", "--size", 48)
    assert code == 0 and printed.startswith("macro F1 on the test images: ") and str(tmp_path / "model") in printed
    thresholds = json.loads((tmp_path / "model/model.json").read_text())["thresholds"]
    assert len(thresholds) == 3 and thresholds != [0.5] * 3  # selected on images that were held out


@pytest.mark.parametrize(
    ("file", "words", "message"),
    [("model.json", [], "--overwrite to replace"), ("notes.txt", ["--overwrite"], "choose another folder")],
    ids=["a model", "something else"],
)
def test_a_folder_with_files_is_refused_before_training(image_dir, tmp_path, run, file, words, message):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / file).write_text("mine")
    code, printed, said = run("train", image_dir, tmp_path / "model", *words)
    assert (code, printed) == (2, "") and message in said
    assert "images of" not in said
