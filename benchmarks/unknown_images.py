"""How well unknown images are told from known ones, by six scores, on sets of photographs and on the demo images.

    python benchmarks/unknown_images.py --photos FOLDER

FOLDER holds `ants_bees` and `flowers12`: each is the unknown of the other. Thresholds come from images outside the
test split, by models that have not learned them, at 5 % false alarms.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import pandas as pd

from utils_cv.data.image_table import load_image_table, load_table_images
from utils_cv.data.splits import complete_splits
from utils_cv.evaluation.out_of_distribution import OOD_SCORES, fit_ood_detector
from utils_cv.models.features import compute_features
from utils_cv.studies.confidence_and_unknown_images import compare_detectors, score_by_folds
from utils_cv.system.files import write_atomic
from utils_cv.system.machine import describe_machine
from utils_cv.training.linear_probe import fit_linear_head

RESULTS = Path(__file__).parent / "results" / "unknown_images.json"


def load_set(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Open a set with its splits, and compute its features."""
    images = load_table_images(complete_splits(load_image_table(folder)), 224)
    return images.table, compute_features(images.pixels)


def compare(known_set: tuple[pd.DataFrame, np.ndarray], unknown: np.ndarray) -> pd.DataFrame:
    """Score the test images of one set and all images of another by what learned the first."""
    table, features = known_set
    codes, is_test = pd.factorize(table["label"], sort=True)[0], (table["split"] == "test").to_numpy()
    pool = features[~is_test], codes[~is_test]
    known = score_by_folds(*pool)
    weight, bias = fit_linear_head(*pool, n_classes=codes.max() + 1)
    detectors = {name: fit_ood_detector(name, *pool, known) for name in OOD_SCORES}
    test, new = ((part, part @ weight.T + bias) for part in (features[is_test], unknown))
    return compare_detectors(detectors, known, test, new).assign(n_classes=codes.max() + 1, n_learned=len(pool[1]))


def main() -> None:
    """Print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder that holds ants_bees and flowers12")
    options = parser.parse_args()
    sets = {name: load_set(options.photos / name) for name in ("ants_bees", "flowers12")}
    sets |= {name: load_set(Path("data") / name) for name in ("fridge_objects",)}
    pairs = [("ants_bees", "flowers12"), ("flowers12", "ants_bees"), ("fridge_objects", "flowers12")]
    rows = pd.concat([compare(sets[a], sets[b][1]).assign(known=a, unknown=b) for a, b in pairs], ignore_index=True)
    print(rows[["known", "unknown", "name", "auroc", "rejected", "false_alarm", "rejected_equal"]].round(3).to_string())
    content = {"machine": describe_machine(), "versions": {"python": platform.python_version()}}
    with write_atomic(RESULTS) as path:
        path.write_text(json.dumps({**content, "table": rows.to_dict("records")}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
