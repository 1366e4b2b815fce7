"""Tests of utils_cv.audit.image_quality: what one file is said to be."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.conftest import make_exif, make_photo
from utils_cv.audit.image_quality import _measure_blur, measure_image


def measure(folder, image, name="a.jpg", **options):
    image.save(folder / name, **options)
    return measure_image(folder / name)[0]


def test_an_image_without_issues(tmp_path):
    photo = make_photo(0)
    facts = measure(tmp_path, photo, quality=95)
    assert (facts.cause, facts.file_issues) == ("", "")
    assert (facts.width_px, facts.height_px, facts.format, facts.mode) == (160, 120, "JPEG", "RGB")
    assert facts.megapixels == pytest.approx(0.0192)
    content = (tmp_path / "a.jpg").read_bytes()
    assert facts.size_mb == len(content) / 1e6
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    gray = np.asarray(photo.convert("L"), float) / 255
    assert facts.brightness == pytest.approx(gray.mean(), abs=0.01)
    assert facts.contrast == pytest.approx(gray.std(), abs=0.02)


PHOTO = make_photo(0)
TRANSPARENT = PHOTO.convert("RGBA")
TRANSPARENT.putalpha(100)
DEEP = Image.fromarray((np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64))
BROKEN, BROKEN_EXIF = "broken EXIF: nothing in them can be read", b"Exif\x00\x00" + bytes(40)
SEVERAL = "named .png, but is JPEG; turned by EXIF (orientation 3); CMYK"
GRAY, CMYK, GIF = PHOTO.convert("L"), PHOTO.convert("CMYK"), {"save_all": True, "append_images": [make_photo(1)]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("image", "name", "file_format", "options", "expected"),
    [
        pytest.param(PHOTO, "a.jpg", "PNG", {}, "named .jpg, but is PNG", id="PNG named .jpg"),
        pytest.param(PHOTO, "a.png", "JPEG", {}, "named .png, but is JPEG", id="JPEG named .png"),
        pytest.param(PHOTO, "photo", "JPEG", {}, "named without an extension, but is JPEG", id="no extension"),
        pytest.param(PHOTO, "a.JPEG", "JPEG", {}, "", id="another spelling of the extension"),
        pytest.param(PHOTO, "a.jpg", "MPO", {}, "", id="JPEG with a preview, of a phone"),
        pytest.param(PHOTO, "a.jpg", "JPEG", {"exif": make_exif(6)}, "turned by EXIF (orientation 6)", id="turned"),
        pytest.param(PHOTO, "a.jpg", "JPEG", {"exif": make_exif(1)}, "", id="EXIF that says upright"),
        pytest.param(PHOTO, "a.jpg", "JPEG", {"exif": BROKEN_EXIF}, BROKEN, id="broken EXIF"),
        pytest.param(TRANSPARENT, "a.png", "PNG", {}, "transparent", id="transparent"),
        pytest.param(PHOTO.convert("RGBA"), "a.png", "PNG", {}, "", id="alpha that hides nothing"),
        pytest.param(CMYK, "a.jpg", "JPEG", {}, "CMYK", id="CMYK"),
        pytest.param(DEEP, "a.png", "PNG", {}, "more than 8 bits, values up to 65520", id="16 bits"),
        pytest.param(CMYK, "a.png", "JPEG", {"exif": make_exif(3)}, SEVERAL, id="several"),
        pytest.param(GRAY, "a.png", "PNG", {}, "", id="gray"),
        pytest.param(PHOTO, "a.gif", "GIF", GIF, "animated or several pages", id="animated"),
    ],
)
def test_issues_of_files(tmp_path, image, name, file_format, options, expected):
    with (tmp_path / name).open("wb") as file:
        image.save(file, file_format, **options)
    facts, _ = measure_image(tmp_path / name)
    assert (facts.cause, facts.file_issues) == ("", expected)


def test_the_size_is_that_of_the_file_upright_also_where_decoding_is_reduced(tmp_path):
    facts = measure(tmp_path, PHOTO.resize((2400, 1600)), exif=make_exif(6))
    assert (facts.width_px, facts.height_px, facts.megapixels) == (1600, 2400, pytest.approx(3.84))


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: None, "no such file"),
        pytest.param(lambda path: path.symlink_to(path.name), "cannot be read: Too many", marks=pytest.mark.linux),
        pytest.param(lambda path: os.mkfifo(path), "a pipe", marks=pytest.mark.linux),  # opening it would wait forever
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"notes"), "not an image"),
        (lambda path: path.write_bytes(bytes(99)), "zeros"),
    ],
)
def test_a_file_that_cannot_be_opened_is_a_fact(tmp_path, make, cause):
    make(tmp_path / "a.jpg")
    facts, thumbnail = measure_image(tmp_path / "a.jpg")
    assert cause in facts.cause and (facts.width_px, thumbnail.shape) == (0, (32, 32))


def test_the_thumbnail_is_the_whole_image_upright(tmp_path):
    image = Image.new("L", (90, 60), 255)
    image.paste(0, (0, 0, 45, 60))  # black left, white right
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=make_exif(6))
    thumbnail = measure_image(tmp_path / "a.jpg")[1]
    assert thumbnail[:, :14].max() < 40 < 200 < thumbnail[:, 18:].min()


def test_blur_rises_with_every_step():
    photo = make_photo(0, (256, 256)).convert("L")
    values = [_measure_blur(np.asarray(photo.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert 0 <= values[0] < 0.3 < 0.58 < values[-1] <= 1


def test_blur_does_not_depend_on_brightness_and_contrast_and_is_zero_for_tiny_and_flat_images():
    assert [_measure_blur(np.zeros(shape)) for shape in ((1, 1), (11, 300), (50, 50))] == [0, 0, 0]
    values = np.asarray(make_photo(0, (100, 80)).convert("L"), float)
    assert _measure_blur(values) == pytest.approx(_measure_blur(values * 0.1 + 30))
