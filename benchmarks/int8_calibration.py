"""How an 8-bit network is best calibrated: what each choice changes against 32-bit floats, on images it has not seen.

    python benchmarks/int8_calibration.py                                       # the demo images, 780 to score
    python benchmarks/int8_calibration.py --data-dir my/photos --n-calibration 48

A linear probe is trained on the train split and calibrated on a sample of it. The error of the logits is that of the
valid split, by which to choose; differences of accuracy are those of the test split.
"""

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from onnxruntime.quantization import CalibrationMethod

from utils_cv.data.image_table import TableImages, load_image_table, load_table_images
from utils_cv.data.splits import complete_splits
from utils_cv.evaluation.metrics import compare_accuracy
from utils_cv.models.backbones import describe_backbone
from utils_cv.models.features import run_in_batches
from utils_cv.models.quantization import (
    N_CALIBRATION,
    choose_calibration_rows,
    measure_logit_error,
    quantize_onnx,
)
from utils_cv.models.runtimes import load_onnx
from utils_cv.models.saved_classifier import save_classifier
from utils_cv.system.machine import describe_machine
from utils_cv.system.timing import measure_in_turn
from utils_cv.training.linear_probe import linear_probe

CHOICES: dict[str, dict[str, Any]] = {
    "only the ends in floats": {"float_share": 0.0},
    "1/25 in floats": {"float_share": 1 / 25},
    "1/8 in floats (default)": {},
    "1/5 in floats": {"float_share": 1 / 5},
    "one scale per weight": {"per_channel": False},
    "7-bit weights": {"reduce_range": True},
    "percentile 99.99": {"calibrate_method": CalibrationMethod.Percentile, "extra_options": {"CalibPercentile": 99.99}},
    "entropy": {"calibrate_method": CalibrationMethod.Entropy},
}


def load_images(data_dir: str, im_size_px: int) -> TableImages:
    """Open a folder, or the demo set with two more sets as test images."""
    table = complete_splits(load_image_table(data_dir or "data/fridge_objects"))
    names = () if data_dir else ("fridge_objects_video", "fridge_objects_shifted")
    more = [load_image_table(f"data/{name}").assign(split="test") for name in names]
    columns = ["image", "path", "label", "split"]
    return load_table_images(pd.concat([part[columns] for part in (table, *more)], ignore_index=True), im_size_px)


def predict(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Logits of many images."""
    return run_in_batches(load_onnx(path), pixels)


def main() -> None:
    """Train, quantize in every way, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="", help="default: fridge_objects, its video and its shifted set")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--n-calibration", type=int, default=N_CALIBRATION)
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    images = load_images(arguments.data_dir, describe_backbone(arguments.backbone).im_size_px)
    split = images.table["split"].to_numpy(dtype=str)
    valid_pixels, test_pixels = images.pixels[split == "valid"], images.pixels[split == "test"]
    truth, names = images.table.loc[split == "test", "label"].to_numpy(dtype=str), np.array(images.class_names)
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(linear_probe(images, backbone=arguments.backbone), Path(folder) / "model")
        float_path = Path(folder) / "model" / "model.onnx"
        logits, valid_logits = predict(float_path, test_pixels), predict(float_path, valid_pixels)
        right = (names[logits.argmax(axis=1)] == truth).mean()
        print(f"{arguments.backbone}, n = {len(truth)} test images, accuracy in floats {right:.3f}")
        rows = choose_calibration_rows(split, n=arguments.n_calibration)
        paths = {"32-bit floats": float_path}
        for i, (choice, options) in enumerate(CHOICES.items()):
            paths[choice] = Path(folder) / f"{i}.onnx"
            quantize_onnx(float_path, paths[choice], images.pixels[rows], **options)
            changed = predict(paths[choice], test_pixels)
            difference = compare_accuracy(truth, names[changed.argmax(axis=1)], names[logits.argmax(axis=1)])
            same = (changed.argmax(axis=1) == logits.argmax(axis=1)).mean()
            error = measure_logit_error(valid_logits, predict(paths[choice], valid_pixels))
            print(
                f"  {choice:26s} error of logits {error:.3f}  same answer {same:.3f}  difference {difference}",
                flush=True,
            )
        one = np.ascontiguousarray(test_pixels[:1])
        functions = {name: functools.partial(load_onnx(path), one) for name, path in paths.items()}
        print(measure_in_turn(functions, n_repeats=arguments.repeats).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
