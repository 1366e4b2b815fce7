"""Build a described scene in Blender: objects, room, light, clutter, camera."""

import math
import random

import bpy
import containers
import measures
import negatives
import rooms
from mathutils import Vector

SIZE_PX = (400, 300)
MIN_VISIBLE = 0.25  # an object of a group that shows less would be a label that nobody can see


def build(facts, texture_dir):
    """Build the scene and return {label or kind: its Blender objects}."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    # Before anything is measured: the shape of the frame decides what is inside it.
    scene.render.resolution_x, scene.render.resolution_y = SIZE_PX
    rng = random.Random(facts["seed"])
    objects = {name: _build_object(name, rng, texture_dir) for name in facts["objects"]}
    (rooms.build_fridge if facts["place"] == "fridge" else rooms.build_kitchen)(rng)
    rooms.add_light(rng, facts["light"])
    rooms.add_clutter(rng, facts["n_clutter"], 0.5 if len(objects) < 2 else 1.3)
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    bpy.context.collection.objects.link(scene.camera)
    _place_camera(facts, objects)
    if len(objects) > 1:
        _arrange(facts, objects)
    if facts["is_hidden"]:
        _hide(rng, facts)
    _change(facts, objects)
    bpy.context.view_layer.update()
    return objects


def _build_object(name, rng, texture_dir):
    things = (containers if name in containers.CLASS_NAMES else negatives).build(name, rng, texture_dir)
    turn = rng.uniform(-0.7, 0.7)
    for thing in things:
        thing.location.xy = (
            thing.location.x * math.cos(turn) - thing.location.y * math.sin(turn),
            thing.location.x * math.sin(turn) + thing.location.y * math.cos(turn),
        )
        thing.rotation_euler.z += turn
    return things


def _find_bounds(objects):
    """Find the lowest and highest corner of all objects; of an empty table, those of an object that is not there."""
    bpy.context.view_layer.update()
    things = [thing for parts in objects.values() for thing in parts]
    if not things:
        return Vector((-0.4, -0.4, 0)), Vector((0.4, 0.4, 1.6))
    corners = [thing.matrix_world @ Vector(c) for thing in things for c in thing.bound_box]
    return tuple(Vector(f(c[i] for c in corners) for i in range(3)) for f in (min, max))


def _place_camera(facts, objects, distance=None):
    """Aim the camera at the objects; returns its distance, chosen for `width_fraction` where none is given."""
    low, high = _find_bounds(objects)
    middle, wide, tall = (low + high) / 2, max(high.x - low.x, 0.5), high.z - low.z
    camera, lens = bpy.context.scene.camera, facts["lens_mm"]
    if distance is None:  # all of it stays in the frame
        distance = max(wide * lens / 36 / facts["width_fraction"], tall * lens / 27 * 1.25)
    elevation, azimuth = (math.radians(facts[k]) for k in ("elevation_deg", "azimuth_deg"))
    view = Vector(
        (math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation), math.sin(elevation))
    )
    camera.location = middle + view * distance
    camera.rotation_euler = (-view).to_track_quat("-Z", "Y").to_euler()
    camera.rotation_euler.rotate_axis("Z", math.radians(facts["roll_deg"]))
    spare = max(0.0, 1 - tall * lens / 27 / distance) / 2
    camera.data.lens, camera.data.shift_x = lens, facts["shift"][0]
    camera.data.shift_y = max(-spare, min(spare, facts["shift"][1])) * 0.75
    camera.data.dof.use_dof, camera.data.dof.focus_distance = True, distance
    camera.data.dof.aperture_fstop = 0.6
    return distance


def _hide(rng, facts):
    """Put a thing before the object, a little to one side."""
    side = rng.choice((-1, 1)) * (1 - facts["hidden_by"]) * 0.75
    direction = bpy.context.scene.camera.location.copy()
    direction.z = 0
    direction.normalize()
    across = Vector((-direction.y, direction.x, 0)) * side
    where = direction * 0.95 + across
    rooms.add_thing(rng, rng.choice(("fruit", "box", "mug", "jar")), (where.x, where.y), rng.uniform(0.25, 0.4))


def _arrange(facts, objects):
    """Stand several objects close together, again and again until enough of each can be seen."""
    rng, homes = random.Random(facts["seed"] + 1), {}
    radii = [_measure_radius({name: parts}) for name, parts in objects.items()]
    for parts in objects.values():
        homes |= {thing.name: thing.location.copy() for thing in parts}
    for _ in range(40):
        for parts, (x, y) in zip(objects.values(), _draw_places(rng, radii), strict=True):
            for thing in parts:
                thing.location = homes[thing.name] + Vector((x, y, 0))
        _place_camera(facts, objects)
        bpy.context.view_layer.update()
        if min(measures.measure_visible(parts, n=14) for parts in objects.values()) > MIN_VISIBLE:
            return
    raise RuntimeError(f"{list(objects)}: no arrangement shows more than {MIN_VISIBLE:.0%} of each object")


def _measure_radius(objects):
    low, high = _find_bounds(objects)
    return max(high.x - low.x, high.y - low.y) / 2


def _draw_places(rng, radii):
    """Draw a place on the table for each radius, so that no two touch."""
    while True:
        places, reach = [], 0.45 * len(radii)
        for radius in radii:
            for _ in range(60):
                x, y = rng.uniform(-reach, reach), rng.uniform(-0.6, 1.0)
                near = [math.hypot(x - a, y - b) < radius + r + 0.02 for (a, b), r in zip(places, radii, strict=False)]
                if not any(near):
                    places.append((x, y))
                    break
        if len(places) == len(radii):
            return places


def _change(facts, objects):
    """Change what `after` says about the scene that now stands."""
    after = facts["after"]
    if not after:
        return
    if "light" in after:
        for lamp in [thing for thing in bpy.data.objects if thing.type == "LIGHT"]:
            bpy.data.objects.remove(lamp)
        rooms.add_light(random.Random(facts["seed"] + 2), after["light"])
    distance = _place_camera(facts | after, objects)
    if "exact_width" in after:
        _fit_width(facts, objects, distance, after["exact_width"])
    if "blur" in after:
        _blur(*after["blur"])


def _fit_width(facts, objects, distance, width):
    """Move the camera until the object is `width` wide; when that is too tall for the frame, keep its top inside."""
    camera = bpy.context.scene.camera
    things = [thing for parts in objects.values() for thing in parts]
    for _ in range(6):
        bpy.context.view_layer.update()
        left, _, right, _ = measures.compute_box(things)
        distance *= (right - left) / width
        _place_camera(facts, objects, distance)
        bpy.context.view_layer.update()
        left, top, right, _ = measures.compute_box(things)
        camera.data.shift_x -= max(0.02 - left, 0) - max(right - 0.98, 0)
        camera.data.shift_y += max(0.04 - top, 0) * 0.75
    bpy.context.view_layer.update()


def _blur(kind, fraction, angle):
    """Blur by `fraction` of the image's width: out of focus, or by a turn of the camera while the shutter is open."""
    scene, camera = bpy.context.scene, bpy.context.scene.camera
    lens = camera.data.lens / 1000
    if kind == "focus":  # circle of confusion = aperture * lens * (1 / focus - 1 / distance), of a 36 mm frame
        aperture, distance = lens / camera.data.dof.aperture_fstop, camera.data.dof.focus_distance
        camera.data.dof.focus_distance = 1 / (1 / distance + fraction * 0.036 / (aperture * lens))
        return
    turn = fraction * 0.036 / lens
    still = camera.rotation_euler.copy()
    for frame, sign in ((0, -1), (2, 1)):
        camera.rotation_euler = still
        camera.rotation_euler.rotate_axis("X", sign * turn * math.sin(angle))
        camera.rotation_euler.rotate_axis("Y", sign * turn * math.cos(angle))
        camera.keyframe_insert("rotation_euler", frame=frame)
    for curve in camera.animation_data.action.fcurves:
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    scene.frame_set(1)
    scene.render.use_motion_blur, scene.render.motion_blur_shutter = True, 1.0
