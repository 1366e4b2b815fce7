"""Fine-tuning on small learnable images: it returns what it trained, the best epoch of it, the same numbers twice."""

import dataclasses
import re

import numpy as np
import pytest

from utils_cv.evaluation.calibration import compute_losses, weigh_images
from utils_cv.training import fine_tuning
from utils_cv.training.fine_tuning import compute_activations, fine_tune
from utils_cv.training.learner import make_learner
from utils_cv.training.trained_models import compute_logits, predict_images

OPTIONS = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "show_progress": False}
both_parts = pytest.mark.parametrize("trainable", ["all", "last_stage"])


def find_kept_epoch(model):
    return model.history.loc[model.history["is_kept"], "epoch"].item()


@both_parts
def test_one_seed_gives_the_same_numbers_twice_and_another_others(small_images, tiny_start, trainable):
    runs = [fine_tune(small_images, trainable=trainable, start=tiny_start, seed=seed, **OPTIONS) for seed in (3, 3, 4)]
    first, again, other = (predict_images(run, small_images).probabilities for run in runs)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@both_parts
def test_the_start_is_not_changed_and_never_returned(small_images, tiny_start, trainable):
    before = predict_images(tiny_start, small_images).probabilities
    ruinous = OPTIONS | {"learning_rate": 3.0, "epochs": 1}
    tuned = fine_tune(small_images, trainable=trainable, start=tiny_start, **ruinous)
    assert find_kept_epoch(tuned) == 1  # though its loss is higher than that of the start
    assert tuned.history["valid_loss"].iloc[1] > tuned.history["valid_loss"].iloc[0]
    assert not np.allclose(predict_images(tuned, small_images).probabilities, before)
    np.testing.assert_array_equal(predict_images(tiny_start, small_images).probabilities, before)


@pytest.mark.parametrize("rate", [0.03, 0.3])
def test_the_returned_weights_are_those_of_the_lowest_validation_loss(small_images, tiny_start, rate):
    tuned = fine_tune(small_images, start=tiny_start, **OPTIONS | {"epochs": 5, "learning_rate": rate})
    trained = tuned.history[tuned.history["epoch"] > 0]
    assert find_kept_epoch(tuned) == trained.loc[trained["valid_loss"].idxmin(), "epoch"]
    rows = small_images.table["split"] == "valid"
    logits = compute_logits(tuned.learn.model, small_images.pixels[rows]).astype(float)
    codes = [small_images.class_names.index(label) for label in small_images.table["label"][rows]]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(codes)), codes]
    assert losses.mean() == pytest.approx(trained["valid_loss"].min(), rel=1e-4)


def test_one_line_says_before_a_long_training_how_long_it_takes(small_images, tiny_start, capsys, monkeypatch):
    monkeypatch.setattr(fine_tuning, "N_MANY", 3)  # ten times as many are the least: 18 images twice, but not once
    line = r"18 images, 2 passes with trainable='all': about \d+ s here, in the memory.*\n"
    for epochs, expected in ((2, line), (1, "")):
        fine_tune(small_images, start=tiny_start, **OPTIONS | {"epochs": epochs, "show_progress": True})
        assert re.fullmatch(expected, "".join(re.findall(r".* passes with .*\n", capsys.readouterr().out)))


def test_without_validation_images_the_last_epoch_is_returned(no_valid_images, tiny_start):
    tuned = fine_tune(no_valid_images, start=tiny_start, **OPTIONS)
    assert find_kept_epoch(tuned) == 2
    assert tuned.history["train_loss"].iloc[1:].notna().all() and tuned.history["valid_loss"].isna().all()


def test_lower_layers_learn_more_slowly_where_all_of_them_do(small_images, tiny_start):
    tuned = fine_tune(small_images, start=tiny_start, **OPTIONS)
    rates = [group["lr"] for group in tuned.learn.opt.hypers]
    assert rates[-1] / rates[0] == pytest.approx(10)
    assert rates[0] < rates[1] < rates[2]


def test_the_last_stage_leaves_the_frozen_part_and_all_statistics_alone(small_images, tiny_start):
    tuned = fine_tune(small_images, trainable="last_stage", start=tiny_start, **OPTIONS)
    before, after = (model.learn.model.state_dict() for model in (tiny_start, tuned))
    changed = {name for name in before if not before[name].equal(after[name])}
    assert {"head.weight", "body.conv_head.weight"} <= changed
    assert not any("running_" in name or "conv_stem" in name or "blocks.0" in name for name in changed)


def test_all_layers_learn_even_if_the_start_was_frozen(small_images, tiny_start):
    learn = make_learner(tiny_start.learn.dls, tiny_start.backbone, network=tiny_start.learn.model)
    learn.freeze()
    tuned = fine_tune(small_images, start=dataclasses.replace(tiny_start, learn=learn), **OPTIONS)
    learn.unfreeze()
    before, after = (model.learn.model.body.conv_stem.weight for model in (tiny_start, tuned))
    assert not before.equal(after)


def test_activations_computed_before_give_the_same_network(small_images, tiny_start):
    options = OPTIONS | {"trainable": "last_stage", "start": tiny_start}
    activations = compute_activations(small_images, tiny_start.learn.model, backbone=tiny_start.backbone)
    plain, given = (fine_tune(small_images, activations=kept, **options) for kept in (None, activations))
    np.testing.assert_array_equal(*(predict_images(model, small_images).probabilities for model in (plain, given)))
    rows = np.array(activations.rows)
    shown = (given.learn.model, small_images.pixels, rows[::-2])
    # float16 has three digits
    np.testing.assert_allclose(activations.compute_logits(*shown), compute_logits(*shown), atol=1e-3)
    assert (small_images.table["split"].iloc[rows] != "test").all()
    assert [len(view) for view in activations.views] == [24, 18, 18, 18]


@pytest.mark.parametrize(
    ("augment", "budget_mb", "n_views"),
    [
        pytest.param("none", 2000, 1, id="without augmentation all views are the same"),
        pytest.param("upright", 0.01, 1, id="what does not fit is left out"),
    ],
)
def test_fewer_views(small_images, tiny_start, augment, budget_mb, n_views, monkeypatch, recwarn):
    monkeypatch.setattr(fine_tuning, "ACTIVATIONS_BUDGET_MB", budget_mb)
    found = compute_activations(small_images, tiny_start.learn.model, backbone=tiny_start.backbone, augment=augment)
    assert len(found.views) == n_views
    assert any("1 fit into" in str(warning.message) for warning in recwarn) == (augment == "upright")


@pytest.mark.parametrize("trainable", ["all", "last_stage"])
@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_balanced_classes_are_another_training_and_its_epoch_is_the_best_of_balanced_losses(
    small_images, tiny_start, balance, trainable
):
    few = small_images.table["split"].where(small_images.table.index % 3 > 0, "test")
    few = few.where(small_images.table["label"] == "can", small_images.table["split"])
    rare = dataclasses.replace(small_images, table=small_images.table.assign(split=few))
    options = OPTIONS | {"start": tiny_start, "trainable": trainable}
    plain, balanced = (fine_tune(rare, balance=value, **options) for value in ("none", balance))
    code = rare.class_names.index("can")
    shares = [predict_images(model, rare).probabilities[:, code].mean() for model in (plain, balanced)]
    assert shares[1] > shares[0] if balance == "weights" else shares[1] != shares[0]  # which images are drawn is chance
    codes = np.array([rare.class_names.index(label) for label in rare.table["label"]])
    train, valid = (np.flatnonzero(rare.table["split"] == name) for name in ("train", "valid"))
    weights = weigh_images(codes[valid], codes[train])
    losses = compute_losses(codes[valid], compute_logits(balanced.learn.model, rare.pixels[valid]), weights=weights)
    assert losses.mean() == pytest.approx(balanced.history["valid_loss"].iloc[1:].min(), abs=1e-3)


def test_random_weights_start_from_nothing_and_learn_statistics(small_images):
    options = OPTIONS | {"backbone": "test_efficientnet", "pretrained": False, "augment": "none"}
    scratch = fine_tune(small_images, **options)
    assert scratch.history["epoch"].tolist() == [0, 1, 2]
    assert scratch.history["valid_loss"].iloc[0] > 0.6
    rates = [group["lr"] for group in scratch.learn.opt.hypers]
    assert rates[0] == rates[-1]
    assert scratch.learn.model.body.bn1.running_mean.abs().max() > 0


def test_without_a_start_a_probe_is_trained(small_images, small_probe):
    tuned = fine_tune(small_images, trainable="last_stage", epochs=1, batch_size=8, show_progress=False)
    assert tuned.history["valid_loss"].iloc[0] == pytest.approx(small_probe.history["valid_loss"].iloc[0], abs=1e-4)
    assert tuned.seconds > 0 and tuned.backbone == small_probe.backbone


@both_parts
def test_several_labels(multilabel_images, tiny_start, trainable):
    start = dataclasses.replace(tiny_start, is_multilabel=True)
    tuned = fine_tune(multilabel_images, trainable=trainable, start=start, balance="weights", **OPTIONS)
    predictions = predict_images(tuned, multilabel_images)
    assert tuned.is_multilabel and predictions.y_pred.shape == predictions.y_true.shape == (6, 2)
    assert np.abs(predictions.probabilities.sum(axis=1) - 1).max() > 1e-3  # one sigmoid each, not a softmax


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"trainable": "top"}, "'all' or 'last_stage'", id="trainable"),
        pytest.param({"epochs": 0}, "expected 1 or more", id="epochs"),
        pytest.param({"balance": "equal"}, "'none', 'weights', 'sampling'", id="balance"),
        pytest.param({"augment": "upside_down"}, "any_side_up", id="augmentation"),
        pytest.param({"pretrained": False}, "no start", id="start without pretrained weights"),
        pytest.param({"learning_rate": 1e30}, "lower learning_rate", id="divergence"),
    ],
)
def test_wrong_arguments_say_what_is_expected(small_images, tiny_start, arguments, message):
    with pytest.raises(ValueError, match=message):
        fine_tune(small_images, start=tiny_start, **OPTIONS | arguments)
