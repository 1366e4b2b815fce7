"""Cross-validation decides, groups stay together, and the selected recipe learns all images."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from utils_cv.training import model_selection
from utils_cv.training.model_selection import select_recipe
from utils_cv.training.trained_models import compute_logits, predict_images

OPTIONS = {"epochs": 1, "batch_size": 8, "n_folds": 2, "show_progress": False}


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tiny_start):
    """Probes that are the tiny network, so that a selection takes seconds."""

    def learner(dls, *_, network=None, make=model_selection.make_learner):
        return make(dls, tiny_start.backbone, network=network or tiny_start.learn.model)

    def probe(*_, **__):
        return dataclasses.replace(tiny_start, learn=learner(tiny_start.learn.dls))

    monkeypatch.setattr(model_selection, "make_learner", learner)
    monkeypatch.setattr(model_selection, "linear_probe", probe)
    monkeypatch.setattr(model_selection, "compute_rows_features", lambda *_: np.zeros((30, 4)))


def use_scores(monkeypatch, selected, temperature=1.0):
    def compare(folds, logits, is_balanced):
        table = pd.DataFrame({"recipe": list(logits), "n": [len(values) for values in logits.values()]})
        return table.assign(temperature=temperature, is_selected=table["recipe"] == selected)

    monkeypatch.setattr(model_selection, "_compare", compare)


def note_calls(monkeypatch):
    calls, fine_tune = [], model_selection.fine_tune

    def note(images, **options):
        calls.append((options["trainable"], images.table["split"].value_counts().to_dict(), options["activations"]))
        return fine_tune(images, **options)

    monkeypatch.setattr(model_selection, "fine_tune", note)
    return calls


def test_the_selected_recipe_is_trained_on_train_and_validation_images(small_images, monkeypatch):
    calls = note_calls(monkeypatch)
    use_scores(monkeypatch, "averaged")
    selection = select_recipe(small_images, **OPTIONS)
    assert selection.recipe == "averaged"
    assert selection.scores["n"].tolist() == [24, 24, 24]
    folds = [call[1] for call in calls]
    # no validation images: an epoch that was chosen by the held-out images would score too well
    assert folds == [{"train": 12, "held out": 12, "test": 6}] * 2 + [{"train": 24, "test": 6}]
    assert len({id(call[2]) for call in calls}) == 1  # the frozen part ran once for all trainings


def test_the_logits_of_the_selected_model_are_divided_by_the_temperature(small_images, monkeypatch):
    logits = []
    for temperature in (1.0, 4.0):
        use_scores(monkeypatch, "averaged", temperature)
        network = select_recipe(small_images, **OPTIONS).model.learn.model
        logits.append(compute_logits(network, small_images.pixels))
    np.testing.assert_allclose(logits[0] / 4, logits[1], atol=1e-6)
    assert np.abs(logits[0]).max() > 1e-3


def test_the_detector_rejects_one_of_twenty_images_of_folds_that_were_not_learned(
    small_images, monkeypatch, tiny_start
):
    logits = compute_logits(tiny_start.learn.model, small_images.pixels[small_images.table["split"] != "test"])
    use_scores(monkeypatch, "probe", 4.0)
    selection = select_recipe(small_images, recipes=["probe"], **OPTIONS)
    detector = selection.detector
    np.testing.assert_allclose(selection.held_out.probabilities, softmax(logits / 4, axis=1), atol=1e-6)
    assert detector.threshold == pytest.approx(np.quantile(-logits.max(axis=1) / 4, 0.95)) and detector.n_known == 24


def test_a_detector_that_would_reject_what_was_learned_is_left_out(small_images, monkeypatch, tiny_start):
    use_scores(monkeypatch, "probe", 4.0)
    # folds that are much surer than the model in the end, as with very few images per class
    monkeypatch.setattr(model_selection, "compute_logits", lambda *args: 100 + compute_logits(*args))
    with pytest.warns(UserWarning, match="No detector of unknown images"):
        selection = select_recipe(small_images, recipes=["probe"], **OPTIONS)
    assert (selection.detector, selection.left_out) == (None, None)


def test_an_averaged_network_lies_halfway_from_the_probe_to_the_fine_tuned_one(small_images, monkeypatch, tiny_start):
    calls, networks = note_calls(monkeypatch), {}
    for recipe in ("last_stage", "averaged"):
        use_scores(monkeypatch, recipe)
        networks[recipe] = select_recipe(small_images, recipes=("probe", recipe), **OPTIONS).model.learn.model
    tuned, averaged = networks.values()
    weights = [network.head.weight for network in (tiny_start.learn.model, tuned, averaged)]
    np.testing.assert_allclose(weights[2].detach(), (weights[0] + weights[1]).detach() / 2, atol=1e-6)
    assert [call[0] for call in calls] == ["last_stage"] * 6


def test_averaged_and_last_stage_share_one_training(small_images, monkeypatch):
    calls = note_calls(monkeypatch)
    use_scores(monkeypatch, "probe")
    monkeypatch.setattr(model_selection, "compute_logits", None)  # the frozen part does not run again
    scores = select_recipe(small_images, recipes=("probe", "averaged", "last_stage"), **OPTIONS).scores
    assert scores["recipe"].tolist() == ["probe", "averaged", "last_stage"] and len(calls) == 2


def make_logits(confidence, right, n=90):
    """Logits of two classes for images of class 0, right in a share of them."""
    signs = np.where(np.arange(n) < right * n, 1.0, -1.0)
    return np.stack([signs * confidence / 2, -signs * confidence / 2], axis=1)


def compare(images, logits, *, is_balanced=False, **columns):
    table = pd.DataFrame({"path": range(90), "label": ["can"] * 90, "split": model_selection.HELD_OUT} | columns)
    split = dataclasses.replace(images, table=pd.concat([table, table.assign(split="train")], ignore_index=True))
    return model_selection._compare([split], logits, is_balanced).set_index("recipe")


def test_a_shown_gain_selects_and_a_lower_accuracy_does_not(small_images):
    rng = np.random.default_rng(0)
    noisy, better = make_logits(2.0, 0.8), make_logits(2.0, 0.9)
    scores = compare(small_images, {"probe": noisy, "last_stage": better})
    assert scores["is_selected"].tolist() == [False, True]
    losses = [
        -np.log(softmax(values / t, axis=1)[:, 0])
        for values, t in zip((noisy, better), scores["temperature"], strict=True)
    ]
    gains = losses[0] - losses[1]
    assert scores["gain"].tolist() == pytest.approx([0.0, gains.mean()])
    assert scores["gain_error"].iloc[1] == pytest.approx(gains.std(ddof=1) / np.sqrt(90))
    by_chance = noisy + rng.normal(size=noisy.shape) * 0.01
    assert compare(small_images, {"probe": noisy, "last_stage": by_chance})["is_selected"].tolist() == [True, False]
    sure_where_right = make_logits(2.0, 0.78) * np.where(np.arange(90) < 70, 5, 0.1)[:, None]
    scores = compare(small_images, {"probe": noisy, "last_stage": sure_where_right})
    assert scores["gain"].iloc[1] > 1.65 * scores["gain_error"].iloc[1] and not scores["is_selected"].iloc[1]


@pytest.mark.parametrize("right", [0.95, 1.0], ids=["some wrong", "all right"])
def test_the_same_answers_given_more_boldly_are_no_gain(small_images, right):
    scores = compare(small_images, {"probe": make_logits(0.5, right), "last_stage": make_logits(5.0, right)})
    assert scores["is_selected"].tolist() == [True, False]
    assert scores["gain"].iloc[1] == pytest.approx(0, abs=1e-4)


def test_one_line_says_before_how_long_all_folds_take(small_images, capsys, monkeypatch):
    noted = []
    monkeypatch.setattr(model_selection, "announce_training", lambda *given: noted.append(given[2]))
    for recipes in (["probe"], ["averaged"], ["probe", "last_stage", "all"]):
        select_recipe(small_images, recipes=recipes, **OPTIONS | {"show_progress": True})
    assert noted == [{"last_stage": 2}, {"last_stage": 2, "all": 2}]  # two folds of half the images, then all


def test_scores_alone_are_those_of_the_selection_and_train_nothing_beyond_the_folds(small_images, monkeypatch):
    calls, options = note_calls(monkeypatch), OPTIONS | {"recipes": ["probe", "last_stage"]}
    expected = select_recipe(small_images, **options).scores
    options.pop("show_progress")
    scores = model_selection.score_recipes(small_images, backbone="efficientnet_lite0", **options)
    pd.testing.assert_frame_equal(scores, expected)
    n_alone = len(calls) - OPTIONS["n_folds"] - int(expected["is_selected"].iloc[1])
    assert n_alone == OPTIONS["n_folds"]


def test_a_balanced_selection_asks_what_becomes_of_the_rare_class(small_images):
    """The first recipe never answers with the rare class; the second finds it and errs on 12 of the 81 others."""
    labels = np.where(np.arange(90) < 81, "can", "carton")
    answers = [np.zeros(90, int), np.where((np.arange(90) < 12) | (np.arange(90) >= 81), 1, 0)]
    logits = dict(zip(("probe", "last_stage"), (np.eye(2)[codes] * 4 for codes in answers), strict=True))
    plain, balanced = (compare(small_images, logits, label=labels, is_balanced=value) for value in (False, True))
    assert plain["accuracy"].tolist() == pytest.approx([81 / 90, 78 / 90]) and plain["is_selected"].iloc[0]
    assert balanced["accuracy"].tolist() == pytest.approx([0.5, (1 + 69 / 81) / 2]) and balanced["is_selected"].iloc[1]


def test_every_recipe_and_the_decision_are_balanced_alike(small_images, monkeypatch):
    noted = []

    def note(run, read):
        return lambda *given, **options: (noted.append(read(given, options)), run(*given, **options))[1]

    for name in ("linear_probe", "fine_tune"):
        monkeypatch.setattr(model_selection, name, note(getattr(model_selection, name), lambda _, o: o["balance"]))
    monkeypatch.setattr(model_selection, "_compare", note(model_selection._compare, lambda given, _: given[2]))
    select_recipe(small_images, balance="weights", **OPTIONS)
    assert noted[:5] == ["weights"] * 4 + [True] and set(noted[5:]) == {"weights"}


def test_images_of_one_group_count_as_one(small_images):
    logits = {"probe": make_logits(2.0, 0.8), "last_stage": make_logits(2.0, 0.9)}
    alone, grouped = (compare(small_images, logits, **columns) for columns in ({}, {"group": np.repeat(range(9), 10)}))
    assert grouped["gain_error"].iloc[1] > 2 * alone["gain_error"].iloc[1]
    assert alone["is_selected"].tolist() == [False, True] and grouped["is_selected"].tolist() == [True, False]


def test_folds_keep_groups_together_without_being_asked(small_images):
    groups = [f"scene {i // 3}" for i in range(30)]
    images = dataclasses.replace(small_images, table=small_images.table.assign(split="train", group=groups))
    folds = model_selection._make_folds(images, 3, 0)
    held_out = [set(fold.table.index[fold.table["split"] == model_selection.HELD_OUT]) for fold in folds]
    assert set.union(*held_out) == set(range(30)) and sum(map(len, held_out)) == 30
    for fold in folds:
        assert fold.table.groupby("group")["split"].nunique().max() == 1


def test_the_given_images_are_not_changed_and_test_images_not_learned(small_images, monkeypatch):
    before, calls = small_images.table.copy(), note_calls(monkeypatch)
    select_recipe(small_images, recipes=["last_stage"], **OPTIONS)
    pd.testing.assert_frame_equal(small_images.table, before)
    assert all(call[1]["test"] == 6 for call in calls)


def test_several_labels_are_selected_by_the_same_call(multilabel_images, tiny_start, monkeypatch):
    start = dataclasses.replace(tiny_start, is_multilabel=True)
    monkeypatch.setattr(model_selection, "linear_probe", lambda *_, **__: start)
    selection = select_recipe(multilabel_images, **OPTIONS)
    assert predict_images(selection.model, multilabel_images).y_pred.shape == (6, 2)
    assert selection.scores["accuracy"].between(0, 1).all() and selection.detector is None
    held_out, table = selection.held_out, multilabel_images.table
    assert held_out.y_true.shape == held_out.probabilities.shape == (24, 2)
    assert held_out.table["path"].tolist() == table["path"][table["split"] != "test"].tolist()
    assert set(held_out.table["split"]) == {"train", "valid"}


def test_an_unknown_recipe_says_what_is_expected(small_images):
    with pytest.raises(ValueError, match="expected one or more of probe"):
        select_recipe(small_images, recipes=["top"], **OPTIONS)


def test_a_class_of_two_images_takes_two_folds_and_two_classes_must_be_judged(small_images):
    rows = small_images.table.query("split != 'test'").groupby("label").head(4).index
    few = [rows[small_images.table.loc[rows, "label"] == "can"][:n] for n in (2, 1)]
    carton = rows[small_images.table.loc[rows, "label"] == "carton"]
    two, one = (
        dataclasses.replace(small_images, table=small_images.table.loc[part.append(carton)].assign(split="train"))
        for part in few
    )
    assert len(model_selection._make_folds(two, 3, 0)) == 2
    with pytest.raises(ValueError, match="'can': 1} images of the classes; expected at least 2 of two"):
        model_selection._make_folds(one, 3, 0)


def test_folds_for_a_selection_always_learn_a_class_of_one_image(small_images):
    table = small_images.table.copy()
    row = table.index[table["split"] == "train"][0]
    table.loc[row, "label"] = "rare"
    with pytest.warns(UserWarning, match="1 of 3 classes have one image to learn from: rare"):
        folds = model_selection._make_folds(dataclasses.replace(small_images, table=table), 2, 0)
    held_out = [set(fold.table.index[fold.table["split"] == model_selection.HELD_OUT]) for fold in folds]
    assert set.union(*held_out) == set(table.index[table["split"] == "train"]) - {row}
    assert not set.intersection(*held_out)
    assert all(fold.table["split"][row] == "train" for fold in folds)
