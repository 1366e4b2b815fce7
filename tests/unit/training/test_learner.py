"""Batches, losses against torch, frozen and unfrozen learners, and predictions that do not depend on the batch."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from utils_cv.training.learner import make_dataloaders, make_learner
from utils_cv.training.trained_models import compute_logits, make_trained_model

TINY = "test_efficientnet"


def label(images, labels):
    """Images with other labels; all of them are train images."""
    table = images.table.head(len(labels)).assign(label=labels, split="train")
    return dataclasses.replace(images, table=table, pixels=images.pixels[: len(labels)])


def test_a_validation_batch_holds_the_images_as_they_are(small_images):
    x, y = make_dataloaders(small_images).valid.one_batch()
    rows = small_images.table["split"] == "valid"
    np.testing.assert_allclose(x.permute(0, 2, 3, 1) * 255, small_images.pixels[rows], atol=1e-4)
    assert [small_images.class_names[code] for code in y] == small_images.table["label"][rows].tolist()


def test_train_images_are_shuffled_and_augmented_from_the_seed(small_images):
    first, again, other = (make_dataloaders(small_images, seed=seed).train.one_batch() for seed in (1, 1, 2))
    assert first[0].equal(again[0]) and first[1].equal(again[1])
    assert not first[0].equal(other[0])
    plain = make_dataloaders(small_images, seed=1, augment="none").train.one_batch()
    assert plain[1].equal(first[1]) and not plain[0].equal(first[0])


def test_several_labels_are_zeros_and_ones(multilabel_images):
    dls = make_dataloaders(multilabel_images)
    _, y = dls.valid.one_batch()
    labels = multilabel_images.table["label"][multilabel_images.table["split"] == "valid"]
    assert y.tolist() == [["can" in text.split("|"), "carton" in text.split("|")] for text in labels]


def test_a_batch_shows_itself(small_images):
    import matplotlib.pyplot as plt

    make_dataloaders(small_images).show_batch(max_n=4)
    assert {ax.get_title() for ax in plt.gcf().axes} <= set(small_images.class_names)


def test_an_image_that_occurs_twice_is_refused(small_images):
    twice = dataclasses.replace(small_images, table=small_images.table.assign(path="same.png"))
    with pytest.raises(ValueError, match="29 images occur twice"):
        make_dataloaders(twice)


def test_no_train_images_say_what_there_is(small_images):
    with pytest.raises(ValueError, match="No image of split 'train'"):
        make_dataloaders(dataclasses.replace(small_images, table=small_images.table.assign(split="test")))


LOGITS = torch.tensor([[2.0, 0.5], [0.1, 1.0], [1.5, 0.2], [0.3, 0.2]])
CODES = torch.tensor([0, 0, 0, 1])
MULTI = torch.tensor([[1.0, 0], [1, 1], [0, 0], [1, 0]])


def make_loss(images, labels, **options):
    images = label(images, labels)
    images = dataclasses.replace(images, is_multilabel=any(len(text.split("|")) != 1 or not text for text in labels))
    return make_learner(make_dataloaders(images, **options), TINY, pretrained=False).loss_func


@pytest.mark.parametrize(
    ("labels", "targets", "balance", "expected"),
    [
        pytest.param(["can"] * 3 + ["carton"], CODES, "none", nn.functional.cross_entropy(LOGITS, CODES), id="plain"),
        pytest.param(
            ["can"] * 3 + ["carton"], CODES, "weights",
            nn.functional.cross_entropy(LOGITS, CODES, weight=torch.tensor([1.0, 3.0])), id="classes count alike",
        ),
        pytest.param(
            ["can"] * 3 + ["carton"], torch.ones(4, dtype=int), "weights",
            nn.functional.cross_entropy(LOGITS, torch.ones(4, dtype=int)) * 2, id="so does a batch of one class",
        ),
        pytest.param(
            ["can"] * 3 + ["carton"], CODES, "sampling", nn.functional.cross_entropy(LOGITS, CODES), id="sampling",
        ),
        pytest.param(
            ["can", "can|carton", "", "can"], MULTI, "none",
            nn.functional.binary_cross_entropy_with_logits(LOGITS, MULTI), id="several labels",
        ),
        pytest.param(
            ["can", "can|carton", "", "can"], MULTI, "weights",
            nn.functional.binary_cross_entropy_with_logits(
                LOGITS, MULTI, weight=torch.tensor([2.0, 2 / 3]), pos_weight=torch.tensor([1 / 3, 3.0])
            ),
            id="several labels, classes count alike",
        ),
    ],
)  # fmt: skip
def test_the_loss_is_that_of_torch(small_images, labels, targets, balance, expected):
    loss = make_loss(small_images, labels, balance=balance)
    assert float(loss(LOGITS, targets)) == pytest.approx(float(expected))


def test_a_class_without_images_does_not_divide_by_zero(small_images):
    assert torch.isfinite(make_loss(small_images, ["can"] * 4, balance="weights").func.weight).all()


@pytest.mark.parametrize(
    ("labels", "balance", "message"),
    [
        pytest.param(["can"], "equal", "'none', 'weights', 'sampling'", id="unknown"),
        pytest.param(["can", "can|carton"], "sampling", "use balance='weights'", id="several labels drawn"),
    ],
)
def test_a_balance_that_cannot_be_is_refused(small_images, labels, balance, message):
    with pytest.raises(ValueError, match=message):
        make_loss(small_images, labels, balance=balance)


def test_sampling_draws_every_class_equally_often_and_the_same_from_one_seed(small_images):
    images = label(small_images, ["can"] * 24 + ["carton"] * 6)
    drawn = []
    for seed in (0, 0, 1):
        dls = make_dataloaders(images, batch_size=30, seed=seed, augment="none", balance="sampling")
        drawn.append([y.tolist() for _ in range(40) for _, y in dls.train])
    assert drawn[0] == drawn[1] != drawn[2] and [len(codes) for codes in drawn[0]] == [30] * 40
    assert np.mean(drawn[0]) == pytest.approx(0.5, abs=0.05)


def test_the_validation_loss_lets_classes_count_alike_where_training_does(small_images):
    table = small_images.table.assign(split="train")
    table.loc[table.index[:4], "split"] = table.loc[table.index[-9:], "split"] = "valid"
    images = dataclasses.replace(small_images, table=table)
    network = make_learner(make_dataloaders(images), TINY, pretrained=False).model
    losses = {}
    for balance in ("none", "weights", "sampling"):
        learn = make_learner(make_dataloaders(images, batch_size=4, balance=balance), TINY, network=network)
        with learn.no_bar():
            losses[balance] = learn.validate()[0]
    rows, names = np.flatnonzero(table["split"] == "valid"), table["label"]
    logits = torch.tensor(compute_logits(network, images.pixels[rows]))
    codes = torch.tensor([images.class_names.index(names[row]) for row in rows])
    weights = compute_sample_weight("balanced", names[table["split"] == "train"])
    weight_of = dict(zip(names[table["split"] == "train"], weights, strict=True))
    plain = nn.functional.cross_entropy(logits, codes, reduction="none").numpy()
    expected = (plain * [weight_of[names[row]] for row in rows]).mean()
    assert losses["weights"] == pytest.approx(expected, abs=1e-4) == losses["sampling"]
    assert losses["none"] == pytest.approx(plain.mean(), abs=1e-4) != pytest.approx(expected, abs=1e-3)


def test_every_parameter_is_in_one_of_three_groups(small_images):
    learn = make_learner(make_dataloaders(small_images), TINY, pretrained=False)
    groups = learn.splitter(learn.model)
    assert len(groups) == 3
    assert sorted(id(value) for group in groups for value in group) == sorted(map(id, learn.model.parameters()))


def list_changes(learn, train):
    before = {name: value.clone() for name, value in learn.model.state_dict().items()}
    with learn.no_bar(), learn.no_logging():
        train()
    return {name for name, value in learn.model.state_dict().items() if not value.equal(before[name])}


def test_a_pretrained_body_is_frozen_until_it_is_unfrozen_and_its_statistics_stay(small_images):
    learn = make_learner(make_dataloaders(small_images, batch_size=8))
    assert list_changes(learn, lambda: learn.fit_one_cycle(1, 1e-3)) == {"head.weight", "head.bias"}
    learn.unfreeze()
    changed = list_changes(learn, lambda: learn.fit_one_cycle(1, 1e-3))
    assert "body.conv_stem.weight" in changed and not any("running_" in name for name in changed)


def test_a_network_given_is_unfrozen_and_random_weights_learn_statistics(small_images, monkeypatch):
    dls, kept = make_dataloaders(small_images, batch_size=8), []
    monkeypatch.setattr("utils_cv.training.learner.tune_allocator", lambda: kept.append("memory"))
    learn = make_learner(dls, TINY, pretrained=False)
    assert kept and learn.model.body.conv_stem.weight.is_contiguous(memory_format=torch.channels_last)
    learn.freeze()
    learn = make_learner(dls, TINY, network=learn.model, pretrained=False)
    changed = list_changes(learn, lambda: learn.fit_one_cycle(1, 1e-3))
    assert "body.conv_stem.weight" in changed and any("running_mean" in name for name in changed)


def test_the_learning_rate_finder_leaves_weights_and_working_folder_as_they_were(small_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn = make_learner(make_dataloaders(small_images, batch_size=8), TINY, pretrained=False)
    changed = list_changes(learn, lambda: learn.lr_find(num_it=8, show_plot=False))
    assert not {name for name in changed if "running_" not in name and "num_batches" not in name}
    assert not list(tmp_path.iterdir())


def test_one_seed_trains_the_same_network_twice(small_images):
    learned = []
    for seed in (3, 3, 4):
        learn = make_learner(make_dataloaders(small_images, batch_size=8, seed=seed), TINY, pretrained=False)
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(1, 1e-2)
            learn.predict(small_images.table["path"][0])  # overwrites fastai's records
            learn.fit_one_cycle(1, 1e-2)  # as after a training of the head alone
        learned.append(make_trained_model(learn))
    first, again, other = (compute_logits(model.learn.model, small_images.pixels) for model in learned)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    history = learned[0].history
    assert history["epoch"].tolist() == [1, 2] and history["is_kept"].tolist() == [False, True]
    assert learned[0].seconds == pytest.approx(history["seconds"].sum())
