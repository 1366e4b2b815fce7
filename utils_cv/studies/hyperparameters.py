"""Study of notebook 22: does tuning pay? A search with Optuna, whose journal outlives any process that is killed."""

import functools
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState, create_trial
from scipy.stats import hypergeom

from utils_cv.data.image_table import TableImages
from utils_cv.data.images import find_value_range, load_images
from utils_cv.data.lazy_pixels import hash_files
from utils_cv.models.out_of_fold import predict_out_of_fold
from utils_cv.system.timing import Timer
from utils_cv.training.model_selection import score_recipes, select_recipe
from utils_cv.training.trained_models import predict_images

from .experiment import Task, run_trials

NO_EFFECT = "no_effect"  # a parameter that changes nothing: no other one is shown to matter if it looks no better
Features = Mapping[tuple[str, int], np.ndarray]  # of the images of a task, by backbone and image size in pixels


def score_setting(
    task: Task, features: Features, setting: Mapping[str, Any], *, seed: int, on_test: bool = False
) -> dict[str, Any]:
    """Score a setting by cross-validation, in three folds, of the images outside the test split.

    Args:
        task: Images and classes.
        features: By backbone and image size in pixels.
        setting: `recipe`, `backbone`, `im_size`, and `C` or `learning_rate`, `epochs` and `augment`.
        seed: Seed of the folds, and of the order and augmentation of the images in a training.
        on_test: Learn all these images, too, and answer those of the test split. A search never asks.

    Returns:
        `cv_accuracy`; on_test also `right` and `groups`, for `utils_cv.studies.experiment.summarize`.
    """
    task, rows = task._replace(features=features[setting["backbone"], setting["im_size"]]), task.pool_rows
    options: dict[str, Any] = {"n_folds": 3, "seed": seed}
    if setting["recipe"] == "probe":
        options |= {"n_classes": len(task.class_names), "groups": task.get_groups(rows), "Cs": [setting["C"]]}
        found = predict_out_of_fold(task.features[rows], task.codes[rows], **options)
        accuracy = np.mean(found.argmax(axis=1) == task.codes[rows])
        tested = task.score(task.predict(rows, C=setting["C"])) if on_test else {}
    else:
        table = task.table.iloc[np.sort(np.append(rows, task.test_rows))].reset_index(drop=True)
        pixels = load_images(table["path"], setting["im_size"], value_range=find_value_range(table["path"])).pixels
        images = TableImages(table, pixels, task.class_names, False, "squash", table[:0])
        options |= {name: setting[name] for name in ("backbone", "learning_rate", "epochs", "augment")}
        tested, options["recipes"] = {}, ["last_stage"]
        if on_test:
            selection = select_recipe(images, show_progress=False, **options)
            scores = selection.scores
            tested = task.score(predict_images(selection.model, images).probabilities)
        else:
            scores = score_recipes(images, **options)
        accuracy = scores["accuracy"].iloc[0]
    return {"cv_accuracy": float(accuracy)} | tested


def search_settings(
    task: Task,
    features: Features,
    journal: str | Path,
    *,
    default: Mapping[str, Any],
    spaces: Mapping[str, Mapping[str, BaseDistribution]],
    n_trials: Mapping[str, int],
    sampler: type[optuna.samplers.BaseSampler] = optuna.samplers.RandomSampler,
    seed: int = 0,
) -> optuna.Study:
    """Score the default setting and others that Optuna draws; each is written down as soon as it is scored.

    A search that was killed goes on where it stopped, and one with more trials adds those that are missing.
    `joblib.parallel_config` around the call shares the trials among processes.

    Args:
        task: Images and classes.
        features: By backbone and image size in pixels, which are the ones to draw from.
        journal: File to write to; for other images, labels, splits, spaces or seeds it begins another study.
        default: Setting to begin with.
        spaces: For each recipe the parameters that it alone has, and their values.
        n_trials: For each recipe how many settings to draw.
        sampler: `RandomSampler` draws each setting by itself, `TPESampler` rather where earlier ones scored well.
        seed: Seed of the draws, folds and trainings.

    Returns:
        Optuna's study. A training that diverged is a failed trial, with its `problem` among the user attributes.
    """
    path = Path(journal).absolute()  # Optuna takes a relative one for relative to the journal's own folder
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.exists() else b""
    if not content.endswith(b"\n") and content:  # a full disk leaves part of a line, behind which Optuna reads no other
        os.truncate(path, content.rfind(b"\n") + 1)
    backbones, im_sizes = (CategoricalDistribution(list(dict.fromkeys(part))) for part in zip(*features, strict=True))
    recipes = CategoricalDistribution(list(spaces))
    shared = {"recipe": recipes, "backbone": backbones, "im_size": im_sizes, NO_EFFECT: FloatDistribution(0, 1)}
    labels = task.table.filter(["label", "split", "group"]).to_csv()
    name = hash_files(task.table["path"], labels, shared, spaces, dict(default), sampler.__name__, seed)
    study = optuna.create_study(storage=_open_journal(path), study_name=name, direction="maximize", load_if_exists=True)
    given: dict[str, dict[str, Any]] = {"default": {**default, NO_EFFECT: 0.5}}
    given |= {f"{recipe} {i}": {"recipe": recipe} for recipe, n in n_trials.items() for i in range(n)}
    missing = given.keys() - {trial.user_attrs["place"] for trial in study.get_trials()}
    if settings := [{"place": place, "given": given[place]} for place in given if place in missing]:
        all_spaces = {recipe: shared | dict(space) for recipe, space in spaces.items()}
        run_trials(functools.partial(_run_trial, task, features, all_spaces, path, name, sampler, seed), settings)
    done = {trial.user_attrs["place"]: trial for trial in study.get_trials()}
    asked = optuna.create_study(direction="maximize")  # without what an earlier search had asked for
    asked.add_trials([done[place] for place in given])
    return asked


def _open_journal(path: Path) -> optuna.storages.JournalStorage:
    lock = JournalFileOpenLock(str(path), grace_period=5)  # seconds, after which that of a killed process is broken
    return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _run_trial(
    task: Task, features: Features, spaces: Any, path: Path, name: str, sampler: Any, seed: int, place: str, given: Any
) -> None:
    """Draw a setting, score it, and write it down when it is finished: a killed process leaves nothing half done."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else each process says that it draws
    study = optuna.load_study(study_name=name, storage=_open_journal(path))
    drawn = optuna.create_study(direction="maximize", sampler=sampler(seed=zlib.crc32(f"{seed} {place}".encode())))
    drawn.add_trials(study.get_trials(states=[TrialState.COMPLETE]))
    drawn.enqueue_trial(given)
    trial = drawn.ask(spaces[given["recipe"]])
    facts: dict[str, Any] = {"params": trial.params, "distributions": trial.distributions}
    attrs: dict[str, Any] = {"place": place}
    with Timer() as timer:
        try:
            facts["value"] = score_setting(task, features, trial.params, seed=seed)["cv_accuracy"]
        except ValueError as error:  # the training diverged
            facts["state"], attrs["problem"] = TrialState.FAIL, str(error)
    study.add_trial(create_trial(**facts, user_attrs=attrs | {"seconds": timer.seconds}))


def compute_budget_curve(values: Any) -> pd.DataFrame:
    """Compute the best of each number of trials, over all orders in which they could have been run (Dodge et al. 2019).

    Args:
        values: Score of each trial, (n_trials,), drawn independently of each other.

    Returns:
        One row per number of trials: `n_trials`, `best`, expected, and `best_low` to `best_high`: 95 % of the orders.

    Example:
        >>> compute_budget_curve([0.7, 0.9])[["n_trials", "best"]].values.round(2).tolist()
        [[1.0, 0.8], [2.0, 0.9]]
    """
    ordered = np.sort(np.asarray(values, float))
    n = np.arange(1, 1 + len(ordered))
    chance = hypergeom.cdf(0, n[-1], n[-1] - n[:, None], n[None])  # that none of so many is above the i-th lowest
    low, high = (ordered[(chance >= share).argmax(axis=0)] for share in (0.025, 0.975))
    best = ordered @ np.diff(chance, axis=0, prepend=0)
    return pd.DataFrame({"n_trials": n, "best": best, "best_low": low, "best_high": high})
