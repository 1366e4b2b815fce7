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
        parts = {name: [of_recipe[key, size, name] for key in (recipe, "probe", "last_stage")] for name in names}
        for group in [*([name] for name in names), *([names] if len(names) > 1 else [])]:
            seeds = sorted(set.intersection(*(set(part.index) for name in group for part in parts[name])))
            if seeds:
                rows.append({"recipe": recipe, "size": size} | compare(parts, group, seeds, units))
    return rows


def compare(parts: dict[str, Any], names: list[str], seeds: list[int], units: dict[str, np.ndarray]) -> dict[str, Any]:
    """Make the row of a recipe: accuracy, gain over the probe, lead over the fine-tuned network, on the same images."""
    own, base = (pd.concat([parts[name][i].loc[seeds] for name in names]) for i in (0, 1))
    right, *others = (
        np.concatenate([np.stack(list(parts[name][i].loc[seeds, "right"])) for name in names], axis=1) for i in range(3)
    )
    groups = [f"{name} {code}" for name in names for code in units[name]]
    row = {
        "set": names[0] if len(names) == 1 else f"all {len(names)}",
        "n_train": int(own["n_train"].sum() / len(seeds)),
    }
    row |= {"n_test": right.shape[1], "n_sets": len(names), "n_seeds": len(seeds)}
    scores = {"accuracy": measure_mean(right, groups=groups)}
    scores |= {
        key: compare_means(right, other, groups=groups) for key, other in zip(("gain", "lead"), others, strict=True)
    }
    for name, score in scores.items():
        row |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
    gains = right.mean(axis=1) - others[0].mean(axis=1)
    row |= {"gain_seed_sd": float(gains.std(ddof=1)) if len(seeds) > 1 else 0.0}
    row |= {"loss": own["loss"].mean(), "loss_gain": base["loss"].mean() - own["loss"].mean()}
    return row | {"cpu_s": own["cpu_s"].median()}


POLICIES: dict[str, Callable[[pd.DataFrame], str]] = {
    "probe": lambda folds: "probe",
    "last_stage": lambda folds: "last_stage",
    "averaged": lambda folds: "weights 0.5",
    "select: probe or last_stage": lambda folds: choose(folds, "last_stage"),
    "select: probe or averaged": lambda folds: choose(folds, "weights 0.5"),
    "lower loss: probe or averaged": lambda folds: choose(folds, "weights 0.5", 0.0),
    "lowest loss of all weights": lambda folds: folds["free_loss"].idxmin(),
}


def choose(folds: pd.DataFrame, rival: str, n_errors: float = N_STANDARD_ERRORS) -> str:
    """The rule of `select_recipe`: the rival if its gain in loss is shown and its accuracy is not lower."""
    row, probe = folds.loc[rival], folds.loc["probe"]
    is_shown = row["free_gain"] > n_errors * row["free_gain_error"] and probe["accuracy"] < 1
    return rival if is_shown and row["accuracy"] >= probe["accuracy"] else "probe"


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
