"""Render the demo images: `python render.py fridge_objects` (resumes), `--only can_017` for one, see README.md."""

import argparse
import csv
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import bpy
import camera
import descriptions
import measures
import scenes
import sets

DATA_DIR = Path(__file__).resolve().parent.parent
PAUSE_FILE = Path(__file__).resolve().parent / "PAUSE"


def render(path, key, *, n_samples, n_threads):
    """Render the present scene and develop it to a JPEG, under a temporary name until it is whole."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.threads_mode, scene.render.threads = "FIXED", n_threads
    cycles = scene.cycles
    cycles.samples, cycles.use_denoising, cycles.use_adaptive_sampling = n_samples, True, True
    cycles.max_bounces, cycles.transmission_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 9, 9, 2, 2
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    scene.render.image_settings.file_format, scene.render.image_settings.quality = "JPEG", 88
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.65
    for name in ("date", "time", "render_time", "frame", "camera", "scene", "filename", "memory", "hostname", "marker"):
        setattr(scene.render, f"use_stamp_{name}", False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.jpg")
    scene.render.filepath = str(temporary)
    bpy.ops.render.render(write_still=True)
    # This leaves out the comments that Blender writes: with them no two runs give the same bytes.
    temporary.write_bytes(camera.develop_jpeg(temporary.read_bytes(), key))
    temporary.replace(path)


def render_image(entry, data_dir, *, n_samples, n_threads=0):
    """Render one image and return its row of labels.csv; an image that exists is only measured."""
    facts = descriptions.describe(entry)
    path = data_dir / entry["set"] / entry["image"]
    with tempfile.TemporaryDirectory() as texture_dir:
        objects = scenes.build(facts, texture_dir)
        measured, each = measures.measure(objects)
        if not path.exists():
            if entry["set"] in sets.FAST_DENOISING:
                bpy.context.scene.cycles.denoising_prefilter = "FAST"
            render(path, f"{entry['set']}/{entry['id']}", n_samples=n_samples, n_threads=n_threads)
    final = facts | facts["after"]
    row = {
        "image": entry["image"],
        "label": entry["label"],
        "split": entry["split"],
        "scene": f"scene_{entry['scene_id']}",
        "light": final["light"],
        "camera_elevation_deg": final["elevation_deg"],
        "width_px": scenes.SIZE_PX[0],
        "height_px": scenes.SIZE_PX[1],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    row |= {name: round(value, 3) for name, value in measured.items()}
    return row | _list_extras(entry, final, each)


def _list_extras(entry, final, each):
    columns = sets.EXTRA_COLUMNS[entry["set"]]
    found = {"group": f"scene_{entry['scene_id']}", "blur_fraction": round(final.get("blur", ("", 0.0))[1], 4)}
    found |= {name: entry[name] for name in columns if name in entry}
    found |= {name: round(value, 3) for facts in each.values() for name, value in facts.items()}
    return {name: found.get(name, "") for name in columns}


def write_labels(set_dir, row):
    """Write labels.csv, sorted, with exactly the images that exist.

    Each row is also kept in a file of its own, so that several processes can render the same set.
    """
    path, rows_dir = set_dir / "labels.csv", set_dir / ".rows"
    rows_dir.mkdir(exist_ok=True)
    _replace(rows_dir / f"{Path(row['image']).stem}.json", json.dumps(row))
    known = {}
    if path.exists():
        with path.open(newline="") as file:
            known = {row["image"]: row for row in csv.DictReader(file)}
    rows = [json.loads(row_path.read_text()) for row_path in rows_dir.glob("*.json")]
    known |= {row["image"]: row for row in rows}
    kept = [known[name] for name in sorted(known) if (set_dir / name).exists()]
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, (*sets.COLUMNS, *sets.EXTRA_COLUMNS[set_dir.name]))
        writer.writeheader()
        writer.writerows(kept)
    temporary.replace(path)


def _replace(path, text):
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set_name")
    parser.add_argument("--only", nargs="*", help="ids to render again")
    parser.add_argument("--measure", action="store_true", help="measure every image again; render what is missing")
    parser.add_argument("--limit", type=int, help="stop after so many images")
    parser.add_argument("--share", default="0/1", help="K/N renders every Nth image from the Kth: one process a core")
    parser.add_argument("--samples", type=int, help="samples a pixel, for drafts; default: those of sets.py")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="where the set's folder is, or will be")
    return parser.parse_args()


def list_wanted(options):
    """List what is to do: ids asked for, everything to measure, or what has no file or no row yet."""
    set_dir = options.data_dir / options.set_name
    listed = (set_dir / "labels.csv").read_text() if (set_dir / "labels.csv").exists() else ""
    first, step = (int(word) for word in options.share.split("/"))
    for entry in sets.list_images(options.set_name)[first::step]:
        is_done = (set_dir / entry["image"]).exists() and f"{entry['image']}," in listed
        if (entry["id"] in options.only) if options.only is not None else (options.measure or not is_done):
            yield entry


def main():
    """Render what is missing of a set."""
    options = parse_arguments()
    set_dir = options.data_dir / options.set_name
    set_dir.mkdir(parents=True, exist_ok=True)
    n_threads = max(1, (os.cpu_count() or 1) // int(options.share.split("/")[1]))
    for entry in list(list_wanted(options))[: options.limit]:
        while PAUSE_FILE.exists():
            time.sleep(2)
        if options.only is not None:
            (set_dir / entry["image"]).unlink(missing_ok=True)
        start = time.perf_counter()
        n_samples = options.samples or sets.N_SAMPLES.get(options.set_name, sets.DEFAULT_N_SAMPLES)
        row = render_image(entry, options.data_dir, n_samples=n_samples, n_threads=n_threads)
        write_labels(set_dir, row)
        print(f"{entry['id']} {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
