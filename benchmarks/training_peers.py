"""Accuracy, seconds and memory of training, side by side: our recipes and other libraries' recipes on one folder.

    python benchmarks/training_peers.py FOLDER --recipes probe "scikit-learn probe" --out results/

Every recipe runs in a process of its own. Finished ones are kept in the output folder and not run again, so a long
comparison can be stopped at any time. Times are good only on a machine that does nothing else.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from training_recipes import RECIPES, run_recipe

from utils_cv.data.image_table import encode_labels, list_class_names, load_image_table
from utils_cv.data.splits import complete_splits
from utils_cv.evaluation.metrics import compare_accuracy, measure_accuracy
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine
from utils_cv.system.timing import measure_fresh_process


def load_table(folder: str) -> pd.DataFrame:
    """Load the folder with splits `train` and `test`: its own test part, or else its own validation part."""
    table = load_image_table(folder)
    if "split" in table and "test" not in set(table["split"]):
        table["split"] = table["split"].replace({"valid": "test"})
    table = complete_splits(table)
    return table.assign(split=table["split"].replace({"valid": "train"}))


def run_child(folder: str, recipe: str, seed: int) -> None:
    """Run one recipe here and print its result as the last line."""
    seconds, codes = run_recipe(recipe, load_table(folder), seed)
    print("\n" + json.dumps({"seconds": seconds, "codes": np.asarray(codes).tolist()}))


def measure(folder: str, recipe: str, seed: int, out_dir: Path, timeout_s: float) -> dict[str, object]:
    """Run one recipe in a fresh process, or read its kept result."""
    path = out_dir / f"{Path(folder).name}_{recipe.replace(' ', '_')}_{seed}.json"
    if not path.is_file():
        argv = [__file__, folder, "--child", recipe, "--seed", str(seed)]
        here = str(Path(__file__).parent)
        script = (
            f"import runpy, sys; sys.argv = {argv!r}; sys.path.insert(0, {here!r}); "
            f"runpy.run_path({__file__!r}, run_name='__main__')\n"
        )
        done = measure_fresh_process(script, timeout_s=timeout_s)
        print("\n".join(done.output.splitlines()[:-1]), flush=True)
        result = json.loads(done.output.splitlines()[-1]) | {"peak_memory_mb": done.peak_memory_mb}
        with write_atomic(path) as out_path:
            out_path.write_text(json.dumps(result), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def summarize(table: pd.DataFrame, results: dict[str, dict]) -> pd.DataFrame:
    """Make one row a recipe: accuracy with interval, seconds, memory, and both against the first recipe."""
    test = table[table["split"] == "test"]
    truth = encode_labels(test["label"], list_class_names(table))
    first = next(iter(results.values()))
    rows = []
    for name, result in results.items():
        gain = compare_accuracy(truth, result["codes"], first["codes"])
        rows.append(
            {
                "recipe": name,
                "accuracy": str(measure_accuracy(truth, result["codes"])),
                "minus first": f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})",
                "seconds": round(result["seconds"], 1),
                "times first": round(result["seconds"] / first["seconds"], 2),
                "peak MB": round(result["peak_memory_mb"]),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Read the arguments, run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="images in any layout that load_image_table takes")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("training_peers"), help="where results are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=3600)
    parser.add_argument("--child", choices=list(RECIPES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(arguments.folder, arguments.child, arguments.seed)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for recipe in arguments.recipes:
        print(f"{recipe} ...", file=sys.stderr, flush=True)
        results[recipe] = measure(arguments.folder, recipe, arguments.seed, arguments.out, arguments.timeout_s)
        print(summarize(load_table(arguments.folder), results).to_string(index=False), flush=True)
    print(describe_machine())


if __name__ == "__main__":
    main()
