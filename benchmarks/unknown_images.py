"""How well unknown images are told from known ones, by six scores, on sets of photographs and on the demo images.

    python benchmarks/unknown_images.py --photos FOLDER

FOLDER holds `ants_bees`, `flowers12` and `magnetic_tiles`. Each class of a set is left out in turn, and one set is the
unknown of another. Thresholds come from images outside the test split, by models that have not learned them, at 5 %
false alarms.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import pandas as pd

from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.splits import complete_splits, list_groups
from utils_cv.evaluation.out_of_distribution import select_ridge
from utils_cv.models.features import compute_features
from utils_cv.models.linear_heads import fit_linear_head
from utils_cv.studies.confidence_and_unknown_images import (
    compare_left_out,
    compare_scores,
    score_by_folds,
    score_images,
)
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "unknown_images.json"


def load_set(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Open a set with its splits, and compute its features."""
    images = load_table_images(complete_splits(load_image_table(folder)), 224)
    return images.table, compute_features(images.pixels)


def read_pool(table: pd.DataFrame, features: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, object]]:
    """Features and classes of what is not in the test split, and how they are scored: their groups and a ridge."""
    codes, is_pool = pd.factorize(table["label"], sort=True)[0], (table["split"] != "test").to_numpy()
    pool, groups = (features[is_pool], codes[is_pool]), list_groups(table[is_pool])
    return pool, {"groups": groups, "ridge": select_ridge(*pool, groups=groups)}


def compare(known_set: tuple[pd.DataFrame, np.ndarray], unknown: np.ndarray) -> pd.DataFrame:
    """Score the test images of one set and all images of another by what learned the first."""
    table, features = known_set
    pool, options = read_pool(table, features)
    known = score_by_folds(*pool, **options)
    weight, bias = fit_linear_head(*pool, n_classes=pool[1].max() + 1, groups=options["groups"])
    is_test = (table["split"] == "test").to_numpy()
    test, new = (
        score_images(pool, part, part @ weight.T + bias, ridge=options["ridge"])
        for part in (features[is_test], unknown)
    )
    rows = compare_scores(known, test, new, groups=list_groups(table[is_test]))
    return rows.assign(n_classes=pool[1].max() + 1, n_learned=len(pool[1]), ridge=options["ridge"])


def leave_out(table: pd.DataFrame, features: np.ndarray) -> pd.DataFrame:
    """Mean AUROC and share rejected of each score, over the classes left out in turn."""
    pool, options = read_pool(table, features)
    rows = compare_left_out(*pool, sorted(table["label"].unique()), show_progress=False, **options)
    means = rows.groupby("score", sort=False)[["auroc", "rejected"]].mean().reset_index()
    return means.assign(n_classes=rows["name"].nunique(), ridge=options["ridge"])


def main() -> None:
    """Print the tables, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder that holds the three sets")
    options = parser.parse_args()
    sets = {name: load_set(options.photos / name) for name in ("ants_bees", "flowers12", "magnetic_tiles")}
    sets |= {name: load_set(Path("data") / name) for name in ("fridge_objects",)}
    names = ("fridge_objects", "flowers12", "magnetic_tiles")
    left_out = pd.concat([leave_out(*sets[name]).assign(known=name) for name in names], ignore_index=True)
    print(left_out.round(3).to_string())
    pairs = [("ants_bees", "flowers12"), ("flowers12", "ants_bees"), ("fridge_objects", "flowers12")]
    rows = pd.concat([compare(sets[a], sets[b][1]).assign(known=a, unknown=b) for a, b in pairs], ignore_index=True)
    print(rows[["known", "unknown", "name", "auroc", "rejected", "false_alarm", "rejected_equal"]].round(3).to_string())
    content = {"machine": describe_machine(), "versions": {"python": platform.python_version()}}
    content |= {"left_out": left_out.to_dict("records"), "table": rows.to_dict("records")}
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
