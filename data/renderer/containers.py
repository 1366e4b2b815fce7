"""The four classes as things: cans, cartons, milk bottles, water bottles, each in many shapes and prints."""

from pathlib import Path

import labels
import materials
import shapes

CLASS_NAMES = ("can", "carton", "milk_bottle", "water_bottle")


def build(kind, rng, texture_dir):
    """Build one container that stands at the origin.

    Args:
        kind: One of CLASS_NAMES.
        rng: random.Random; all variety comes from it.
        texture_dir: Folder for the drawn prints.

    Returns:
        Its Blender objects.
    """
    return {"can": _can, "carton": _carton, "milk_bottle": _milk_bottle, "water_bottle": _water_bottle}[kind](
        rng, Path(texture_dir)
    )


def _print(rng, kind, texture_dir, size, *, repeats=1, **inputs):
    image = labels.draw_label(rng, kind, size, repeats=repeats)
    path = texture_dir / f"{kind}_{rng.getrandbits(48):x}.png"
    image.save(path)
    return materials.printed(path, **inputs), image


def _can(rng, texture_dir):
    radius, height = rng.choice(((0.33, 1.15), (0.33, 1.68), (0.26, 1.33), (0.29, 1.55), (0.265, 0.9), (0.37, 1.1)))
    steel = materials.principled("metal", (0.75, 0.75, 0.76), Metallic=1.0, Roughness=rng.uniform(0.15, 0.35))
    if rng.random() < 0.15:  # a food can: straight wall, ribs of bare steel, paper label
        paper, _ = _print(rng, "carton", texture_dir, (640, 300), repeats=2, roughness=0.5)
        body = shapes.lathe(
            "can", [(0, 0), (radius, 0), (radius, 0.05), (radius, height - 0.05), (radius, height)], steel
        )
        wrap = shapes.lathe("wrap", [(radius + 0.004, 0.08), (radius + 0.004, height - 0.08)], paper)
        rim = [
            (radius, height),
            (radius + 0.015, height),
            (radius + 0.01, height + 0.03),
            (radius - 0.03, height - 0.03),
        ]
        return [body, wrap, shapes.lathe("lid", [*rim, (0, height - 0.03)], steel)]
    ink, _ = _print(rng, "can", texture_dir, (900, 400), repeats=2, metallic=rng.uniform(0.2, 0.7), roughness=0.28)
    neck = radius * 0.8
    foot = shapes.lathe("foot", [(0, 0.03), (neck, 0), (radius * 0.95, 0.05), (radius, 0.1)], steel)
    body = shapes.lathe(
        "can",
        [(radius, 0.1), (radius, 0.12), (radius, height - 0.14), (radius * 0.97, height - 0.1), (neck, height)],
        ink,
    )
    lid = shapes.lathe(
        "lid",
        [
            (neck, height),
            (neck + 0.012, height + 0.015),
            (neck + 0.005, height + 0.03),
            (neck - 0.02, height + 0.02),
            (neck - 0.03, height - 0.02),
            (0, height - 0.015),
        ],
        steel,
    )
    tab = shapes.box("tab", 0.1, 0.18, 0.012, [steel] * 3, bevel=0.004)
    tab.location = (0, 0.03, height - 0.012)
    return [foot, body, lid, tab]


def _carton(rng, texture_dir):
    style = rng.choice(("gable", "gable", "brick", "brick_cap", "small"))
    width = rng.uniform(0.62, 0.78)
    depth, height = width * rng.uniform(0.75, 1.0), rng.uniform(1.3, 2.0)
    if style == "small":
        width, depth, height = rng.uniform(0.45, 0.6), rng.uniform(0.36, 0.5), rng.uniform(0.85, 1.25)
    front, image = _print(rng, "carton", texture_dir, (400, int(400 * height / width)), roughness=0.4)
    side_path = texture_dir / f"side_{rng.getrandbits(48):x}.png"
    labels.draw_side(rng, "carton", image.size, image).save(side_path)
    side = materials.printed(side_path, roughness=0.4)
    plain = materials.principled("top", tuple((c / 255) ** 2.2 for c in image.getpixel((2, 2))), Roughness=0.4)
    cap = materials.principled(
        "cap", rng.choice(((0.8, 0.05, 0.05), (0.05, 0.2, 0.7), (0.9, 0.9, 0.9), (0.1, 0.5, 0.1)))
    )
    if style == "gable":
        parts = [shapes.gable_box("carton", width, depth, height, [front, side, plain], roof=depth * 0.55)]
        if rng.random() < 0.5:
            screw = shapes.lathe("cap", [(0.12, -0.03), (0.12, 0.1), (0, 0.1)], cap, softness=3)
            screw.rotation_euler, screw.location = (0.83, 0, 0), (0, -depth * 0.25, height + depth * 0.29)
            parts.append(screw)
        return parts
    parts = [shapes.box("carton", width, depth, height, [front, side, plain], bevel=rng.choice((0.008, 0.02, 0.06)))]
    if style == "brick_cap":
        screw = shapes.lathe("cap", [(0.13, height), (0.13, height + 0.1), (0, height + 0.1)], cap, softness=3)
        screw.location = (0, -depth * 0.2, 0)
        parts.append(screw)
    elif rng.random() < 0.6:  # a straw
        straw = shapes.lathe("straw", [(0.025, height - 0.1), (0.025, height + 0.45)], plain, segments=12, softness=0)
        straw.rotation_euler = (rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12), 0)
        parts.append(straw)
    return parts


def _profile(rng, radius, height, neck):
    """Profile of a bottle from the middle of its bottom to its mouth."""
    shoulder = rng.uniform(0.5, 0.72) * height
    points = [(0, 0.02), (radius * 0.7, 0), (radius, 0.05), (radius, shoulder * 0.5), (radius, shoulder)]
    waist = rng.random()
    if waist < 0.35:
        points[3:4] = [(radius, shoulder * 0.4), (radius * rng.uniform(0.85, 0.95), shoulder * 0.6)]
    return [*points, ((radius + neck) / 2, (shoulder + height * 0.85) / 2), (neck, height * 0.86), (neck, height)]


def _close(rng, neck, height, colors):
    color = rng.choice(colors)
    cap = materials.principled("cap", color, Roughness=0.35)
    tall = rng.uniform(0.1, 0.2)
    top = [(neck + 0.02, height - tall * 0.6), (neck + 0.025, height + tall * 0.4), (0, height + tall * 0.4)]
    return shapes.lathe("cap", top, cap, softness=3)


def _wrap(rng, kind, profile, texture_dir):
    """Put a printed sleeve around the body."""
    radius = max(r for r, _ in profile)
    straight = [z for r, z in profile if r > radius * 0.99]
    low, high = min(straight) + 0.06, max(straight) - 0.04
    low += rng.uniform(0, 0.3) * (high - low)
    high -= rng.uniform(0, 0.2) * (high - low)
    if high - low < 0.15:
        return []
    ink, _ = _print(rng, kind, texture_dir, (900, max(int(900 * (high - low) / (6.28 * radius)), 60)), repeats=2)
    return [shapes.lathe("sleeve", [(radius + 0.008, low), (radius + 0.008, high)], ink, softness=0)]


def _bottle(rng, kind, texture_dir, *, radius, height, neck, skin, liquid, caps, wrap):
    """Put a bottle together; `liquid` is a material and a level, or None."""
    profile = _profile(rng, radius, height, neck)
    parts = [shapes.lathe("bottle", shapes.shell(profile, 0.025), skin)]
    if liquid:
        parts.append(shapes.lathe("liquid", shapes.fill(profile, 0.025, liquid[1]), liquid[0], softness=2))
    if rng.random() < wrap:
        parts += _wrap(rng, kind, profile, texture_dir)
    if rng.random() < 0.9:
        parts.append(_close(rng, neck, height, caps))
    return parts


def _milk_bottle(rng, texture_dir):
    radius, height = rng.uniform(0.36, 0.46), rng.uniform(1.75, 2.3)
    neck = radius * rng.uniform(0.4, 0.6)
    milk = materials.principled("milk", (0.93, 0.91, 0.86), Roughness=0.3)
    caps = ((0.85, 0.85, 0.86), (0.05, 0.15, 0.6), (0.75, 0.05, 0.05), (0.1, 0.45, 0.15))
    if rng.random() < 0.35:  # white plastic
        skin = materials.principled("plastic", (0.9, 0.9, 0.88), Roughness=0.35, Subsurface_Weight=0.0)
        liquid = None
    else:
        skin, liquid = materials.glass(roughness=rng.choice((0, 0, 0.08))), (milk, rng.uniform(0.3, 0.92))
    return _bottle(
        rng,
        "milk_bottle",
        texture_dir,
        radius=radius,
        height=height,
        neck=neck,
        skin=skin,
        liquid=liquid,
        caps=caps,
        wrap=0.55,
    )


def _water_bottle(rng, texture_dir):
    radius, height = rng.uniform(0.3, 0.42), rng.uniform(1.8, 2.5)
    neck = radius * rng.uniform(0.3, 0.5)
    caps = ((0.05, 0.2, 0.7), (0.9, 0.9, 0.9), (0.1, 0.5, 0.8), (0.05, 0.4, 0.2), (0.7, 0.7, 0.72))
    water = materials.glass((0.97, 0.99, 1.0), ior=1.33)
    style = rng.random()
    if style < 0.2:  # a reusable bottle of white or tinted plastic or steel
        color = rng.choice(((0.85, 0.86, 0.86), (0.7, 0.8, 0.85), (0.9, 0.9, 0.9)))
        skin = materials.principled("flask", color, Roughness=0.3, Metallic=rng.choice((0, 0, 0.9)))
        liquid = None
    elif style < 0.4:  # frosted
        skin, liquid = (
            materials.glass((0.93, 0.96, 1.0), roughness=rng.uniform(0.15, 0.4)),
            (water, rng.uniform(0.4, 0.9)),
        )
    else:
        tint = rng.choice(((1, 1, 1), (0.93, 0.97, 1), (0.85, 0.95, 0.9)))
        skin = materials.glass(tint, ior=1.4)
        if rng.random() < 0.3:
            skin = materials.add_droplets(skin)
        liquid = (water, rng.uniform(0.3, 0.95))
    return _bottle(
        rng,
        "water_bottle",
        texture_dir,
        radius=radius,
        height=height,
        neck=neck,
        skin=skin,
        liquid=liquid,
        caps=caps,
        wrap=0.6,
    )
