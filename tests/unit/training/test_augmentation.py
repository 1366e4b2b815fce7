"""Augmentations change what they may and nothing else, and draw from random numbers of their own."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from utils_cv.training.augmentation import AUGMENTATIONS, _Rotate, augment_pixels

LEFT = np.full((40, 32, 32, 3), 40, np.uint8)
LEFT[:, :, :16] = 220
TOP = LEFT.transpose(0, 2, 1, 3)


def is_turned(views, axis):
    """Whether the bright half, on the left or at the top before, is on the other side."""
    parts = np.moveaxis(views, axis, 1).astype(float)
    return parts[:, 20:].mean(axis=(1, 2, 3)) > parts[:, :12].mean(axis=(1, 2, 3))


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_what_may_change_sides(augment):
    mirrors, turns = augment in ("upright", "mirror", "any_side_up", "rotate_any"), "any" in augment
    left, top = is_turned(augment_pixels(LEFT, augment), 2), is_turned(augment_pixels(TOP, augment), 1)
    assert left.any() == mirrors and top.any() == turns
    if mirrors:
        assert 8 <= left.sum() <= 32  # about half of 40


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_only_light_and_color_change_a_flat_image_and_gray_stays_gray(augment):
    gray = np.full((20, 16, 16, 3), 100, np.uint8)
    views = augment_pixels(gray, augment)
    assert (views != gray).any() == ({"light", "color"} & set(AUGMENTATIONS[augment]) != set())
    assert np.ptp(views.astype(int), axis=3).max() <= 1


@pytest.mark.parametrize("augment", ["rotate", "rotate_any"])
def test_corners_are_filled_with_the_image(augment):
    bright = np.full((20, 33, 33, 3), 200, np.uint8)
    np.testing.assert_array_equal(augment_pixels(bright, augment), bright)


def test_a_rotation_is_that_of_torchvision_on_a_mirrored_frame():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).repeat_interleave(8, 0)
    image = image.repeat_interleave(8, 1).permute(2, 0, 1)
    framed = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (36, 36), (36, 36)), "symmetric"))
    expected = F.affine(framed, 7.0, [0, 0], 1.05, [0.0], interpolation=InterpolationMode.BILINEAR)[:, 36:108, 36:108]
    view = _Rotate(10).transform(image, {"angle": math.radians(7), "scale": 1.05})
    assert (view.int() - expected.int()).abs().max() <= 1


def test_one_seed_gives_the_same_views_and_another_others():
    first, again, other = (augment_pixels(LEFT, "upright", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[0] != first[1]).any()  # each image has numbers of its own


def test_the_programs_own_random_numbers_go_on_and_images_stay_as_they_were():
    before = LEFT.copy()
    torch.manual_seed(5)
    expected = float(torch.rand(()))
    torch.manual_seed(5)
    augment_pixels(LEFT, "upright")
    assert float(torch.rand(())) == expected
    np.testing.assert_array_equal(LEFT, before)


def test_wrong_arguments_say_what_is_expected():
    with pytest.raises(ValueError, match="any_side_up"):
        augment_pixels(LEFT, "upside_down")
