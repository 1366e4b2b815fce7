"""The site: built offline of everything, with links that lead somewhere; each kind of fault of a page is found."""

import re

import pytest

from tests.conftest import ROOT
from tools.build_site import PAGES, build_site, check_pages


@pytest.mark.filterwarnings("ignore:.*Sphinx (API|11)")
def test_the_site_of_everything_is_built_offline_and_without_a_fault(tmp_path):
    site, notebooks = tmp_path / "site", sorted((ROOT / "notebooks").glob("*.ipynb"))
    folders = ("", "notebooks", "data", "data/renderer", "benchmarks")
    documents = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).glob("*.md")}
    assert documents == set(PAGES), "a document without a page"
    assert build_site(site, notebooks, "owner/name") == []
    assert {path.stem for path in notebooks} < {path.stem for path in (site / "notebooks").iterdir()}
    names = ("index", "faq/how-many-images-do-i-need", "notebooks/01_training_introduction", "api/evaluation")
    front, answer, notebook, room = [(site / f"{name}.html").read_text(encoding="utf-8") for name in names]
    assert not any("<!--01." in text or "&lt;!--" in text for text in (front, answer, notebook))
    assert 'src="_images/' in front and "&gt;&gt;&gt; " in re.sub("<[^>]+>", "", room)
    assert "github/owner/name/blob/main/notebooks/01_training_introduction.ipynb" in notebook
    assert 'alt="Score on the test split: a confusion matrix"' in notebook and 'alt="Look at a batch"' in notebook
    assert "measure_accuracy" in (site / "searchindex.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        pytest.param('<a href="b.html">b</a>', "leads nowhere: b.html", id="no such page"),
        pytest.param('<a href="#b">b</a><p id="c">', "leads nowhere: #b", id="no such anchor"),
        pytest.param('<img src="data:,">', "no alternative text", id="a silent figure"),
        pytest.param('<script src="https://cdn.example/a.js"></script>', "fetched from elsewhere", id="a script"),
        pytest.param('<a href="https://example.org">out</a><a href="#b"></a><p id="b">', None, id="no fault"),
    ],
)
def test_faults_of_pages_are_found(html, fault, tmp_path):
    (tmp_path / "a.html").write_text(html, encoding="utf-8")
    assert [fault in line for line in check_pages(tmp_path)] == ([True] if fault else [])
