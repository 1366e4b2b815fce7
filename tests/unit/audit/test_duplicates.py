"""Tests of utils_cv.audit.duplicates and utils_cv.audit.duplicates: copies are found, different images are not."""

import numpy as np
import pytest
from PIL import Image

from utils_cv.audit.duplicates import (
    compute_hash_codes,
    find_near_duplicates,
    group_by_pairs,
    make_resampling,
    measure_overlap,
)

N_IMAGES = 20


def make_image(seed, size=128):
    """Grey cells of several sizes, smooth: about as detailed as a photograph."""
    random = np.random.default_rng(seed)
    layers = [
        Image.fromarray(random.integers(0, 255, (n, n), dtype=np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
        for n in (4, 8, 16)
    ]
    return Image.fromarray(np.mean([np.asarray(layer, float) for layer in layers], axis=0).astype(np.uint8))


def make_thumbnail(image):
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))


def crop(image, left, top, kept):
    side = image.width
    box = (side * left, side * top, side * (left + kept), side * (top + kept))
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


MIRROR = Image.Transpose.FLIP_LEFT_RIGHT
COPIES = {
    "the same": lambda image: image,
    "half the size": lambda image: image.resize((64, 64)),
    "brighter": lambda image: image.point(lambda value: value * 1.2),
    "less contrast": lambda image: image.point(lambda value: 60 + value * 0.5),
    "cropped at a corner": lambda image: crop(image, 0, 0, 0.95),
    "cropped around": lambda image: crop(image, 0.025, 0.025, 0.95),
    "mirrored": lambda image: image.transpose(MIRROR),
    "mirrored and cropped": lambda image: crop(image.transpose(MIRROR), 0.05, 0, 0.95),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_found_and_nothing_else(name):
    originals = [make_image(seed) for seed in range(N_IMAGES)]
    images = originals + [COPIES[name](image) for image in originals]
    pairs, overlaps = find_near_duplicates(np.stack([make_thumbnail(image) for image in images]))
    assert {tuple(pair) for pair in pairs.tolist()} == {(i, i + N_IMAGES) for i in range(N_IMAGES)}
    assert overlaps.min() >= 0.88


def test_most_copies_cropped_by_a_tenth_are_found():
    originals = [make_image(seed) for seed in range(N_IMAGES)]
    images = originals + [crop(image, 0.1, 0.05, 0.9) for image in originals]
    pairs, _ = find_near_duplicates(np.stack([make_thumbnail(image) for image in images]))
    found = {tuple(pair) for pair in pairs.tolist()}
    assert found <= {(i, i + N_IMAGES) for i in range(N_IMAGES)}
    assert len(found) >= 0.7 * N_IMAGES


def test_the_same_light_on_different_things_is_no_duplicate():
    """A bright wall above a dark table correlates strongly; what stands on it decides."""
    thumbnails = []
    for x in (4, 12):
        image = Image.new("L", (128, 128), 220)
        image.paste(60, (0, 80, 128, 128))
        image.paste(140, (4 * x, 50, 4 * x + 20, 100))
        thumbnails.append(make_thumbnail(image))
    correlation = np.corrcoef(thumbnails[0].ravel(), thumbnails[1].ravel())[0, 1]
    assert correlation > 0.88 > measure_overlap(np.stack(thumbnails), np.array([[0, 1]]))[0]


def test_flat_images_do_not_resemble_each_other():
    thumbnails = np.stack([np.full((32, 32), value, np.uint8) for value in (0, 0, 90, 255)])
    assert len(find_near_duplicates(thumbnails)[0]) == 0


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images_for_a_pair(n):
    pairs, overlaps = find_near_duplicates(np.zeros((n, 32, 32), np.uint8))
    assert pairs.shape == (0, 2)
    assert overlaps.shape == (0,)


def test_many_copies_of_one_image_become_one_group():
    random = np.random.default_rng(0)
    base = make_thumbnail(make_image(0)).astype(float)
    copies = [np.clip(base + random.normal(0, 2, base.shape), 0, 255).astype(np.uint8) for _ in range(200)]
    mirrored = make_thumbnail(make_image(0).transpose(MIRROR))
    thumbnails = np.stack([*copies, make_thumbnail(make_image(1)), mirrored])
    groups = group_by_pairs(find_near_duplicates(thumbnails)[0], len(thumbnails))
    assert len(set(groups[:200])) == 1
    assert groups[201] == groups[0] != groups[200]


def test_similar_candidates_need_to_fit_less_but_somewhat():
    image = make_image(0)
    burnt_out = image.point(lambda value: min(255, value * 2))
    thumbnails = np.stack([make_thumbnail(other) for other in (image, burnt_out, make_image(1))])
    assert len(find_near_duplicates(thumbnails)[0]) == 0
    pairs, _ = find_near_duplicates(thumbnails, candidates=np.array([[0, 1], [0, 2], [1, 2]]))
    assert pairs.tolist() == [[0, 1]]


def test_overlap_is_that_of_trying_every_part_of_the_image():
    """Against the same sum written as plain loops."""
    whole, part = (make_thumbnail(image).astype(float) for image in (make_image(3), crop(make_image(3), 0.1, 0, 0.9)))
    parts = [(start, kept) for kept in (1, 0.95, 0.9, 0.85) for start in sorted({0, (1 - kept) / 2, 1 - kept})]
    full = make_resampling(0.0, 1.0, 16)

    def try_parts(image, other):
        small, tried = full @ other @ full.T, []
        for top, kept_down in parts:
            for left, kept_across in parts:
                down, across = make_resampling(top, top + kept_down, 16), make_resampling(left, left + kept_across, 16)
                cells = down @ image @ across.T
                detail = np.corrcoef(subtract_neighbors(cells).ravel(), subtract_neighbors(small).ravel())[0, 1]
                tried.append((np.corrcoef(cells.ravel(), small.ravel())[0, 1], detail))
        return min(max(tried))

    expected = max(try_parts(whole, part), try_parts(part, whole))
    measured = measure_overlap(np.stack([whole, part]).astype(np.uint8), np.array([[0, 1]]))
    assert measured[0] == pytest.approx(expected, abs=1e-4)


def subtract_neighbors(cells):
    means = [
        [cells[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean() for x in range(cells.shape[1])]
        for y in range(cells.shape[0])
    ]
    return cells - np.array(means)


def test_overlap_of_no_pairs():
    assert measure_overlap(np.zeros((3, 32, 32), np.uint8), np.empty((0, 2), int)).shape == (0,)


def difference_hash(image):
    """The definition: which of 9 × 8 grey cells is brighter than its left neighbor."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).view(">u8")[0].astype(np.uint64)


def test_hash_codes_are_near_the_difference_hash():
    images = [make_image(seed) for seed in range(20)]
    codes = compute_hash_codes(np.stack([make_thumbnail(image) for image in images]))
    hashes = np.array([difference_hash(image) for image in images])
    assert np.bitwise_count(codes ^ hashes).mean() < 4
    assert codes.dtype == np.uint64


def test_groups_are_those_that_pairs_connect():
    assert group_by_pairs(np.empty((0, 2), int), 3).tolist() == [0, 1, 2]
    groups = group_by_pairs(np.array([[0, 4], [4, 2]]), 5)
    assert groups[0] == groups[2] == groups[4]
    assert len(set(groups)) == 3
