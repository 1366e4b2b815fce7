"""Which images to label next, when to stop, and what a class "none" gains, on photographs and on the demo images.

    python benchmarks/active_learning.py --photos FOLDER

FOLDER holds `ants_bees`, `flowers12` and `magnetic_tiles` (drawn and split by tile). All labels outside the test split
are hidden, and each strategy reveals those that it asks for. The test split only scores. Then images of `ants_bees` are
looked for among validation images of `flowers12`, and learned as "none".
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.splits import complete_splits
from utils_cv.evaluation.intervals import resample_means
from utils_cv.models.features import compute_features
from utils_cv.studies.experiment import Task, make_task, summarize
from utils_cv.studies.hard_negatives_and_active_learning import (
    ORDERS,
    measure_mining,
    measure_strategies,
)
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "active_learning.json"
N_SEEDS, N_DIVISIONS, N_BUDGETS = 10, 3, 10


def load_task(folder: Path) -> Task:
    """Open a set with its splits, and compute its features."""
    images = load_table_images(complete_splits(load_image_table(folder)), 224)
    return make_task(images.table, compute_features(images.pixels))


def count_needed(rows: pd.DataFrame, within: float) -> pd.DataFrame:
    """Labels that bring a strategy `within` of the accuracy with all, over test images and seeds drawn anew."""
    names, budgets = list(rows["strategy"].unique()), np.sort(rows["budget"].unique())
    ordered = rows.assign(place=rows["strategy"].map(names.index)).sort_values(["place", "budget", "seed"])
    right = np.stack(ordered["right"].tolist()).reshape(len(names) * len(budgets), rows["seed"].nunique(), -1)
    curves = resample_means(right, groups=rows["groups"].iloc[0]).reshape(-1, len(names), len(budgets))
    needed = budgets[(curves >= curves[..., -1:] - within).argmax(axis=2)]
    columns: dict[str, Any] = {"strategy": names}
    for key, part in (("n_needed", needed), ("share", needed / needed[:, [names.index("random")]])):
        limits = np.quantile(part, (0.5, 0.025, 0.975), axis=0)
        columns |= dict(zip((key, f"{key}_low", f"{key}_high"), limits, strict=True))
    return pd.DataFrame(columns)


def compare_strategies(name: str, task: Task) -> dict[str, pd.DataFrame]:
    """Accuracy at each budget, labels needed, and where the rule stops."""
    budgets = np.unique(np.geomspace(2 * len(task.class_names), len(task.pool_rows), N_BUDGETS).round().astype(int))
    rows = measure_strategies(task, budgets, n_seeds=N_SEEDS)
    curves = summarize(rows, ["strategy", "budget"], baseline={"strategy": "random"})
    stops = pd.concat(
        [
            rows[rows["budget"] == budgets[-1]].assign(when="all labels"),
            rows[rows["is_stop"]].assign(when="stopped"),
        ]
    )
    stops = summarize(stops, ["strategy", "when"], baseline={"when": "all labels"}, means=["n_labeled"])
    needed = pd.concat([count_needed(rows, within).assign(within=within) for within in (0.1, 0.05, 0.02)])
    stops = stops[stops["when"] == "stopped"].drop(columns="when")
    return {key: table.assign(set=name) for key, table in (("curves", curves), ("needed", needed), ("stops", stops))}


def mine(task: Task, negatives: np.ndarray) -> pd.DataFrame:
    """Accuracy and rejected images of each order, at first, where the rule stops, and after the last round."""
    is_mixed = (task.table["split"].iloc[task.pool_rows] == "valid").to_numpy()
    known = task._replace(pool_rows=task.pool_rows[~is_mixed])
    rows = measure_mining(known, negatives, task.features[task.pool_rows[is_mixed]], None, n_seeds=N_DIVISIONS, seed=0)
    means = ["n_looked", "n_found", "false_alarm"]
    table = summarize(rows[rows["stage"] != ""], ["measured", "order", "stage"], means=means)
    return table.rename(columns={"accuracy": "value", "accuracy_low": "low", "accuracy_high": "high"})


def main() -> None:
    """Print the tables, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder that holds the three sets")
    options = parser.parse_args()
    tasks = {name: load_task(options.photos / name) for name in ("flowers12", "magnetic_tiles")}
    negatives = load_task(options.photos / "ants_bees").features
    content: dict[str, Any] = {"machine": describe_machine(), "load_average": round(os.getloadavg()[0], 1)}
    content |= {"n_seeds": N_SEEDS, "n_divisions": N_DIVISIONS, "orders": list(ORDERS)}
    found = [compare_strategies(name, task) for name, task in tasks.items()]
    tables = {key: pd.concat([part[key] for part in found]) for key in found[0]}
    tables["mining"] = mine(tasks["flowers12"], negatives)
    for key, table in tables.items():
        print(table.round(3).to_string())
        content[key] = table.replace({np.nan: None}).to_dict("records")
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
