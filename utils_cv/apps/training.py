"""Select a recipe, score it once on the test images, and save the model: what `train` and `report` share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from utils_cv.data.image_table import TableImages
from utils_cv.evaluation.intervals import Score
from utils_cv.evaluation.metrics import measure_accuracy
from utils_cv.evaluation.multilabel import measure_multilabel, select_thresholds
from utils_cv.models.model_files import ModelInfo
from utils_cv.models.saved_classifier import save_classifier
from utils_cv.training.model_selection import Selection, select_recipe
from utils_cv.training.trained_models import Predictions, predict_images

RECIPES = {"select": ("probe", "averaged", "last_stage"), "probe": ("probe",)}  # by the option `--recipe`


class Finished(NamedTuple):
    """A trained and saved model; `score` is on the test images, named by `score_name`."""

    selection: Selection
    predictions: Predictions
    score_name: str
    score: Score
    info: ModelInfo


def train_and_save(
    images: TableImages, folder: Path, *, recipes: Sequence[str], license: str, overwrite: bool, **options: Any
) -> Finished:
    """Train what cross-validation selects, and save it with its score; `options` are those of `select_recipe`."""
    selection = select_recipe(images, recipes=recipes, **options)
    predictions, held_out = predict_images(selection.model, images, split="test"), selection.held_out
    y_true, groups = predictions.y_true, predictions.groups
    written: dict[str, Any] = {"detector": selection.detector, "left_out": selection.left_out, "license": license}
    if images.is_multilabel:
        thresholds = select_thresholds(held_out.y_true, held_out.probabilities)
        scores = measure_multilabel(y_true, predictions.probabilities, thresholds, groups=groups)
        name, score, written["thresholds"] = "macro F1", scores["macro_f1"], thresholds.tolist()
    else:
        name, score = "accuracy", measure_accuracy(y_true, predictions.y_pred, groups=groups)
    info = save_classifier(selection.model, folder, images=images, scores={name: score}, overwrite=overwrite, **written)
    return Finished(selection, predictions, name, score, info)
