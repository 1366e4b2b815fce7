"""Label images by keyboard in headless Chromium: `python -m tools.check_annotation_page --playwright FOLDER`.

FOLDER is where `npm install playwright-core` was run. The page labels 20 images, the server is killed in between, two
choices are undone, the page is loaded again; then the CSV file must hold exactly the right rows. A second person, a
grid, several labels and corrections follow. Looks are to be judged by a person, from the pictures in
`outputs/annotation_page`. What was found is kept in `benchmarks/results/annotation_page.json`.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from utils_cv.apps.annotation import PAGE_DIR
from utils_cv.apps.pages import read_page_file
from utils_cv.data.choices import load_choices
from utils_cv.data.image_table import load_image_table
from utils_cv.system.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
OUT_DIR = ROOT / "outputs" / "annotation_page"
RESULTS = ROOT / "benchmarks" / "results" / "annotation_page.json"
CLASSES = ["can", "carton", "milk_bottle", "water_bottle"]
N_IMAGES, N_BROKEN = 30, 2


def make_images(folder: Path) -> list[str]:
    """Copy demo images, of one class after the other in turn, and two broken files; give the true labels in order."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table = load_image_table(ROOT / "data/fridge_objects")
    rows = table.groupby("label").head(N_IMAGES // len(CLASSES) + 1)
    rows = rows.assign(turn=rows.groupby("label").cumcount()).sort_values("turn").head(N_IMAGES)
    for i, path in enumerate(rows["path"]):
        shutil.copyfile(path, folder / f"{i:02d} #1 100% größe 😀.jpg")
    for i in range(N_BROKEN):
        (folder / f"05 broken {i}.jpg").write_text("This is no image.", encoding="utf-8")
    return rows["label"].tolist()


def make_commands(images: Path) -> dict[str, list[str]]:
    """The commands that start the server."""
    run = [sys.executable, "-m", "utils_cv", "annotate"]
    options = ["--by-name", "--json", "--name", "Ann"]
    given = OUT_DIR / "given.csv"
    names = [path.name for path in sorted(images.glob("*.jpg")) if "broken" not in path.name][:4]
    given.write_text("image,label\n" + "".join(f"images/{name},carton\n" for name in names), encoding="utf-8")
    many = [*CLASSES, *(f"class {i}" for i in range(20))]
    classes = {"single": CLASSES, "several": [*many, "--several"], "correct": ["can", "--correct"]}
    sources = {"single": images, "several": images, "correct": given}
    return {
        name: [
            *run,
            str(sources[name]),
            "--output",
            str(OUT_DIR / f"{name}.csv"),
            *options,
            "--classes",
            *classes[name],
        ]
        for name in classes
    }


def main() -> None:
    """Run the check, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--playwright", type=Path, required=True, help="folder with node_modules/playwright-core")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the program of the browser")
    options = parser.parse_args()
    shutil.rmtree(OUT_DIR, ignore_errors=True)
    labels = make_images(OUT_DIR / "images")
    keys = [str(CLASSES.index(label) + 1) for label in labels[:20]]
    job = {"playwright": str(options.playwright.resolve()), "chromium": options.chromium, "keys": keys, "nGrid": 11}
    job |= {"shots": str(OUT_DIR), **make_commands(OUT_DIR / "images")}
    (OUT_DIR / "job.json").write_text(json.dumps(job), encoding="utf-8")
    script = Path(__file__).with_suffix(".mjs")
    done = subprocess.run(["node", script, OUT_DIR / "job.json"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"The browser failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout)
    wrong = check(found, labels)
    print(json.dumps({key: found[key] for key in ("texts", "errors", "widths")}, indent=1, ensure_ascii=False))
    if wrong:
        raise SystemExit("; ".join(wrong))
    pages = {p.name: hashlib.sha256(read_page_file(p)).hexdigest() for p in sorted(PAGE_DIR.iterdir())}
    content = {"browser": f"Chromium {found['version']}", "sha256": pages, "texts": found["texts"], "n_labeled": 20}
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check(found: dict[str, Any], labels: list[str]) -> list[str]:
    """List what the page does not keep of what it promises."""
    warnings.simplefilter("ignore")  # what is left out, which is checked here
    choices = load_choices(OUT_DIR / "single.csv")
    first = choices[(choices["annotator"] == "Ann")].head(18)
    several, correct = (load_choices(OUT_DIR / f"{name}.csv") for name in ("several", "correct"))
    several_table, texts = load_image_table(OUT_DIR / "several.csv"), found["texts"]
    grid = choices[(choices["annotator"] == "Ann")].iloc[19:]
    pairs = {
        "the first 18 labels": (first["label"].tolist(), labels[:18]),
        "their images": ([int(name.split("/")[1][:2]) for name in first["image"]], list(range(18))),
        "choices": (len(choices), 18 + 1 + 10 + 3),
        "grid": (grid["label"].tolist(), ["carton"] * 10),
        "Bob": (choices["kind"][choices["annotator"] == "Bob"].tolist(), ["none", "unclear", "label"]),
        "several": (several["label"].tolist(), ["can|milk_bottle", "", "brand new"]),
        "the table of several": (several_table["label"].tolist(), ["can|milk_bottle", "", "brand new"]),
        "correct": (correct["label"].tolist(), ["carton", "can", "carton", "carton"]),
        "count after the kill": (texts["afterKill"][:5], "10 of"),
        "count after loading again": (texts["afterReload"], "18 of 30 labeled"),
        "the next image": (texts["next"][:9], "images/18"),
        "notes": (texts["notes"], "Bob: 3 · 2 cannot be opened"),
    }
    wrong = [f"{what}: got {got}, expected {wanted}" for what, (got, wanted) in pairs.items() if got != wanted]
    wrong += [f"{name}: {width} px wide" for name, width in found["widths"].items() if width > int(name.split()[-1])]
    wrong += [text for text in found["errors"] if "422" not in text]  # a broken file
    return wrong + [url for url in found["requests"] if not url.startswith(("http://127.0.0.1:", "data:"))]


if __name__ == "__main__":
    main()
