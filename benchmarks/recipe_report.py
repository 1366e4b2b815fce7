"""What `recipe_study.py` found: accuracy of each recipe and its paired gain over the probe, as JSON and as text."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.evaluation.intervals import compare_means, measure_mean
from utils_cv.system.files import write_atomic

LIBRARIES = ("torch", "timm", "fastai", "scikit-learn")
# By how much a gain in loss must exceed its standard error to count, as in `select_recipe`.
N_STANDARD_ERRORS = 1.65


def write_report(rows: list[dict[str, Any]], path: Path, machine: str) -> None:
    """Write the tables as JSON, and print them."""
    units = {row["cell"][1]: np.array(row["units"]) for row in rows if row["cell"][0] == "units"}
    cells = pd.DataFrame([row for row in rows if "right" in row])
    cells = cells.drop_duplicates(["set", "n_per_class", "seed", "recipe"])
    cells["right"] = [unpack(row.right, row.n_test) for row in cells.itertuples()]
    folds = pd.DataFrame([row for row in rows if str(row.get("recipe")).startswith("folds: ")])
    for part in (cells, folds):
        if len(part):
            part["size"] = np.select([part["n_per_class"] <= 10, part["n_per_class"] <= 30], ["10", "30"], "60 or more")
    table = summarize(cells, units)
    report = {"machine": machine, "versions": {name: version(name) for name in LIBRARIES}, "table": table}
    if len(folds):
        report["policies"] = summarize(apply_policies(cells, folds), units)
    with write_atomic(path) as out_path:
        out_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name in ("table", "policies"):
        print(pd.DataFrame(report.get(name, [])).round(4).to_string(index=False))


def unpack(bits: str, n: int) -> np.ndarray:
    """Which answers are right, (n,)."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8))[:n].astype(bool)


def summarize(cells: pd.DataFrame, units: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """One row per recipe, size and set, and one over the images of all sets."""
    of_recipe = {key: part.set_index("seed") for key, part in cells.groupby(["recipe", "size", "set"], sort=False)}
    sets, rows = list(dict.fromkeys(cells["set"])), []
    for recipe, size in dict.fromkeys((recipe, size) for recipe, size, _ in of_recipe):
        names = [name for name in sets if (recipe, size, name) in of_recipe and ("probe", size, name) in of_recipe]
        parts = {name: (of_recipe[recipe, size, name], of_recipe["probe", size, name]) for name in names}
        for group in [*([name] for name in names), *([names] if len(names) > 1 else [])]:
            seeds = sorted(set.intersection(*(set(part.index) for name in group for part in parts[name])))
            if seeds:
                rows.append({"recipe": recipe, "size": size} | compare(parts, group, seeds, units))
    return rows


def compare(parts: dict[str, Any], names: list[str], seeds: list[int], units: dict[str, np.ndarray]) -> dict[str, Any]:
    """Make the row of a recipe: accuracy, and gain over the probe on the same images and seeds."""
    own, base = (pd.concat([parts[name][i].loc[seeds] for name in names]) for i in (0, 1))
    right, right_base = (
        np.concatenate([np.stack(list(parts[name][i].loc[seeds, "right"])) for name in names], axis=1) for i in (0, 1)
    )
    groups = [f"{name} {code}" for name in names for code in units[name]]
    row = {
        "set": names[0] if len(names) == 1 else f"all {len(names)}",
        "n_train": int(own["n_train"].sum() / len(seeds)),
    }
    row |= {"n_test": right.shape[1], "n_seeds": len(seeds)}
    for name, score in {
        "accuracy": measure_mean(right, groups=groups),
        "gain": compare_means(right, right_base, groups=groups),
    }.items():
        row |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
    gains = right.mean(axis=1) - right_base.mean(axis=1)
    row |= {"gain_seed_sd": float(gains.std(ddof=1)) if len(seeds) > 1 else 0.0}
    row |= {"loss": own["loss"].mean(), "loss_gain": base["loss"].mean() - own["loss"].mean()}
    return row | {"cpu_s": own["cpu_s"].median()}


POLICIES: dict[str, Callable[[pd.DataFrame], str]] = {
    "probe": lambda folds: "probe",
    "select: probe or last_stage": lambda folds: choose(folds, ["last_stage"]),
    "select: probe or weights 0.5": lambda folds: choose(folds, ["weights 0.5"]),
    "select: probe, weights 0.5 or last_stage": lambda folds: choose(folds, ["weights 0.5", "last_stage"]),
    "lowest loss of probe and last_stage": lambda folds: folds.loc[["probe", "last_stage"], "loss"].idxmin(),
    "lowest loss of probe and weights 0.5": lambda folds: folds.loc[["probe", "weights 0.5"], "loss"].idxmin(),
    "lowest loss of all": lambda folds: folds["loss"].idxmin(),
    "lowest loss of fine-tuned": lambda folds: folds["loss"].drop("probe").idxmin(),
    "highest accuracy of all, then loss": lambda folds: folds.sort_values(
        ["accuracy", "loss"], ascending=[False, True]
    ).index[0],
}


def choose(folds: pd.DataFrame, rivals: list[str]) -> str:
    """The rule of `select_recipe`: a rival whose gain in loss is shown, and whose accuracy is not lower."""
    best = "probe"
    for rival in rivals:
        row, base = folds.loc[rival], folds.loc[best]
        is_shown = row["gain"] > N_STANDARD_ERRORS * row["gain_error"] and row["loss"] < base["loss"]
        best = rival if is_shown and row["accuracy"] >= base["accuracy"] else best
    return best


def apply_policies(cells: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Test results of the recipe that each policy would have chosen by the folds."""
    rows, keys = [], ["set", "size", "seed"]
    results = {key: part.set_index("recipe") for key, part in cells.groupby(keys)}
    for key, part in folds.groupby(keys, sort=False):
        part = part.assign(recipe=part["recipe"].str.removeprefix("folds: ")).set_index("recipe")
        for name, policy in POLICIES.items():
            chosen = policy(part)
            rows.append(
                results[key].loc[chosen].to_dict()
                | dict(zip(keys, key, strict=True))
                | {"recipe": name, "chosen": chosen}
            )
    return pd.DataFrame(rows)
