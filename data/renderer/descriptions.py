"""Everything random about a scene, chosen from its id alone. Needs no Blender, so a set can be listed without it."""

import math
import random

STEEP_DEG = (60, 80)
FAR_WIDTHS = (0.08, 0.40)
BLUR_FRACTIONS = {"focus": (0.012, 0.035), "motion": (0.02, 0.06)}  # of the image's width


def describe(entry):
    """Describe the scene of one entry of `sets.list_images`; a pure function of the entry.

    `after` holds what changes once the scene stands: the camera of a later frame, the night, a steep view. The scene
    itself is then the same to the last grain of wood, so that a change of the score has one cause.
    """
    set_name = entry["set"]
    if set_name == "fridge_objects_shifted":
        return _shift(describe_scene(f"fridge_objects/{entry['scene_id']}"), entry)
    facts = describe_scene(f"{set_name}/{entry['scene_id']}") | {"objects": entry["label"].split("|")}
    rng = random.Random(f"{set_name}/{entry['scene_id']}/more")
    if set_name == "fridge_objects_video":
        return facts | {"after": _move_by_hand(rng, facts, entry["frame"])}
    if set_name == "fridge_objects_multilabel":
        return _group(rng, facts)
    if set_name == "fridge_negatives":
        is_empty = entry["kind"] == "empty"
        return facts | {
            "objects": [] if is_empty else [entry["kind"]],
            "n_clutter": 0 if is_empty else facts["n_clutter"],
            "is_hidden": facts["is_hidden"] and not is_empty,
        }
    return facts


def describe_scene(key):
    """Describe a scene with one object, as in fridge_objects."""
    rng = random.Random(key)
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
        "after": {},
    }


def _move_by_hand(rng, facts, frame):
    """Move the camera of frame 0 to 4 as a hand does: a slow drift, and a tremor on top."""
    drift = {name: rng.gauss(0, width) for name, width in (("azimuth_deg", 1.6), ("elevation_deg", 0.9))}
    pan, walk = (rng.gauss(0, 0.012), rng.gauss(0, 0.008)), rng.gauss(0, 0.02)
    tremor = [[rng.gauss(0, 1) for _ in range(5)] for _ in range(5)][frame] if frame else [0] * 5
    return {
        "azimuth_deg": facts["azimuth_deg"] + drift["azimuth_deg"] * frame + 0.3 * tremor[0],
        "elevation_deg": round(max(2, facts["elevation_deg"] + drift["elevation_deg"] * frame + 0.2 * tremor[1]), 1),
        "roll_deg": facts["roll_deg"] + 0.4 * tremor[2],
        "shift": tuple(s + p * frame + 0.004 * t for s, p, t in zip(facts["shift"], pan, tremor[3:], strict=True)),
        "width_fraction": facts["width_fraction"] * (1 + walk) ** frame,
    }


def _group(rng, facts):
    """Describe a scene of several objects: the frame grows with their number, and they hide each other."""
    n = len(facts["objects"])
    width = min(0.85, facts["width_fraction"] * (1 + 0.7 * (n - 1)) * rng.uniform(0.9, 1.2))
    across, up = facts["shift"]
    return facts | {
        "width_fraction": width,
        "shift": (across * (1 - width), up),
        "objects": rng.sample(facts["objects"], n),
        "n_clutter": rng.choice((0, 1, 2, 3)),
        "is_hidden": n == 1 and facts["is_hidden"],
    }


def _shift(facts, entry):
    """Change one thing about a scene of fridge_objects."""
    rng, after = random.Random(f"{entry['set']}/{entry['id']}"), {}
    facts = facts | {"objects": [entry["label"]]}
    if entry["shift"] == "night":
        after = {"light": "night"}
    elif entry["shift"] == "steep":
        after = {"elevation_deg": round(rng.uniform(*STEEP_DEG), 1)}
    elif entry["shift"] == "blur":
        kind = entry["blur_kind"]
        after = {"blur": (kind, rng.uniform(*BLUR_FRACTIONS[kind]), rng.uniform(0, math.pi))}
    else:  # nothing stands in front of it, which would hide more the nearer the camera is
        after, facts = {"exact_width": entry["width"]}, facts | {"is_hidden": False}
    return facts | {"after": after}
