"""Check the demo sets: does a network that never saw them see bottles and cartons, and how hard are they?

Run by hand: `python benchmarks/demo_data_checks.py`. The tables in data/README.md come from it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import average_precision_score

from utils_cv.data.image_table import load_image_table
from utils_cv.data.images import load_images
from utils_cv.data.labels import encode_labels
from utils_cv.evaluation.intervals import make_fraction_score, measure_resamples, resample_statistic
from utils_cv.evaluation.metrics import measure_accuracy
from utils_cv.models.backbones import load_backbone
from utils_cv.models.features import compute_features
from utils_cv.models.linear_heads import fit_linear_head
from utils_cv.models.model_files import DEFAULT_BACKBONE

IM_SIZE_PX = 224
CLASS_NAMES = ["can", "carton", "milk_bottle", "water_bottle"]
# ImageNet has no class for a drink can and none for a carton of milk. Strictly sensible are its containers for
# something to drink and its packages; in the wide sense, other bottles of the same shapes too.
DRINK_CONTAINERS = (
    "water bottle",
    "pop bottle",
    "beer bottle",
    "wine bottle",
    "milk can",
    "carton",
    "packet",
    "water jug",
    "whiskey jug",
    "pitcher",
    "beer glass",
    "cocktail shaker",
)
OTHER_BOTTLES = ("pill bottle", "lotion", "soap dispenser", "sunscreen", "hair spray")
FEW, N_SEEDS = 5, 20  # images a class, and draws of them


def main() -> None:
    """Print one table for each check, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = sorted(path.parent.name for path in Path("data").glob("*/labels.csv"))
    parser.add_argument("names", nargs="*", default=here, help="sets to check; fridge_objects is always among them")
    options = parser.parse_args()
    sets = {name: load_set(name) for name in dict.fromkeys(["fridge_objects", *options.names])}
    print("\n### Realism: ImageNet's classes\n", format_table(list_imagenet_shares(sets)), sep="\n")
    print("\n### Difficulty: a linear probe\n", format_table(list_probe_scores(sets)), sep="\n")


def format_table(rows: list[dict[str, Any]]) -> str:
    """Format rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(map(str, row.values())) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def load_set(name: str) -> dict[str, Any]:
    """Load a set's table and the features of its images."""
    table = load_image_table(f"data/{name}", min_classes=1)
    loaded = load_images(list(table["path"]), IM_SIZE_PX, fit="squash", show_progress=True)
    return {"table": table.iloc[loaded.rows].reset_index(drop=True), "features": compute_features(loaded.pixels)}


def list_imagenet_shares(sets: dict[str, Any]) -> list[dict[str, Any]]:
    """List the share of images with a sensible ImageNet class among the five most probable."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    names = [info.index_to_description(i).split(",")[0].lower() for i in range(1000)]
    unknown = {*DRINK_CONTAINERS, *OTHER_BOTTLES} - set(names)
    if unknown:
        raise ValueError(f"Not classes of ImageNet: {sorted(unknown)}.")
    strict = np.array([name in DRINK_CONTAINERS for name in names])
    wide = strict | np.array([name in OTHER_BOTTLES for name in names])
    head: Any = load_backbone(DEFAULT_BACKBONE).get_classifier()
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    rows = []
    for name, data in list_with_cut_out(sets):
        top = np.argsort(-(data["features"] @ weight.T + bias), axis=1)[:, :5]
        for part, chosen in list_parts(name, data["table"]):
            shares = [
                make_fraction_score(int(kind[top[chosen]].any(axis=1).sum()), chosen.sum()) for kind in (strict, wide)
            ]
            common = pd.Series(top[chosen].ravel()).value_counts().index[:4]
            rows.append(
                {
                    "set": name,
                    "part": part,
                    "drink container in top 5": str(shares[0]),
                    "any such bottle in top 5": str(shares[1]),
                    "most frequent": ", ".join(names[i] for i in common),
                }
            )
    return rows


def list_with_cut_out(sets: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """List the sets as they are, and fridge_objects cut to its objects: is it the object that is not recognized?"""
    yield from sets.items()
    table = sets["fridge_objects"]["table"]
    yield "fridge_objects, cut out", {"table": table, "features": compute_features(cut_to_objects(table))}


def cut_to_objects(table: pd.DataFrame) -> np.ndarray:
    """Cut a square around each object out, 1.3 times as large as the longer side of its box."""
    pixels = []
    for row in table.itertuples():
        with Image.open(row.path) as image:
            box = np.array([row.box_left, row.box_top, row.box_right, row.box_bottom]) * (*image.size, *image.size)
            middle, reach = (box[:2] + box[2:]) / 2, 0.65 * (box[2:] - box[:2]).max()
            square = image.crop(tuple(np.concatenate([middle - reach, middle + reach]).astype(int).tolist()))
            pixels.append(np.asarray(square.resize((IM_SIZE_PX, IM_SIZE_PX), Image.Resampling.BICUBIC)))
    return np.stack(pixels)


def list_parts(name: str, table: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """List the parts that are reported on their own: all, then classes, shifts or kinds."""
    column = {"fridge_objects": "label", "fridge_objects_shifted": "shift", "fridge_negatives": "kind"}.get(name)
    parts = [("all", np.ones(len(table), dtype=bool))]
    if column:
        parts += [(value, (table[column] == value).to_numpy()) for value in sorted(table[column].unique())]
    return parts


def list_probe_scores(sets: dict[str, Any]) -> list[dict[str, Any]]:
    """List how a linear probe trained on the training part of fridge_objects scores on every set."""
    data = sets["fridge_objects"]
    table, features = data["table"], data["features"]
    codes = encode_labels(table["label"], CLASS_NAMES)
    is_train = (table["split"] == "train").to_numpy()
    head = fit_linear_head(features[is_train], codes[is_train], n_classes=len(CLASS_NAMES))
    rows = [_row("fridge_objects", "test", "accuracy", _score(head, features[~is_train], codes[~is_train]))]
    few = [_fit_few(features, codes, is_train, seed) for seed in range(N_SEEDS)]
    low, middle, high = np.quantile(few, [0.025, 0.5, 0.975])
    few_text = f"{middle:.3f} ({low:.3f} to {high:.3f}, {N_SEEDS} draws)"
    rows.append(_row("fridge_objects", f"test, {FEW} images a class", "accuracy", few_text))
    rows.append(_row("fridge_objects", "test", "probability over 0.9", _count_sure(head, features[~is_train])))
    scores = {
        "fridge_objects_video": _score_video,
        "fridge_objects_shifted": _score_shifted,
        "fridge_objects_multilabel": _score_multilabel,
        "fridge_negatives": _score_negatives,
    }
    for name, score in scores.items():
        if name in sets:
            rows += score(head, sets)
    return rows


def _row(name: str, part: str, what: str, score: Any) -> dict[str, Any]:
    return {"set": name, "part": part, "score": what, "value": str(score)}


def _predict(head: tuple[np.ndarray, np.ndarray], features: np.ndarray) -> np.ndarray:
    logits = features @ head[0].T + head[1]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _score(head: Any, features: np.ndarray, codes: np.ndarray) -> Any:
    return measure_accuracy(codes, _predict(head, features).argmax(axis=1))


def _count_sure(head: Any, features: np.ndarray) -> Any:
    sure = _predict(head, features).max(axis=1) > 0.9
    return make_fraction_score(int(sure.sum()), len(sure))


def _fit_few(features: np.ndarray, codes: np.ndarray, is_train: np.ndarray, seed: int) -> float:
    rng = np.random.default_rng(seed)
    chosen = np.concatenate(
        [rng.choice(np.flatnonzero(is_train & (codes == code)), FEW, replace=False) for code in range(len(CLASS_NAMES))]
    )
    head = fit_linear_head(features[chosen], codes[chosen], n_classes=len(CLASS_NAMES), seed=seed)
    return _score(head, features[~is_train], codes[~is_train]).value


def _score_video(head: Any, sets: dict[str, Any]) -> list[dict[str, Any]]:
    """Score one frame of each scene: the five of a scene would count one difficulty five times."""
    table, features = sets["fridge_objects_video"]["table"], sets["fridge_objects_video"]["features"]
    codes, first = encode_labels(table["label"], CLASS_NAMES), (table["frame"] == 0).to_numpy()
    score = _score(head, features[first], codes[first])
    return [_row("fridge_objects_video", "first frame of a scene", "accuracy", score)]


def _score_shifted(head: Any, sets: dict[str, Any]) -> list[dict[str, Any]]:
    table, features = sets["fridge_objects_shifted"]["table"], sets["fridge_objects_shifted"]["features"]
    codes = encode_labels(table["label"], CLASS_NAMES)
    base = sets["fridge_objects"]
    same = base["table"]["scene"].isin(table["scene"]).to_numpy()
    base_codes = encode_labels(base["table"]["label"], CLASS_NAMES)
    name = "fridge_objects_shifted"
    rows = [_row(name, "none: the same scenes", "accuracy", _score(head, base["features"][same], base_codes[same]))]
    for shift in sorted(table["shift"].unique()):
        chosen = (table["shift"] == shift).to_numpy()
        rows.append(_row(name, shift, "accuracy", _score(head, features[chosen], codes[chosen])))
    width = table["object_width_fraction"]
    for low, high in ((0.08, 0.16), (0.16, 0.24), (0.24, 0.32), (0.32, 0.41)):
        chosen = ((table["shift"] == "far") & (width >= low - 0.001) & (width < high - 0.001)).to_numpy()
        part = f"far, {low:.2f} to {min(high, 0.4):.2f} wide"
        rows.append(_row(name, part, "accuracy", _score(head, features[chosen], codes[chosen])))
    return rows


def _score_multilabel(head: Any, sets: dict[str, Any]) -> list[dict[str, Any]]:
    """Score the probe of single objects, and one trained on the set's own training part."""
    table, features = sets["fridge_objects_multilabel"]["table"], sets["fridge_objects_multilabel"]["features"]
    hot = encode_labels(table["label"], CLASS_NAMES, multilabel=True)
    is_train = (table["split"] == "train").to_numpy()
    own = fit_linear_head(features[is_train], hot[is_train], n_classes=len(CLASS_NAMES))
    own_probabilities = 1 / (1 + np.exp(-(features[~is_train] @ own[0].T + own[1])))
    rows = []
    for part, probabilities in (
        ("test", _predict(head, features[~is_train])),
        ("test, trained on its own part", own_probabilities),
    ):
        truth = hot[~is_train]
        each = zip(CLASS_NAMES, average_precision_score(truth, probabilities, average=None), strict=True)
        text = ", ".join(f"{name} {value:.3f}" for name, value in each)

        def score_resamples(counts: np.ndarray, truth: Any = truth, probabilities: Any = probabilities) -> np.ndarray:
            return np.array([average_precision_score(truth, probabilities, sample_weight=count) for count in counts])

        values = np.append(score_resamples(np.ones((1, len(truth)))), resample_statistic(score_resamples, len(truth)))
        mean = measure_resamples(values, len(truth))
        rows.append(_row("fridge_objects_multilabel", part, "mean average precision", mean))
        rows.append(_row("fridge_objects_multilabel", part, "average precision", text))
    return rows


def _score_negatives(head: Any, sets: dict[str, Any]) -> list[dict[str, Any]]:
    data = sets["fridge_negatives"]
    best = _predict(head, data["features"]).max(axis=1)
    rows = [_row("fridge_negatives", "all", "highest probability, median", f"{np.median(best):.3f} (n = {len(best)})")]
    for part, chosen in list_parts("fridge_negatives", data["table"]):
        rows.append(_row("fridge_negatives", part, "probability over 0.9", _count_sure(head, data["features"][chosen])))
    return rows


if __name__ == "__main__":
    main()
