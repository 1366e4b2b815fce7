"""Measure where the objects of a scene are in the image, and how much of them can be seen."""

import bpy
from bpy_extras.object_utils import world_to_camera_view

N_RAYS = 40
CLEAR = ("glass", "jar")  # clutter that one sees through; a bottle bends the light too much


def measure(objects):
    """Measure boxes and visible shares.

    Args:
        objects: {label: its Blender objects}; may be empty.

    Returns:
        (facts of all objects together, {label: facts of one}); boxes are fractions from the top left, cut at the
        frame; `visible_fraction` of all is that of the least visible one.
    """
    if not objects:
        return dict.fromkeys(("object_width_fraction", "visible_fraction", *_name_sides("box")), 0.0), {}
    boxes = {label: _cut(compute_box(things)) for label, things in objects.items()}
    visible = {label: measure_visible(things) for label, things in objects.items()}
    lows, highs = ([f(box[i] for box in boxes.values()) for i in sides] for f, sides in ((min, (0, 1)), (max, (2, 3))))
    total = (*lows, *highs)
    facts = {"object_width_fraction": total[2] - total[0], "visible_fraction": min(visible.values())}
    facts |= zip(_name_sides("box"), total, strict=True)
    each = {
        label: dict(zip(_name_sides(label), box, strict=True)) | {f"{label}_visible": visible[label]}
        for label, box in boxes.items()
    }
    return facts, each


def compute_box(things):
    """Compute (left, top, right, bottom) of things in the image; beyond 0 and 1 where they leave the frame."""
    scene = bpy.context.scene
    points = [thing.matrix_world @ vertex.co for thing in things for vertex in thing.data.vertices]
    seen = [world_to_camera_view(scene, scene.camera, point) for point in points]
    return min(p.x for p in seen), 1 - max(p.y for p in seen), max(p.x for p in seen), 1 - min(p.y for p in seen)


def measure_visible(things, *, n=N_RAYS):
    """Measure the share of the silhouette that is in the frame with nothing but clear clutter before it.

    A grid of n x n rays covers the box of the things, frame or not.
    """
    graph, camera = bpy.context.evaluated_depsgraph_get(), bpy.context.scene.camera
    names, origin = {thing.name for thing in things}, camera.matrix_world.translation
    casts = [(thing.evaluated_get(graph), thing.matrix_world.inverted()) for thing in things]
    left, top, right, bottom = compute_box(things)
    n_all = n_seen = 0
    for i in range(n):
        for j in range(n):
            x, y = left + (right - left) * (i + 0.5) / n, top + (bottom - top) * (j + 0.5) / n
            direction = _aim(camera, x, y)
            if not any(_hits(*cast, origin, direction) for cast in casts):
                continue
            n_all += 1
            n_seen += 0 <= x <= 1 and 0 <= y <= 1 and _find_first(graph, origin, direction, names) in names
    return n_seen / max(n_all, 1)


def _aim(camera, x, y):
    top_right, _, bottom_left, top_left = camera.data.view_frame(scene=bpy.context.scene)
    point = top_left + (top_right - top_left) * x + (bottom_left - top_left) * y
    return (camera.matrix_world.to_3x3() @ point).normalized()


def _hits(thing, to_local, origin, direction):
    return thing.ray_cast(to_local @ origin, to_local.to_3x3() @ direction)[0]


def _find_first(graph, origin, direction, names):
    """Find the name of the first thing on a ray; clear clutter is passed."""
    for _ in range(16):
        hit, where, _, _, thing, _ = bpy.context.scene.ray_cast(graph, origin, direction)
        if not hit:
            return None
        if thing.name in names or not thing.name.startswith(CLEAR):
            return thing.name
        origin = where + direction * 1e-3
    return None


def _cut(box):
    return [min(1.0, max(0.0, value)) for value in box]


def _name_sides(prefix):
    return tuple(f"{prefix}_{side}" for side in ("left", "top", "right", "bottom"))
