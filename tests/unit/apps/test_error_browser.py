"""The page of errors: what it holds, that no name breaks out of it, and what Chromium found in it."""

import base64
import dataclasses
import hashlib
import io
import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, make_photo
from utils_cv.apps import error_browser
from utils_cv.apps.error_browser import PAGE_DIR, _make_map, save_error_browser
from utils_cv.apps.pages import read_page_file
from utils_cv.evaluation.label_errors import rank_suspects

EVIL = "two\nlines,\ttab </script><img src=x onerror=alert(1)> \"quoted\" '😀' & <!--"


@pytest.fixture(scope="module")
def answers(small_images):
    """Probabilities and features of the images, with two of each as contradictions."""
    n, rng = len(small_images.table), np.random.default_rng(0)
    right = (small_images.table["label"] == small_images.class_names[1]).to_numpy().astype(float)
    share = np.where(np.isin(np.arange(n), [0, 1, 15, 16]), 1 - right, right) * 0.6 + rng.uniform(0.1, 0.3, n)
    return np.stack([1 - share, share], axis=1), rng.normal(right[:, None] * 4, 1, (n, 8))


def save(path, images, answers):
    """Write the page of some images."""
    return save_error_browser(path, images.table, *answers, class_names=images.class_names)


def read(path):
    """The data of a page."""
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


def test_the_page_lists_every_image_once_the_most_suspect_first(small_images, answers, tmp_path):
    probabilities, _ = answers
    page = read(save(tmp_path / "new/page.html", small_images, answers))
    table, names = small_images.table, small_images.class_names
    suspects = rank_suspects(probabilities, (table["label"] == names[1]).to_numpy().astype(int))
    rows = suspects["row"].to_numpy()
    assert page["names"] == table["image"].iloc[rows].tolist()
    assert [names[code] for code in page["labels"]] == table["label"].iloc[rows].tolist()
    assert page["splits"] == table["split"].iloc[rows].tolist()
    assert [row[0] for row in page["answers"]] == probabilities.argmax(axis=1)[rows].tolist()
    np.testing.assert_allclose([row[0] for row in page["probabilities"]], probabilities.max(axis=1)[rows], atol=6e-4)
    assert {*rows[:4].tolist()} == {0, 1, 15, 16}
    assert (page["note"], len(page["map"]), len(page["thumbnails"])) == ("", 30, 30)


def test_similar_images_are_learned_ones_and_not_the_image_itself(small_images, answers, tmp_path):
    page, features = read(save(tmp_path / "page.html", small_images, answers)), answers[1]
    row_of = {image: row for row, image in enumerate(small_images.table["image"])}
    rows = np.array([row_of[name] for name in page["names"]])
    centered = features[rows] - features[(small_images.table["split"] != "test").to_numpy()].mean(axis=0)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    for i, similar in enumerate(page["similar"]):
        learned = [j for j, split in enumerate(page["splits"]) if split != "test" and j != i]
        best = sorted(learned, key=lambda j: -unit[i] @ unit[j])[: error_browser.N_SIMILAR]
        assert [j for j, _ in similar] == best
        np.testing.assert_allclose([value for _, value in similar], unit[best] @ unit[i], atol=0.006)


def test_no_name_breaks_out_of_the_page(small_images, answers, tmp_path):
    table = small_images.table.assign(image=[f"caf\udce9 {i} {EVIL}" for i in range(30)])
    table = table.assign(label=table["label"].map(lambda label: f"{label} {EVIL}"))
    images = dataclasses.replace(
        small_images, table=table, class_names=[f"{n} {EVIL}" for n in small_images.class_names]
    )
    path = save(tmp_path / "page.html", images, answers)
    text, page = path.read_text(encoding="utf-8"), read(path)
    assert page["classes"] == images.class_names
    assert re.match(r"caf\\udce9 \d+ two\nlines", page["names"][0]) and page["names"][0].endswith(EVIL)
    assert (text.count("<script"), text.count("</script>"), text.count("<img"), text.count("<!--")) == (2, 2, 0, 0)


def test_only_the_own_script_may_run_and_no_host_is_named(small_images, answers, tmp_path):
    text = save(tmp_path / "page.html", small_images, answers).read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and "connect-src" not in rules
    for rule, tag in (("script-src", "script"), ("style-src", "style")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    sources = "".join(read_page_file(path).decode() for path in PAGE_DIR.iterdir())
    assert not re.search(
        r"https?://(?!www.w3.org/2000/svg)|innerHTML|outerHTML|insertAdjacent|document\.write", sources
    )


def test_of_too_many_images_the_most_suspect_are_shown_and_the_page_says_so(
    small_images, answers, tmp_path, monkeypatch
):
    monkeypatch.setattr(error_browser, "MAX_IMAGES", 10)
    page = read(save(tmp_path / "page.html", small_images, answers))
    assert page["note"] == "The 10 most suspect of 30 images are shown."
    assert len(page["names"]) == len(page["similar"]) == 10
    assert max(j for row in page["similar"] for j, _ in row) < 10


def test_thumbnails_keep_their_proportions_and_shrink_to_stay_within_the_limit(
    small_images, answers, tmp_path, monkeypatch
):
    paths = [tmp_path / f"{i}.jpg" for i in range(30)]
    for i, path in enumerate(paths):
        make_photo(i, (400, 300)).save(path)
    images = dataclasses.replace(small_images, table=small_images.table.assign(path=[str(path) for path in paths]))
    paths[0].unlink()
    size_of = {}
    for limit_mb in (1.0, 0.08):
        monkeypatch.setattr(error_browser, "THUMBNAILS_MB", limit_mb)
        thumbnails = read(save(tmp_path / "page.html", images, answers))["thumbnails"]
        assert sum(map(len, thumbnails)) < limit_mb * 1e6
        contents = [base64.b64decode(text.removeprefix("data:image/webp;base64,")) for text in thumbnails]
        size_of[limit_mb] = Counter(Image.open(io.BytesIO(content)).size for content in contents if content)
    assert size_of[1.0] == {(256, 192): 29}
    assert max(width for width, _ in size_of[0.08]) <= 128


@pytest.mark.parametrize(("n", "n_features"), [(1, 4), (3, 4), (4, 2), (40, 60)], ids=str)
def test_a_map_lies_in_the_unit_square_and_keeps_neighbors(n, n_features):
    features = np.random.default_rng(0).normal(0, 1, (n, n_features)) + 20.0 * (np.arange(n) % 2)[:, None]
    places = _make_map(features)
    assert places.shape == (n, 2) and places.min() >= 0 and places.max() <= 1
    np.testing.assert_array_equal(places, _make_map(features))
    if n == 40:
        distance = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(n)
        assert ((distance.argmin(axis=1) % 2) == (np.arange(n) % 2)).all()


def test_images_that_are_all_alike_have_a_map():
    assert np.isfinite(_make_map(np.ones((12, 5)))).all()


def test_what_does_not_fit_is_refused(small_images, answers, tmp_path):
    probabilities, features = answers
    with pytest.raises(ValueError, match="one label per image"):
        table = small_images.table.assign(label="can|carton")
        save(tmp_path / "a.html", dataclasses.replace(small_images, table=table), answers)
    with pytest.raises(ValueError, match="images 30, probabilities 29"):
        save(tmp_path / "a.html", small_images, (probabilities[:29], features))
    with pytest.raises(ValueError, match="Got 3 probabilities"):
        save(tmp_path / "a.html", small_images, (np.full((30, 3), 1 / 3), features))
    assert not (tmp_path / "a.html").exists()


def test_chromium_checked_this_page():
    kept = json.loads((ROOT / "benchmarks/results/error_browser.json").read_text(encoding="utf-8"))
    pages = {p.name: hashlib.sha256(read_page_file(p)).hexdigest() for p in PAGE_DIR.iterdir()}
    assert kept["sha256"] == pages, "run python -m tools.check_error_browser again"
    assert kept["n_images"] == 5000 and kept["page_mb"] < 30
    assert kept["faults"] == []
