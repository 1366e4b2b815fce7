"""Tests of utils_cv.data.decoding: every kind of image becomes upright RGB, every bad file one clear error."""

import io
import struct
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms, TiffImagePlugin, features

from tests.conftest import make_exif, make_photo
from utils_cv.data.decoding import convert_to_rgb, decode_image
from utils_cv.data.image_headers import ImageError
from utils_cv.system.timing import measure_fresh_process

RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (10, 60, 220)


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def make_corners():
    """Red at the top left, green at the top right, blue below."""
    image = Image.new("RGB", (64, 48), BLUE)
    image.paste(RED, (0, 0, 32, 24))
    image.paste(GREEN, (32, 0, 64, 24))
    return image


def open_content(content, **options):
    """The image alone, without the facts of its header."""
    return decode_image(content, **options)[0]


def is_near(color, expected, tolerance=12):
    return np.abs(np.subtract(color, expected)).max() <= tolerance


PHOTO = make_photo(0, (120, 90))
JPEG = encode(PHOTO, "JPEG", quality=92)
PNG = encode(PHOTO, "PNG")
FORMATS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "MPO"]
FORMATS += ["AVIF"] if features.check("avif") else []


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_opens_as_rgb(file_format):
    image = open_content(encode(PHOTO, file_format))
    assert (image.mode, image.size) == ("RGB", (120, 90))
    assert np.abs(np.asarray(image, float) - np.asarray(PHOTO, float)).mean() < 12  # GIF has 256 colors


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        *(
            pytest.param(encode(PHOTO, "TIFF", compression=kind), PHOTO, id=f"TIFF, {kind}")
            for kind in ("jpeg", "zstd", "lzma", "packbits", "tiff_lzw", "tiff_adobe_deflate")
        ),
        pytest.param(encode(PHOTO.convert("1"), "TIFF", compression="group4"), PHOTO.convert("1"), id="TIFF, fax"),
        pytest.param(encode(PHOTO, "TIFF", big_tiff=True), PHOTO, id="BigTIFF"),
        pytest.param(JPEG + b"junk" * 99, PHOTO, id="junk behind a JPEG"),
        pytest.param(encode(PHOTO, "PNG", icc_profile=b"bad" * 50), PHOTO, id="bad color profile"),
        pytest.param(encode(PHOTO, "JPEG", xmp=XMP), PHOTO.transpose(Image.Transpose.ROTATE_270), id="turned by XMP"),
    ],
)
def test_rare_kinds_open_as_they_are_seen(content, expected):
    difference = np.subtract(open_content(content), np.asarray(expected.convert("RGB"), float))
    assert np.abs(difference).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_made_upright_once(orientation, file_format):
    undo = dict(zip(range(2, 9), (0, 3, 1, 5, 2, 6, 4), strict=True))  # Image.Transpose from upright to stored
    stored = make_corners()
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    content = encode(stored, file_format, exif=make_exif(orientation))
    upright = open_content(content)
    assert is_near(upright.getpixel((4, 4)), RED, 30)
    assert is_near(upright.getpixel((59, 4)), GREEN, 30)
    assert upright.getexif().get(0x0112) is None  # nobody turns it a second time
    assert upright.size == (64, 48)


def test_orientation_of_a_reduced_jpeg():
    stored = make_corners().resize((1280, 960)).transpose(Image.Transpose.ROTATE_90)
    upright = open_content(encode(stored, "JPEG", exif=make_exif(6)), target_px=60)
    assert upright.size == (160, 120)
    assert is_near(upright.getpixel((10, 10)), RED)


def overwrite_exif(position, value):
    return lambda exif: exif[:position] + value + exif[position + len(value) :]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda exif: exif[:20], id="cut"),
        pytest.param(overwrite_exif(6, b"XX"), id="no byte order"),
        pytest.param(overwrite_exif(10, b"\xff\xff\xff\xff"), id="directory beyond the end"),
        pytest.param(overwrite_exif(14, b"\xff\xff"), id="65535 entries"),
        pytest.param(lambda exif: b"Exif\x00\x00", id="nothing after the name"),
        pytest.param(overwrite_exif(24, b"\x00\x63"), id="orientation 99"),
    ],
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_never_stops_an_image(damage, file_format):
    content = encode(PHOTO, file_format, exif=damage(make_exif(6)))
    assert open_content(content).size in {(120, 90), (90, 120)}


def test_a_resolution_of_zero_over_zero_does_no_harm():
    exif = Image.Exif()
    exif[0x011A] = exif[0x011B] = TiffImagePlugin.IFDRational(0, 0)
    exif[0x0112] = 6
    assert open_content(encode(PHOTO, "JPEG", exif=exif.tobytes())).size == (90, 120)


def make_half_transparent(mode):
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))  # black is hidden under the transparent half
    image.paste((*RED, 255), (0, 0, 20, 40))
    return image.convert(mode) if mode != "P" else image.quantize(8)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encode(make_half_transparent("RGBA"), "PNG"), id="RGBA"),
        pytest.param(encode(make_half_transparent("RGBA"), "WEBP", lossless=True), id="WebP with alpha"),
        pytest.param(encode(make_half_transparent("P"), "PNG"), id="palette with alpha"),
        pytest.param(encode(make_half_transparent("RGBA"), "GIF"), id="transparent GIF"),
    ],
)
def test_transparent_parts_become_white(content):
    image = open_content(content)
    assert is_near(image.getpixel((5, 20)), RED)
    assert image.getpixel((35, 20)) == (255, 255, 255)


def make_lab(color):
    srgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
    return ImageCms.profileToProfile(Image.new("RGB", (8, 8), color), srgb, lab, outputMode="LAB")


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        pytest.param(Image.new("RGB", (8, 8), RED), {"transparency": RED}, (255, 255, 255), id="RGB key color"),
        pytest.param(Image.new("L", (8, 8), 70), {"transparency": 70}, (255, 255, 255), id="grey key color"),
        pytest.param(Image.new("L", (8, 8), 70), {}, (70, 70, 70), id="grey"),
        pytest.param(Image.new("1", (8, 8), 1), {}, (255, 255, 255), id="black and white"),
        pytest.param(Image.new("1", (8, 8), 0), {"transparency": 0}, (255, 255, 255), id="black and white with a key"),
        pytest.param(Image.new("LA", (8, 8), (70, 255)), {}, (70, 70, 70), id="grey, opaque"),
        pytest.param(Image.new("LA", (8, 8), (70, 0)), {}, (255, 255, 255), id="grey, transparent"),
        pytest.param(Image.new("RGBA", (8, 8), (100, 0, 0, 128)), {}, (177, 127, 127), id="half transparent is mixed"),
        pytest.param(Image.new("RGB", (8, 8), RED).convert("CMYK"), {}, RED, id="CMYK"),
        pytest.param(make_lab(RED), {}, RED, id="LAB"),
    ],
)
def test_every_mode_has_its_colors(image, options, expected):
    file_format = {"CMYK": "JPEG", "LAB": "TIFF"}.get(image.mode, "PNG")
    tolerance = 0 if file_format == "PNG" else 12
    assert is_near(open_content(encode(image, file_format, **options)).getpixel((4, 4)), expected, tolerance)


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "YCbCr", "HSV", "RGBX"])
def test_rare_modes_become_rgb(mode):
    through = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, "RGB")
    image = Image.new("RGB", (4, 4), (102, 102, 102)).convert(through).convert(mode)
    assert is_near(convert_to_rgb(image).getpixel((1, 1)), (102, 102, 102), 2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(np.array([[0, 32768, 65535]], np.uint16), [0, 128, 255], id="16 bits"),
        pytest.param(np.array([[257, 25_700, 51_400]], np.uint16), [1, 100, 200], id="a part of 16 bits"),
        pytest.param(np.array([[0, 32768, 65535]], ">u2"), [0, 128, 255], id="16 bits, high byte first"),
        pytest.param(np.array([[0, 32768, 65535]], np.int32), [0, 128, 255], id="16 bits in 32"),
        pytest.param(np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255], id="32 bits with a sign"),
        pytest.param(np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255], id="floats to 1"),
        pytest.param(np.array([[0.0, 128.0, 200.0]], np.float32), [0, 128, 200], id="floats to 255"),
        pytest.param(np.array([[0.0, 500.0, 1000.0]], np.float32), [0, 128, 255], id="floats beyond"),
        pytest.param(np.array([[np.nan, 0.5, np.inf]], np.float32), [0, 128, 0], id="not a number"),
        pytest.param(np.array([[7, 7, 7]], np.int32) * 10**6, [0, 0, 0], id="one large value"),
    ],
)
def test_deep_images_are_scaled_not_clipped(values, expected):
    for file_format in ("TIFF", "PNG") if values.dtype.kind == "u" else ("TIFF",):
        for image in (
            open_content(encode(Image.fromarray(values), file_format)),
            convert_to_rgb(Image.fromarray(values)),
        ):
            np.testing.assert_allclose(np.asarray(image)[0, :, 0], expected, atol=1)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_animations_show_their_first_image(file_format):
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, GREEN, BLUE)]
    content = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert is_near(open_content(content).getpixel((8, 8)), RED)


def test_a_large_jpeg_is_decoded_reduced_and_others_are_not():
    large = make_photo(0, (1600, 1200))
    assert open_content(encode(large, "JPEG"), target_px=100).size == (400, 300)
    assert open_content(encode(large, "JPEG"), target_px=1000).size == (1600, 1200)
    assert open_content(encode(large, "PNG"), target_px=100).size == (1600, 1200)


def test_heic_opens_with_the_extra():
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(PHOTO).save(buffer, quality=90)
    image, facts = decode_image(buffer.getvalue(), "phone.jpg")
    assert (image.mode, image.size, facts.format) == ("RGB", (120, 90), "HEIF")
    assert np.abs(np.asarray(image, float) - np.asarray(PHOTO, float)).mean() < 12


def make_png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_png(width, height, data=b"", depth=8):
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(make_png_chunk(*chunk) for chunk in chunks)


GIF_OF_TWO = encode(PHOTO, "GIF", save_all=True, append_images=[Image.new("RGB", PHOTO.size)])
ZERO_EXIF = b"Exif\x00\x00" + bytes(40)
DEEP_PNG = make_png(120, 90, zlib.compress(bytes(90 * (1 + 120 * 6))), depth=16)  # Pillow gives 8 bits of its colors
# An AVIF file whose major brand is that of HEIC files, as some programs write it.
AVIF_AS_MIF1 = encode(PHOTO, "AVIF").replace(b"ftypavif", b"ftypmif1") if "AVIF" in FORMATS else None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(JPEG, {"format": "JPEG", "mode": "RGB"}, id="plain"),
        pytest.param(encode(PHOTO, "JPEG", exif=make_exif(6)), {"orientation": 6, "width_px": 90}, id="turned"),
        pytest.param(encode(PHOTO, "TIFF", exif=make_exif(6)), {"format": "TIFF", "width_px": 90}, id="TIFF"),
        pytest.param(encode(PHOTO, "JPEG", exif=ZERO_EXIF), {"exif_problem": "nothing in them can be read"}, id="EXIF"),
        pytest.param(encode(PHOTO.convert("CMYK"), "JPEG"), {"mode": "CMYK"}, id="CMYK"),
        pytest.param(encode(Image.new("I;16", (120, 90)), "PNG"), {"is_deep": True}, id="16 bits"),
        pytest.param(DEEP_PNG, {"is_deep": True, "mode": "RGB"}, id="16 bits of color"),
        pytest.param(encode(Image.new("F", (120, 90)), "TIFF"), {"is_deep": True, "mode": "F"}, id="floats"),
        pytest.param(encode(make_half_transparent("RGBA"), "PNG"), {"is_transparent": True}, id="transparent"),
        pytest.param(encode(PHOTO.convert("RGBA"), "PNG"), {"is_transparent": False}, id="opaque alpha"),
        pytest.param(GIF_OF_TWO, {"is_animated": True}, id="animated"),
        *([pytest.param(AVIF_AS_MIF1, {"format": "AVIF"}, id="AVIF")] if AVIF_AS_MIF1 else []),
    ],
)
def test_facts_of_the_header(content, expected):
    image, facts = decode_image(content)
    plain = {"orientation": 1, "exif_problem": "", "is_deep": False, "is_animated": False, "is_transparent": False}
    found = facts._asdict()
    assert (facts.width_px, facts.height_px) == image.size
    assert {name: found[name] for name in plain | expected} == plain | expected


def cut(content, fraction):
    return content[: int(len(content) * fraction)]


NOISE = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
GIF, BMP, WEBP, TIFF, PPM, JP2 = (encode(PHOTO, name) for name in ("GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000"))
PROGRESSIVE = encode(PHOTO, "JPEG", progressive=True, quality=92)

BAD_FILES = {
    "JPEG without its start": (JPEG[2:], "not an image of a known format"),
    "JPEG cut at half": (cut(JPEG, 0.5), "damaged: image file is truncated"),
    "progressive JPEG cut at half": (cut(PROGRESSIVE, 0.5), "damaged: image file is truncated"),
    "JPEG of height 0": (JPEG.replace(struct.pack(">HH", 90, 120), struct.pack(">HH", 0, 120), 1), "damaged|not an"),
    "PNG cut at half": (cut(PNG, 0.5), "damaged"),
    "PNG with too few pixels": (make_png(100, 100, zlib.compress(bytes(50))), "damaged"),
    "PNG of an unknown depth": (make_png(10, 10, zlib.compress(bytes(400)), depth=77), "not an image|damaged"),
    "PNG bomb": (make_png(30_000, 30_000, zlib.compress(bytes(1000))), "too many pixels"),
    "BMP bomb": (BMP[:18] + struct.pack("<ii", 40_000, 40_000) + BMP[26:], "too many pixels"),
    "GIF cut at half": (cut(GIF, 0.5), "damaged"),
    "BMP cut at half": (cut(BMP, 0.5), "damaged"),
    "WebP cut at half": (cut(WEBP, 0.5), "damaged|not an image"),
    "TIFF cut at half": (cut(TIFF, 0.5), "damaged|not an image"),
    "PPM cut at half": (cut(PPM, 0.5), "damaged"),
    "JPEG 2000 cut at half": (cut(JP2, 0.5), "damaged"),
}


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_gives_one_error_with_path_and_cause(name):
    content, cause = BAD_FILES[name]
    with pytest.raises(ImageError, match=cause) as caught:
        decode_image(content, "folder/bad.jpg", target_px=64)
    assert caught.value.path.name == "bad.jpg"
    assert caught.value.cause in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_never_escape_as_another_error():
    random = np.random.default_rng(0)
    for original in (JPEG, PNG, GIF, BMP, WEBP, TIFF, PPM, JP2):
        for _ in range(15):
            content = bytearray(original)
            for position in random.integers(0, min(len(content), 400), 3):
                content[position] = random.integers(256)
            try:
                assert open_content(bytes(content)).mode == "RGB"
            except ImageError:
                continue


def make_tiff(pixels, photometric, *, sample_format=1, extra=(), tags=(), planar=1, compression=1):
    """A TIFF of any number of bands, as Pillow cannot write it: pixels (height, width, n_bands)."""
    data = (pixels if planar == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))).tobytes()
    height, width, n_bands = pixels.shape
    strips = [len(data) // n_bands] * n_bands if planar == 2 else [len(data)]
    data, strips = (zlib.compress(data), [len(zlib.compress(data))]) if compression == 8 else (data, strips)
    rows = {256: [width], 257: [height], 258: [pixels.dtype.itemsize * 8] * n_bands, 259: [compression]}
    rows |= {262: [photometric], 273: strips, 277: [n_bands], 278: [height], 279: strips, 284: [planar]}
    rows |= {338: list(extra)} if extra else {}
    rows |= {339: [sample_format] * n_bands} | dict(tags)
    start = 8 + 2 + 12 * len(rows) + 4
    data_at = start + 4 * sum(len(values) for values in rows.values() if len(values) > 1)
    rows[273] = [data_at + sum(strips[:i]) for i in range(len(strips))]
    entries, values_after = b"", b""
    for tag, values in sorted(rows.items()):
        value = values[0] if len(values) == 1 else start + len(values_after)
        entries += struct.pack("<HHII", tag, 4, len(values), value)
        values_after += struct.pack(f"<{len(values)}I", *values) if len(values) > 1 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(rows)) + entries + bytes(4) + values_after + data


RGB = np.asarray(PHOTO)
G, NEAR_INFRARED = RGB[..., :1], RGB[..., 1:2] // 4
DEEP, YCC = RGB.astype(np.uint16) * 257, np.asarray(PHOTO.convert("YCbCr"))
NO_SUBSAMPLING = {530: [1, 1]}
DEEP_G, GRAYS_OF_8_BITS = np.dstack([G] * 3), list(range(256))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(make_tiff(np.dstack([RGB, NEAR_INFRARED]), 2), RGB, id="four bands, the fourth unexplained"),
        pytest.param(make_tiff(np.dstack([RGB, NEAR_INFRARED]), 2, planar=2), RGB, id="four bands in planes"),
        pytest.param(make_tiff(np.dstack([DEEP, DEEP[..., :1] // 4]), 2), RGB, id="four bands of 16 bits"),
        pytest.param(make_tiff(np.dstack([RGB, NEAR_INFRARED]), 2, extra=[0]), RGB, id="a fourth band of any meaning"),
        pytest.param(make_tiff(RGB, 2, planar=2), RGB, id="planes"),
        pytest.param(make_tiff(DEEP[..., :1], 1, planar=2, compression=8), DEEP_G, id="16 bits in a plane, compressed"),
        pytest.param(make_tiff(DEEP, 2), RGB, id="16-bit colors"),
        pytest.param(make_tiff(255 - G, 0), DEEP_G, id="0 is white"),
        pytest.param(make_tiff(65535 - DEEP[..., :1], 0), DEEP_G, id="0 is white, 16 bits"),
        pytest.param(make_tiff(65535 - DEEP[..., :1], 0, compression=8), DEEP_G, id="0 is white, 16 bits, compressed"),
        pytest.param(make_tiff((1 - G / 255).astype(np.float32), 0, sample_format=3), DEEP_G, id="0 is white, floats"),
        *([] if PIL.__version__ < "13" else [pytest.param(make_tiff(YCC, 6, tags=NO_SUBSAMPLING), RGB, id="YCbCr")]),
        pytest.param(make_tiff(YCC, 6, tags=NO_SUBSAMPLING, compression=8), RGB, id="YCbCr, compressed"),
        pytest.param(make_tiff(np.asarray(PHOTO.convert("CMYK")), 5), RGB, id="CMYK"),
        pytest.param(make_tiff(G, 3, tags={320: GRAYS_OF_8_BITS * 3}), DEEP_G, id="a palette of 8-bit colors"),
        pytest.param(make_tiff(G, 3, tags={320: [257 * i for i in range(256)] * 3}), DEEP_G, id="a palette"),
    ],
)
def test_tiff_files_open_as_a_viewer_shows_them(content, expected):
    image, facts = decode_image(content)
    assert np.abs(np.asarray(image, int) - expected).max() <= 3
    assert not facts.is_transparent


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("content", "cause"),
    [
        pytest.param(make_tiff(G / 255, 1, sample_format=3), "1 band of floating-point 64 bits", id="doubles"),
        pytest.param(make_tiff(np.float32(RGB), 2, sample_format=3), "3 bands of floating-point 32 bits", id="floats"),
        pytest.param(make_tiff(np.dstack([RGB, RGB[..., :2]]), 1), "5 bands of 8 bits", id="5 bands"),
        pytest.param(make_tiff(G, 32803), r"8 bits \(camera raw\), which Pillow cannot read", id="camera raw"),
        pytest.param(make_tiff(RGB, 9), r"8 bits \(ICC Lab\)", id="ICC Lab"),
        pytest.param(make_tiff(DEEP, 2, planar=2), "16-bit values in planes", id="16 bits in planes"),
        pytest.param(make_tiff(G.astype(np.int8), 1, sample_format=2), "signed 8-bit values", id="signed"),
        pytest.param(make_tiff(G * np.uint32(2**24), 1), r"values of 2\*\*31 or more", id="32 bits, above signed ones"),
        pytest.param(make_tiff(YCC, 6), "subsampled YCbCr colors", id="YCbCr, subsampled unless said"),
    ],
)
def test_tiff_files_that_pillow_cannot_read_say_why(content, cause):
    with pytest.raises(ImageError, match=cause):
        decode_image(content)


COMPRESSED_TEXT = zlib.compress(b"a" * 5_000_000)
PNG_TEXTS = {
    "one large text": make_png_chunk(b"zTXt", b"Comment\0\0" + COMPRESSED_TEXT),
    "large XMP": make_png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + COMPRESSED_TEXT),
    "large color profile": make_png_chunk(b"iCCP", b"icc\0\0" + COMPRESSED_TEXT),
    "many texts": make_png_chunk(b"tEXt", b"Comment\0" + b"a" * 900_000) * 80,
}


@pytest.mark.parametrize("name", PNG_TEXTS)
@pytest.mark.parametrize("place", [33, -12], ids=["in front of the pixels", "behind them"])
def test_a_png_with_much_metadata_opens(name, place):
    image = open_content(PNG[:place] + PNG_TEXTS[name] + PNG[place:])
    np.testing.assert_array_equal(np.asarray(image), RGB)


def test_an_image_beyond_the_limit_of_memory_is_refused_and_the_limit_is_a_parameter():
    bomb = encode(Image.new("L", (9000, 9000)), "PNG")
    with pytest.raises(ImageError, match=r"9000 x 9000 need 972 MB to decode, more than max_mb=100\."):
        decode_image(bomb, max_mb=100)
    assert len(bomb) < 100_000 and open_content(bomb).size == (9000, 9000)
    assert open_content(encode(Image.new("L", (9000, 9000)), "JPEG"), target_px=224, max_mb=100).size == (1125, 1125)


DECODE = """
from pathlib import Path
from utils_cv.data.decoding import decode_image
decode_image(Path({file!r}).read_bytes())
"""


@pytest.mark.parametrize(("mode", "file_format"), [("RGBA", "PNG"), ("I;16", "PNG"), ("F", "TIFF"), ("RGBA", "WEBP")])
def test_decoding_takes_at_most_three_times_the_memory_of_the_pixels(tmp_path, mode, file_format):
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 4), dtype=np.uint8)
    values = {"RGBA": noise, "I;16": noise[..., 0] * np.uint16(257), "F": noise[..., 0] / np.float32(255)}[mode]
    peaks_mb = []
    for n in (40, 1):
        image = Image.fromarray(np.tile(values, (n, n) + (1,) * (values.ndim - 2)))
        image.save(tmp_path / str(n), file_format)
        peaks_mb.append(measure_fresh_process(DECODE.format(file=str(tmp_path / str(n)))).peak_memory_mb)
    pixels_mb, file_mb = 3200 * 2400 * 4 / 1e6, (tmp_path / "40").stat().st_size / 1e6
    n_copies = 2 if file_format == "WEBP" else 1  # its decoder makes one of the file, and two of the pixels
    assert peaks_mb[0] - peaks_mb[1] - n_copies * file_mb < 3.05 * pixels_mb


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("n_bits", "largest"), [(8, 255), (10, 1000), (12, 4095), (14, 9000), (16, 65535)])
def test_a_value_range_keeps_what_16_bit_files_use_and_whitens_what_is_beyond(file_format, n_bits, largest):
    values = np.array([[0, largest // 2, largest, 65535]], np.uint16)
    image, facts = decode_image(encode(Image.fromarray(values[:, :3]), file_format), value_range=2**n_bits - 1)
    expected = np.round(values[0, :3] * 255.0 / (2**n_bits - 1))
    np.testing.assert_allclose(np.asarray(image)[0, :, 0], expected, atol=1)
    assert facts.max_value == largest
    beyond = open_content(encode(Image.fromarray(values), file_format), value_range=2**n_bits - 1)
    assert beyond.getpixel((3, 0)) == (255, 255, 255)


def test_of_16_bit_colors_the_upper_8_bits_are_stretched():
    twelve_bits = make_tiff(RGB.astype(np.uint16) * 16, 2)
    image, facts = decode_image(twelve_bits, value_range=4095)
    assert np.abs(np.asarray(image, int) - RGB).max() <= 17 and 3000 < facts.max_value <= 4095
