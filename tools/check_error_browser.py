"""Work with pages of errors in headless Chromium: `python -m tools.check_error_browser --playwright FOLDER`.

FOLDER is where `npm install playwright-core` was run. One page has names that try to break it, one 5,000 images, one
the demo images with a tenth of the labels made wrong, whose picture notebook 21 shows. Everything goes to
outputs/error_browser; what was found to benchmarks/results/error_browser.json, which a test reads.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from utils_cv.apps.error_browser import PAGE_DIR, save_error_browser
from utils_cv.apps.pages import read_page_file
from utils_cv.data.corrections import apply_corrections
from utils_cv.data.image_table import TableImages, load_image_table, load_table_images
from utils_cv.data.splits import complete_splits
from utils_cv.models.features import compute_features
from utils_cv.models.out_of_fold import predict_to_check_labels
from utils_cv.studies.annotation_quality.wrong_labels import inject_wrong_labels
from utils_cv.studies.experiment import make_task
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
OUT_DIR = ROOT / "outputs" / "error_browser"
RESULTS = ROOT / "benchmarks" / "results" / "error_browser.json"
PICTURE = ROOT / "notebooks" / "figures" / "21_page.jpg"
EVIL = 'two\nlines,\ttab </script><img src=x onerror=alert(1)>"quoted" \'😀, & <!--'
N_LARGE = 5_000


def make_demo() -> tuple[TableImages, np.ndarray, np.ndarray]:
    """The demo images with a tenth of the labels made wrong, with predictions and features, as notebook 21 has them."""
    images = load_table_images(complete_splits(load_image_table(ROOT / "data/fridge_objects")), 224)
    task = make_task(images.table, compute_features(images.pixels))
    pool, n_classes = task.pool_rows, len(task.class_names)
    codes = task.codes.copy()
    codes[pool] = inject_wrong_labels(codes[pool], 0.1, n_classes=n_classes)
    probabilities = np.empty((len(codes), n_classes))
    probabilities[pool] = predict_to_check_labels(task.features[pool], codes[pool], n_classes=n_classes)
    probabilities[task.test_rows] = softmax(task.predict(pool, codes[pool], C=None), axis=1)
    table = images.table.assign(label=np.array(task.class_names)[codes])
    return dataclasses.replace(images, table=table), probabilities, task.features


def make_small(demo: tuple[TableImages, np.ndarray, np.ndarray]) -> tuple[TableImages, np.ndarray, np.ndarray]:
    """Sixty of the demo images, under names and labels that try to leave the page."""
    images, probabilities, features = demo
    rows = np.arange(0, len(images.table), 8)
    names = [f"caf\udce9 {i} {EVIL}" if i % 2 else f"{i}, plain.jpg" for i in range(len(rows))]
    class_names = [f"{name} {EVIL}" for name in images.class_names]
    table = images.table.iloc[rows].reset_index(drop=True)
    table = table.assign(image=names, label=table["label"] + f" {EVIL}")
    named = dataclasses.replace(images, table=table, pixels=images.pixels[rows], class_names=class_names)
    return named, probabilities[rows], features[rows]


def make_large(demo: tuple[TableImages, np.ndarray, np.ndarray]) -> tuple[TableImages, np.ndarray, np.ndarray]:
    """Thousands of rows: the demo images again and again, with features that differ a little."""
    images, probabilities, features = demo
    rng = np.random.default_rng(0)
    rows = np.arange(N_LARGE) % len(images.table)
    table = images.table.iloc[rows].reset_index(drop=True)
    table = table.assign(image=[f"{i}/{name}" for i, name in enumerate(table["image"])])
    several = dataclasses.replace(images, table=table, pixels=images.pixels[rows])
    noisy = features[rows] + rng.normal(0, 0.05, (N_LARGE, features.shape[1])).astype(np.float32)
    return several, probabilities[rows], noisy


def save_page(path: Path, images: TableImages, probabilities: np.ndarray, features: np.ndarray) -> Path:
    """Write the page of some images."""
    return save_error_browser(path, images.table, probabilities, features, class_names=images.class_names)


def list_faults(found: dict[str, Any], small: tuple[TableImages, np.ndarray, np.ndarray], cell: list[int]) -> list[str]:
    """What the page does not do as promised."""
    images, probabilities, _ = small
    table, names = images.table, images.class_names
    safe = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in table["image"]]
    is_there = (table["label"] == names[cell[0]]).to_numpy() & (probabilities.argmax(axis=1) == cell[1])
    expected = sorted(np.array(safe)[is_there])
    corrected = apply_corrections(table, OUT_DIR / "corrections.csv")
    others = [url for url in found["requests"] if not url.startswith(("file:", "data:", "blob:"))]
    faults = {
        f"the cell shows {found['cell']}, not {expected}": sorted(found["cell"]) != expected,
        "a card shows no picture": [width > 0 for _, width in found["cards"]] != [True] * len(expected),
        "a card shows another image": any(alt.rsplit(": labeled", 1)[0] not in expected for alt, _ in found["cards"]),
        "marks were lost when the page was loaded again": found["kept"] != 3,
        "the saved file does not change two labels and leave one image out": (
            corrected.n_changed, corrected.n_left_out, len(corrected.unmatched), found["saved"],
        ) != (2, 1, 0, "corrections.csv"),
        "similar images are missing": found["similar"] != 6,
        "the area of the map selects others": not (
            len(found["inArea"]) > 0 and {*found["inArea"]} <= {*found["area"]} <= {*found["perhapsInArea"]}
        ),
        "the search for a name finds others": found["named"] != sum("😀" in name for name in safe),
        f"other hosts were asked: {others}": bool(others),
        f"an error was logged: {found['errors']}": bool(found["errors"]),
        f"a page is wider than its window: {found['widths']}": any(w > int(k) for k, w in found["widths"].items()),
        "the page of thousands is not fluid": found["slowFrameMs"] > 100 or found["nodes"] > 5_000,
    }  # fmt: skip
    return [fault for fault, is_so in faults.items() if is_so]


def main() -> None:
    """Make the pages, work with them, print what was found, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--playwright", type=Path, required=True, help="folder with node_modules/playwright-core")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the program of the browser")
    options = parser.parse_args()
    (OUT_DIR / "screenshots").mkdir(parents=True, exist_ok=True)
    demo = make_demo()
    small = make_small(demo)
    pages = {"demo": demo, "small": small, "large": make_large(demo)}
    paths = {name: str(save_page(OUT_DIR / f"{name}.html", *page)) for name, page in pages.items()}
    is_wrong = small[0].table["label"].map(small[0].class_names.index).to_numpy(), small[1].argmax(axis=1)
    cell = [int(part[np.flatnonzero(is_wrong[0] != is_wrong[1])[0]]) for part in is_wrong]
    job = {
        "playwright": str(options.playwright.resolve()), "chromium": options.chromium, **paths, "cell": cell,
        "shots": str(OUT_DIR / "screenshots"), "csv": str(OUT_DIR / "corrections.csv"),
    }  # fmt: skip
    (OUT_DIR / "job.json").write_text(json.dumps(job), encoding="utf-8")
    script = Path(__file__).with_suffix(".mjs")
    done = subprocess.run(["node", script, OUT_DIR / "job.json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The browser failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout)
    shutil.copyfile(OUT_DIR / "screenshots/light_1280.jpg", PICTURE)
    content = {
        "sha256": {p.name: hashlib.sha256(read_page_file(p)).hexdigest() for p in sorted(PAGE_DIR.iterdir())},
        "browser": f"Chromium {found['version']}",
        "machine": describe_machine(),
        "load_average": round(os.getloadavg()[0], 1),
        "n_images": N_LARGE,
        "page_mb": round(Path(paths["large"]).stat().st_size / 1e6, 1),
        **{name: round(found[key]) for name, key in (("load_ms", "largeLoadMs"), ("frame_ms", "frameMs"))},
        **{name: round(found[key]) for name, key in (("slow_frame_ms", "slowFrameMs"), ("click_ms", "clickMs"))},
        "n_elements": found["nodes"],
        "faults": list_faults(found, small, cell),
    }
    print(json.dumps(content, indent=1, ensure_ascii=False))
    print("pictures of the page are in", OUT_DIR / "screenshots")
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if content["faults"]:
        raise SystemExit("The page does not do what it promises.")


if __name__ == "__main__":
    main()
