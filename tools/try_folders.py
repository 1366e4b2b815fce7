"""Run every notebook on folders that people have: `python -m tools.try_folders --photos FOLDER`.

Makes the folders from the demo images, runs each notebook on each with fast parameters, and writes the table of what
ran to `outputs/folders/table.md`. What ran before is kept, so a stop loses nothing; the executed copies are to be read.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.notebooks.table import CASES
from utils_cv.data.image_table import load_image_table
from utils_cv.notebooks import NotebookError, run_notebook
from utils_cv.system.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
PHOTO_SETS = ("ants_bees", "flowers12", "magnetic_tiles")
SIZE_PX = 96


def make_demo(folder: Path) -> None:
    """40 images of each of the four classes."""
    for label in list_demo_labels():
        save_images(folder / label, label, 40)


def make_many_classes(folder: Path) -> None:
    """60 classes of 6 images: each is a demo class in another tint."""
    labels = list_demo_labels()
    for i in range(60):
        save_images(folder / f"kind_{i:02d}", labels[i % 4], 6, tint=i // 4)


def make_two_small_classes(folder: Path) -> None:
    """Two classes of 12 images."""
    for label in list_demo_labels()[:2]:
        save_images(folder / label, label, 12)


def make_class_of_three(folder: Path) -> None:
    """Two classes of 30 images and one of 3."""
    for label, n_images in zip(list_demo_labels(), (30, 30, 3), strict=False):
        save_images(folder / label, label, n_images)


def make_broken_files(folder: Path) -> None:
    """The demo set, in which every seventh file is cut in half, empty or text."""
    make_demo(folder)
    for i, path in enumerate(sorted(folder.rglob("*.jpg"))[::7]):
        content = path.read_bytes()
        path.write_bytes([content[: len(content) // 2], b"", b"this is no image"][i % 3])


def make_16_bit_tiffs(folder: Path) -> None:
    """Gray TIFF files of 16 bits, of which 12 are used."""
    for label in list_demo_labels():
        save_images(folder / label, label, 30)
    for path in sorted(folder.rglob("*.jpg")):
        gray = np.asarray(Image.open(path).convert("L"), dtype=np.uint16) * 16
        Image.fromarray(gray).save(path.with_suffix(".tif"))
        path.unlink()


def make_cjk_names(folder: Path) -> None:
    """Class and file names in Chinese, Japanese and Korean, with blanks, signs and an emoji."""
    names = ("猫 $5", "いぬ #1", "새 & 100%", "émile_😀")
    for name, label in zip(names, list_demo_labels(), strict=True):
        save_images(folder / name, label, 30, stem="写真 ")


def make_very_many_classes(folder: Path) -> None:
    """500 classes of 4 images of 32 pixels: each is a demo image in a tint of its own."""
    labels = list_demo_labels()
    for i in range(500):
        save_images(folder / f"kind_{i:03d}", labels[i % 4], 4, tint=i // 4 % 15, size_px=32, first=i // 60)


def make_groups(folder: Path) -> None:
    """Frames of scenes with a column `group`, without splits."""
    table = load_image_table(ROOT / "data" / "fridge_objects_video")
    for row in table.itertuples():
        (folder / str(row.image)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(row.path), folder / str(row.image))
    table[["image", "label", "group"]].to_csv(folder / "labels.csv", index=False)


def make_multilabel(folder: Path) -> None:
    """The demo set with several labels per image."""
    shutil.copytree(ROOT / "data" / "fridge_objects_multilabel", folder, dirs_exist_ok=True)


MAKERS: dict[str, Callable[[Path], None]] = {
    "demo": make_demo,
    "60 classes": make_many_classes,
    "2 x 12 images": make_two_small_classes,
    "class of 3": make_class_of_three,
    "broken files": make_broken_files,
    "16-bit TIFF": make_16_bit_tiffs,
    "CJK names": make_cjk_names,
    "several labels": make_multilabel,
    "groups": make_groups,
    "500 classes": make_very_many_classes,
}


def list_demo_labels() -> list[str]:
    """The class names of the demo set."""
    return sorted(load_image_table(ROOT / "data" / "fridge_objects")["label"].unique())


def save_images(
    folder: Path,
    label: str,
    n_images: int,
    *,
    tint: int = 0,
    stem: str = "image_",
    size_px: int = SIZE_PX,
    first: int = 0,
) -> None:
    """Save small copies of demo images of one class, from the `first` on, as JPEG files."""
    table = load_image_table(ROOT / "data" / "fridge_objects")
    paths = table.loc[table["label"] == label, "path"].iloc[first : first + n_images]
    folder.mkdir(parents=True, exist_ok=True)
    shade = np.roll([1.0, 1.0 - 0.04 * tint, 1.0 - 0.02 * tint], tint)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((size_px, size_px))) * shade
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{stem}{i:03d}.jpg", quality=90)


def prepare_folders(out_dir: Path, photos: Path | None) -> Iterator[tuple[str, Path]]:
    """Make each folder once, and name the sets of photographs beside them."""
    for name, make in MAKERS.items():
        folder = out_dir / "sets" / name
        if not folder.exists():
            making = folder.with_name(f"{name}.making")
            shutil.rmtree(making, ignore_errors=True)
            make(making)
            making.rename(folder)
        yield name, folder
    if photos is not None:
        yield from ((name, photos / name) for name in PHOTO_SETS)


def run(notebook: str, folder: Path, out_path: Path) -> dict[str, str | float]:
    """Run one notebook on one folder; say how it ended and how long it took."""
    parameters = {**CASES[notebook].fast, "DATA_DIR": str(folder)}
    if "MODEL_DIR" in parameters:
        parameters["MODEL_DIR"] = str(out_path.with_suffix(""))
    start = time.perf_counter()
    try:
        run_notebook(ROOT / "notebooks" / f"{notebook}.ipynb", out_path, parameters, timeout_s=900, show_progress=False)
        outcome = "runs"
    except (NotebookError, ValueError) as error:
        outcome = f"{error}"
    return {"outcome": outcome, "seconds": round(time.perf_counter() - start)}


def format_table(results: dict[str, dict[str, dict[str, str | float]]], sets: list[str]) -> str:
    """The Markdown table: a row per notebook, a column per folder; and what each failure said."""
    lines = ["| notebook | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    messages = []
    for notebook, by_set in sorted(results.items()):
        cells = [by_set.get(name) for name in sets]
        shown = [
            "" if cell is None else f"{cell['seconds']} s" if cell["outcome"] == "runs" else "**stops**"
            for cell in cells
        ]
        lines.append(f"| {notebook} | " + " | ".join(shown) + " |")
        messages += [
            f"- {notebook}, {name}: {cell['outcome']}"
            for name, cell in zip(sets, cells, strict=True)
            if cell is not None and cell["outcome"] != "runs"
        ]
    return "\n".join([*lines, "", *messages, ""])


def save_text(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    with write_atomic(path) as temporary_path:
        temporary_path.write_text(text, encoding="utf-8")


def main() -> None:
    """Run what is missing, and write the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", default=list(CASES), help="names; default all")
    parser.add_argument("--photos", type=Path, help="folder that holds " + ", ".join(PHOTO_SETS))
    parser.add_argument("--sets", nargs="*", help="only these folders")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "outputs" / "folders")
    parser.add_argument("--again", action="store_true", help="run again what ran before")
    options = parser.parse_args()
    folders = dict(prepare_folders(options.output_dir, options.photos))
    path = options.output_dir / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for notebook in options.notebooks:
        for name in options.sets or folders:
            if options.again or name not in results.get(notebook, {}):
                out_path = options.output_dir / name / f"{notebook}.ipynb"
                results.setdefault(notebook, {})[name] = run(notebook, folders[name], out_path)
                print(f"{notebook}, {name}: {str(results[notebook][name]['outcome'])[:300]}", flush=True)
                save_text(path, json.dumps(results, indent=1, ensure_ascii=False))
                save_text(options.output_dir / "table.md", format_table(results, list(folders)))


if __name__ == "__main__":
    main()
