"""Draw a contact sheet of each set: `python contact_sheets.py` (needs Pillow only)."""

import argparse
import csv
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DATA_DIR = Path(__file__).resolve().parent.parent
N_COLUMNS, N_ROWS, TILE_PX, MAX_KB = 10, 8, (160, 120), 400
# What a sheet shows in even shares, and what it writes on an image.
SHARED_BY = {
    "fridge_objects": "label",
    "fridge_objects_video": "group",
    "fridge_objects_shifted": "shift",
    "fridge_objects_multilabel": "label",
    "fridge_negatives": "kind",
}


def draw_sheet(set_dir, *, n=N_COLUMNS * N_ROWS, draw_boxes=False):
    """Draw up to n images of a set, in even shares of its classes, scenes, shifts or kinds."""
    with (set_dir / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = choose_rows(rows, SHARED_BY[set_dir.name], n)
    n_rows = -(-len(shown) // N_COLUMNS)
    sheet = Image.new("RGB", (N_COLUMNS * TILE_PX[0], n_rows * TILE_PX[1]), "white")
    for i, row in enumerate(shown):
        tile = Image.open(set_dir / row["image"]).convert("RGB").resize(TILE_PX, Image.Resampling.LANCZOS)
        draw, text = ImageDraw.Draw(tile), row[SHARED_BY[set_dir.name]].removeprefix("scene_")
        if draw_boxes:
            left, top, right, bottom = (float(row[f"box_{side}"]) for side in ("left", "top", "right", "bottom"))
            x, y = TILE_PX
            draw.rectangle((left * x, top * y, right * x, bottom * y), outline=(255, 0, 0))
            text += f" {float(row['visible_fraction']):.2f}"
        draw.text((3, 1), text, fill="white", stroke_width=1, stroke_fill="black", font=ImageFont.load_default(9))
        sheet.paste(tile, (i % N_COLUMNS * TILE_PX[0], i // N_COLUMNS * TILE_PX[1]))
    return sheet


def choose_rows(rows, column, n):
    """Choose n rows in even shares of a column, spread over the set; a scene of a film is shown whole."""
    parts = {}
    for row in rows:
        parts.setdefault(row[column], []).append(row)
    if column == "group":
        names = sorted(parts, key=lambda name: (name[-2:], name))[: n // 5]
        return [row for name in names for row in parts[name]]
    shares = {name: min(len(part), max(1, n // len(parts))) for name, part in parts.items()}
    return [part[i * len(part) // shares[name]] for name, part in parts.items() for i in range(shares[name])][:n]


def save_sheet(sheet, path):
    """Save as JPEG, at the best quality that stays under 400 kB."""
    path.parent.mkdir(exist_ok=True)
    for quality in range(88, 30, -6):
        sheet.save(path, quality=quality)
        if path.stat().st_size < MAX_KB * 1000:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set_names", nargs="*", default=list(SHARED_BY))
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR)
    parser.add_argument("--boxes", action="store_true", help="draw the measured boxes too, to check them")
    options = parser.parse_args()
    for name in options.set_names:
        if (options.data_dir / name / "labels.csv").exists():
            sheet = draw_sheet(options.data_dir / name, draw_boxes=options.boxes)
            save_sheet(sheet, options.data_dir / "contact_sheets" / f"{name}.jpg")
