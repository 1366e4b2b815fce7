"""Where the containers stand: kitchens with tables and walls, fridges with glass shelves; and what stands around."""

import math

import bpy
import materials
import shapes


def build_kitchen(rng):
    """A table top and a wall behind it, both of random material."""
    wood = materials.noisy(
        "wood", *_wood_colors(rng), stretch=(1, rng.choice((9, 16)), 1), distortion=2, roughness=0.35
    )
    gray = rng.uniform(0.15, 0.7)
    stone = materials.noisy("stone", (gray,) * 3, (gray * 1.4,) * 3, scale=rng.uniform(8, 40), roughness=0.25)
    plain = materials.principled("laminate", tuple(rng.uniform(0.1, 0.85) for _ in range(3)), Roughness=0.4)
    table = shapes.box("table", 14, 7, 0.2, [rng.choice((wood, wood, stone, plain))] * 3)
    table.location = (0, 1, -0.2)
    paint = materials.noisy("paint", *_wall_colors(rng), scale=6, roughness=0.8)
    tile = materials.tiles(tuple(rng.uniform(0.5, 0.9) for _ in range(3)), (0.5, 0.5, 0.5), size=rng.uniform(0.6, 1.4))
    wall = shapes.box("wall", 30, 0.1, 14, [rng.choice((paint, paint, tile))] * 3)
    wall.location = (0, rng.uniform(2.2, 4.3), -3)
    floor = shapes.box("floor", 60, 60, 0.1, [wood] * 3)
    floor.location = (0, 0, -8)
    for _ in range(rng.randint(0, 3)):  # furniture and frames that are out of focus
        color = tuple(rng.uniform(0.05, 0.8) for _ in range(3))
        width, height = rng.uniform(0.5, 2.5), rng.uniform(0.5, 2.5)
        frame = shapes.box("frame", width, 0.15, height, [materials.principled("frame", color)] * 3)
        frame.location = (rng.uniform(-4, 4), wall.location.y - 0.1, rng.uniform(0, 2))


def build_fridge(rng):
    """A white box with glass or wire shelves, lit from above."""
    white = materials.principled("fridge", (0.88, 0.9, 0.92), Roughness=0.35)
    for width, depth, height, where in (
        (6.4, 0.1, 7, (0, 2.2, -3)),
        (0.1, 5, 7, (-3.2, 0, -3)),
        (0.1, 5, 7, (3.2, 0, -3)),
        (6.4, 5, 0.1, (0, 0, 3.9)),
        (6.4, 5, 0.1, (0, 0, -3)),
    ):
        shapes.box("wall", width, depth, height, [white] * 3).location = where
    if rng.random() < 0.6:
        surface = materials.principled("shelf", (0.75, 0.85, 0.85), Roughness=0.1, Alpha=0.8)
        shapes.box("shelf", 6.3, 4.4, 0.06, [surface] * 3).location = (0, 0, -0.06)
    else:
        steel = materials.principled("wire", (0.8, 0.8, 0.82), Metallic=0.9, Roughness=0.3)
        for i in range(43):
            shapes.box("wire", 0.05, 4.4, 0.05, [steel] * 3).location = (-3.1 + i * 0.147, 0, -0.05)
    rail = materials.principled("rail", (0.7, 0.75, 0.8), Metallic=0.5)
    shapes.box("rail", 6.3, 0.08, 0.16, [rail] * 3).location = (0, 2.1, 2.7)


def add_light(rng, light):
    """Light the scene: `day` (a window and sky), `lamp` (warm, from above), `fridge` (cool, from above), `night`."""
    world = bpy.context.scene.world = bpy.data.worlds.new("world")
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    fill, color = {
        "day": (0.55, (0.8, 0.9, 1)),
        "lamp": (0.18, (1, 0.9, 0.8)),
        "fridge": (0.3, (0.9, 0.95, 1)),
        "night": (0.03, (0.5, 0.6, 1)),
    }[light]
    background.inputs[0].default_value, background.inputs[1].default_value = (*color, 1), fill * rng.uniform(0.7, 1.3)
    side = rng.choice((-1, 1))
    if light == "day":
        _area((side * 5, rng.uniform(-4, 0.5), rng.uniform(2.5, 5)), 3.0, rng.uniform(450, 900), (1, 0.97, 0.92))
    elif light == "lamp":
        _area((rng.uniform(-2, 2), rng.uniform(-2, 1), 4.5), 0.9, rng.uniform(220, 420), (1, 0.78, 0.5))
    elif light == "fridge":
        _area((rng.uniform(-1, 1), -0.5, 3.8), 2.0, rng.uniform(60, 130), (0.93, 0.97, 1))
    else:
        _area((side * 4, -1, 3), 0.5, rng.uniform(25, 60), (0.8, 0.85, 1))


def add_clutter(rng, n, free_radius):
    """Put fruit, jars and boxes around; returns their objects."""
    things, taken = [], []
    for _ in range(n * 6):
        if len(taken) == n:
            break
        x, y, size = rng.uniform(-2.8, 2.8), rng.uniform(-0.4, 1.8), rng.uniform(0.18, 0.42)
        if math.hypot(x, y) < free_radius + size + 0.12:
            continue
        if any(math.hypot(x - a, y - b) < size + c + 0.08 for a, b, c in taken):
            continue
        taken.append((x, y, size))
        things += add_thing(rng, rng.choice(("fruit", "jar", "box", "mug", "glass")), (x, y), size)
    return things


def add_thing(rng, kind, where, size):
    """Add one thing that belongs to no class."""
    color = tuple(rng.uniform(0.05, 0.9) for _ in range(3))
    plain = materials.principled(kind, color, Roughness=rng.uniform(0.2, 0.6))
    if kind == "fruit":
        skin = rng.choice(
            (
                ((0.7, 0.05, 0.03), (0.8, 0.45, 0.1)),
                ((0.9, 0.35, 0.02), (0.95, 0.45, 0.05)),
                ((0.3, 0.55, 0.05), (0.5, 0.65, 0.1)),
                ((0.85, 0.75, 0.1), (0.9, 0.8, 0.2)),
            )
        )
        peel = materials.noisy("fruit", *skin, scale=5, roughness=0.35, bump=0.1)
        arc = [(size * math.sin(a), size * (1 - 0.93 * math.cos(a))) for a in (math.pi * i / 14 for i in range(15))]
        parts = [shapes.lathe("fruit", arc, peel, softness=0)]
    elif kind == "box":
        parts = [shapes.box("box", size * 1.6, size * 1.1, size * rng.uniform(1.5, 3.5), [plain] * 3)]
    else:
        height = size * rng.uniform(1.8, 2.8)
        outer = [(0, 0.01), (size * 0.9, 0), (size, 0.06), (size, height * 0.85), (size * 0.92, height)]
        skin = plain if kind == "mug" else materials.glass()
        parts = [shapes.lathe(kind, shapes.shell(outer, 0.03), skin)]
        if kind == "jar":
            parts.append(shapes.lathe("content", shapes.fill(outer, 0.03, rng.uniform(0.4, 0.85)), plain, softness=2))
            top = [(size * 0.95, height - 0.04), (size * 0.95, height + 0.1), (0, height + 0.1)]
            parts.append(
                shapes.lathe("lid", top, materials.principled("lid", (0.7, 0.6, 0.2), Metallic=0.8), softness=3)
            )
    turn = rng.uniform(0, 6.28)
    for part in parts:
        part.location, part.rotation_euler = (*where, 0), (0, 0, turn)
    return parts


def _area(where, size, power, color):
    lamp = bpy.data.lights.new("area", "AREA")
    lamp.energy, lamp.size, lamp.color = power, size, color
    thing = bpy.data.objects.new("area", lamp)
    bpy.context.collection.objects.link(thing)
    thing.location = where
    from mathutils import Vector

    thing.rotation_euler = (Vector((0, 0, 0.8)) - Vector(where)).to_track_quat("-Z", "Y").to_euler()


def _wood_colors(rng):
    dark = rng.choice(((0.12, 0.06, 0.03), (0.25, 0.14, 0.07), (0.4, 0.27, 0.15), (0.06, 0.04, 0.03)))
    return dark, tuple(min(1.0, c * rng.uniform(1.6, 2.6)) for c in dark)


def _wall_colors(rng):
    color = tuple(rng.uniform(0.35, 0.9) for _ in range(3))
    mean = sum(color) / 3
    color = tuple(0.5 * c + 0.5 * mean for c in color)
    return color, tuple(min(1.0, c * 1.1) for c in color)
