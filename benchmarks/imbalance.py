"""What helps to find the rare classes of a set of photographs that is imbalanced as it comes.

Each image is predicted by probes that learned the other folds; images of one `group` stay in one fold. Run by hand:
`python benchmarks/imbalance.py FOLDER_OR_CSV RESULT.json`; minutes on a CPU.
"""

import json
import sys
from pathlib import Path

import numpy as np

from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.labels import encode_labels
from utils_cv.data.splits import list_groups, split_folds
from utils_cv.evaluation.calibration import adjust_logits, weigh_images
from utils_cv.evaluation.intervals import Score, compare_means, measure_mean
from utils_cv.models.features import compute_features
from utils_cv.models.linear_heads import fit_linear_head
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine

N_SEEDS, N_FOLDS = 3, 5
METHODS = ("nothing", "class weights", "logit adjustment", "half the logit adjustment", "images left out")


def predict_by_folds(features: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Predicted codes (n_methods, n_images)."""
    predicted, n_classes = np.empty((len(METHODS), len(codes)), int), int(codes.max()) + 1
    rng = np.random.default_rng(seed)

    def fit(rows: np.ndarray, held_out: np.ndarray, **options: bool) -> np.ndarray:
        given = None if groups is None else groups[rows]
        weight, bias = fit_linear_head(
            features[rows], codes[rows], n_classes=n_classes, groups=given, seed=seed, **options
        )
        return features[held_out] @ weight.T + bias

    for learned, held_out in split_folds(codes, groups, n_folds=N_FOLDS, seed=seed):
        plain, counts = fit(learned, held_out), np.bincount(codes[learned])
        few = [rng.permutation(learned[codes[learned] == code])[: counts.min()] for code in range(n_classes)]
        logits = [plain, fit(learned, held_out, balanced=True)]
        logits += [adjust_logits(plain, counts, strength=strength) for strength in (1.0, 0.5)]
        logits.append(fit(np.concatenate(few), held_out))
        predicted[:, held_out] = [values.argmax(axis=1) for values in logits]
    return predicted


def main(source: str, out_path: str) -> None:
    """Compare the methods on one set, and write the result."""
    images = load_table_images(load_image_table(source), 224)
    codes = encode_labels(images.table["label"], images.class_names, multilabel=False)
    groups, features = list_groups(images.table), compute_features(images.pixels)
    predicted = np.stack([predict_by_folds(features, codes, groups, seed) for seed in range(N_SEEDS)], axis=1)
    right, weights, counts = predicted == codes, weigh_images(codes, codes), np.bincount(codes)
    is_rare, rarest = codes == counts.argmin(), images.class_names[counts.argmin()]
    table = []
    for i, method in enumerate(METHODS):
        row = {"method": method, "n": len(codes)}
        # Each class counts alike in the mean recall: weights, brought into [0, 1] for the interval and back.
        for name, kept, share in (
            ("accuracy", slice(None), np.ones(len(codes))),
            ("mean_recall", slice(None), weights / weights.max()),
            ("rare_recall", is_rare, np.ones(len(codes))),
        ):
            values, scale = right[..., kept] * share[kept], 1 / share[kept].mean()
            of = {"groups": None if groups is None else groups[kept]}
            scores: dict[str, Score] = {name: measure_mean(values[i], **of)}
            if i:
                scores[f"{name}_change"] = compare_means(values[i], values[0], **of)
            for key, score in scores.items():
                ends = [min(end * scale, 1.0) for end in score[:3]]
                row |= dict(zip((key, f"{key}_low", f"{key}_high"), ends, strict=True))
        called = predicted[i] == counts.argmin()
        table.append(row | {"rare_precision": float(right[i][called].mean()) if called.any() else None})
        print(json.dumps(table[-1]))
    result = {"set": Path(source).parent.name, "machine": describe_machine(), "n_seeds": N_SEEDS, "rarest": rarest}
    result["counts"] = dict(zip(images.class_names, counts.tolist(), strict=True))
    with write_atomic(out_path) as temporary_path:
        temporary_path.write_text(json.dumps(result | {"table": table}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
