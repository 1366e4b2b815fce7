"""Tests of utils_cv.data.downsizing: smaller copies, everything else as it was."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.conftest import make_exif
from utils_cv.data.downsizing import downsize_images
from utils_cv.data.images import load_image

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def make_photo(width=200, height=120):
    """Make an image that is red at the left and blue at the right."""
    image = Image.new("RGB", (width, height), (200, 30, 40))
    image.paste((10, 60, 220), (width // 2, 0, width, height))
    return image


@pytest.fixture
def in_dir(tmp_path):
    in_dir = tmp_path / "in"
    (in_dir / "can").mkdir(parents=True)
    make_photo().save(in_dir / "can" / "large.JPG", icc_profile=PROFILE, comment=b"at home")
    make_photo(90, 60).save(in_dir / "small.png")
    (in_dir / "labels.csv").write_text("image,label\nsmall.png,can\n")
    (in_dir / "notes.txt").write_text("notes")
    (in_dir / "@eaDir").mkdir()
    make_photo(90, 60).save(in_dir / "@eaDir" / "small.png")  # of a network drive: passed over
    (in_dir / "broken.jpg").write_bytes(b"not an image")
    content = (in_dir / "can" / "large.JPG").read_bytes()
    (in_dir / "cut.jpg").write_bytes(content[: len(content) // 2])
    return in_dir


def downsize(in_dir, min_side_px=60, **options):
    done = downsize_images(in_dir, in_dir.parent / "out", min_side_px=min_side_px, show_progress=False, **options)
    return done.set_index("image")


def read_all(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_tree_names_and_table_and_of_metadata_only_the_color_profile_stays(in_dir):
    before = read_all(in_dir)
    done = downsize(in_dir)
    assert done.action.to_dict() == {
        "broken.jpg": "failed",
        "can/large.JPG": "downsized",
        "cut.jpg": "failed",
        "small.png": "copied",
        "labels.csv": "copied",
        "notes.txt": "left out",
    }
    assert sorted(read_all(in_dir.parent / "out")) == ["can/large.JPG", "labels.csv", "small.png"]
    assert read_all(in_dir) == before
    assert "not an image" in done.cause["broken.jpg"] and "truncated" in done.cause["cut.jpg"].lower()
    row = done.loc["can/large.JPG"]
    with Image.open(in_dir.parent / "out/can/large.JPG") as image:
        assert image.size == (row.new_width_px, row.new_height_px) == (100, 60)
        assert image.info["icc_profile"] == PROFILE and "comment" not in image.info
    assert (row.width_px, row.height_px) == (200, 120)
    assert row.new_size_mb == (in_dir.parent / "out/can/large.JPG").stat().st_size / 1e6 < row.size_mb


def test_run_again_only_makes_what_is_missing_and_overwrites_no_other_size(in_dir):
    downsize(in_dir)
    out = in_dir.parent / "out"
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    done = downsize(in_dir)
    assert done.action[["can/large.JPG", "small.png", "labels.csv"]].eq("done before").all()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times
    (out / "can/large.JPG").unlink()  # as after an interruption
    assert downsize(in_dir).action[["can/large.JPG", "small.png"]].tolist() == ["downsized", "done before"]
    assert downsize(in_dir, 40).action["can/large.JPG"] == "failed"
    with Image.open(in_dir / "can/large.JPG") as image:
        image.transpose(Image.Transpose.ROTATE_180).save(in_dir / "can/large.JPG", "JPEG")  # changed since
    done = downsize(in_dir)
    assert (done.action["can/large.JPG"], done.action["small.png"]) == ("failed", "done before")
    assert "another file" in done.cause["can/large.JPG"]


def test_copies_of_lines_and_dots_whose_edges_are_cut_off_are_known_again(tmp_path):
    """Sharpening cannot make white whiter, so that thin lines and dots become lighter or darker as a whole."""
    (tmp_path / "in").mkdir()
    paper = np.full((1200, 1600), 255, np.uint8)
    paper[::10] = paper[:, ::10] = 0
    dots = np.where((np.indices((1200, 1600)) % 8 < 4).all(axis=0), 0, 255).astype(np.uint8)
    for name, pixels in {"paper.png": paper, "dots.png": dots}.items():
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    assert downsize(tmp_path / "in", 600).action.eq("downsized").all()
    assert downsize(tmp_path / "in", 600).action.eq("done before").all()


@pytest.mark.parametrize("min_side_px", [64, 100, 150, 224])
def test_copies_of_photographs_with_fine_detail_are_known_again(min_side_px, tmp_path):
    """JPEG's own reduction of a source and of its copy differ most where rows and columns do not divide."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for i, size_wh in enumerate([(500, 333), (491, 367), (1000, 701)]):
        coarse = Image.fromarray(rng.integers(0, 256, (27, 41, 3), dtype=np.uint8)).resize(
            size_wh, Image.Resampling.BICUBIC
        )
        fine = rng.normal(0, 40, (size_wh[1], size_wh[0], 3))
        Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8)).save(tmp_path / f"in/{i}.jpg")
    assert downsize(tmp_path / "in", min_side_px).action.eq("downsized").all()
    assert downsize(tmp_path / "in", min_side_px).action.eq("done before").all()


@pytest.mark.parametrize("seconds", [0, 10**9, 4 * 10**9], ids=["1970", "2001", "in the future"])
def test_times_are_copied_and_decide_nothing(in_dir, seconds):
    source, copy = in_dir / "can/large.JPG", in_dir.parent / "out/can/large.JPG"
    os.utime(source, (seconds, seconds))
    assert downsize(in_dir).action["can/large.JPG"] == "downsized" and copy.stat().st_mtime == seconds
    for other in (0, 10**9, 4 * 10**9):  # unpacked anew, on another drive
        os.utime(source, (other, other))
        assert downsize(in_dir).action["can/large.JPG"] == "done before"


@pytest.mark.linux
def test_names_as_long_as_the_file_system_allows_are_written(in_dir):
    names = ["a" * 251 + ".jpg", "é" * 125 + "a.jpg", "caf\udce9.jpg"]
    for name in names:
        shutil.copyfile(in_dir / "can/large.JPG", in_dir / name)
    assert downsize(in_dir).action[[*names[:2], "caf\\udce9.jpg"]].tolist() == ["downsized"] * 3


@pytest.mark.parametrize("name", ["can/large.JPG", "small.png"])
def test_another_file_in_the_way_is_left_alone(in_dir, name):
    mine = in_dir.parent / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    done = downsize(in_dir)
    assert done.action[name] == "failed" and "left as it is" in done.cause[name]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("where", ["in", "in/smaller", "in/../in/x"])
def test_out_dir_inside_in_dir_is_refused(in_dir, where):
    with pytest.raises(ValueError, match="inside in_dir"):
        downsize_images(in_dir, in_dir.parent / where, min_side_px=60)


@pytest.mark.parametrize(("min_side_px", "quality"), [(0, 92), (60, 0), (60, 100)])
def test_numbers_out_of_range_are_refused(in_dir, min_side_px, quality):
    with pytest.raises(ValueError, match="expected at least 1"):
        downsize(in_dir, min_side_px, quality=quality)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_upright_once_and_without_metadata(in_dir, suffix):
    stored = make_photo().transpose(Image.Transpose.ROTATE_90)
    stored.save(in_dir / f"turned{suffix}", exif=make_exif(6))
    downsize(in_dir)
    small = load_image(in_dir.parent / f"out/turned{suffix}")
    assert small.size == (100, 60)
    assert small.getpixel((5, 30))[0] > 150 > small.getpixel((95, 30))[0]
    with Image.open(in_dir.parent / f"out/turned{suffix}") as image:
        assert image.getexif().get(0x0112) is None


@pytest.mark.parametrize(
    ("image", "name", "mode"),
    [
        pytest.param(make_photo().convert("L"), "a.jpg", "L", id="grey JPEG"),
        pytest.param(make_photo().convert("CMYK"), "a.jpg", "CMYK", id="CMYK JPEG"),
        pytest.param(make_photo().convert("RGBA"), "a.png", "RGBA", id="PNG with alpha"),
        pytest.param(make_photo().convert("RGBA"), "a.webp", "RGBA", id="WebP with alpha"),
        pytest.param(make_photo().quantize(4), "a.png", "RGB", id="palette PNG"),
        pytest.param(make_photo().convert("RGBA").quantize(4), "a.png", "RGBA", id="palette PNG with alpha"),
        pytest.param(make_photo().quantize(4), "a.gif", "P", id="GIF"),
        pytest.param(make_photo(), "a.bmp", "RGB", id="BMP"),
        pytest.param(make_photo(), "a.ppm", "RGB", id="PPM"),
        pytest.param(make_photo(), "a.jp2", "RGB", id="JPEG 2000"),
        pytest.param(Image.fromarray(np.full((120, 200), 40_000, np.uint16)), "a.png", "I;16", id="16-bit PNG"),
        pytest.param(Image.fromarray(np.full((120, 200), 40_000, ">u2")), "a.tif", "I;16", id="16-bit TIFF of ImageJ"),
        pytest.param(make_photo().convert("1"), "a.png", "RGB", id="black and white"),
    ],
)
def test_every_kind_keeps_what_its_format_can(in_dir, image, name, mode):
    if image.mode == "RGBA":
        image.putalpha(90)
    image.save(in_dir / name)
    assert downsize(in_dir).action[name] == "downsized"
    with Image.open(in_dir.parent / "out" / name) as small:
        assert (small.mode, small.size) == (mode, (100, 60))
    expected = np.asarray(load_image(in_dir / name).resize((100, 60)), float)
    assert np.abs(np.asarray(load_image(in_dir.parent / "out" / name), float) - expected).mean() < 8


def test_reduced_decoding_leaves_enough_detail(in_dir):
    Image.effect_noise((800, 480), 60).save(in_dir / "a.jpg", quality=95)
    expected = load_image(in_dir / "a.jpg").resize((100, 60), Image.Resampling.LANCZOS)
    downsize(in_dir)
    difference = np.asarray(load_image(in_dir.parent / "out/a.jpg"), float) - np.asarray(expected, float)
    assert np.abs(difference).mean() < 3


def test_a_profile_of_another_mode_is_dropped(in_dir):
    make_photo().convert("CMYK").save(in_dir / "a.tif", icc_profile=PROFILE)
    (in_dir / "a.tif").rename(in_dir / "a.png")  # a TIFF by content; a PNG holds no CMYK
    downsize(in_dir)
    with Image.open(in_dir.parent / "out/a.png") as image:
        assert (image.mode, image.format, image.info.get("icc_profile")) == ("RGB", "PNG", None)


def test_a_very_long_image_keeps_at_least_one_pixel(in_dir):
    make_photo(3000, 2).save(in_dir / "line.png")
    assert downsize(in_dir, 1).new_height_px["line.png"] == 1


def test_the_home_folder_may_be_named(in_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(in_dir.parent))
    done = downsize_images("~/in", "~/small", min_side_px=60, show_progress=False)
    assert "copied" in set(done["action"]) and (in_dir.parent / "small/small.png").exists()
