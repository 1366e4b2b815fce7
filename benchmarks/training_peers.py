"""Accuracy and time of training, side by side: our recipes and other libraries' recipes on the same images.

    python benchmarks/training_peers.py                                   # the demo images only
    python benchmarks/training_peers.py --photos FOLDER                   # and the photographs in it
    python benchmarks/training_peers.py --photos FOLDER --recipes probe select_recipe --again
    python benchmarks/training_peers.py --summarize                       # only the table, from what is there

Needs `pip install -e '.[benchmarks]'` for Hugging Face. FOLDER holds `ants_bees`, `flowers12` and `magnetic_tiles`.

A cell is one training: a set, 10 or all images per class, a seed, a recipe. Each runs in a fresh process on one
processor and is written to the results at once, so that the same command goes on after a stop. Cells of other machines,
and of other versions of torch, timm and fastai, are kept beside. CPU seconds count the training from opening the images
on, without imports and without the export of our backbone to ONNX, which is done once per machine.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; the processes of the cells inherit it
HERE = Path(__file__).resolve().parent
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))

from training_recipes import HAS_HUGGING_FACE, LABELS, RECIPES  # noqa: E402

from utils_cv.data.image_table import load_image_table  # noqa: E402
from utils_cv.data.labels import encode_labels, list_class_names  # noqa: E402
from utils_cv.data.splits import complete_splits, take_per_class  # noqa: E402
from utils_cv.evaluation.intervals import compare_means, measure_mean  # noqa: E402
from utils_cv.system.files import write_atomic  # noqa: E402
from utils_cv.system.machine import describe_machine, set_seed  # noqa: E402

# Each set, with the column whose equal values are not independent.
SETS = {"fridge_objects": None, "ants_bees": None, "magnetic_tiles": "group", "flowers12": None}
SIZES = (10, "all")
SEEDS = (0, 1, 2)
OURS = ("probe", "three_networks", "select_recipe")
# What runs first and last, so that a run which is stopped has what says most.
QUICK, LAST = (*OURS, "sklearn_probe"), ("hugging_face", "pytorch_tutorial")
ONE_SEED_SECONDS = 300.0
PACKAGES = ("torch", "torchvision", "timm", "fastai", "scikit-learn", "transformers", "accelerate", "onnxruntime")


class Cell(NamedTuple):
    """One training."""

    set: str
    n_per_class: int | str
    seed: int
    recipe: str


def load_set(name: str, photos: Path | None) -> pd.DataFrame:
    """Load a set with the splits `train` and `test`: its own, or a third of the groups as test images."""
    folder = HERE.parent / "data" / name if name == "fridge_objects" else Path(photos or "") / name
    table = load_image_table(folder)
    if SETS[name]:
        folds = StratifiedGroupKFold(3, shuffle=True, random_state=0)
        is_test = np.isin(np.arange(len(table)), next(folds.split(table, table["label"], table[SETS[name]]))[1])
        return table.assign(split=np.where(is_test, "test", "train"))
    table = complete_splits(table)
    return table.assign(split=table["split"].replace({"valid": "train"}))


def take_images(table: pd.DataFrame, cell: Cell) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take the train images of a cell, which differ by seed where they are few, and all test images."""
    if cell.n_per_class != "all":
        table = take_per_class(table, int(cell.n_per_class), seed=cell.seed)
    train, test = (table[table["split"] == split].reset_index(drop=True) for split in ("train", "test"))
    return train, test


def hash_images(train: pd.DataFrame, test: pd.DataFrame) -> str:
    """Hash the names of the images, so that results on other draws or splits are not taken for these."""
    return hashlib.sha256("\n".join([*train["image"], "", *test["image"]]).encode()).hexdigest()[:8]


def run_cell(cell: Cell, table: pd.DataFrame) -> dict[str, Any]:
    """Train and predict, in the process of a cell; on one processor, which decides how many threads libraries start."""
    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[os.getpid() % len(processors)]})
    train, test = take_images(table, cell)
    set_seed(cell.seed)
    with redirect_stderr(io.StringIO()):  # progress bars
        wall, cpu = time.perf_counter(), time.process_time()
        trained = RECIPES[cell.recipe](train, cell.seed)
        times = {"cpu_seconds": round(time.process_time() - cpu, 2), "seconds": round(time.perf_counter() - wall, 2)}
        right = trained.predict(test) == encode_labels(test["label"], list_class_names(train))
    answers = "".join(map(str, right.astype(int)))
    facts = {"images": hash_images(train, test), "n_train": len(train), "setting": trained.setting}
    return cell._asdict() | facts | times | {"right": answers}


def list_cells(tables: dict[str, pd.DataFrame], chosen: argparse.Namespace) -> list[Cell]:
    """List all cells in the order of running: seed 0 first, in it what is quick, then few images, then small sets."""
    n_train = {name: int((table["split"] == "train").sum()) for name, table in tables.items()}
    cells = [
        Cell(name, size, seed, recipe)
        for name in tables
        for size in chosen.sizes
        for seed in chosen.seeds
        for recipe in chosen.recipes
    ]

    def rank(cell: Cell) -> tuple[int, ...]:
        is_all = cell.n_per_class == "all"
        stage = is_all if cell.recipe in QUICK else 4 if cell.recipe in LAST else 2 + is_all
        return cell.seed > 0, stage, cell.seed, n_train[cell.set], list(RECIPES).index(cell.recipe)

    return sorted(cells, key=rank)


def measure_cells(path: Path, tables: dict[str, pd.DataFrame], cells: Sequence[Cell]) -> None:
    """Run the cells one after another and write each result at once; failures are counted and left for another run."""
    context = multiprocessing.get_context("forkserver")
    # A cell starts as a copy of a process that has imported everything and done nothing.
    context.set_forkserver_preload(["training_recipes"])
    failed, exported = [], set()
    for number, cell in enumerate(cells, start=1):
        if takes_one_seed(read_results(path), cell):
            continue
        print(f"{number}/{len(cells)} {' '.join(map(str, cell))}:", end=" ", flush=True)
        try:
            for _ in range(1 if cell.recipe in exported else 2):  # the first time may include the export to ONNX
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    row = pool.submit(run_cell, cell, tables[cell.set]).result()
                if cell.recipe not in OURS:
                    break
            exported.add(cell.recipe)
        except Exception as error:  # any failure of a recipe is a result about it; the others go on
            print(f"failed, {type(error).__name__}: {error}", flush=True)
            failed.append(cell)
            continue
        results = read_results(path)  # read again, so that another run may add cells meanwhile
        kept = [old for old in results["cells"] if not is_of(old, cell, results["machine"])]
        results["cells"] = [*kept, {"machine": results["machine"], "commit": read_commit()} | row]
        write_results(path, results)
        print(f"{row['right'].count('1')} of {len(row['right'])}, {row['cpu_seconds']} s of CPU", flush=True)
    if failed:
        print(f"{len(failed)} of {len(cells)} cells failed; the same command tries them again.", file=sys.stderr)


def is_of(row: dict[str, Any], cell: Cell, machine: str) -> bool:
    """Tell whether a result is of a cell on a machine."""
    return row["machine"] == machine and all(row[key] == value for key, value in cell._asdict().items())


def is_measured(results: dict[str, Any], cell: Cell, table: pd.DataFrame) -> bool:
    """Tell whether a cell was measured on this machine with these images."""
    found = [row for row in results["cells"] if is_of(row, cell, results["machine"])]
    return bool(found) and found[0]["images"] == hash_images(*take_images(table, cell))


def takes_one_seed(results: dict[str, Any], cell: Cell) -> bool:
    """Tell whether a cell is left out because its recipe took over five minutes of CPU with seed 0."""
    first = [row for row in results["cells"] if is_of(row, cell._replace(seed=0), results["machine"])]
    return cell.seed > 0 and bool(first) and first[0]["cpu_seconds"] > ONE_SEED_SECONDS


def read_commit() -> str:
    """Read which version of the repository is measured; empty without git."""
    argv = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def read_results(path: Path) -> dict[str, Any]:
    """Read what was measured before, on any machine."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cells": [], "sets": []}


def describe_run() -> dict[str, Any]:
    """Describe the machine and the versions of the packages that are compared."""
    found = {name: version for name in PACKAGES if (version := _read_version(name))}
    return {"machine": describe_machine(), "versions": found}


def _read_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write results as JSON with one line per row, at once or not at all."""
    parts = []
    for key, value in results.items():
        rows = ",\n".join(f" {json.dumps(row, ensure_ascii=False)}" for row in value) if isinstance(value, list) else ""
        parts.append(f"{json.dumps(key)}: " + (f"[\n{rows}\n]" if rows else json.dumps(value, ensure_ascii=False)))
    with write_atomic(path) as out_path:
        out_path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def describe_sets(tables: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Describe sets by what the summary needs: how many images, and which test images belong together."""
    rows = []
    for name, table in tables.items():
        test = table[table["split"] == "test"]
        groups = pd.factorize(test[SETS[name]])[0].tolist() if SETS[name] else None
        row = {"set": name, "n_classes": table["label"].nunique(), "n_train": len(table) - len(test)}
        rows.append(row | {"n_test": len(test), "test_groups": groups})
    return rows


def summarize(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Make one row per set, images per class and recipe, and one for the peer with the highest test accuracy.

    Gains are ours minus the row's recipe, over the seeds that both have; images of one group are not independent.
    """
    cells = pd.DataFrame([row for row in results["cells"] if row["machine"] == results["machine"]])
    newest = cells.groupby(["set", "n_per_class", "seed"])["images"].transform("last")
    cells = cells[cells["images"] == newest]  # where splits or draws have changed, what was measured before is out
    rows = []
    for described in results["sets"]:
        for size in SIZES:
            part = cells[(cells["set"] == described["set"]) & (cells["n_per_class"] == size)]
            of_recipe = {name: part[part["recipe"] == name].set_index("seed").sort_index() for name in RECIPES}
            groups = described["test_groups"] and np.array(described["test_groups"])
            found = [
                summarize_recipe(name, of_recipe, groups, described | {"n_per_class": size})
                for name in RECIPES
                if len(of_recipe[name])
            ]
            peers = [row for row in found if row["recipe"] not in OURS]
            best = max(peers, key=lambda row: row["accuracy"], default=None)
            rows += found + ([best | {"recipe": "best_peer", "peer": LABELS[best["recipe"]]}] if best else [])
    return rows + [row for size in SIZES for row in summarize_all_sets(cells, results["sets"], size)]


def summarize_all_sets(cells: pd.DataFrame, sets: list[dict[str, Any]], size: int | str) -> list[dict[str, Any]]:
    """Make one row per recipe over the test images of all sets, of the seeds that it has on each."""
    own = cells[cells["n_per_class"] == size]
    part = own.groupby(["recipe", "seed"]).filter(lambda rows: set(rows["set"]) == {each["set"] for each in sets})
    how = {"right": "sum", "cpu_seconds": "sum", "n_train": "sum", "setting": lambda column: ""}
    joined = part.sort_values("set").groupby(["recipe", "seed"]).agg(how).reset_index("seed")
    of_recipe = {name: joined.loc[joined.index == name].set_index("seed") for name in RECIPES}
    groups = []
    for each in sorted(sets, key=lambda each: each["set"]):
        n_test = len(cells.loc[cells["set"] == each["set"], "right"].iloc[0])
        groups += [f"{each['set']} {unit}" for unit in each["test_groups"] or range(n_test)]
    described = {"set": "all", "n_per_class": size, "n_classes": sum(each["n_classes"] for each in sets)}
    return [summarize_recipe(name, of_recipe, np.array(groups), described) for name in RECIPES if len(of_recipe[name])]


def summarize_recipe(
    name: str, of_recipe: dict[str, pd.DataFrame], groups: np.ndarray | None, described: dict[str, Any]
) -> dict[str, Any]:
    """Make the row of a recipe: accuracy with interval, time, and both against our recipes."""
    cells = of_recipe[name]
    right = unpack(cells["right"])
    score = measure_mean(right, groups=groups)
    of_seed = right.mean(axis=1)
    row = {key: described[key] for key in ("set", "n_per_class", "n_classes")} | {"recipe": name}
    row |= {"setting": ", ".join(dict.fromkeys(cells["setting"])), "n_train": int(cells["n_train"].iloc[0])}
    row |= {"n_test": right.shape[1], "n_groups": score.n, "n_seeds": len(cells)}
    row |= {"accuracy": score.value, "accuracy_low": score.low, "accuracy_high": score.high}
    row |= {"seed_low": of_seed.min(), "seed_high": of_seed.max(), "cpu_seconds": cells["cpu_seconds"].median()}
    for ours in OURS:
        seeds = cells.index.intersection(of_recipe[ours].index)
        if name != ours and len(seeds):
            pair = [of_recipe[recipe].loc[seeds] for recipe in (ours, name)]
            gain = compare_means(*(unpack(each["right"]) for each in pair), groups=groups)
            times = pair[1]["cpu_seconds"].median() / pair[0]["cpu_seconds"].median()
            row |= {f"{ours}_gain": gain.value, f"{ours}_gain_low": gain.low, f"{ours}_gain_high": gain.high}
            row |= {f"{ours}_gain_seeds": len(seeds), f"times_{ours}": times}
    return {key: round(float(cell), 4) if isinstance(cell, float) else cell for key, cell in row.items()}


def unpack(answers: pd.Series) -> np.ndarray:
    """Read which answers are right, float (n_seeds, n_images)."""
    return np.array([[int(digit) for digit in row] for row in answers], dtype=float)


def format_markdown(table: list[dict[str, Any]]) -> str:
    """Format the tables of benchmarks/README.md, without the numbers, which `make refresh` fills in."""
    found = {(row["set"], row["n_per_class"], row["recipe"]): row for row in table}

    def quote(row: dict[str, Any] | None, column: str, spec: str) -> str:
        if row is None or column not in row:
            return ""
        source = (
            f"benchmarks/training_peers.table[set={row['set']},n_per_class={row['n_per_class']},recipe={row['recipe']}]"
        )
        return f"<!--{source}.{column}:{spec}-->?<!--/-->"

    lines = []
    for size in SIZES:
        sets = [name for name in SETS if any(key[:2] == (name, size) for key in found)]
        columns = {
            ("accuracy", "score"): "accuracy (95 %)",
            ("select_recipe_gain", "score points"): "points by which `select_recipe` is better",
            ("probe_gain", "score points"): "points by which `linear_probe` is better",
            ("three_networks_gain", "score points"): "points by which `linear_probe` of three networks is better",
            ("cpu_seconds", ".1f"): "CPU seconds of training",
        }
        for (column, spec), title in columns.items() if sets else ():
            header = [f"{title}, {size} images per class", *sets]
            lines += ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
            for recipe in RECIPES:
                cells = [quote(found.get((name, size, recipe)), column, spec) for name in sets]
                lines += [f"| {LABELS[recipe]} | {' | '.join(cells)} |"] if any(cells) else []
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with the sets of photographs; default: leave them out")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS), metavar="NAME")
    parser.add_argument(
        "--sizes", nargs="+", default=list(SIZES), type=lambda text: text if text == "all" else int(text)
    )
    parser.add_argument("--seeds", nargs="+", default=list(SEEDS), type=int)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    parser.add_argument("--again", action="store_true", help="measure cells again that are there")
    parser.add_argument("--summarize", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training_peers.json")
    arguments = parser.parse_args()
    results = read_results(arguments.out)
    if not arguments.summarize:
        results |= describe_run()
        if not HAS_HUGGING_FACE:
            arguments.recipes = [name for name in arguments.recipes if not name.startswith("hugging_face")]
            print("Hugging Face is not run: pip install -e '.[benchmarks]' installs transformers and accelerate.")
        names = [name for name in arguments.sets if arguments.photos or name == "fridge_objects"]
        tables = {name: load_set(name, arguments.photos) for name in names}
        described = {row["set"]: row for row in results["sets"] + describe_sets(tables)}
        results["sets"] = [described[name] for name in SETS if name in described]
        write_results(arguments.out, results)
        cells = list_cells(tables, arguments)
        if not arguments.again:
            cells = [cell for cell in cells if not is_measured(results, cell, tables[cell.set])]
        measure_cells(arguments.out, tables, cells)
        results = read_results(arguments.out)
    processor = ", ".join(results["machine"].split(", ")[:2])  # its name and the number of cores
    results |= {"processor": processor, "table": summarize(results)}
    order = ("machine", "processor", "versions", "table", "sets", "cells")
    write_results(arguments.out, {key: results[key] for key in order})
    shown = ["set", "n_per_class", "recipe", "n_seeds", "accuracy", "select_recipe_gain", "probe_gain", "cpu_seconds"]
    print(pd.DataFrame(results["table"]).reindex(columns=shown).round(3).to_string(index=False))
    if arguments.summarize:
        print(format_markdown(results["table"]))


if __name__ == "__main__":
    main()
