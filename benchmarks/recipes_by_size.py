"""From how many images per class fine-tuning overtakes the linear probe, on the demo images.

    python benchmarks/recipes_by_size.py --sizes 5 10 20 40 64 --seeds 3

Both learn the same train images. `fridge_objects_video` and `fridge_objects_shifted` join the test split of
`fridge_objects`, 780 images in all, so that smaller gains show. The interval of a gain comes from resampling scenes,
because images of one scene succeed and fail together.
"""

import argparse
import dataclasses

import numpy as np
import pandas as pd

from utils_cv.data.image_table import TableImages, load_image_table, load_table_images
from utils_cv.data.splits import complete_splits, take_per_class
from utils_cv.evaluation.intervals import resample_statistic
from utils_cv.system.machine import describe_machine
from utils_cv.training.fine_tuning import fine_tune
from utils_cv.training.learner import predict_images
from utils_cv.training.linear_probe import linear_probe

SETS = ("fridge_objects", "fridge_objects_video", "fridge_objects_shifted")
N_BOOTSTRAP = 2000


def load_sets(im_size_px: int = 224) -> TableImages:
    """Open the three sets; all images of the second and the third are test images."""
    first = complete_splits(load_image_table(f"data/{SETS[0]}"))
    more = [load_image_table(f"data/{name}").assign(split="test") for name in SETS[1:]]
    tables = [table.assign(source=name) for name, table in zip(SETS, [first, *more], strict=True)]
    columns = ["image", "path", "label", "split", "scene", "source"]
    return load_table_images(pd.concat([table[columns] for table in tables], ignore_index=True), im_size_px)


def take_images(images: TableImages, n_per_class: int, *, seed: int = 0) -> TableImages:
    """Take some train images of each class, the test images whole, and no validation images."""
    table = images.table.assign(row=np.arange(len(images.table)))
    table = take_per_class(table[table["split"] != "valid"], n_per_class, seed=seed)
    return dataclasses.replace(images, table=table.drop(columns="row"), pixels=images.pixels[table["row"].to_numpy()])


def compare_once(images: TableImages, trainable: str, seed: int) -> pd.DataFrame:
    """Train both recipes and say of each test image which of them was right."""
    probe = linear_probe(images, seed=seed)
    tuned = fine_tune(images, trainable=trainable, start=probe, seed=seed, show_progress=False)
    parts = [predict_images(model, images) for model in (probe, tuned)]
    right = [part.y_pred == part.y_true for part in parts]
    table = parts[0].table.assign(probe=right[0], tuned=right[1], seed=seed)
    return table.assign(probe_seconds=probe.seconds, tuned_seconds=tuned.seconds)


def summarize(size: int, answers: pd.DataFrame) -> list[dict[str, object]]:
    """One row per set and one for all: mean accuracies, and the gain with its interval over scenes."""
    rows = []
    for source in ("all", *SETS):
        part = answers if source == "all" else answers[answers["source"] == source]
        gains = (part["tuned"].astype(float) - part["probe"]).groupby(part["scene"])
        sums, counts = gains.sum().to_numpy(), gains.size().to_numpy()
        low, high = _compute_limits(sums, counts)
        row = {"per class": size, "set": source, "n": part["image"].groupby(part["seed"]).size().max()}
        row |= {"probe": part["probe"].mean(), "fine-tuned": part["tuned"].mean()}
        gain = f"{sums.sum() / counts.sum():+.3f} ({low:+.3f} to {high:+.3f})"
        seconds = part[["probe_seconds", "tuned_seconds"]].median()
        rows.append(row | {"gain": gain, "s": seconds.iloc[0], "s fine-tuned": seconds.iloc[1]})
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
    parser.add_argument("--trainable", default="last_stage", choices=["last_stage", "all"])
    arguments = parser.parse_args()
    images, rows = load_sets(), []
    print(describe_machine())
    for size in arguments.sizes:
        parts = [take_images(images, size, seed=seed) for seed in range(arguments.seeds)]
        answers = [compare_once(part, arguments.trainable, seed) for seed, part in enumerate(parts)]
        rows += summarize(size, pd.concat(answers, ignore_index=True))
        print(pd.DataFrame(rows).round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
