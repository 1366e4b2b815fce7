"""What all pages of this room have in common: the beginning of their HTML and of their style, in `base_page`."""

from pathlib import Path

BASE_DIR = Path(__file__).parent / "base_page"


def read_page_file(path: Path) -> bytes:
    """Read a file of a page behind what all pages have in a file of that name."""
    shared = BASE_DIR / path.name
    return (shared.read_bytes() if shared.is_file() else b"") + path.read_bytes()
