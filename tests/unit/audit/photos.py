"""Tables and demo images for the tests of the audit."""

import pandas as pd
from PIL import Image

from tests.conftest import ROOT
from utils_cv.data.image_table import load_image_table


def make_table(folder, rows):
    """Save images; a row is (name, image or bytes, label, split)."""
    for name, image, _, _ in rows:
        if isinstance(image, bytes):
            (folder / name).write_bytes(image)
        else:
            image.save(folder / name, quality=90)
    table = pd.DataFrame([(name, label, split) for name, _, label, split in rows], columns=["image", "label", "split"])
    return table.assign(path=[str(folder / name) for name in table["image"]])


def load_demo_images():
    """Six demo images of each class."""
    table = load_image_table(ROOT / "data" / "fridge_objects")
    return [Image.open(path).convert("RGB") for path in table.groupby("label").head(6)["path"]]
