"""Strip what a JPEG says beside its pixels: `python jpeg.py DIR` for every file of a folder."""

import sys
from pathlib import Path

START_OF_SCAN, COMMENT = 0xDA, 0xFE
APPLICATION = range(0xE1, 0xF0)  # EXIF, XMP and the like; 0xE0 is JFIF itself


def strip_comments(data):
    """Return the JPEG without comment and application segments, every other byte as it was."""
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"Got {data[:2]!r}, expected the start of a JPEG.")
    kept, at = [data[:2]], 2
    while data[at + 1] != START_OF_SCAN:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker != COMMENT and marker not in APPLICATION:
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    return b"".join([*kept, data[at:]])


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).rglob("*.jpg")):
        data = path.read_bytes()
        if strip_comments(data) != data:
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(strip_comments(data))
            temporary.replace(path)
