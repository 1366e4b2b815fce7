"""How an 8-bit network is best calibrated: what each choice loses against 32-bit floats, on held-out images.

    python benchmarks/int8_calibration.py                                       # the demo images
    python benchmarks/int8_calibration.py --data-dir my/photos --n-calibration 48

A linear probe is trained on the train and valid splits and calibrated on a sample of them; everything is measured on
the test split, so these numbers describe the choices and are no score of a model.
"""

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from utils_cv.backbones import describe_backbone
from utils_cv.classifiers import save_classifier
from utils_cv.datasets import complete_splits, load_image_table
from utils_cv.metrics import compare_accuracy
from utils_cv.onnx_models import load_onnx
from utils_cv.quantization import choose_calibration_rows, list_operations, quantize_onnx
from utils_cv.runtime import describe_machine
from utils_cv.table_images import load_table_images
from utils_cv.timing import measure_in_turn
from utils_cv.training import linear_probe


def list_choices(operations: list[str]) -> dict[str, dict[str, Any]]:
    """List the choices: one thing changed at a time, then parts kept in floats. The ends are always kept in floats."""
    tenth = max(1, len(operations) // 10)
    return {
        "minmax, per channel": {},
        "one scale a weight": {"per_channel": False},
        "7-bit weights": {"reduce_range": True},
        "percentile 99.99": {"calibration": "percentile"},
        "entropy": {"calibration": "entropy"},
        "first tenth in floats": {"keep_float": operations[:tenth]},
        "last tenth in floats": {"keep_float": operations[-tenth:]},
        "both tenths in floats": {"keep_float": operations[:tenth] + operations[-tenth:]},
    }


def predict(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Logits of many images."""
    run = load_onnx(path)
    return np.concatenate([run(np.ascontiguousarray(pixels[i : i + 16])) for i in range(0, len(pixels), 16)])


def main() -> None:
    """Train, quantise in every way, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data/fridge_objects")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--n-calibration", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--choices", type=int, default=99, help="only the first so many")
    arguments = parser.parse_args()
    table = complete_splits(load_image_table(arguments.data_dir))
    images = load_table_images(table, describe_backbone(arguments.backbone).im_size_px)
    is_test = (images.table["split"] == "test").to_numpy()
    truth, test_pixels = images.table.loc[is_test, "label"].to_numpy(dtype=str), images.pixels[is_test]
    names = np.array(images.class_names)
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(linear_probe(images, backbone=arguments.backbone), Path(folder) / "model")
        float_path = Path(folder) / "model" / "model.onnx"
        logits = predict(float_path, test_pixels)
        right = (names[logits.argmax(axis=1)] == truth).mean()
        print(f"{arguments.backbone}, n = {len(truth)} test images, accuracy in floats {right:.3f}")
        rows = choose_calibration_rows(images.table["split"].to_numpy(), n=arguments.n_calibration)
        operations = [name for name, _ in list_operations(float_path)][1:-1]
        paths = {"32-bit floats": float_path}
        for i, (choice, options) in enumerate(list(list_choices(operations).items())[: arguments.choices]):
            paths[choice] = Path(folder) / f"{i}.onnx"
            quantize_onnx(float_path, paths[choice], images.pixels[rows], **options)
            changed = predict(paths[choice], test_pixels)
            difference = compare_accuracy(truth, names[changed.argmax(axis=1)], names[logits.argmax(axis=1)])
            same = (changed.argmax(axis=1) == logits.argmax(axis=1)).mean()
            error = np.sqrt(((changed - logits) ** 2).mean() / logits.var())
            print(
                f"  {choice:24s} difference {difference}  same answer {same:.3f}  error of logits {error:.3f}",
                flush=True,
            )
        one = np.ascontiguousarray(test_pixels[:1])
        functions = {name: functools.partial(load_onnx(path), one) for name, path in paths.items()}
        print(measure_in_turn(functions, n_repeats=arguments.repeats).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
