"""Which recipe to use, decided by cross-validation; and predictions for images by models that did not learn them."""

import copy
import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, softmax
from tqdm.auto import tqdm

from utils_cv.data.image_table import TableImages, find_rows
from utils_cv.data.labels import encode_labels
from utils_cv.data.splits import list_groups
from utils_cv.evaluation.calibration import compute_losses, find_right, fit_temperature, weigh_images
from utils_cv.evaluation.intervals import find_variance
from utils_cv.evaluation.out_of_distribution import HIGHEST_LOGIT, OodDetector
from utils_cv.models.model_files import DEFAULT_BACKBONE
from utils_cv.models.out_of_fold import measure_left_out, split_judged
from utils_cv.models.splitting import CannotSplitError
from utils_cv.models.unknown import find_misfit
from utils_cv.system.timing import Timer

from .fine_tuning import EPOCHS, Activations, announce_training, compute_activations, fine_tune
from .learner import make_dataloaders, make_learner
from .linear_probe import compute_rows_features, linear_probe
from .trained_models import Predictions, TrainedModel, compute_logits

RECIPES = ("probe", "averaged", "last_stage", "all")
TRAINED_FOR = {"last_stage": {"averaged", "last_stage"}, "all": {"all"}}  # what is fine-tuned for which recipes
# Split of a fold's own images. Not "valid": no epoch is chosen by the images that then judge it.
HELD_OUT = "held out"
# By how much a gain must exceed its standard error to count: one-sided 95 %.
N_STANDARD_ERRORS = 1.65


@dataclass(frozen=True)
class Selection:
    """What `select_recipe` found.

    `scores` has one row per recipe, cross-validated: `recipe`, `n` images, `accuracy`, `loss` (at the `temperature`
    that suits it best), `gain` in loss over the best recipe above it with its standard error `gain_error`, and
    `is_selected`. A recipe that the backbone cannot have comes last, with n = 0 and without numbers. `held_out` are
    predictions of the train and validation images, each by a model of that recipe that did not learn it, at the
    temperature of `model`. Thresholds can be selected on them, and wrong labels found.
    """

    model: TrainedModel  # to use: the selected recipe, trained on train and validation images together
    recipe: str  # its name
    scores: pd.DataFrame
    held_out: Predictions
    seconds: float  # of everything, without opening the images
    detector: OodDetector | None = None  # for unknown images, rejects 5 % of those held out; or None
    left_out: pd.DataFrame | None = None  # what it rejects of classes that linear probes have not learned


def select_recipe(
    images: TableImages,
    *,
    recipes: Sequence[str] = ("probe", "averaged", "last_stage"),
    n_folds: int = 3,
    backbone: str = DEFAULT_BACKBONE,
    seed: int = 0,
    show_progress: bool = True,
    **options: Any,
) -> Selection:
    """Find out by cross-validation whether fine-tuning pays on these images, and train the recipe that does.

    Train and validation images are cut into folds; each fold is predicted by a probe, and by fine-tuned networks, that
    have not learned it. So all of them decide, not a fifth. Images of one `group` of the table stay in one fold. A
    recipe replaces the best one before it where its accuracy is not lower and its loss is lower by more than 1.65
    standard errors (one-sided 95 %). A probe of few images is timid, a fine-tuned network too bold, so losses are
    compared at each recipe's best temperature; the logits of the returned model are divided by it where it is above 1.
    The test images are never looked at. A class of one image (or group) is learned by every model and judges none, with
    a warning.

    Args:
        images: Opened images; those of the splits `train` and `valid` are learned.
        recipes: From the simplest on. "probe" is `linear_probe`, "last_stage" and "all" are `fine_tune` from it; "all"
            takes minutes per fold on a CPU. "averaged" has the mean of the weights of "probe" and "last_stage", which
            forgets less of what the network knew (Wortsman et al. 2022); both cost one training. A backbone that
            cannot be cut has neither: they are left out, with a warning.
        n_folds: Trainings of each recipe; more take longer and learn from more images each. Fewer where a class has
            fewer images (or groups).
        backbone: Any name that `utils_cv.models.backbones.load_backbone` takes.
        seed: Seed of folds and trainings.
        show_progress: Show a bar that counts trainings.
        **options: Further arguments of `fine_tune`, such as `epochs` or `augment`. With `balance` every class counts
            alike in the decision, too.

    Returns:
        The selected recipe's model, and how it was selected.

    Raises:
        ValueError: If a recipe is unknown, fewer than two classes have two images (or groups) to learn from, or as
            `fine_tune` does.

    Example:
        >>> selection = select_recipe(images)  # doctest: +SKIP
        >>> selection.recipe, selection.model  # doctest: +SKIP
    """
    options |= {"seed": seed, "show_progress": False}
    with Timer() as timer, tqdm(total=n_folds + 1, desc="folds, then all", disable=not show_progress) as bar:
        learned, folds, shared, logits, scores = _hold_out(images, recipes, n_folds, backbone, options, bar)
        best = scores.loc[scores["is_selected"]].iloc[0]
        model = _train(learned, [best["recipe"]], backbone, shared, options)[best["recipe"]]
        temperature = max(1.0, best["temperature"])  # few images would sharpen any
        for values in model.learn.model.head.parameters():
            values.data /= temperature
        held_out_logits = logits[best["recipe"]] / temperature
        held_out = _gather(folds, images.table, held_out_logits)
        unknown = () if images.is_multilabel else _describe_unknown(folds, shared.features, held_out_logits)
        if unknown and find_misfit(unknown[0], copy.deepcopy(model.learn.model).cpu().eval(), learned):
            warnings.warn("No detector of unknown images: too few images per class to set its threshold.", stacklevel=2)
            unknown = ()
        bar.update()
    if left_out := [recipe for recipe in recipes if recipe not in logits]:
        warnings.warn(f"{backbone}: {', '.join(left_out)} left out. {shared.problem}", stacklevel=2)
        rows = pd.DataFrame({"recipe": left_out, "n": 0, "is_selected": False})
        scores = pd.concat([scores, rows], ignore_index=True)
    return Selection(model, best["recipe"], scores, held_out, timer.seconds, *unknown)


def score_recipes(
    images: TableImages, *, recipes: Sequence[str], n_folds: int = 3, backbone: str, seed: int = 0, **options: Any
) -> pd.DataFrame:
    """Score recipes as `select_recipe` does, without the training on all images; a recipe left out has no row."""
    options |= {"seed": seed, "show_progress": False}
    return _hold_out(images, recipes, n_folds, backbone, options, tqdm(disable=True))[-1]


def _hold_out(
    images: TableImages, recipes: Sequence[str], n_folds: int, backbone: str, options: dict[str, Any], bar: tqdm
) -> tuple[TableImages, list[TableImages], "_Shared", dict[str, np.ndarray], pd.DataFrame]:
    """The images to learn, their folds, what trainings share, each recipe's held-out logits, and their scores."""
    if not recipes or set(recipes) - set(RECIPES):
        raise ValueError(f"Got recipes={list(recipes)}; expected one or more of {', '.join(RECIPES)}.")
    table = images.table.assign(split=images.table["split"].replace("valid", "train"))
    learned = dataclasses.replace(images, table=table)
    folds = _make_folds(learned, n_folds, options["seed"])
    shared = _share(learned, recipes, backbone, options, 0 if bar.disable else n_folds)
    impossible = TRAINED_FOR["last_stage"] if shared.problem else set()
    recipes = [recipe for recipe in recipes if recipe not in impossible] or ["probe"]
    logits: dict[str, list[np.ndarray]] = {recipe: [] for recipe in recipes}
    for fold in folds:
        rows = np.flatnonzero(fold.table["split"] == HELD_OUT)
        for recipe, model in _train(fold, recipes, backbone, shared, options).items():
            answer = shared.activations.compute_logits if shared.activations and recipe != "all" else compute_logits
            logits[recipe].append(answer(model.learn.model, fold.pixels, rows))
        bar.update()
    joined = {recipe: np.concatenate(parts) for recipe, parts in logits.items()}
    scores = _compare(folds, joined, options.get("balance", "none") != "none")
    return learned, folds, shared, joined, scores


def _describe_unknown(
    folds: Sequence[TableImages], features: np.ndarray, logits: np.ndarray
) -> tuple[OodDetector, pd.DataFrame]:
    """Set the threshold of unknown images by held-out logits, and leave each class out of probes of the same folds."""
    threshold = float(np.quantile(-logits.max(axis=1), 0.95))
    detector = OodDetector(HIGHEST_LOGIT, {}, threshold, expected=0.05, n_known=len(logits))
    parts = [tuple(np.flatnonzero(fold.table["split"] == split) for split in ("train", HELD_OUT)) for fold in folds]
    table = folds[0].table
    return detector, measure_left_out(features, table["label"].to_numpy(), parts, list_groups(table))


def _gather(folds: Sequence[TableImages], table: pd.DataFrame, logits: np.ndarray) -> Predictions:
    """Put the held-out images of all folds into the order of the table."""
    rows = np.concatenate([np.flatnonzero(fold.table["split"] == HELD_OUT) for fold in folds])
    order, names, is_multilabel = np.argsort(rows), folds[0].class_names, folds[0].is_multilabel
    table = table.iloc[rows[order]].reset_index(drop=True)
    probabilities = (expit(logits) if is_multilabel else softmax(logits, axis=1))[order]
    return Predictions(table, names, probabilities, encode_labels(table["label"], names, multilabel=is_multilabel))


class _Shared(NamedTuple):
    """What the trainings on all folds share, computed once."""

    features: np.ndarray
    activations: Activations | None = None
    problem: str = ""  # why the backbone cannot be cut


def _share(
    images: TableImages, recipes: Sequence[str], backbone: str, options: dict[str, Any], n_announced: int
) -> _Shared:
    features = compute_rows_features(images, find_rows(images)[0], backbone)
    trained = [trainable for trainable, needing in TRAINED_FOR.items() if needing & set(recipes)]
    if not trained:
        return _Shared(features)
    network = make_learner(make_dataloaders(images), backbone).model
    announce_training(images, network, dict.fromkeys(trained, n_announced * options.get("epochs", EPOCHS)))
    if "last_stage" not in trained:
        return _Shared(features)
    given = {name: options[name] for name in ("augment", "seed") if name in options}
    try:
        return _Shared(features, compute_activations(images, network, backbone=backbone, **given))
    except (CannotSplitError, MemoryError) as error:
        return _Shared(features, problem=str(error))


def _train(
    images: TableImages, recipes: Sequence[str], backbone: str, shared: _Shared, options: dict[str, Any]
) -> dict[str, TrainedModel]:
    """Train recipes in their order, on a fold or on all images."""
    given = {name: options[name] for name in ("balance", "seed") if name in options}
    probe = linear_probe(images, backbone=backbone, features=shared.features, **given)
    models = {"probe": probe}
    for trainable, needing in TRAINED_FOR.items():
        if needing & set(recipes):
            activations = shared.activations if trainable == "last_stage" else None
            models[trainable] = fine_tune(images, trainable=trainable, start=probe, activations=activations, **options)
    if "averaged" in recipes:
        models["averaged"] = average_weights(probe, models["last_stage"])
    return {recipe: models[recipe] for recipe in recipes}


def average_weights(probe: TrainedModel, tuned: TrainedModel) -> TrainedModel:
    """Make the network halfway between a probe and a network that was fine-tuned from it."""
    network = copy.deepcopy(tuned.learn.model)
    with torch.no_grad():
        for value, other in zip(network.parameters(), probe.learn.model.parameters(), strict=True):
            value.lerp_(other, 0.5)
    learn = make_learner(tuned.learn.dls, tuned.backbone, network=network)
    return dataclasses.replace(tuned, learn=learn)


def _make_folds(images: TableImages, n_folds: int, seed: int) -> list[TableImages]:
    """Make the images once for each fold, its own as split `HELD_OUT`."""
    train = images.table[images.table["split"] == "train"]
    labels = train["label"].to_numpy()
    if images.is_multilabel:
        labels = encode_labels(labels, images.class_names, multilabel=True)
    folds = []
    for _, held_out in split_judged(labels, list_groups(train), n_folds, seed):
        split = images.table["split"].copy()
        split.loc[train.index[held_out]] = HELD_OUT
        folds.append(dataclasses.replace(images, table=images.table.assign(split=split)))
    return folds


def _compare(folds: Sequence[TableImages], logits: dict[str, np.ndarray], is_balanced: bool = False) -> pd.DataFrame:
    """Score the held-out predictions of all folds together; each recipe against the best one before it."""
    held_out = pd.concat([fold.table[fold.table["split"] == HELD_OUT] for fold in folds])
    targets = encode_labels(held_out["label"], folds[0].class_names, multilabel=folds[0].is_multilabel)
    weights = weigh_images(targets, targets) if is_balanced else None
    rows: list[dict[str, Any]] = []
    for recipe, values in logits.items():
        accuracy = float(np.average(find_right(targets, values), weights=weights))
        temperature = fit_temperature(targets, values, weights=weights)
        scaled = values / temperature
        # Where every answer is right, no temperature is low enough: the loss falls to 0 with it.
        losses = compute_losses(targets, scaled, weights=weights) if accuracy < 1 else np.zeros(len(targets))
        if not rows:
            selected, best_losses, best_accuracy = recipe, losses, accuracy
        gains = best_losses - losses
        gain, error = float(gains.mean()), find_variance(gains - gains.mean(), list_groups(held_out))[0] ** 0.5
        row = {"recipe": recipe, "n": len(targets), "accuracy": accuracy, "loss": losses.mean()}
        rows.append(row | {"temperature": temperature, "gain": gain, "gain_error": error})
        if gain > N_STANDARD_ERRORS * error and accuracy >= best_accuracy:
            selected, best_losses, best_accuracy = recipe, losses, accuracy
    table = pd.DataFrame(rows)
    return table.assign(is_selected=table["recipe"] == selected)
