"""Things that look a little like the four classes and are none of them: jars, mugs, glasses, boxes, candles, fruit."""

from pathlib import Path

import labels
import materials
import rooms
import shapes

KINDS = ("jar", "mug", "glass", "box", "candle", "fruit")
DRINKS = ((0.93, 0.91, 0.86), (0.9, 0.45, 0.05), (0.12, 0.05, 0.02), (0.7, 0.1, 0.1), (0.85, 0.75, 0.3))


def build(kind, rng, texture_dir):
    """Build one thing that stands at the origin; see `containers.build`."""
    builders = {"jar": _jar, "mug": _mug, "glass": _glass, "box": _box, "candle": _candle, "fruit": _fruit}
    return builders[kind](rng, Path(texture_dir))


def _print(rng, kind, texture_dir, size, *, repeats=1):
    path = texture_dir / f"{kind}_{rng.getrandbits(48):x}.png"
    image = labels.draw_label(rng, kind, size, repeats=repeats)
    image.save(path)
    return materials.printed(path), image


def _jar(rng, texture_dir):
    radius, height = rng.uniform(0.33, 0.5), rng.uniform(0.8, 1.6)
    mouth = radius * rng.uniform(0.75, 0.95)
    profile = [(0, 0.02), (radius * 0.8, 0), (radius, 0.08), (radius, height * 0.78), (mouth, height * 0.9)]
    profile.append((mouth, height))
    content = materials.principled("content", tuple(rng.uniform(0.03, 0.9) for _ in range(3)), Roughness=0.3)
    parts = [shapes.lathe("jar", shapes.shell(profile, 0.03), materials.glass())]
    parts.append(shapes.lathe("content", shapes.fill(profile, 0.03, rng.uniform(0.4, 0.88)), content, softness=2))
    if rng.random() < 0.5:
        size = (900, max(60, int(900 * 0.5 * height / (6.28 * radius))))
        ink, _ = _print(rng, "jar", texture_dir, size, repeats=2)
        wrap = [(radius + 0.008, height * 0.18), (radius + 0.008, height * 0.68)]
        parts.append(shapes.lathe("sleeve", wrap, ink, softness=0))
    if rng.random() < 0.85:
        metal = materials.principled("lid", rng.choice(((0.7, 0.6, 0.2), (0.8, 0.8, 0.8), (0.6, 0.05, 0.05))))
        top = [(mouth + 0.02, height - 0.06), (mouth + 0.02, height + 0.1), (0, height + 0.1)]
        parts.append(shapes.lathe("lid", top, metal, softness=3))
    return parts


def _mug(rng, texture_dir):
    radius = rng.uniform(0.36, 0.48)
    height = radius * rng.uniform(1.9, 2.8)
    pale = rng.uniform(0.7, 0.93)
    color = (pale, pale, pale * 0.97) if rng.random() < 0.4 else tuple(rng.uniform(0.03, 0.8) for _ in range(3))
    clay = materials.principled("mug", color, Roughness=rng.uniform(0.1, 0.5))
    profile = [(0, 0.01), (radius * 0.85, 0), (radius, 0.08), (radius * rng.uniform(0.95, 1.08), height)]
    parts = [shapes.lathe("mug", shapes.shell(profile, 0.05), clay)]
    handle = shapes.handle("handle", height * 0.3, 0.05, clay)
    handle.location = (radius * 0.97, 0, height * 0.52)
    parts.append(handle)
    if rng.random() < 0.6:
        drink = materials.principled("drink", rng.choice(DRINKS), Roughness=0.15)
        parts.append(shapes.lathe("drink", shapes.fill(profile, 0.05, rng.uniform(0.6, 0.92)), drink, softness=2))
    if rng.random() < 0.4:
        size = (900, max(60, int(900 * 0.6 * height / (6.28 * radius))))
        ink, _ = _print(rng, "mug", texture_dir, size, repeats=2)
        wrap = [(radius + 0.012, height * 0.2), (radius * 1.02 + 0.012, height * 0.8)]
        parts.append(shapes.lathe("sleeve", wrap, ink, softness=0))
    turn = rng.uniform(-1.2, 1.2) + rng.choice((0, 3.14))
    for part in parts:  # the handle stays at its place on the wall
        part.location.xy = _turned(part.location.xy, turn)
        part.rotation_euler.z += turn
    return parts


def _turned(where, angle):
    import mathutils

    return mathutils.Matrix.Rotation(angle, 2) @ where


def _glass(rng, texture_dir):
    foot, height = rng.uniform(0.22, 0.36), rng.uniform(0.9, 1.8)
    mouth = foot * rng.uniform(1.0, 1.4)
    profile = [(0, 0.01), (foot * 0.95, 0), (foot, 0.06), ((foot + mouth) / 2, height * 0.5), (mouth, height)]
    parts = [shapes.lathe("glass", shapes.shell(profile, 0.03), materials.glass())]
    if rng.random() < 0.75:
        water = materials.glass((0.97, 0.99, 1.0), ior=1.33)
        drink = materials.principled("drink", rng.choice(DRINKS), Roughness=0.15) if rng.random() < 0.7 else water
        parts.append(shapes.lathe("drink", shapes.fill(profile, 0.03, rng.uniform(0.4, 0.9)), drink, softness=2))
    return parts


def _box(rng, texture_dir):
    style = rng.choice(("cereal", "tea", "spaghetti"))
    width, depth, height = {
        "cereal": (rng.uniform(1.1, 1.5), rng.uniform(0.3, 0.5), rng.uniform(1.6, 2.2)),
        "tea": (rng.uniform(0.9, 1.4), rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.9)),
        "spaghetti": (rng.uniform(0.6, 0.9), rng.uniform(0.25, 0.4), rng.uniform(1.4, 2.2)),
    }[style]
    front, image = _print(rng, "box", texture_dir, (400, int(400 * height / width)))
    side_path = texture_dir / f"side_{rng.getrandbits(48):x}.png"
    labels.draw_side(rng, "box", image.size, image).save(side_path)
    plain = materials.principled("top", tuple((c / 255) ** 2.2 for c in image.getpixel((2, 2))), Roughness=0.5)
    return [shapes.box("box", width, depth, height, [front, materials.printed(side_path), plain], bevel=0.008)]


def _candle(rng, texture_dir):
    radius, height = rng.uniform(0.22, 0.42), rng.uniform(0.7, 1.9)
    color = rng.choice(((0.92, 0.89, 0.8), (0.92, 0.89, 0.8), (0.6, 0.05, 0.05), (0.15, 0.3, 0.2), (0.8, 0.6, 0.2)))
    wax = materials.principled("wax", color, Roughness=0.45)
    black = materials.principled("wick", (0.02, 0.02, 0.02))
    if rng.random() < 0.35:  # in a glass
        profile = [(0, 0.01), (radius * 0.95, 0), (radius, 0.06), (radius, height)]
        level = rng.uniform(0.5, 0.8)
        parts = [shapes.lathe("glass", shapes.shell(profile, 0.03), materials.glass())]
        parts.append(shapes.lathe("wax", shapes.fill(profile, 0.03, level), wax, softness=2))
        top = height * level
    else:
        hollow = rng.uniform(0.01, 0.06)
        profile = [(0, 0), (radius, 0), (radius, 0.03), (radius, height - 0.03), (radius * 0.93, height)]
        parts = [shapes.lathe("candle", [*profile, (0, height - hollow)], wax)]
        top = height - hollow
    wick = [(0.018, top - 0.02), (0.018, top + 0.13), (0, top + 0.14)]
    return [*parts, shapes.lathe("wick", wick, black, segments=10, softness=0)]


def _fruit(rng, texture_dir):
    parts = []
    for i in range(rng.randint(1, 4)):
        size = rng.uniform(0.28, 0.42)
        parts += rooms.add_thing(rng, "fruit", ((-1) ** i * i * 0.48, rng.uniform(-0.15, 0.15)), size)
    return parts
