"""What `recipe_study.py` found: accuracy of each recipe and its paired gain over the probe, as JSON and as text."""

import json
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from utils_cv.system.files import write_atomic

LIBRARIES = ("torch", "timm", "fastai", "scikit-learn")
Difference = tuple[float, list[tuple[float, int]]]
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
            part["size"] = np.select(
                [part["n_per_class"] <= 10, part["n_per_class"] <= 30], ["10", "20 or 30"], "60 or more"
            )
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
    """One row per recipe, size and set, and rows over all sets: each set counts alike."""
    of_recipe = {key: part.set_index("seed") for key, part in cells.groupby(["recipe", "size", "set"], sort=False)}
    rows = []
    for recipe, size in dict.fromkeys((recipe, size) for recipe, size, _ in of_recipe):
        gains = []
        for name in dict.fromkeys(cells["set"]):
            part, probe = (of_recipe.get((key, size, name)) for key in (recipe, "probe"))
            if part is None or probe is None:
                continue
            seeds = sorted(set(part.index) & set(probe.index))
            right, base = (np.stack(list(each["right"][seeds])).astype(float) for each in (part, probe))
            gain = measure_difference(right - base, units.get(name))
            row = {"recipe": recipe, "size": size, "set": name, "n_train": int(part["n_train"].mean())}
            row |= {"n_test": right.shape[1], "n_seeds": len(seeds), "accuracy": right.mean()}
            row |= {"seed_sd": (right - base).mean(axis=1).std(ddof=1) if len(seeds) > 1 else 0.0}
            row |= {"gain": gain[0]} | dict(zip(("gain_low", "gain_high"), find_limits(*gain), strict=True))
            row |= {"loss": part["loss"][seeds].mean(), "loss_gain": (probe["loss"] - part["loss"])[seeds].mean()}
            rows.append(row | {"cpu_s": part["cpu_s"][seeds].median()})
            gains.append(gain)
        if len(gains) > 1:
            rows.append(combine(rows[-len(gains) :], gains))
    return rows


def combine(rows: list[dict[str, Any]], gains: list[Difference]) -> dict[str, Any]:
    """Make the row over all sets."""
    value = float(np.mean([gain for gain, _ in gains]))
    parts = [(variance / len(gains) ** 2, df) for _, each in gains for variance, df in each]
    row = {"recipe": rows[0]["recipe"], "size": rows[0]["size"], "set": f"{len(rows)} sets"}
    row |= {name: sum(each[name] for each in rows) for name in ("n_train", "n_test")}
    row |= {"n_seeds": min(each["n_seeds"] for each in rows), "accuracy": np.mean([each["accuracy"] for each in rows])}
    row |= {"seed_sd": math.sqrt(sum(each["seed_sd"] ** 2 for each in rows)) / len(rows)}
    row |= {"gain": value} | dict(zip(("gain_low", "gain_high"), find_limits(value, parts), strict=True))
    return row | {name: np.mean([each[name] for each in rows]) for name in ("loss", "loss_gain", "cpu_s")}


def measure_difference(values: np.ndarray, units: np.ndarray | None) -> Difference:
    """Mean of differences (n_seeds, n_images), and the parts of its variance with their degrees of freedom.

    Images and seeds are both random; images of one unit, such as a scene, do not count as independent.
    """
    codes = np.arange(values.shape[1]) if units is None else units
    n_units, n_seeds = int(codes.max()) + 1, len(values)
    sums = np.stack([np.bincount(codes, weights=row) for row in values]) * n_units / values.shape[1]
    mean, of_unit, of_seed = sums.mean(), sums.mean(axis=0), sums.mean(axis=1)
    n = sums.size
    square_unit = n_seeds * of_unit.var(ddof=1)
    if n_seeds == 1:
        return float(mean), [(square_unit / n, n_units - 1)]
    square_seed = n_units * of_seed.var(ddof=1)
    rest = ((sums - of_unit - of_seed[:, None] + mean) ** 2).sum() / ((n_units - 1) * (n_seeds - 1))
    if square_seed <= rest:
        return float(mean), [(square_unit / n, n_units - 1)]
    parts = [(square_unit / n, n_units - 1), (square_seed / n, n_seeds - 1)]
    return float(mean), [*parts, (-rest / n, (n_units - 1) * (n_seeds - 1))]


def find_limits(value: float, parts: list[tuple[float, int]]) -> tuple[float, float]:
    """95 % interval of a mean whose variance is the sum of some parts (Satterthwaite 1946)."""
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return value, value
    df = variance**2 / sum(part**2 / df for part, df in parts)
    half = float(t.ppf(0.975, max(df, 1.0))) * math.sqrt(variance)
    return value - half, value + half


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
