"""Which recipe classifies new images best: probe, fine-tuned last stage, what lies between, and variants, on four sets.

    python benchmarks/recipe_study.py --photos FOLDER --parts core folds
    python benchmarks/recipe_study.py --report

All recipes learn the same train images. A seed is another draw of train images (smaller draws lie within larger ones)
and another training; the test images stay. FOLDER holds `ants_bees`, `flowers12` and `magnetic_tiles`; the fourth set
is `data/fridge_objects`. Finished cells are kept in `benchmarks/results/recipe_study.jsonl` and not run again: the
study can be stopped at any time. Times are CPU seconds of one thread, so that a busy machine matters less.
"""

import argparse
import copy
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.torch_core import defaults
from recipe_report import write_report
from scipy.special import softmax
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn

from utils_cv.data.image_table import TableImages, load_image_table, load_table_images
from utils_cv.data.labels import encode_labels
from utils_cv.data.splits import complete_splits, count_units, split_folds
from utils_cv.evaluation.calibration import compute_losses, fit_temperature
from utils_cv.models.backbones import PACKAGED, describe_backbone
from utils_cv.models.features import compute_features
from utils_cv.models.linear_heads import fit_linear_head
from utils_cv.models.model_files import DEFAULT_BACKBONE
from utils_cv.models.splitting import split_backbone
from utils_cv.system.files import get_cache_dir, write_atomic
from utils_cv.system.machine import describe_machine
from utils_cv.training.augmentation import AUGMENTATIONS
from utils_cv.training.fine_tuning import Activations, compute_activations, fine_tune
from utils_cv.training.learner import make_dataloaders, make_learner
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.trained_models import TrainedModel, predict_images

# Images per class; fewer where a class has fewer.
SIZES = {"fridge_objects": (10, 30), "ants_bees": (10, 30), "flowers12": (10, 30), "magnetic_tiles": (10, 30)}
LARGEST = {"flowers12": 60, "fridge_objects": 60, "ants_bees": 120, "magnetic_tiles": 60}
AUGMENTATIONS["crops"] = ("mirror", "crop", "light")
ALPHAS = (0.25, 0.5, 0.75)
N_FOLDS = 3
RESULTS = Path(__file__).parent / "results" / "recipe_study.jsonl"
Rows = list[dict[str, Any]]


class MovingAverage(Callback):
    """Keep the exponential moving average of the weights; it forgets over a quarter of the training."""

    last: "MovingAverage"

    def before_fit(self) -> None:
        """Start at the weights that the training starts at."""
        MovingAverage.last = self
        self.decay = 1 - 4 / max(5, self.n_epoch * len(self.dls.train))
        self.weights = [value.detach().clone() for value in self.model.parameters()]

    def after_batch(self) -> None:
        """Move towards the new weights."""
        if self.training:
            for value, new in zip(self.weights, self.model.parameters(), strict=True):
                value.lerp_(new.detach(), 1 - self.decay)


class Cell:
    """One set, number of images per class and seed: the images to learn and to test, and what is computed of them."""

    def __init__(self, load: Callable[[str, int], TableImages], name: str, n_per_class: int, seed: int) -> None:
        self.load, self.name, self.n_per_class, self.seed = load, name, n_per_class, seed
        images = load(name, 224)
        table = images.table.assign(row=np.arange(len(images.table)))
        train, test = (table[table["split"] == split] for split in ("train", "test"))
        largest = max(SIZES[name]) if n_per_class <= max(SIZES[name]) else n_per_class
        shuffled = train.sample(frac=1, random_state=seed)
        self.drawn = shuffled.groupby("label", sort=False).head(largest)["row"].to_numpy()
        self.train = shuffled.groupby("label", sort=False).head(n_per_class)["row"].to_numpy()
        self.test, self.all_images = test["row"].to_numpy(), images
        self.images = take(images, self.train, self.test)
        self.truth = encode_labels(self.images.table["label"], images.class_names)[len(self.train) :]

    def list_units(self) -> dict[str, Any]:
        """Which test images are not independent of each other: codes of their groups."""
        test = self.images.table.iloc[len(self.train) :]
        codes = test.get("group", test["image"]).factorize()[0]
        return {"cell": ("units", self.name), "units": codes.tolist()}

    def compute_features(self, backbone: str = DEFAULT_BACKBONE, images: TableImages | None = None) -> np.ndarray:
        """Features of the train and test images; computed for the whole set once."""
        images = images or self.all_images
        key = f"{self.name}_{backbone}_{images.pixels.shape[1]}"
        features = keep(key, lambda: compute_features(images.pixels, backbone=backbone))
        return features[np.concatenate([self.train, self.test])]

    def compute_activations(self, augment: str = "upright", images: TableImages | None = None) -> Activations:
        """Activations of the frozen part for views of the drawn images, taken for this cell's train images."""
        images = images or self.all_images
        size_px, drawn = images.pixels.shape[1], take(images, self.drawn)
        key = f"{self.name}_{size_px}_{augment}_{len(self.drawn)}_{self.seed}"
        views = keep(key, lambda: np.stack(run_frozen_part(drawn, augment=augment, seed=self.seed)))
        positions = [int(np.flatnonzero(self.drawn == row)[0]) for row in self.train]
        return Activations([view[positions] for view in views], list(range(len(positions))), 0.0)

    def compute_test_activations(self, images: TableImages | None = None) -> np.ndarray:
        """Activations of the test images as they are."""
        images = images or self.all_images
        test = take(images, self.test)
        test = dataclasses.replace(test, table=test.table.assign(split="train"))
        key = f"{self.name}_{images.pixels.shape[1]}_test"
        return keep(key, lambda: run_frozen_part(test, augment="none", seed=0)[0])

    def score(self, recipe: str, logits: np.ndarray, seconds: float, **more: Any) -> dict[str, Any]:
        """Make one row of the results: right answers as bits, and the losses."""
        losses = [compute_losses(self.truth, logits / T).mean() for T in (1.0, fit_temperature(self.truth, logits))]
        right = logits.argmax(axis=1) == self.truth
        row = {"set": self.name, "n_per_class": self.n_per_class, "seed": self.seed, "n_train": len(self.train)}
        row |= {"recipe": recipe, "n_test": len(right), "right": np.packbits(right).tobytes().hex()}
        loss, best_loss = (round(float(value), 4) for value in losses)
        return row | {"loss": loss, "loss_at_best_temperature": best_loss, "cpu_s": round(seconds, 2)} | more


def take(images: TableImages, *rows: np.ndarray) -> TableImages:
    """Take some rows of opened images."""
    chosen = np.concatenate(rows)
    return dataclasses.replace(
        images, table=images.table.iloc[chosen].reset_index(drop=True), pixels=images.pixels[chosen]
    )


def keep(key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Read an array from the cache folder, or compute and save it."""
    path = get_cache_dir("recipe_study") / f"{key}.npy"
    if not path.is_file():
        array = compute()
        with write_atomic(path) as out_path, out_path.open("wb") as file:
            np.save(file, array)
    return np.load(path)


def run_frozen_part(images: TableImages, *, augment: str, seed: int) -> list[np.ndarray]:
    """Activations of views of all images, which have the split train."""
    network = make_learner(make_dataloaders(images), DEFAULT_BACKBONE).model
    return compute_activations(images, network, augment=augment, seed=seed).views


def run_last_stage(network: Any, activations: np.ndarray, size_px: int) -> np.ndarray:
    """Logits (n, n_classes) of activations."""
    stage = nn.Sequential(split_backbone(network.body, size_px)[1], network.head).eval()
    batches = torch.from_numpy(activations).split(32)
    with torch.inference_mode():
        parts = [stage(part.float().contiguous(memory_format=torch.channels_last)).numpy() for part in batches]
    return np.concatenate(parts)


def mix(start: Any, end: Any, alpha: float) -> Any:
    """Make the network that lies between two, alpha of the way."""
    network = copy.deepcopy(start)
    with torch.no_grad():
        for value, other in zip(network.parameters(), end.parameters(), strict=True):
            value.lerp_(other, alpha)
    return network


def mix_logits(probe: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """Logits of the mean of two models' probabilities."""
    return np.log((softmax(probe, axis=1) + softmax(tuned, axis=1)) / 2 + 1e-12)


def measure(compute: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its CPU seconds."""
    start = time.process_time()
    result = compute()
    return result, time.process_time() - start


def tune(cell: Cell, images: TableImages, probe: TrainedModel, activations: Activations, epochs: int = 8) -> Any:
    """Fine-tune the last stage, to the last epoch."""
    options: dict[str, Any] = {"epochs": epochs, "seed": cell.seed, "show_progress": False}
    return fine_tune(images, trainable="last_stage", start=probe, activations=activations, **options).learn.model


def run_core(cell: Cell) -> Rows:
    """Probe, fine-tuned, their averages at several weights, the mean of probabilities, the moving average."""
    features, activations, test = cell.compute_features(), cell.compute_activations(), cell.compute_test_activations()
    size_px = cell.images.pixels.shape[1]
    probe, probe_s = measure(lambda: linear_probe(cell.images, features=features, seed=cell.seed))
    defaults.callbacks = [*defaults.callbacks, MovingAverage]
    try:
        tuned, tuned_s = measure(lambda: tune(cell, cell.images, probe, activations))
    finally:
        defaults.callbacks = [callback for callback in defaults.callbacks if callback is not MovingAverage]
    networks = {f"weights {alpha}": mix(probe.learn.model, tuned, alpha) for alpha in (0.0, *ALPHAS)}
    networks["last_stage"] = tuned
    smooth = copy.deepcopy(tuned)
    stage = nn.ModuleList([split_backbone(smooth.body, size_px)[1], smooth.head])
    with torch.no_grad():
        for value, other in zip(stage.parameters(), MovingAverage.last.weights, strict=True):
            value.copy_(other)
    networks["moving average"] = smooth
    logits = {name: run_last_stage(network, test, size_px) for name, network in networks.items()}
    logits = {"probe": logits.pop("weights 0.0")} | logits
    logits["mean probability"] = mix_logits(logits["probe"], logits["last_stage"])
    return [cell.score(name, values, probe_s if name == "probe" else tuned_s) for name, values in logits.items()]


def run_folds(cell: Cell) -> Rows:
    """What cross-validation within the train images says of the same recipes; no test image is used."""
    table = cell.images.table.iloc[: len(cell.train)]
    groups = table.get("group")
    if count_units(table["label"].to_numpy(), groups).min() < N_FOLDS:
        return [{"set": cell.name, "n_per_class": cell.n_per_class, "seed": cell.seed, "recipe": "too few for folds"}]
    activations, features = cell.compute_activations(), cell.compute_features()
    names, truth, found = ("probe", *(f"weights {alpha}" for alpha in ALPHAS), "last_stage"), [], []
    start = time.process_time()
    for _, held_out in split_folds(table["label"].to_numpy(), groups, n_folds=N_FOLDS, seed=cell.seed):
        split = cell.images.table["split"].to_numpy(copy=True)
        split[held_out] = "test"
        images = dataclasses.replace(cell.images, table=cell.images.table.assign(split=split))
        probe = linear_probe(images, features=features, seed=cell.seed)
        ends = probe.learn.model, tune(cell, images, probe, activations)
        networks = [mix(*ends, alpha) for alpha in (0.0, *ALPHAS, 1.0)]
        inputs = activations.views[0][held_out]
        found.append(np.stack([run_last_stage(network, inputs, images.pixels.shape[1]) for network in networks]))
        truth.append(held_out)
    order, logits = np.concatenate(truth), np.concatenate(found, axis=1)
    codes = encode_labels(table["label"].iloc[order], cell.images.class_names)
    unit = np.arange(len(order)) if groups is None else groups.factorize()[0][order]
    np.savez(get_cache_dir("recipe_study") / f"folds_{cell.name}_{cell.n_per_class}_{cell.seed}", logits, codes, unit)
    rows, bases = [], {}
    for name, values in zip(names, logits, strict=True):
        row = {"set": cell.name, "n_per_class": cell.n_per_class, "seed": cell.seed, "recipe": f"folds: {name}"}
        row |= {"accuracy": round(float((values.argmax(axis=1) == codes).mean()), 4)}
        row |= {"temperature": round(fit_temperature(codes, values), 3)}
        for kind, least in (("", 1.0), ("free_", 0.1)):  # temperatures below 1 make a timid model bolder
            losses = compute_losses(codes, values / max(least, row["temperature"]))
            gain, error = measure_gain(bases.setdefault(kind, losses) - losses, unit)
            row |= {f"{kind}loss": round(float(losses.mean()), 4), f"{kind}gain": gain, f"{kind}gain_error": error}
        rows.append(row | {"cpu_s": round(time.process_time() - start, 2)})
    return rows


def measure_gain(gains: np.ndarray, unit: np.ndarray) -> tuple[float, float]:
    """Mean gain, and its standard error over units."""
    sums = np.bincount(unit, weights=gains - gains.mean())
    error = np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(gains)
    return round(float(gains.mean()), 5), round(float(error), 5)


def run_longer(cell: Cell) -> Rows:
    """Twice the epochs."""
    probe = linear_probe(cell.images, features=cell.compute_features(), seed=cell.seed)
    return score_tuned(cell, "16 epochs", probe, cell.compute_activations())


def run_crops(cell: Cell) -> Rows:
    """Random resized crops in place of rotation."""
    probe = linear_probe(cell.images, features=cell.compute_features(), seed=cell.seed)
    return score_tuned(cell, "crops", probe, cell.compute_activations("crops"), epochs=8)


def score_tuned(
    cell: Cell, name: str, probe: TrainedModel, activations: Activations, *, epochs: int = 16, images: Any = None
) -> Rows:
    """Score a fine-tuned network, and the one halfway between it and its probe."""
    part = cell.images if images is None else take(images, cell.train, cell.test)
    size_px, test = part.pixels.shape[1], cell.compute_test_activations(images)
    tuned, seconds = measure(lambda: tune(cell, part, probe, activations, epochs))
    networks = {name: tuned, f"{name} weights 0.5": mix(probe.learn.model, tuned, 0.5)}
    return [cell.score(key, run_last_stage(network, test, size_px), seconds) for key, network in networks.items()]


def run_wide(cell: Cell) -> Rows:
    """Larger images, and a larger backbone, for the probe."""
    large, lite2 = cell.load(cell.name, 288), "efficientnet_lite2"
    sized = cell.load(cell.name, describe_backbone(lite2).im_size_px)
    return [
        score_probe(cell, "probe at 288 px", cell.compute_features(images=large)),
        score_probe(cell, "probe of lite2", cell.compute_features(lite2, sized)),
    ]


def run_side(cell: Cell) -> Rows:
    """The features of three networks side by side, as one backbone."""
    return [score_probe(cell, "probe of three networks", cell.compute_features("+".join(PACKAGED)))]


def score_probe(cell: Cell, name: str, features: np.ndarray) -> dict[str, Any]:
    """Score a linear head on features."""
    images, n = cell.images, len(cell.train)
    codes = encode_labels(images.table["label"], images.class_names)[:n]
    groups = images.table["group"].iloc[:n] if "group" in images.table else None
    options = {"n_classes": len(images.class_names), "groups": groups, "seed": cell.seed}
    (weight, bias), seconds = measure(lambda: fit_linear_head(features[:n], codes, **options))
    return cell.score(name, features[n:] @ weight.T + bias, seconds)


def run_large(cell: Cell) -> Rows:
    """Fine-tune on larger images."""
    large = cell.load(cell.name, 288)
    part = take(large, cell.train, cell.test)
    probe = linear_probe(part, features=cell.compute_features(images=large), seed=cell.seed)
    return score_tuned(cell, "288 px", probe, cell.compute_activations(images=large), epochs=8, images=large)


def run_all_layers(cell: Cell) -> Rows:
    """Fine-tune all layers, with the average of the weights."""
    probe = linear_probe(cell.images, features=cell.compute_features(), seed=cell.seed)
    tuned, seconds = measure(lambda: fine_tune(cell.images, start=probe, seed=cell.seed, show_progress=False))
    halfway = dataclasses.replace(
        tuned, learn=make_learner(tuned.learn.dls, network=mix(probe.learn.model, tuned.learn.model, 0.5))
    )
    return [
        cell.score(name, np.log(predict_images(model, cell.images).probabilities + 1e-12), seconds)
        for name, model in {"all": tuned, "all weights 0.5": halfway}.items()
    ]


PARTS: dict[str, Callable[[Cell], Rows]] = {
    "core": run_core, "wide": run_wide, "side": run_side, "folds": run_folds, "folds_small": run_folds,
    "crops": run_crops, "longer": run_longer, "large": run_large, "largest": run_core, "all_layers": run_all_layers,
}  # fmt: skip


@functools.cache
def load_set(photos: Path, name: str, size_px: int) -> TableImages:
    """Open a set with the splits train and test: its own, or groups at random."""
    table = load_image_table(Path("data") / name if name == "fridge_objects" else photos / name)
    if name == "fridge_objects":
        table = complete_splits(table)
        table = table.assign(split=table["split"].replace({"valid": "train"}))
    elif "group" in table:
        folds = StratifiedGroupKFold(3, shuffle=True, random_state=0)
        _, test = next(folds.split(table["image"], table["label"], table["group"]))
        table = table.assign(split=np.where(np.isin(np.arange(len(table)), test), "test", "train"))
    else:
        table = table.assign(split=table["split"].replace({"valid": "test"}))
    return load_table_images(table, size_px)


def read_rows(path: Path) -> Rows:
    """What is finished."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def list_cells(parts: list[str], seeds: list[int]) -> Iterator[tuple[str, str, int, int]]:
    """Part, set, images per class and seed; seeds outside, so that all sets are there when it is stopped."""
    for part in parts:
        for seed in seeds:
            for name, sizes in SIZES.items():
                if part == "largest":
                    sizes = tuple(filter(None, [LARGEST.get(name)]))
                elif part not in ("core", "side"):
                    sizes = sizes[:1] if part == "folds_small" else sizes[-1:]
                for n_per_class in sizes:
                    yield part, name, n_per_class, seed


def main() -> None:
    """Run what is missing, or write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with ants_bees, flowers12 and magnetic_tiles")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--sets", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="write the JSON that documents quote, and print it")
    arguments = parser.parse_args()
    arguments.results.touch()
    if arguments.report:
        write_report(read_rows(arguments.results), arguments.results.with_suffix(".json"), describe_machine())
        return
    load = functools.partial(load_set, arguments.photos)
    torch.set_num_threads(1)
    for key in list_cells(arguments.parts, arguments.seeds):
        done = {tuple(row["cell"]) for row in read_rows(arguments.results)}  # another process may have done it
        if key in done or key[1] not in arguments.sets:
            continue
        cell, start = Cell(load, *key[1:]), time.process_time()
        rows = PARTS[key[0]](cell) if ("units", key[1]) in done else [cell.list_units(), *PARTS[key[0]](cell)]
        with arguments.results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"cell": key} | row) + "\n" for row in rows)
        print(*key, f"{time.process_time() - start:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
