"""One HTML file to look at a model's answers: confusions, suspected wrong labels, similar images, a map.

It opens from a disk, without a network or a server, and saves the labels that a person corrects as a CSV file.
"""

import base64
import functools
import hashlib
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.images import ImageError, find_value_range
from utils_cv.data.labels import encode_labels, is_multilabel, normalize_name
from utils_cv.evaluation.label_errors import rank_suspects
from utils_cv.evaluation.metrics import check_probabilities, check_same_length
from utils_cv.models.features import find_similar
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import count_cpus
from utils_cv.system.threads import map_in_threads

from .audit_page import load_thumbnail
from .pages import read_page_file

PAGE_DIR = Path(__file__).parent / "error_page"
MAX_IMAGES = 5_000  # what a browser scrolls through smoothly
THUMBNAIL_SIZES_PX = (256, 192, 160, 128, 96, 64)  # the longer side: the largest that keeps within the megabytes below
THUMBNAILS_MB = 22.0
N_SIMILAR, N_ANSWERS = 6, 3  # most similar images, and classes with the highest probability, of each image


def save_error_browser(
    path: str | Path,
    table: pd.DataFrame,
    probabilities: np.ndarray,
    features: np.ndarray,
    *,
    class_names: list[str],
    seed: int = 0,
) -> Path:
    """Write a page that shows what a model gets wrong, and which labels it doubts, the most suspect first.

    A click on a cell of the confusion matrix shows its images. Each image comes with the images to learn from that are
    most like it, and with its place on a map (t-SNE of the features). Labels that a person finds wrong are saved as a
    CSV file for `utils_cv.data.corrections.apply_corrections`. Of more than 5,000 images the most suspect are shown.

    Args:
        path: The HTML file to write; an older one is replaced. It has less than 30 MB.
        table: An image table, one label per image. Similar images are looked for among those not in the split `test`.
        probabilities: Of a model that did not learn the image, (n_images, n_classes): for test images the trained
            model, for all others `utils_cv.models.out_of_fold.predict_to_check_labels`.
        features: What similar images share, (n_images, n_features).
        class_names: The classes, in the order of the probabilities.
        seed: Seed of the map.

    Returns:
        The path of the page.

    Raises:
        ValueError: Images have several labels, or the arrays do not fit the images.
    """
    if is_multilabel(table):
        raise ValueError("The page takes one label per image; these images have several, or none.")
    probabilities, path = check_probabilities(probabilities, rows_sum_to_one=True), Path(path)
    check_same_length(images=table, probabilities=probabilities, features=features)
    if probabilities.shape[1] != len(class_names):
        raise ValueError(f"Got {probabilities.shape[1]} probabilities for the classes {class_names[:20]}.")
    codes = encode_labels(table["label"], class_names)
    suspects = rank_suspects(probabilities, codes).head(MAX_IMAGES)
    rows = suspects["row"].to_numpy()
    table, probabilities, features = table.iloc[rows], probabilities[rows], features[rows]
    note = "" if len(rows) == len(codes) else f"The {len(rows)} most suspect of {len(codes)} images are shown."
    likely = np.argsort(-probabilities, axis=1, kind="stable")[:, :N_ANSWERS]
    names = [normalize_name(name) for name in table["image"]]
    content = {
        "id": hashlib.sha256(json.dumps([names, table["label"].tolist()]).encode()).hexdigest()[:16],
        "classes": class_names,
        "note": note,
        "names": names,
        "splits": table["split"].replace("", "no split").tolist(),
        "labels": suspects["label"].tolist(),
        "suggested": suspects["suggested"].tolist(),
        "answers": likely.tolist(),
        "probabilities": np.take_along_axis(probabilities, likely, axis=1).round(3).tolist(),
        "similar": _list_similar(features, (table["split"] != "test").to_numpy()),
        "map": _make_map(features, seed=seed).round(3).tolist(),
        "thumbnails": _make_thumbnails(table["path"].tolist()),
    }
    with write_atomic(path) as temporary_path:
        temporary_path.write_text(_fill_page(content), encoding="utf-8")
    return path


def _list_similar(features: np.ndarray, is_learned: np.ndarray) -> list[list[tuple[int, float]]]:
    """The images to learn from that are most like each image: their numbers on the page, and how similar they are."""
    learned = np.flatnonzero(is_learned)
    if not len(learned):
        return [[] for _ in features]
    found = zip(*find_similar(features[learned], features, n_similar=N_SIMILAR + 1), strict=True)
    pairs = [
        [(int(learned[i]), round(float(value), 2)) for i, value in zip(*row, strict=True) if learned[i] != own]
        for own, row in enumerate(found)
    ]
    return [row[:N_SIMILAR] for row in pairs]


def _make_map(features: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Lay images out so that similar ones lie close, (n_images, 2) in [0, 1]: 50 principal components, then t-SNE."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n = len(features)
    if n < 4 or not np.ptp(features, axis=0).any():  # too few for neighbors, or all the same
        return np.stack([np.linspace(0, 1, n), np.full(n, 0.5)], axis=1)
    components = PCA(min(50, *features.shape), random_state=seed).fit_transform(features)
    places = TSNE(perplexity=min(30.0, (n - 1) / 3), init="pca", random_state=seed).fit_transform(components)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray((places - low) / np.maximum(high - low, 1e-9))


def _make_thumbnails(paths: list[str]) -> list[str]:
    """Data URIs of all images, together about `THUMBNAILS_MB` at most: a sample tells their size."""
    value_range = find_value_range(paths)

    def make(path: str, size_px: int) -> str:
        try:
            return load_thumbnail(path, size_px, value_range=value_range)
        except ImageError:  # it was there when its features were computed: the page shows its name in its place
            return ""

    sample = paths[:: max(1, len(paths) // 50)]
    with warnings.catch_warnings():  # of broken EXIF data, which were told when the images were opened
        warnings.simplefilter("ignore")
        for size_px in THUMBNAIL_SIZES_PX:
            if np.mean([len(make(path, size_px)) for path in sample]) * len(paths) < THUMBNAILS_MB * 1e6:
                break
        work = functools.partial(make, size_px=size_px)
        return list(map_in_threads(work, paths, n_threads=count_cpus(), description="thumbnails"))


def _fill_page(content: dict[str, Any]) -> str:
    """Put style, data and script into the page; only this script may run, and no host may be contacted."""
    index, style, script = (read_page_file(PAGE_DIR / name).decode() for name in ("index.html", "style.css", "page.js"))
    # No name can end the script element or begin another one: JSON spells "<" another way.
    data = json.dumps(content, ensure_ascii=True, separators=(",", ":")).replace("<", r"\u003c")
    sources = {"style": style, "script": script, "data": data}
    hashes = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in sources.items()}
    sources |= {f"{name}-hash": f"'sha256-{digest}'" for name, digest in hashes.items()}
    return re.sub(r"@@([a-z-]+)@@", lambda found: sources[found[1]], index)
