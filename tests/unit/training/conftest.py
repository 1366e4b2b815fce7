"""A network so small that its training takes a fraction of a second."""

import dataclasses

import pytest


@pytest.fixture(scope="session")
def tiny_start(small_images):
    """A start for `fine_tune` on `small_images`: timm's network for tests, with random weights."""
    from utils_cv.training.learner import make_dataloaders, make_learner
    from utils_cv.training.trained_models import make_trained_model

    return make_trained_model(make_learner(make_dataloaders(small_images), "test_efficientnet", pretrained=False))


@pytest.fixture(scope="session")
def multilabel_images(small_images):
    """The same images; each fifth is labelled with both classes."""
    labels = small_images.table["label"].where(small_images.table.index % 5 != 0, "can|carton")
    return dataclasses.replace(small_images, table=small_images.table.assign(label=labels), is_multilabel=True)


@pytest.fixture(scope="session")
def no_valid_images(small_images):
    """The same images; those of the valid split are train images, too."""
    split = small_images.table["split"].replace("valid", "train")
    return dataclasses.replace(small_images, table=small_images.table.assign(split=split))
