"""An audit as one HTML file with thumbnails inside: it opens without a network and loads nothing from anywhere."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

from utils_cv.audit.report import AuditReport
from utils_cv.data.images import ImageError

from .pages import encode_thumbnail

THUMBNAIL_PX = 160
N_SHOWN = 24  # rows of each section
_PAIRS = (
    ("leaks", "Leaks: the same image in two parts of the split"),
    ("label_conflicts", "Label conflicts: the same image with two labels"),
    ("duplicates", "Duplicates"),
)
_LISTS = (
    ("low_quality", "Low quality: dark, nearly empty, blurred or tiny", "problem"),
    ("large", "Large", "megapixels"),
    ("file_issues", "File issues", "file_issues"),
)
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #8885 }
pre { white-space: pre-wrap; border: 1px solid #8885; padding: .5rem 1rem } svg { max-width: 100% }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .row > div { border: 1px solid #8885; padding: .5rem }
figure { display: inline-block; margin: 0 .25rem; width: 170px; vertical-align: top }
figcaption { font-size: 12px; overflow-wrap: anywhere } img { max-width: 160px }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head><body><h1>{title}</h1>
{sections}
</body></html>
"""


def make_page(title: str, sections: Iterable[str]) -> str:
    """Make a page of sections in HTML; no host may be contacted and no script may run."""
    return _PAGE.format(style=_STYLE, title=html.escape(title), sections="\n".join(sections))


def make_audit_sections(report: AuditReport) -> list[str]:
    """Make the sections of an audit, with pictures of images that need a look, at most `N_SHOWN` of each kind."""
    paths = dict(zip(report.facts["image"], report.facts["path"], strict=True))
    sections = [report._repr_html_()]
    for name, title in _PAIRS:
        found = getattr(report, name)
        by_fit = found.sort_values("overlap", kind="stable")  # the least similar first: those need a look most
        cards = [_show_pair(row, paths, report.value_range) for row in by_fit.head(N_SHOWN).itertuples()]
        sections.append(make_cards(title, len(found), cards))
    for name, title, column in _LISTS:
        found = getattr(report, name)
        facts = [fact if isinstance(fact, str) else f"{fact:.1f} megapixels" for fact in found[column].head(N_SHOWN)]
        rows = zip(found["image"], facts, strict=False)
        cards = [show_image(paths[image], [image, fact], report.value_range) for image, fact in rows]
        sections.append(make_cards(title, len(found), cards))
    tables = {"Images of each class": report.classes.rename_axis("class").rename(columns={"": "no split"})}
    if len(report.unreadable):
        tables = {"Files that cannot be opened": report.unreadable.set_index("image"), **tables}
    return sections + [f"<h2>{title}</h2>{table.to_html(escape=True)}" for title, table in tables.items()]


def make_cards(title: str, n_found: int, cards: Sequence[str]) -> str:
    """Make a section of pictures that says how many there are of how many; empty where there is none."""
    if not n_found:
        return ""
    more = f": {len(cards)} of {n_found} are shown" if n_found > len(cards) else f": {n_found}"
    row = "".join(f"<div>{card}</div>" for card in cards)
    return f'<h2>{html.escape(title)}{more}</h2><div class="row">{row}</div>'


def _show_pair(row: Any, paths: dict[str, str], value_range: int) -> str:
    fit = "the same file" if row.kind == "exact" else f"fits to {row.overlap:.2f}"
    first = [row.duplicate, f"{row.duplicate_label} ({row.duplicate_split or 'no split'})"]
    second = [row.image, f"{row.label} ({row.split or 'no split'})", fit]
    return "".join(show_image(paths[words[0]], words, value_range) for words in (first, second))


def show_image(path: str, words: Sequence[str], value_range: int) -> str:
    """Show an image above some lines of text."""
    try:
        picture = f'<img alt="" src="{load_thumbnail(path, THUMBNAIL_PX, value_range=value_range)}">'
    except ImageError as error:  # it was there when the audit opened it
        picture = html.escape(error.cause)
    return f"<figure>{picture}<figcaption>{'<br>'.join(map(html.escape, words))}</figcaption></figure>"


def load_thumbnail(path: str, size_px: int, *, value_range: int) -> str:
    """Open an image in its own proportions, as a data URI: WebP is half the size of a JPEG that looks as good."""
    content = encode_thumbnail(path, size_px, value_range, format="WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(content).decode('ascii')}"
