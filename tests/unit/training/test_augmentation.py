"""Presets change what they may and nothing else, and draw from random numbers of their own."""

import random

import numpy as np
import pytest
import torch

from utils_cv.training.augmentation import AUGMENTATIONS, allows_mirror, augment_pixels, make_views


@pytest.fixture(scope="module")
def pixels():
    left_half_white = np.zeros((40, 32, 32, 3), np.uint8)
    left_half_white[:, :, :16] = 220
    return left_half_white


def is_mirrored(views):
    return views[:, :, 20:].mean(axis=(1, 2, 3)) > views[:, :, :12].mean(axis=(1, 2, 3))


def test_none_changes_nothing(pixels):
    np.testing.assert_array_equal(augment_pixels(pixels, "none"), pixels)


def test_upright_mirrors_about_half_of_the_images(pixels):
    assert 8 <= is_mirrored(augment_pixels(pixels, "upright")).sum() <= 32


def test_digits_are_never_mirrored(pixels):
    assert not is_mirrored(augment_pixels(pixels, "digits")).any()


def test_only_any_side_up_puts_images_on_their_head():
    top_white = np.zeros((40, 32, 32, 3), np.uint8)
    top_white[:, :16] = 220
    turned = {
        name: (views[:, 20:].mean(axis=(1, 2, 3)) > views[:, :12].mean(axis=(1, 2, 3))).any()
        for name in AUGMENTATIONS
        for views in [augment_pixels(top_white, name)]
    }
    assert turned == {"none": False, "upright": False, "any_side_up": True, "digits": False}


@pytest.mark.parametrize(("augment", "expected"), [("upright", True), ("any_side_up", True), ("digits", False)])
def test_presets_say_whether_they_mirror(augment, expected):
    assert allows_mirror(augment) is expected


def test_one_seed_gives_the_same_views_and_another_others(pixels):
    first, again, other = (augment_pixels(pixels, "upright", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_programs_own_random_numbers_go_on(pixels):
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed():
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    seed()
    expected = draw()
    seed()
    augment_pixels(pixels, "upright")
    assert draw() == expected


def test_the_first_view_is_the_image_as_it_is(pixels):
    views = make_views(pixels, "upright", 3)
    assert views.shape == (3, *pixels.shape)
    np.testing.assert_array_equal(views[0], pixels)
    assert (views[1] != views[2]).any()


def test_no_view_is_refused(pixels):
    with pytest.raises(ValueError, match="at least 1"):
        make_views(pixels, "upright", 0)


def test_an_unknown_preset_names_the_presets(pixels):
    with pytest.raises(ValueError, match="any_side_up"):
        augment_pixels(pixels, "upside_down")
