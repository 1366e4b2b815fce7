"""Wrong labels found by looking at the most suspect images first, and what correcting them gains.

    python benchmarks/label_correction.py --photos FOLDER

FOLDER holds `flowers12` and `magnetic_tiles` (divided by tile). Each image is a test image once, in one of four
divisions. A tenth of the labels to learn from is made wrong, the first fifth in the order of the error browser is
looked at and corrected, and a linear probe learns again. Test labels are never touched. Gains are paired, over images
(or tiles) and seeds.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.splits import complete_splits, list_groups, split_folds
from utils_cv.models.features import compute_features
from utils_cv.studies.annotation_quality.wrong_labels import measure_correction
from utils_cv.studies.experiment import make_task, summarize
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "label_correction.json"
WRONG_FRACTION, LOOK_FRACTION, N_SEEDS, N_DIVISIONS = 0.1, 0.2, 5, 4


def measure(name: str, folder: Path) -> list[dict[str, Any]]:
    """One row per order of looking: wrong labels found, and accuracy before and after."""
    images = load_table_images(complete_splits(load_image_table(folder)), 224)
    features, groups = compute_features(images.pixels), list_groups(images.table)
    options: dict[str, Any] = {"wrong_fraction": WRONG_FRACTION, "round_fraction": LOOK_FRACTION, "n_rounds": 1}
    parts = []
    for _, held_out in split_folds(images.table["label"], groups, n_folds=N_DIVISIONS, seed=0):
        split = pd.Series("train", images.table.index)
        split.iloc[held_out] = "test"
        task = make_task(images.table.assign(split=split), features)
        part = measure_correction(task, **options, n_seeds=N_SEEDS)
        parts.append(part.assign(groups=[held_out if groups is None else groups[held_out]] * len(part)))
    found, by = pd.concat(parts), ["policy", "round", "seed"]
    rows = found.groupby(by, sort=False)[["n_wrong", "n_checked"]].mean()
    for column in ("right", "groups"):
        rows[column] = found.groupby(by, sort=False)[column].agg(lambda divided: np.concatenate([*divided]))
    rows = rows.reset_index()
    summary = summarize(rows, ["policy", "round"], baseline={"round": 0}, means=["n_wrong", "n_checked"])
    found = []
    for policy, part in summary.groupby("policy", sort=False):
        before, after = part.iloc[0], part.iloc[1]
        left = rows[(rows["policy"] == policy) & (rows["round"] == 1)]["n_wrong"]
        scores = {
            f"{key}_{when}": float(row[key])
            for when, row in (("before", before), ("after", after))
            for key in ("accuracy", "accuracy_low", "accuracy_high")
        }
        gain = {
            key.replace("difference", "gain"): float(after[key])
            for key in ("difference", "difference_low", "difference_high")
        }
        found.append(
            {"set": name, "order": policy, "n_train": len(task.pool_rows), "n_test": len(images.table)}
            | {"n_units": int(after["n_test"]), "n_wrong": int(before["n_wrong"]), "n_looked": int(after["n_checked"])}
            | {
                "found": 1 - float(left.mean()) / before["n_wrong"],
                "found_least": 1 - float(left.max()) / before["n_wrong"],
            }
            | {"n_seeds": N_SEEDS, **scores, **gain}
        )
    return found


def main() -> None:
    """Print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder that holds flowers12 and magnetic_tiles")
    options = parser.parse_args()
    folders = {"fridge_objects": Path("data/fridge_objects")}
    folders |= {name: options.photos / name for name in ("flowers12", "magnetic_tiles")}
    rows = [row for name, folder in folders.items() for row in measure(name, folder)]
    for row in rows:
        print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
    content = {"machine": describe_machine(), "load_average": round(os.getloadavg()[0], 1), "table": rows}
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
