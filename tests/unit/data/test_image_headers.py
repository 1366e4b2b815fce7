"""Tests of utils_cv.data.image_headers: what is no image is refused in words that say what it is."""

import pickle
import sys

import numpy as np
import pytest

from utils_cv.data.image_headers import ImageError, read_header

NOISE = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
NOT_IMAGES = {
    "empty": (b"", "the file is empty"),
    "zeros": (bytes(5000), "not an image but zeros"),
    "text": (b"These are my notes about fruit.\n" * 50, "not an image of a known format"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "web page without a type": (b"\n  <html><body>404</body></html>", "a web page"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "an SVG drawing"),
    "SVG with a declaration": (b'<?xml version="1.0"?><svg></svg>', "an XML or SVG file"),
    "PDF": (b"%PDF-1.7\n" + NOISE, "a PDF document"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "a PostScript file"),
    "Photoshop": (b"8BPS\x00\x01" + bytes(100), "a Photoshop file"),
    "zip archive": (b"PK\x03\x04" + NOISE, "a zip archive"),
    "gzip archive": (b"\x1f\x8b\x08" + NOISE, "a gzip archive"),
    "web page with a byte order mark": (b"\xef\xbb\xbf<html></html>", "a web page"),
    "web page in UTF-16": ("\ufeff<html></html>".encode("utf-16-le"), "a web page"),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a git-lfs pointer"),
    "DICOM": (bytes(128) + b"DICM" + NOISE, "a DICOM file"),
    "JPEG XL": (b"\xff\x0a" + NOISE, "a JPEG XL image"),
    "JPEG XL in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + NOISE, "a JPEG XL image"),
    "TIFF without a directory": (b"II*\0\xff\xff\0\0" + bytes(30), "a damaged TIFF"),
    "JSON": (b'{"image": 1}', "a JSON file"),
    "JPEG behind a newline": (b"\n\xff\xd8\xff\xe0" + NOISE, "not an image of a known format; it begins with"),
    "MP4 video": (b"\x00\x00\x00\x20ftypisom" + NOISE, "not an image of a known format"),
}


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("name", NOT_IMAGES)
def test_other_content_is_refused_by_what_it_is(name):
    content, cause = NOT_IMAGES[name]
    with pytest.raises(ImageError, match=cause) as caught:
        read_header(content, "folder/bad.jpg")
    assert caught.value.path.as_posix() == "folder/bad.jpg" and caught.value.cause in str(caught.value)


def test_heic_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'utils_cv\[heic\]'"):
        read_header(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + NOISE, "phone.jpg")


def test_image_error_travels_between_processes():
    error = pickle.loads(pickle.dumps(ImageError("a/b.jpg", "the file is empty")))
    assert (error.path.as_posix(), error.cause) == ("a/b.jpg", "the file is empty")
