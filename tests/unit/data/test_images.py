"""Tests of utils_cv.data.images: finding, opening, resizing, loading many, fingerprints."""

import numpy as np
import pytest
from PIL import Image

from utils_cv.data.images import (
    ImageError,
    difference_hash,
    list_image_files,
    load_image,
    load_images,
    load_pixels,
    resize_image,
)


def make_photo(width, height, seed=0):
    """Smooth cells, edges and a little grain, about as hard for a decoder as a photograph."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    for _ in range(12):
        x, y = random.integers(0, width), random.integers(0, height)
        image.paste(tuple(random.integers(0, 255, 3).tolist()), (x, y, x + width // 9, y + height // 7))
    grain = random.normal(0, 4, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


@pytest.fixture
def photo_paths(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        make_photo(160, 120, seed=number).save(path, quality=92)
    return paths


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_list_image_files_order_and_kinds(tmp_path):
    touch(
        tmp_path, "b/2.JPG", "b/10.jpg", "a/x.Png", "A/y.heic", "z.webp", "notes.txt", "b/labels.csv", "c/drawing.svg"
    )
    names = [path.relative_to(tmp_path).as_posix() for path in list_image_files(tmp_path)]
    assert names == ["A/y.heic", "a/x.Png", "b/10.jpg", "b/2.JPG", "z.webp"]


def test_list_image_files_leaves_out_what_begins_with_a_dot(tmp_path):
    touch(tmp_path, ".ipynb_checkpoints/1.jpg", "._1.jpg", "a/.hidden/1.jpg", "a/1.jpg", ".jpg")
    assert list_image_files(tmp_path) == [tmp_path / "a/1.jpg"]


def test_list_image_files_does_not_ask_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr("mimetypes.guess_type", lambda *args, **options: (None, None))
    touch(tmp_path, "1.jpg")
    assert len(list_image_files(tmp_path)) == 1


def test_list_image_files_follows_a_linked_folder_once(tmp_path):
    touch(tmp_path, "data/a/1.jpg", "elsewhere/2.jpg")
    try:
        (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "data/a/loop").symlink_to(tmp_path / "data", target_is_directory=True)
    except OSError:
        return  # Windows without the right to make links has no loops either
    assert [path.name for path in list_image_files(tmp_path / "data")] == ["1.jpg", "2.jpg"]


def test_list_image_files_without_a_folder(tmp_path):
    with pytest.raises(NotADirectoryError, match="missing"):
        list_image_files(tmp_path / "missing")


def test_load_image_gives_the_pixels_of_the_file(tmp_path):
    photo = make_photo(50, 40)
    photo.save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png")), np.asarray(photo))


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        pytest.param(lambda path: None, "there is no such file", id="missing"),
        pytest.param(lambda path: path.mkdir(), "a folder, not a file", id="folder"),
        pytest.param(lambda path: path.write_bytes(b""), "the file is empty", id="empty"),
        pytest.param(lambda path: path.write_text("notes"), "not an image", id="text"),
    ],
)
def test_load_image_names_file_and_cause(tmp_path, make, cause):
    make(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=cause) as caught:
        load_image(tmp_path / "a.jpg")
    assert caught.value.path == tmp_path / "a.jpg"


@pytest.mark.parametrize(
    ("width", "height", "target_px"),
    [
        pytest.param(500, 375, 224, id="ordinary photograph"),
        pytest.param(1024, 768, 224, id="half"),
        pytest.param(2000, 1500, 224, id="quarter"),
        pytest.param(4000, 3000, 224, id="12 megapixels, an eighth"),
        pytest.param(3000, 4000, 224, id="12 megapixels upright"),
        pytest.param(716, 900, 224, id="just reduced by two"),
        pytest.param(1432, 1432, 224, id="just reduced by four"),
        pytest.param(2864, 2900, 224, id="just reduced by eight"),
        pytest.param(3000, 400, 128, id="panorama"),
    ],
)
def test_reduced_decoding_equals_full_decoding_to_44_db(tmp_path, width, height, target_px):
    make_photo(width, height).save(tmp_path / "a.jpg", quality=92)
    reduced = resize_image(load_image(tmp_path / "a.jpg", target_px=target_px), target_px)
    full = resize_image(load_image(tmp_path / "a.jpg"), target_px)
    difference = np.asarray(reduced, float) - np.asarray(full, float)
    assert np.abs(difference).mean() <= 1
    assert 10 * np.log10(255**2 / max(np.mean(difference**2), 1e-9)) >= 44


def make_stripes():
    """Three upright stripes: red, green, blue."""
    image = Image.new("RGB", (90, 30), (255, 0, 0))
    image.paste((0, 255, 0), (30, 0, 60, 30))
    image.paste((0, 0, 255), (60, 0, 90, 30))
    return image


@pytest.mark.parametrize(
    ("fit", "left", "middle", "top"),
    [
        pytest.param("squash", (255, 0, 0), (0, 255, 0), (0, 255, 0), id="squash keeps all three"),
        pytest.param("crop", (0, 255, 0), (0, 255, 0), (0, 255, 0), id="crop keeps the middle"),
        pytest.param("pad", (255, 0, 0), (0, 255, 0), (128, 128, 128), id="pad adds bars"),
    ],
)
def test_resize_image_fits(fit, left, middle, top):
    image = resize_image(make_stripes(), 60, fit=fit)
    assert image.size == (60, 60)
    assert [image.getpixel(xy) for xy in ((2, 30), (30, 30), (30, 2))] == [left, middle, top]


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (33, 77)])
def test_resize_image_of_any_shape(fit, size):
    assert resize_image(Image.new("RGB", size), 32, fit=fit).size == (32, 32)


def test_resize_image_refuses_another_fit():
    with pytest.raises(ValueError, match="'squash', 'crop' or 'pad'"):
        resize_image(make_stripes(), 32, fit="stretch")


def test_load_images_lists_failures_and_goes_on(photo_paths, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"no image")
    (tmp_path / "3.jpg").unlink()
    loaded = load_images(photo_paths, 32)
    assert loaded.rows.tolist() == [0, 2, 4]
    assert loaded.failures.path.tolist() == [str(tmp_path / "1.jpg"), str(tmp_path / "3.jpg")]
    assert loaded.failures.cause.str.contains("not an image|no such file").all()
    for pixels, row in zip(loaded.pixels, loaded.rows, strict=True):
        np.testing.assert_array_equal(pixels, load_pixels(photo_paths[row], 32))


@pytest.mark.parametrize("n_threads", [1, 4])
def test_load_images_does_not_depend_on_threads(photo_paths, n_threads):
    expected = np.stack([load_pixels(path, 32) for path in photo_paths])
    np.testing.assert_array_equal(load_images(photo_paths, 32, n_threads=n_threads).pixels, expected)


def test_load_images_of_nothing():
    loaded = load_images([], 16)
    assert loaded.pixels.shape == (0, 16, 16, 3)
    assert len(loaded.rows) == len(loaded.failures) == 0


def test_load_images_when_none_opens(tmp_path):
    loaded = load_images([tmp_path / "a.jpg", tmp_path / "b.jpg"], 16)
    assert loaded.pixels.shape == (0, 16, 16, 3)
    assert len(loaded.failures) == 2


def count_bits(a, b):
    return int(np.bitwise_count(a ^ b))


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        pytest.param(lambda image: image.resize((80, 60)), 2, id="smaller"),
        pytest.param(lambda image: image.point(lambda value: value * 0.8), 2, id="darker"),
        pytest.param(lambda image: image.convert("L"), 0, id="grey"),
    ],
)
def test_difference_hash_hardly_changes(change, limit):
    photo = make_photo(320, 240)
    assert count_bits(difference_hash(photo), difference_hash(change(photo))) <= limit


def test_difference_hash_of_other_images_differs_in_half_of_the_bits():
    hashes = np.array([difference_hash(make_photo(320, 240, seed)) for seed in range(20)])
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None, :])[np.triu_indices(20, 1)]
    assert 24 < distances.mean() < 40
    assert distances.min() > 10


def test_difference_hash_bits_are_rising_neighbors():
    rising = Image.fromarray(np.tile(np.arange(0, 252, 28, dtype=np.uint8), (8, 1)))  # 9 columns, each brighter
    assert difference_hash(rising) == np.uint64(2**64 - 1)
    assert difference_hash(rising.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == np.uint64(0)
    assert difference_hash(rising).dtype == np.uint64
