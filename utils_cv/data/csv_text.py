"""The text of CSV files in the encodings that spreadsheets write; what is no CSV file is named."""

import contextlib
import re
from pathlib import Path

_OTHER_KINDS = (
    (rb"PK\x03\x04.{26}(\[Content|docProps|xl/)|\xd0\xcf\x11\xe0", "an Excel file: save it as CSV"),
    (rb"PK\x03\x04|\x1f\x8b|BZh|7z\xbc\xaf|Rar!|\xfd7zXZ|.{257}ustar", "an archive: unpack it, and give the folder"),
    (rb"\xff\xd8\xff|\x89PNG|GIF8|BM.{4}\0\0|RIFF....WEBP|II\*\0|MM\0\*|.{4}ftyp", "a single image: give its folder"),
    (rb"version https://git-lfs", "a pointer of git-lfs, not the file: run `git lfs pull`"),
    (rb"\s*<(!doctype|html|head|\?xml)", "an HTML or XML page, perhaps a login page: download the file again"),
    (rb"\s*[\[{]|%PDF|PAR1|\x89HDF|\x93NUMPY|SQLite", "JSON or no text: write a CSV file of images and labels"),
)
# Not Western: three letters beyond ASCII in a row, or two alone; signs that no word has; UTF-8 that has an error.
_FOREIGN = (
    rb"[\x80-\xff]{3}|(?<![a-zA-Z])[\x80-\xff]{2}(?![a-zA-Z])|[\x81\x83\x88\x8d\x8f\x90\x98\x9d]|[\xc3-\xc5][\x80-\xbf]"
    rb"|[a-z][\x82\x84\x86\x87\x8a-\x8c\x8e\x9f]"
)


def read_text(csv_path: Path) -> str:
    """Read a file as UTF-8, UTF-16 or Western text; a ValueError says what else it is."""
    content = csv_path.read_bytes()
    for pattern, kind in _OTHER_KINDS:
        if re.match(pattern, content[:600], re.DOTALL | re.IGNORECASE):
            raise ValueError(f"{csv_path} is {kind}. Expected a folder of images or a CSV file.")
    n_zeros = [content[i:1000:2].count(0) for i in (0, 1)]  # UTF-16 has many at every second place
    order = "be" if n_zeros[0] > n_zeros[1] else "le"
    wide = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else f"utf-16-{order}"
    is_wide = wide == "utf-16" or max(n_zeros) > len(content[:1000]) // 4
    for encoding in [wide] if is_wide else ["utf-8-sig", "cp1252"]:
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(encoding).rstrip("\x1a")  # ends files of old programs
            if "\0" not in text and not (encoding == "cp1252" and re.search(_FOREIGN, content)):
                return text
    if b"\0" in content or is_wide:
        raise ValueError(f"{csv_path} is not a text file. Expected a folder of images or a CSV file in UTF-8.")
    number = re.split(rb"[\x80-\xff]", content, maxsplit=1)[0].count(b"\n") + 1
    raise ValueError(
        f"{csv_path}, line {number}: neither UTF-8 nor Western text (cp1252), perhaps GBK, Shift-JIS or cp1251. Save "
        "it as 'CSV UTF-8', or by pd.read_csv(path, encoding='gbk', dtype=str).to_csv(path, index=False)."
    )
