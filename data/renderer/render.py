"""Render the demo images: `python render.py fridge_objects` (resumes), `--only can_017` for one, see README.md."""

import argparse
import csv
import hashlib
import json
import math
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import bpy
import containers
import rooms
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

DATA_DIR = Path(__file__).resolve().parent.parent
SIZE_PX = (400, 300)
N_PER_CLASS, N_TEST = 120, 40
COLUMNS = (
    "image",
    "label",
    "split",
    "scene",
    "light",
    "camera_elevation_deg",
    "object_width_fraction",
    "visible_fraction",
    "box_left",
    "box_top",
    "box_right",
    "box_bottom",
    "width_px",
    "height_px",
    "sha256",
)


def list_ids(set_name):
    """Every image of a set: id, label, split. The order mixes classes, so that a part of the set is balanced."""
    if set_name != "fridge_objects":
        raise SystemExit(f"No set {set_name!r}; there is fridge_objects.")
    return [
        (f"{label}_{i:03d}", label, "test" if i >= N_PER_CLASS - N_TEST else "train")
        for i in _interleave(N_PER_CLASS - N_TEST, N_TEST)
        for label in containers.CLASS_NAMES
    ]


def _interleave(n_train, n_test):
    """Two train images, then a test image, and so on; the test images have the last numbers."""
    for k in range(n_test):
        yield from (2 * k, 2 * k + 1, n_train + k)


def describe(set_name, image_id):
    """Choose everything random about a scene; a pure function of the set and the id."""
    rng = random.Random(f"{set_name}/{image_id}")
    place = rng.choice(("kitchen", "kitchen", "fridge"))
    light = "fridge" if place == "fridge" else rng.choice(("day", "day", "lamp"))
    width = math.exp(rng.uniform(math.log(0.12), math.log(0.42)))
    return {
        "seed": rng.getrandbits(48),
        "place": place,
        "light": light,
        "elevation_deg": round(rng.uniform(2, 18) if place == "fridge" else rng.triangular(2, 55, 15), 1),
        "azimuth_deg": round(rng.uniform(-10, 10) if place == "fridge" else rng.uniform(-25, 25), 1),
        "roll_deg": round(rng.gauss(0, 1.5), 2),
        "width_fraction": width,
        "shift": (rng.uniform(-0.28, 0.28), rng.uniform(-0.14, 0.14)),
        "n_clutter": rng.choice((0, 1, 2, 3, 4, 5)),
        "is_hidden": rng.random() < 0.35,
        "hidden_by": rng.uniform(0.25, 0.65),
        "lens_mm": rng.choice((35, 50, 70)),
    }


def build(scene_facts, label, texture_dir):
    """Build the scene in Blender and return the objects of the container."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    rng = random.Random(scene_facts["seed"])
    things = containers.build(label, rng, texture_dir)
    turn = rng.uniform(-0.7, 0.7)
    for thing in things:
        thing.location.xy = (
            thing.location.x * math.cos(turn) - thing.location.y * math.sin(turn),
            thing.location.x * math.sin(turn) + thing.location.y * math.cos(turn),
        )
        thing.rotation_euler.z += turn
    (rooms.build_fridge if scene_facts["place"] == "fridge" else rooms.build_kitchen)(rng)
    rooms.add_light(rng, scene_facts["light"])
    rooms.add_clutter(rng, scene_facts["n_clutter"], 0.5)
    _add_camera(scene_facts, things)
    if scene_facts["is_hidden"]:
        side = rng.choice((-1, 1)) * (1 - scene_facts["hidden_by"]) * 0.75
        direction = bpy.context.scene.camera.location.copy()
        direction.z = 0
        direction.normalize()
        across = Vector((-direction.y, direction.x, 0)) * side
        where = direction * 0.95 + across
        rooms.add_thing(rng, rng.choice(("fruit", "box", "mug", "jar")), (where.x, where.y), rng.uniform(0.25, 0.4))
    return things


def _add_camera(facts, things):
    scene = bpy.context.scene
    bpy.context.view_layer.update()
    corners = [thing.matrix_world @ Vector(c) for thing in things for c in thing.bound_box]
    low, high = (Vector(f(c[i] for c in corners) for i in range(3)) for f in (min, max))
    middle, wide = (low + high) / 2, max(high.x - low.x, 0.5)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    bpy.context.collection.objects.link(camera)
    scene.camera = camera
    camera.data.lens = facts["lens_mm"]
    distance = wide * facts["lens_mm"] / 36 / facts["width_fraction"]
    tall = high.z - low.z
    distance = max(distance, tall * facts["lens_mm"] / 27 * 1.25)  # all of it stays in the frame
    elevation, azimuth = (math.radians(facts[k]) for k in ("elevation_deg", "azimuth_deg"))
    view = Vector(
        (math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation), math.sin(elevation))
    )
    camera.location = middle + view * distance
    track = (-view).to_track_quat("-Z", "Y")
    camera.rotation_euler = track.to_euler()
    camera.rotation_euler.rotate_axis("Z", math.radians(facts["roll_deg"]))
    spare = max(0.0, 1 - tall * facts["lens_mm"] / 27 / distance) / 2
    camera.data.shift_x = facts["shift"][0]
    camera.data.shift_y = max(-spare, min(spare, facts["shift"][1])) * 0.75
    camera.data.dof.use_dof, camera.data.dof.focus_distance = True, distance
    camera.data.dof.aperture_fstop = 0.6


def measure(things):
    """Measure where the container is: box as fractions from the top left, and the share of it that is visible."""
    scene, graph = bpy.context.scene, bpy.context.evaluated_depsgraph_get()
    camera, names = scene.camera, {thing.name for thing in things}
    points = [thing.matrix_world @ vertex.co for thing in things for vertex in thing.data.vertices]
    seen = [world_to_camera_view(scene, camera, point) for point in points]
    box = (min(p.x for p in seen), 1 - max(p.y for p in seen), max(p.x for p in seen), 1 - min(p.y for p in seen))
    n_all = n_seen = 0
    for point, place in list(zip(points, seen, strict=True))[:: max(1, len(points) // 400)]:
        offset = point - camera.location
        hit, where, _, _, thing, _ = scene.ray_cast(graph, camera.location, offset.normalized())
        if not hit or (thing.name in names and (where - point).length > 0.02):
            continue  # the far side, which nobody expects to see
        n_all += 1
        n_seen += thing.name in names and 0 <= place.x <= 1 and 0 <= place.y <= 1
    box = [min(1.0, max(0.0, value)) for value in box]
    return {
        "object_width_fraction": box[2] - box[0],
        "visible_fraction": n_seen / max(n_all, 1),
        **dict(zip(("box_left", "box_top", "box_right", "box_bottom"), box, strict=True)),
    }


def render(path, *, n_samples, n_threads):
    """Render the present scene to a JPEG, under a temporary name until it is whole."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.threads_mode, scene.render.threads = "FIXED", n_threads
    cycles = scene.cycles
    cycles.samples, cycles.use_denoising, cycles.use_adaptive_sampling = n_samples, True, True
    cycles.max_bounces, cycles.transmission_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 9, 9, 2, 2
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    scene.render.resolution_x, scene.render.resolution_y = SIZE_PX
    scene.render.image_settings.file_format, scene.render.image_settings.quality = "JPEG", 88
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.65
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.jpg")
    scene.render.filepath = str(temporary)
    bpy.ops.render.render(write_still=True)
    temporary.replace(path)


def render_image(set_name, image_id, label, split, *, n_samples=14, n_threads=0):
    """Render one image and return its row of labels.csv; an image that exists is only measured."""
    facts = describe(set_name, image_id)
    path = DATA_DIR / set_name / label / f"{image_id}.jpg"
    with tempfile.TemporaryDirectory() as texture_dir:
        things = build(facts, label, texture_dir)
        bpy.context.view_layer.update()
        measured = measure(things)
        if not path.exists():
            render(path, n_samples=n_samples, n_threads=n_threads)
    row = {
        "image": f"{label}/{path.name}",
        "label": label,
        "split": split,
        "scene": f"scene_{image_id}",
        "light": facts["light"],
        "camera_elevation_deg": facts["elevation_deg"],
        "width_px": SIZE_PX[0],
        "height_px": SIZE_PX[1],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    return row | {name: round(value, 3) for name, value in measured.items()}


def write_labels(set_name, row):
    """Write labels.csv, sorted, with exactly the images that exist.

    Each row is also kept in a file of its own, so that several processes can render the same set.
    """
    path = DATA_DIR / set_name / "labels.csv"
    rows_dir = path.parent / ".rows"
    rows_dir.mkdir(exist_ok=True)
    (rows_dir / f"{Path(row['image']).stem}.json").write_text(json.dumps(row))
    known = {}
    if path.exists():
        with path.open(newline="") as file:
            known = {row["image"]: row for row in csv.DictReader(file)}
    rows = [json.loads(row_path.read_text()) for row_path in rows_dir.glob("*.json") if row_path.stat().st_size]
    known |= {row["image"]: row for row in rows}
    kept = [known[name] for name in sorted(known) if (path.parent / name).exists()]
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)
    temporary.replace(path)


def main():
    """Render what is missing of a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set_name")
    parser.add_argument("--only", nargs="*", help="ids to render again")
    parser.add_argument("--limit", type=int, help="stop after so many new images")
    parser.add_argument("--share", default="0/1", help="K/N renders every Nth image from the Kth: one process a core")
    parser.add_argument("--samples", type=int, default=14)
    options = parser.parse_args()
    n_new, set_dir = 0, DATA_DIR / options.set_name
    set_dir.mkdir(exist_ok=True)
    listed = (set_dir / "labels.csv").read_text() if (set_dir / "labels.csv").exists() else ""
    n_threads = max(1, (os.cpu_count() or 1) // int(options.share.split("/")[1]))
    first, step = (int(word) for word in options.share.split("/"))
    for image_id, label, split in list_ids(options.set_name)[first::step]:
        path = set_dir / label / f"{image_id}.jpg"
        if options.only is not None:
            if image_id not in options.only:
                continue
            path.unlink(missing_ok=True)
        elif path.exists() and f"{label}/{path.name}," in listed:
            continue
        while (Path(__file__).parent / "PAUSE").exists():
            time.sleep(2)
        start = time.perf_counter()
        row = render_image(options.set_name, image_id, label, split, n_samples=options.samples, n_threads=n_threads)
        write_labels(options.set_name, row)
        n_new += 1
        print(f"{image_id} {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
        if options.limit and n_new >= options.limit:
            break


if __name__ == "__main__":
    main()
