"""Tests of utils_cv.audit.duplicates: copies are found, and different images are not."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.conftest import make_photo
from tests.unit.audit.photos import load_demo_images
from utils_cv.audit.duplicates import _measure_overlap, find_duplicates, group_by_pairs

MIRROR = Image.Transpose.FLIP_LEFT_RIGHT


def make_thumbnail(image):
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))


def find_near(thumbnails):
    """Groups of images in files that all differ."""
    thumbnails = np.asarray(thumbnails, np.uint8).reshape(-1, 32, 32)
    return find_duplicates(np.arange(len(thumbnails)).astype(str), thumbnails, np.full(len(thumbnails), 4 / 3))


def crop(image, left, top, kept):
    (width, height), right, bottom = image.size, left + kept, top + kept
    box = (width * left, height * top, width * right, height * bottom)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


@pytest.mark.parametrize(
    ("change", "min_found"),
    [
        pytest.param(lambda image: image.resize((image.width // 2, image.height // 2)), 24, id="half the size"),
        pytest.param(lambda image: image.point(lambda value: value * 1.1), 24, id="brighter"),
        pytest.param(lambda image: image.point(lambda value: 60 + value * 0.5), 24, id="less contrast"),
        pytest.param(lambda image: crop(image, 0, 0, 0.95), 24, id="cropped at a corner"),
        pytest.param(lambda image: crop(image, 0.025, 0.025, 0.95), 24, id="cropped around"),
        pytest.param(lambda image: image.transpose(MIRROR), 24, id="mirrored"),
        pytest.param(lambda image: crop(image.transpose(MIRROR), 0.05, 0, 0.95), 24, id="mirrored and cropped"),
        pytest.param(lambda image: crop(image, 0.1, 0.05, 0.9), 20, id="cropped by a tenth, most of them"),
    ],
)
def test_copies_are_found_and_nothing_else(change, min_found):
    images = load_demo_images()
    groups = find_near([make_thumbnail(image) for image in images + [change(image) for image in images]])
    originals, copies = groups[:24], groups[24:]
    assert len(set(originals)) == len(set(copies)) == 24  # no false alarm
    assert (originals == copies).sum() >= min_found


def test_the_same_file_is_one_group_whatever_it_shows():
    hashes = np.array(["a", "b", "a", "", "", "b"])
    assert find_duplicates(hashes, np.zeros((6, 32, 32), np.uint8), np.ones(6)).tolist() == [0, 1, 0, 2, 3, 1]


def test_the_same_light_on_different_things_is_no_duplicate():
    """A bright wall above a dark table correlates strongly; what stands on it decides."""
    thumbnails = []
    for x in (4, 12):
        image = Image.new("L", (128, 128), 220)
        image.paste(60, (0, 80, 128, 128))
        image.paste(140, (4 * x, 50, 4 * x + 20, 100))
        thumbnails.append(make_thumbnail(image))
    correlation = np.corrcoef(thumbnails[0].ravel(), thumbnails[1].ravel())[0, 1]
    assert correlation > 0.88 > _measure_overlap(np.stack(thumbnails), np.array([[0, 1]]))[0]


def make_flat(value, n_levels):
    """A single color with a faint spot, as dust on a sensor leaves it."""
    thumbnail = np.full((32, 32), value, np.uint8)
    thumbnail[8:16, 8:16] += n_levels
    return thumbnail


@pytest.mark.parametrize(("n_levels", "n_groups"), [(0, 4), (8, 4), (40, 1)], ids=["flat", "nearly flat", "a figure"])
def test_nearly_flat_images_do_not_resemble_each_other(n_levels, n_groups):
    assert len(set(find_near([make_flat(value, n_levels) for value in (0, 40, 90, 200)]))) == n_groups


def make_surface(seed):
    """A faint pattern of its own, under the light and the stripes that all surfaces of the set share."""
    y, x = np.mgrid[:32, :32] / 32
    light = 60 + 90 * np.exp(-((x - 0.6) ** 2) / 0.05) * (1 - 0.5 * y) + 8 * np.sin(14 * x)
    pattern = np.random.default_rng(seed).normal(0, 5.5, (8, 8)).astype(np.float32)
    return light + np.asarray(Image.fromarray(pattern).resize((32, 32), Image.Resampling.BICUBIC))


def test_surfaces_under_the_same_light_are_told_apart_and_their_copies_are_found():
    surfaces = np.stack([make_surface(i) for i in range(40)])
    groups = find_near(np.concatenate([surfaces, 40 + 0.6 * surfaces]).clip(0, 255))
    assert len(set(groups[:40])) == 40 and (groups[:40] == groups[40:]).all()


def test_many_copies_of_one_image_become_one_group():
    random = np.random.default_rng(0)
    base = make_thumbnail(make_photo(0)).astype(float)
    copies = [np.clip(base + random.normal(0, 2, base.shape), 0, 255).astype(np.uint8) for _ in range(200)]
    mirrored = make_thumbnail(make_photo(0).transpose(MIRROR))
    groups = find_near([*copies, make_thumbnail(make_photo(1)), mirrored])
    assert groups.tolist() == [0] * 200 + [1, 0]


def average_part(image, top, left, height, width):
    """Mean of each of 16 × 16 cells of a part, by areas of pixels, one cell after another."""
    cells = np.empty((16, 16))
    for (i, j), _ in np.ndenumerate(cells):
        weights = []
        for start, kept, k in ((top, height, i), (left, width, j)):
            low, high = ((start + kept * edge / 16) * 32 for edge in (k, k + 1))
            weights.append([max(0.0, min(high, pixel + 1) - max(low, pixel)) for pixel in range(32)])
        cells[i, j] = np.average(image, weights=np.outer(*weights))
    return cells


def subtract_neighbors(cells):
    means = [
        [cells[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean() for x in range(cells.shape[1])]
        for y in range(cells.shape[0])
    ]
    return cells - np.array(means)


def try_all_parts(image, other):
    """The best fit of `other` on a part of `image`: correlation of cells, and of their differences from neighbors."""
    parts = [(0, 1), *((start, kept) for kept in (0.94, 0.88) for start in np.linspace(0, 1 - kept, 6))]
    small, tried = average_part(other, 0, 0, 1, 1), []
    for top, height in parts:
        for left, width in parts:
            cells = average_part(image, top, left, height, width)
            detail = np.corrcoef(subtract_neighbors(cells).ravel(), subtract_neighbors(small).ravel())[0, 1]
            tried.append((np.corrcoef(cells.ravel(), small.ravel())[0, 1], detail))
    return min(max(tried))


def test_overlap_is_that_of_trying_every_part_of_the_image():
    """Against the same sum written as plain loops."""
    smooth = make_photo(3).resize((6, 6)).resize((128, 128), Image.Resampling.BICUBIC)
    whole, part = make_thumbnail(smooth), make_thumbnail(crop(smooth, 0.1, 0, 0.9))
    expected = max(try_all_parts(whole, part), try_all_parts(part, whole))
    assert _measure_overlap(np.stack([whole, part]), np.array([[0, 1]]))[0] == pytest.approx(expected, abs=1e-4)


def test_groups_are_those_that_pairs_connect():
    assert group_by_pairs(np.empty((0, 2), int), 3).tolist() == [0, 1, 2]
    assert group_by_pairs(np.array([[0, 4], [4, 2]]), 5).tolist() == [0, 1, 0, 2, 0]
    assert [find_near(np.zeros((n, 32, 32))).tolist() for n in (0, 1)] == [[], [0]]  # too few for a pair


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(ImageOps.flip, id="upside down"),
        pytest.param(ImageOps.mirror, id="mirrored"),
        pytest.param(lambda image: image.transpose(Image.Transpose.ROTATE_180), id="turned by half"),
        pytest.param(lambda image: image.transpose(Image.Transpose.ROTATE_90), id="turned by 90 degrees"),
        pytest.param(lambda image: image.transpose(Image.Transpose.ROTATE_270), id="turned by 270 degrees"),
        pytest.param(lambda image: image.transpose(Image.Transpose.TRANSPOSE), id="rows and columns swapped"),
        pytest.param(lambda image: image.rotate(25, Image.Resampling.BICUBIC), id="turned by 25 degrees"),
        pytest.param(lambda image: image.rotate(-25, Image.Resampling.BICUBIC), id="turned the other way"),
        pytest.param(lambda image: image.crop((10, 7, 150, 112)), id="cropped to 87.5 %"),
        pytest.param(lambda image: image.resize((160, 70)), id="squeezed"),
    ],
)
def test_edits_that_other_tools_test_with_are_found(edit):
    images = [make_photo(i) for i in range(12)]
    views = [image.convert("L").resize((32, 32), Image.Resampling.BOX) for image in (*images, *map(edit, images))]
    groups = find_near(np.stack(views))
    assert (groups[:12] == groups[12:]).sum() >= 11
    assert len(set(groups[:12])) == 12
