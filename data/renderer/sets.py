"""Which images each demo set holds: id, file, labels, split. Needs no Blender."""

import itertools

import descriptions

CLASS_NAMES = ("can", "carton", "milk_bottle", "water_bottle")
N_PER_CLASS, N_TEST = 120, 40
N_SCENES, N_TEST_SCENES, N_FRAMES = 15, 5, 5
N_PER_SHIFT = 20
N_MULTILABEL, N_MULTILABEL_TEST = 200, 5
N_NEGATIVES = {"jar": 20, "mug": 20, "glass": 20, "box": 20, "candle": 16, "fruit": 12, "empty": 12}
NEGATIVE_LABEL = "none_of_these"

# Samples a pixel before denoising: 8 and 14 differ by 0.8 of 255 on average (2 images), less than JPEG changes them.
N_SAMPLES = {"fridge_objects": 14}
DEFAULT_N_SAMPLES = 8
# Sets that denoise with guides less carefully cleaned: a third less time, 1.2 of 255 on average (1 image).
FAST_DENOISING = {"fridge_objects_multilabel"}

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
EXTRA_COLUMNS = {
    "fridge_objects": (),
    "fridge_objects_video": ("group", "frame"),
    "fridge_objects_shifted": ("shift", "blur_kind", "blur_fraction"),
    "fridge_objects_multilabel": tuple(
        f"{name}_{fact}" for name in CLASS_NAMES for fact in ("left", "top", "right", "bottom", "visible")
    ),
    "fridge_negatives": ("kind",),
}


def list_images(set_name):
    """List every image of a set; the order mixes classes, so that the part rendered first is balanced.

    Returns:
        Dicts with `set`, `id`, `image` (its file), `label`, `split`, `scene_id`, and what the set adds.
    """
    lists = {
        "fridge_objects": _list_objects,
        "fridge_objects_video": _list_frames,
        "fridge_objects_shifted": _list_shifted,
        "fridge_objects_multilabel": _list_multilabel,
        "fridge_negatives": _list_negatives,
    }
    if set_name not in lists:
        raise SystemExit(f"No set {set_name!r}; there are {', '.join(lists)}.")
    return [{"set": set_name, "scene_id": entry["id"]} | entry for entry in lists[set_name]()]


def _entry(image_id, folder, label, split, **more):
    return {"id": image_id, "image": f"{folder}/{image_id}.jpg", "label": label, "split": split, **more}


def _list_objects():
    n_train = N_PER_CLASS - N_TEST
    for k in range(N_TEST):  # two train images, then a test image; the test images have the last numbers
        for i in (2 * k, 2 * k + 1, n_train + k):
            for label in CLASS_NAMES:
                yield _entry(f"{label}_{i:03d}", label, label, "test" if i >= n_train else "train")


def _list_frames():
    for i in range(N_SCENES):
        split = "test" if i >= N_SCENES - N_TEST_SCENES else "train"
        for label, frame in itertools.product(CLASS_NAMES, range(N_FRAMES)):
            scene_id = f"{label}_{i:02d}"
            yield _entry(f"{scene_id}_{frame}", label, label, split, scene_id=scene_id, frame=frame)


def _list_shifted():
    """List the first kitchens of the test part of fridge_objects four times, each time with one change."""
    first, last = descriptions.FAR_WIDTHS
    for i in range(N_PER_SHIFT):
        changes = {
            "night": {},
            "steep": {},
            "blur": {"blur_kind": ("focus", "motion")[i % 2]},
            "far": {"width": first + (last - first) * i / (N_PER_SHIFT - 1)},
        }
        for label, shift in itertools.product(CLASS_NAMES, changes):
            scene_id = _list_test_kitchens(label)[i]
            more = {"blur_kind": "sharp"} | changes[shift]
            yield _entry(f"{shift}_{scene_id}", label, label, "test", scene_id=scene_id, shift=shift, **more)


def _list_test_kitchens(label):
    ids = [f"{label}_{i:03d}" for i in range(N_PER_CLASS - N_TEST, N_PER_CLASS)]
    return [name for name in ids if descriptions.describe_scene(f"fridge_objects/{name}")["place"] == "kitchen"]


def _list_multilabel():
    combinations = [c for n in range(1, 5) for c in itertools.combinations(CLASS_NAMES, n)]
    for i in range(N_MULTILABEL):
        split = "test" if i < N_MULTILABEL_TEST * len(combinations) else "train"
        yield _entry(f"group_{i:03d}", "images", "|".join(combinations[i % len(combinations)]), split)


def _list_negatives():
    for i in range(max(N_NEGATIVES.values())):
        for kind, n in N_NEGATIVES.items():
            if i < n:
                yield _entry(f"{kind}_{i:02d}", kind, NEGATIVE_LABEL, "test" if i % 2 else "train", kind=kind)
