"""From how many images a class fine-tuning overtakes the probe, on the demo images.

    python benchmarks/rungs_by_size.py --sizes 5 10 20 40 64 --seeds 3

Notebook 01 draws the same curve for any data set, from its test split. Here `fridge_objects_video` and
`fridge_objects_shifted` join the test split of `fridge_objects`, 780 images in all, so that smaller gains show. The
interval of a gain comes from resampling scenes, because images of one scene succeed and fail together.
"""

import argparse
from typing import Literal

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages, load_image_table, load_table_images
from utils_cv.data.splits import complete_splits
from utils_cv.evaluation.intervals import resample_statistic
from utils_cv.studies.rungs import take_images
from utils_cv.system.machine import describe_machine
from utils_cv.training.training import fine_tune, linear_probe, predict_images

SETS = ("fridge_objects", "fridge_objects_video", "fridge_objects_shifted")
N_BOOTSTRAP = 2000


def load_sets(im_size_px: int = 224) -> TableImages:
    """Open the three sets; all images of the second and the third are test images."""
    first = complete_splits(load_image_table(f"data/{SETS[0]}"))
    more = [load_image_table(f"data/{name}").assign(split="test") for name in SETS[1:]]
    tables = [table.assign(source=name) for name, table in zip(SETS, [first, *more], strict=True)]
    columns = ["image", "path", "label", "split", "scene", "source"]
    return load_table_images(pd.concat([table[columns] for table in tables], ignore_index=True), im_size_px)


def compare_once(images: TableImages, depth: str, keep: Literal["best", "last"], seed: int) -> pd.DataFrame:
    """Train both rungs and say of each test image which of them was right."""
    probe = linear_probe(images, seed=seed)
    tuned = fine_tune(images, depth=depth, keep=keep, start=probe, seed=seed, show_progress=False)
    parts = [predict_images(rung, images) for rung in (probe, tuned)]
    right = [part.y_pred == part.y_true for part in parts]
    is_kept = bool(tuned.history.loc[tuned.history["is_kept"], "epoch"].iloc[0] > 0)
    table = parts[0].table.assign(probe=right[0], tuned=right[1], is_kept=is_kept, seed=seed)
    return table.assign(probe_seconds=probe.seconds, tuned_seconds=tuned.seconds)


def summarize(size: int, answers: pd.DataFrame) -> list[dict[str, object]]:
    """One row a set and one for all: mean accuracies, and the gain with its interval over scenes."""
    rows = []
    for source in ("all", *SETS):
        part = answers if source == "all" else answers[answers["source"] == source]
        gains = (part["tuned"].astype(float) - part["probe"]).groupby(part["scene"])
        sums, counts = gains.sum().to_numpy(), gains.size().to_numpy()
        low, high = _compute_limits(sums, counts)
        row = {"a class": size, "set": source, "n": part["image"].groupby(part["seed"]).size().max()}
        row |= {"probe": part["probe"].mean(), "fine-tuned": part["tuned"].mean()}
        gain = f"{sums.sum() / counts.sum():+.3f} ({low:+.3f} to {high:+.3f})"
        seconds = part[["probe_seconds", "tuned_seconds"]].median()
        kept = f"{part.groupby('seed')['is_kept'].first().sum()} of {part['seed'].nunique()}"
        rows.append(row | {"gain": gain, "climbed": kept, "s": seconds.iloc[0], "s tuned": seconds.iloc[1]})
    return rows


def _compute_limits(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the 95 % percentile interval of a mean over scenes."""
    means = resample_statistic(lambda drawn: drawn @ sums / (drawn @ counts), len(sums), n_bootstrap=N_BOOTSTRAP)
    return np.quantile(means, (0.025, 0.975))


def main() -> None:
    """Train for every size and seed; print a table after each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 20, 40, 64])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--depth", default="top", choices=["top", "all"])
    parser.add_argument("--keep", default="best", choices=["best", "last"], help="last: climb whatever validation says")
    arguments = parser.parse_args()
    images, rows = load_sets(), []
    print(describe_machine())
    for size in arguments.sizes:
        parts = [take_images(images, size, seed=seed) for seed in range(arguments.seeds)]
        answers = [compare_once(part, arguments.depth, arguments.keep, seed) for seed, part in enumerate(parts)]
        rows += summarize(size, pd.concat(answers, ignore_index=True))
        print(pd.DataFrame(rows).round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
