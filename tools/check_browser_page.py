"""Compare exported pages with Python, in headless Chromium: `python -m tools.check_browser_page --playwright FOLDER`.

FOLDER is where `npm install playwright-core` was run. Trains models for single and several labels, and one that tells
unknown images, exports them, and lets Chromium answer about images of many kinds. Fails where a probability differs by
more than 1e-3, an image is unknown to one side only, a page contacts another host, or the camera does not work; looks
are to be judged by a person, from the pictures in `outputs/browser_page`. The table is kept in
`benchmarks/results/browser_page.json`.
"""

import argparse
import functools
import http.server
import itertools
import json
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from utils_cv.apps.browser import PAGE_DIR, RUNTIME_VERSION, export_browser
from utils_cv.data.image_table import TableImages, load_image_table, load_table_images
from utils_cv.data.images import Fit
from utils_cv.data.splits import complete_splits
from utils_cv.evaluation.intervals import Score
from utils_cv.evaluation.metrics import measure_accuracy
from utils_cv.evaluation.out_of_distribution import MAHALANOBIS, OodDetector, fit_ood_detector
from utils_cv.models.features import compute_features
from utils_cv.models.model_files import INFO_NAME
from utils_cv.models.saved_classifier import load_classifier, save_classifier
from utils_cv.studies.confidence_and_unknown_images import score_by_folds
from utils_cv.system.files import hash_file, write_atomic
from utils_cv.system.machine import describe_machine
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.trained_models import TrainedModel, predict_images

ROOT = Path(__file__).resolve().parents[1]
OUT_DIR = ROOT / "outputs" / "browser_page"
RESULTS = ROOT / "benchmarks" / "results" / "browser_page.json"
MAX_DIFFERENCE = 1e-3
SETS: dict[str, tuple[str, Fit, int]] = {
    "one label": ("fridge_objects", "squash", 224),
    "several labels": ("fridge_objects_multilabel", "pad", 192),
    "cropped": ("fridge_objects", "crop", 160),
    "unknown images": ("fridge_objects", "squash", 224),
}
WITH_DETECTOR = "unknown images"


def make_images(folder: Path) -> Iterator[Path]:
    """Write images of every kind that a browser opens, made of demo images with grain."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sources = [Image.open(path) for path in sorted((ROOT / "data/fridge_objects").rglob("*.jpg"))[::53]]
    random = np.random.default_rng(0)

    def draw(width: int = 400, height: int = 300) -> Image.Image:
        image = sources[len(list(folder.iterdir())) % len(sources)].resize((width, height), Image.Resampling.BICUBIC)
        grain = random.normal(0, 4, (height, width, 1))
        return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))

    def fade(image: Image.Image) -> Image.Image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        return image

    profile, exif = make_wide_profile(), Image.Exif()
    wide: dict[str, Callable[[], tuple[Image.Image, dict[str, Any]]]] = {
        "jpeg 444.jpg": lambda: (draw(), {"quality": 95, "subsampling": 0}),
        "jpeg 422.jpg": lambda: (draw(401, 299), {"quality": 85, "subsampling": 1}),
        "jpeg 420.jpg": lambda: (draw(397, 303), {"quality": 85, "subsampling": 2}),
        "jpeg progressive.jpg": lambda: (draw(), {"quality": 85, "progressive": True}),
        "jpeg grey.jpg": lambda: (draw().convert("L"), {"quality": 85}),
        "jpeg strong.jpg": lambda: (draw(), {"quality": 10}),
        "jpeg restarts.jpg": lambda: (draw(), {"quality": 85, "restart_marker_blocks": 7}),
        "jpeg cmyk.jpg": lambda: (draw().convert("CMYK"), {"quality": 90}),
        "jpeg wide gamut.jpg": lambda: (draw(), {"quality": 90, "icc_profile": profile}),
        "jpeg 1 megapixel.jpg": lambda: (draw(1153, 867), {"quality": 90}),
        "jpeg 3 megapixels 422.jpg": lambda: (draw(2011, 1503), {"quality": 90, "subsampling": 1}),
        "jpeg 3 megapixels progressive.jpg": lambda: (draw(2000, 1500), {"quality": 90, "progressive": True}),
        "jpeg 12 megapixels.jpg": lambda: (draw(4032, 3024), {"quality": 92}),
        "jpeg 1 to 10.jpg": lambda: (draw(80, 800), {"quality": 90}),
        "jpeg 10 to 1.jpg": lambda: (draw(1600, 160), {"quality": 90}),
        "jpeg tiny.jpg": lambda: (draw(5, 3), {"quality": 90}),
        "png.png": lambda: (draw(), {}),
        "png 1 pixel.png": lambda: (draw(1, 1), {}),
        "png alpha.png": lambda: (fade(draw()), {}),
        "png palette.png": lambda: (draw().quantize(64), {}),
        "png palette transparent.png": lambda: (draw().quantize(64), {"transparency": 3}),
        "png grey.png": lambda: (draw().convert("L"), {}),
        "png grey alpha.png": lambda: (fade(draw()).convert("LA"), {}),
        "png 1 bit.png": lambda: (draw().convert("1"), {}),
        "png 16 bits grey.png": lambda: (make_deep(draw()), {}),
        "png wide gamut.png": lambda: (draw(), {"icc_profile": profile}),
        "png 12 megapixels.png": lambda: (draw(4000, 3000), {"compress_level": 1}),
        "webp lossy.webp": lambda: (draw(), {"quality": 80}),
        "webp lossless.webp": lambda: (draw(), {"lossless": True}),
        "webp alpha.webp": lambda: (fade(draw()), {"lossless": True}),
        "gif.gif": lambda: (draw(), {}),
        "gif animated.gif": lambda: (draw(), {"save_all": True, "append_images": [draw(), draw()]}),
        "bmp.bmp": lambda: (draw(), {}),
    }
    for name, make in wide.items():
        image, options = make()
        image.save(folder / name, **options)
        yield folder / name
    for orientation in range(2, 9):
        exif[0x0112] = orientation
        size = (1003, 752) if orientation % 2 else (397, 303)  # some are opened at a reduced size
        draw(*size).save(folder / f"jpeg turned {orientation}.jpg", quality=90, exif=exif)
        yield folder / f"jpeg turned {orientation}.jpg"


def make_deep(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits, all of which are used."""
    grain = np.random.default_rng(1).integers(0, 257, (image.height, image.width), dtype=np.uint16)
    return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 256 + grain // 2)


def make_wide_profile() -> bytes:
    """Make a color profile that changes every color a lot: sRGB with red and green exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")


def export_pages(folder: Path) -> dict[str, Path]:
    """Train a model on each set, unless the folder holds it from an earlier run, and export its page."""
    pages = {}
    for name, (source, fit, size_px) in SETS.items():
        if (folder / "models" / name / INFO_NAME).is_file():
            pages[name] = export_browser(folder / "models" / name, folder / "pages" / name).parent
            continue
        images = load_table_images(complete_splits(load_image_table(ROOT / "data" / source)), size_px, fit=fit)
        trained = linear_probe(images)
        options: dict[str, Any] = {"images": images, "license": "mit", "title": f"Fridge: {name}", "overwrite": True}
        options["detector"] = fit_detector(images) if name == WITH_DETECTOR else None
        save_classifier(trained, folder / "models" / name, scores=score(trained, images), **options)
        pages[name] = export_browser(folder / "models" / name, folder / "pages" / name).parent
    return pages


def fit_detector(images: TableImages) -> OodDetector:
    """The score of unknown images that has most operations, with a threshold that rejects a third of the classes'."""
    is_learned = (images.table["split"] != "test").to_numpy()
    features = compute_features(images.pixels[is_learned])
    codes = images.table.loc[is_learned, "label"].map(images.class_names.index).to_numpy()
    known = score_by_folds(features, codes, C=1.0)
    return fit_ood_detector(features, codes, known.loc[known["source"] == "known", MAHALANOBIS], expected=1 / 3)


def score(trained: TrainedModel, images: TableImages) -> dict[str, Score]:
    """Accuracy on the test images; for several labels the page is shown without scores."""
    if trained.is_multilabel:
        return {}
    predictions = predict_images(trained, images)
    return {"accuracy": measure_accuracy(predictions.y_true, predictions.y_pred)}


def compare(classifier: Any, answers: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per image: its format and size, and how far the page's probabilities are from Python's."""
    rows = []
    for path, answer in answers.items():
        with Image.open(path) as image:
            row: dict[str, Any] = {
                "image": Path(path).name,
                "format": image.format,
                "mode": image.mode,
                "size_px": list(image.size),
            }
        if "error" in answer:
            rows.append(row | {"difference": 1.0, "error": answer["error"]})
            continue
        (expected,) = classifier.predict_each(path)
        difference = np.abs(np.array(list(expected.probabilities.values())) - answer["probabilities"]).max()
        row |= {"difference": round(float(difference), 6), "ms": round(answer["ms"])}
        rows.append(row | {"is_unknown": expected.is_unknown, "page_is_unknown": answer["isUnknown"]})
    return rows


def main() -> None:
    """Run the check, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--playwright", type=Path, required=True, help="folder with node_modules/playwright-core")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the program of the browser")
    options = parser.parse_args()
    images = [str(path) for path in make_images(OUT_DIR / "images")]
    pages = export_pages(OUT_DIR)
    table = load_classifier(OUT_DIR / "models" / WITH_DETECTOR).predict_table(images)
    unknown = table.loc[table["is_unknown"].fillna(False), "image"].iloc[0]
    shots, no_image = OUT_DIR / "screenshots", OUT_DIR / "no image.txt"
    shots.mkdir(exist_ok=True)
    no_image.write_text("This is no image.", encoding="utf-8")
    handler = functools.partial(_Quiet, directory=str(OUT_DIR / "pages"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}/"
    urls = {name: host + urllib.parse.quote(name) + "/" for name in pages}
    job = {
        "playwright": str(options.playwright.resolve()), "chromium": options.chromium, "shots": str(shots),
        "shown": images[0], "noImage": str(no_image), "unknown": unknown, "withDetector": WITH_DETECTOR,
        "pages": {name: {"url": urls[name], "folder": str(path), "images": images} for name, path in pages.items()},
    }  # fmt: skip
    (OUT_DIR / "job.json").write_text(json.dumps(job), encoding="utf-8")
    script = Path(__file__).with_suffix(".mjs")
    done = subprocess.run(["node", script, OUT_DIR / "job.json"], capture_output=True, text=True)
    server.shutdown()
    if done.returncode:
        raise SystemExit(f"The browser failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout)
    tables = {}
    for name in pages:
        classifier = load_classifier(OUT_DIR / "models" / name)
        tables[name] = compare(classifier, found["answers"][name])
    check(found, tables, host)
    scripts = {name: hash_file(PAGE_DIR / name) for name in ("jpeg.js", "pixels.js")}  # what opens images
    facts: dict[str, Any] = {
        "sha256": scripts,
        "browser": f"Chromium {found['version']}",
        "onnxruntime-web": RUNTIME_VERSION,
        "machine": describe_machine(),
    }
    differences = [row["difference"] for row in itertools.chain(*tables.values())]
    facts |= {"n_images": len(images), "largest_difference": max(differences)}
    for row in itertools.chain(*tables.values()):
        row.pop("ms", None)  # the machine may be busy; this is no measurement of time
    content = {**facts, "camera": found["camera"], "messages": found["messages"], "tables": tables}
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check(found: dict[str, Any], tables: dict[str, list[dict[str, Any]]], host: str) -> None:
    """Print what was found, and stop where the page does not keep what it promises."""
    for name, rows in tables.items():
        print(f"\n{name}: largest difference {max(row['difference'] for row in rows):.6f}")
        print(f"  unknown: {sum(row.get('is_unknown') or 0 for row in rows)} of {len(rows)}")
        for row in rows:
            print(f"  {row['difference']:.6f} {row.get('ms', 0):6d} ms  {row['image']} {row.get('error', '')}")
    print({key: found[key] for key in ("camera", "messages", "errors")})
    print("pictures of the pages are in", OUT_DIR / "screenshots")
    others = {url for url in found["requests"] if not url.startswith((host, "file:", "blob:", "data:"))}
    first = next(iter(found["answers"].values()))
    same = next(iter(first.values()))["probabilities"] == found["fromDisk"].get("probabilities")
    largest = max(row["difference"] for row in itertools.chain(*tables.values()))
    faults = {
        f"a probability differs by {largest:.6f}": largest > MAX_DIFFERENCE,
        f"other hosts were contacted: {others}": bool(others),
        "the page gives another answer from disk": not same,
        "the camera gave no answer, or did not stop": not (found["camera"]["answer"] and found["camera"]["isStopped"]),
        "an image is unknown to one side only": any(
            bool(row["is_unknown"]) != row["page_is_unknown"] for row in itertools.chain(*tables.values())
        ),
        "an unknown image is not shown as such": found["messages"]["unknown"] != "Unknown",
        "a page is wider than a phone": any(width > 390 for name, width in found["widths"].items() if "390" in name),
        "an error was logged": bool(found["errors"]),
    }
    wrong = [fault for fault, is_there in faults.items() if is_there]
    if wrong:
        raise SystemExit("; ".join(wrong))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    main()
