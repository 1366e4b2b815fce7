"""The command `audit` and its page: what is found is there with a picture, and nothing is loaded or run by the page."""

import re
import shutil

import pytest

from tests.conftest import make_photo

from .conftest import read_lines

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def spoiled_dir(tmp_path):
    """Two classes in two splits, with a leak, a damaged file, and names that would be run as HTML."""
    for split in ("train", "test"):
        for label in ("can", "<b>carton"):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for i in range(3):
                make_photo(len(split) + 10 * i + 100 * len(label)).save(tmp_path / "set" / split / label / f"{i}.png")
    shutil.copy(tmp_path / "set/train/can/0.png", tmp_path / "set/test/can/leak'&\".png")
    (tmp_path / "set/train/can/broken.png").write_text(EVIL)
    return tmp_path / "set"


def test_the_page_shows_what_was_found_and_escapes_all_of_it(spoiled_dir, tmp_path, run):
    code, printed, said = run("audit", spoiled_dir, "--html", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert code == 1 and "Audit of 14 images" in printed and "report.html" in said
    leaks = page.partition("<h2>Leaks")[2].partition("<h2>")[0]
    assert leaks.count("data:image/webp;base64,") == 2
    assert "train/can/0.png" in leaks and "leak&#x27;&amp;&quot;.png" in leaks
    assert "broken.png" in page.partition("<h2>Files that cannot be opened")[2]
    assert "<script" not in page and "<b>carton" not in page and "&lt;b&gt;carton" in page
    assert "default-src 'none'" in page
    assert set(re.findall(r'(?:src|href)="(.{11})', page)) == {"data:image/"}


def test_json_has_every_check(spoiled_dir, run):
    code, printed, _ = run("audit", spoiled_dir, "--json")
    (facts,) = read_lines(printed)
    counts = {row["check"].partition(":")[0]: row["n_images"] for row in facts["checks"]}
    assert code == 1 and facts["n_images"] == 14
    assert (counts["leak"], counts["unreadable"], counts["exact duplicate"]) == (1, 1, 1)


def test_a_clean_set_gives_zero_and_a_page_is_not_replaced(image_dir, tmp_path, run):
    (tmp_path / "report.html").write_text("mine")
    code, printed, said = run("audit", image_dir, "--html", tmp_path / "report.html")
    assert (code, printed) == (2, "") and "--overwrite" in said
    assert run("audit", image_dir, "--html", tmp_path / "report.html", "--overwrite")[0] == 0
    assert "<h1>" in (tmp_path / "report.html").read_text()
