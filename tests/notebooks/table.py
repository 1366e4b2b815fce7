"""The table of notebooks: parameters that make each one fast, what changes each parameter, and what must hold."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# Stands for another folder of images, and for none.
OTHER_SET = "another set"
# Changes of parameters that most notebooks have.
USUAL = {"DATA_DIR": OTHER_SET, "BACKBONE": "efficientnet_lite1", "IM_SIZE": 48, "SEED": 1}
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")  # processes that test side by side write into folders of their own


class Case(NamedTuple):
    """How one notebook is tested.

    Attributes:
        fast: Parameters for seconds instead of minutes.
        changes: For every parameter a value that must change what is recorded.
        check: Says of the results of `fast | run` whether they are right.
        run: Parameters of the execution that `check` looks at, beside `fast`.
        sets: Parameters that name a folder, each with the demo set that a small copy is made of.
    """

    fast: Mapping[str, Any]
    changes: Mapping[str, Any]
    check: Callable[[dict[str, Any]], bool]
    run: Mapping[str, Any] = {}
    sets: Mapping[str, str] = {"DATA_DIR": "fridge_objects"}


def has_interval(results: Mapping[str, Any], name: str) -> bool:
    """Whether a score lies within its interval."""
    return results[f"{name}_low"] <= results[name] <= results[f"{name}_high"]


def is_learned(results: Mapping[str, Any], name: str = "accuracy", n_classes: int = 4) -> bool:
    """Whether an accuracy is clearly above chance."""
    return results[name] > 1 / n_classes + 0.15


CASES = {
    "00_dataset_loading": Case(
        fast={"IM_SIZE": 64, "N_PER_CLASS": 2},
        changes={"DATA_DIR": OTHER_SET, "IM_SIZE": 48, "N_PER_CLASS": 3, "SEED": 1},
        check=lambda r: (
            r["n_images"] == r["n_train"] + r["n_valid"] + r["n_test"]
            and r["n_unreadable"] == 0
            and r["n_injected"] == 10
            and r["n_found"] >= 9  # blur is not found in an image that had little detail before
        ),
    ),
    "01_training_introduction": Case(
        fast={
            "IM_SIZE": 64,
            "EPOCHS": 1,
            "SELECT_EPOCHS": 1,
            "BATCH_SIZE": 8,
            "MODEL_DIR": "outputs/tested_classifier",
        },
        changes=USUAL
        | {
            "BATCH_SIZE": 4,
            "AUGMENT": "none",
            "HEAD_EPOCHS": 2,
            "EPOCHS": 2,
            "LEARNING_RATE": 0.01,
            "SELECT_EPOCHS": 2,
            "MY_IMAGE": "data/fridge_negatives/fruit/fruit_01.jpg",
            "NEW_IMAGES": "data/fridge_negatives",
            "MODEL_DIR": "outputs/other_classifier",
        },
        check=lambda r: is_learned(r, "probe_accuracy") and has_interval(r, "selected_accuracy"),
        run={"IM_SIZE": 128},
    ),
    "02_training_accuracy_vs_speed": Case(
        fast={
            "BACKBONES": ["efficientnet_lite0"],
            "IM_SIZES": [64],
            "RUNTIMES": ["onnx"],
            "N_REPEATS": 3,
            "BATCH_SIZES": [1],
            "THREADS": [1],
            "TUNE_SIZE": 64,
            "EPOCHS": 1,
            "LEARNING_RATES": [0.001],
            "MODEL_DIR": "outputs/tested_models",
        },
        changes={
            "DATA_DIR": OTHER_SET,
            "BACKBONES": ["efficientnet_lite1"],
            "IM_SIZES": [48],
            "RUNTIMES": ["torch"],
            "N_REPEATS": 4,
            "BATCH_SIZES": [2],
            "THREADS": [2],
            "TUNE_SIZE": 48,
            "EPOCHS": 2,
            "LEARNING_RATES": [0.01],
            "MAX_LATENCY_MS": 99.0,
            "MODEL_DIR": "outputs/other_models",
            "SEED": 1,
        },
        check=lambda r: (
            is_learned(r, "test_accuracy")
            and has_interval(r, "best_valid_accuracy")
            and r["chosen_name"].endswith("onnx")
            and len(r["settings"]) == 2
            and len(r["presets"]) == 3
        ),
        run={"IM_SIZES": [128], "RUNTIMES": ["onnx", "int8"], "MAX_LATENCY_MS": 0.001},
    ),
    "03_multilabel": Case(
        fast={"IM_SIZE": 64, "EPOCHS": 1, "N_FOLDS": 2, "MODEL_DIR": "outputs/tested_multilabel"},
        changes={
            "DATA_DIR": "data/fridge_objects_multilabel",  # all of it, where the base is a part
            "BACKBONE": "efficientnet_lite1",
            "IM_SIZE": 48,
            "EPOCHS": 2,
            "N_FOLDS": 3,
            "THRESHOLDS": "per_label",
            "NEW_IMAGES": "data/fridge_negatives/jar",
            "MODEL_DIR": "outputs/other_multilabel",
            "SEED": 1,
        },
        check=lambda r: (
            has_interval(r, "macro_f1")
            and has_interval(r, "gain")
            and r["exact_match"] <= r["hamming_accuracy"]
            and len(r["thresholds"]) == len(r["precision"]) == 4
        ),
        run={"IM_SIZE": 128},
        sets={"DATA_DIR": "fridge_objects_multilabel"},
    ),
    "10_how_many_images": Case(
        fast={"IM_SIZE": 64, "SMALLEST": 2, "N_SEEDS": 2, "RARE_RATIO": 5, "TUNED_SIZES": []},
        changes=USUAL
        | {
            "SMALLEST": 1,
            "N_SEEDS": 3,
            "STOP_GAIN": 0.05,
            "RARE_RATIO": 3,
            "TUNED_SIZES": [4],
        },
        check=lambda r: is_learned(r["curve"][-1]) and has_interval(r, "doubling_gain"),
        run={"IM_SIZE": 128},
    ),
    "11_annotation_quality": Case(
        fast={"IM_SIZE": 64, "WRONG_RATES": [0.3], "N_SEEDS": 1, "N_ROUNDS": 2},
        changes=USUAL
        | {
            "WRONG_RATES": [0.4],
            "N_SEEDS": 2,
            "TEST_WRONG": 0.1,
            "INJECTED": 0.3,
            "ROUND_FRACTION": 0.2,
            "N_ROUNDS": 3,
            "FEWER": 0.1,
            "DIFFERENCE": 0.05,
        },
        check=lambda r: is_learned(r) and has_interval(r, "find_recall") and r["n_for_width"] > 0,
        run={"IM_SIZE": 128},
    ),
    "12_splits_and_test_sets": Case(
        fast={"IM_SIZE": 64, "OTHER_IM_SIZE": 48, "N_FOLDS": 2, "N_REPEATS": 1},
        changes=USUAL
        | {
            "VIDEO_DIR": "",
            "SHIFTED_DIR": "",
            "OTHER_IM_SIZE": 32,
            "WIDTH_RULE": 0.15,
            "N_FOLDS": 3,
            "N_REPEATS": 2,
        },
        check=lambda r: is_learned(r) and r["n_scenes"] > 0 and r["n_shifted"] > 0 and len(r["leak"]) == 4,
        run={"IM_SIZE": 128},
        sets={
            "DATA_DIR": "fridge_objects",
            "VIDEO_DIR": "fridge_objects_video",
            "SHIFTED_DIR": "fridge_objects_shifted",
        },
    ),
    "13_training_speed": Case(
        fast={
            "IM_SIZE": 64,
            "MEGAPIXELS": [0.2, 1],
            "LARGE_MEGAPIXELS": 1,
            "N_FILES": 1,
            "N_REPEATS": 1,
            "BATCH_SIZES": [16, 32],
            "TUNE_SIZE": 64,
            "EPOCHS": 1,
            "N_SEEDS": 1,
        },
        changes=USUAL
        | {
            "MEGAPIXELS": [0.2, 2],
            "LARGE_MEGAPIXELS": 2,
            "N_FILES": 2,
            "N_REPEATS": 2,
            "BATCH_SIZES": [8, 32],
            "TUNE_SIZE": 48,
            "EPOCHS": 2,
            "N_SEEDS": 2,
        },
        check=lambda r: (
            len(r["opening"]) == 6
            and {row["stage"] for row in r["stages"]} >= {"decode", "forward", "backward"}
            and [row["recipe"] for row in r["recipes"]] == ["probe", "last_stage", "all"]
            and has_interval(r, "all_gain")
        ),
    ),
    "14_augmentation": Case(
        fast={
            "IM_SIZE": 64,
            "AUGMENTATIONS": ["mirror", "rotate_any"],
            "N_PER_CLASS": 4,
            "N_VIEWS": 1,
            "N_DRAWS": 2,
        },
        changes=USUAL
        | {
            "AUGMENTATIONS": ["mirror", "crop"],
            "N_PER_CLASS": 3,
            "N_VIEWS": 2,
            "N_DRAWS": 3,
        },
        check=lambda r: is_learned(r["rows"][0]) and r["n_compared"] == 6,
        run={"IM_SIZE": 128, "N_PER_CLASS": 8},
    ),
    "15_confidence_and_unknown_images": Case(
        fast={"IM_SIZE": 64, "EXPECTED": 0.2, "N_SPLITS": 1, "MODEL_DIR": "outputs/tested_unknown"},
        changes=USUAL
        | {
            "SHIFTED_DIR": "",
            "NEGATIVES_DIR": "",
            "N_BINS": 5,
            "EXPECTED": 0.3,
            "N_SPLITS": 2,
            "MODEL_DIR": "outputs/other_unknown",
        },
        check=lambda r: (
            is_learned(r)
            and len(r["rejected"]) == 6
            and len(r["left_out"]) == 24
            and r["spread_least"] <= r["spread_most"]
            and has_interval(r["coverage"][1], "accuracy")
        ),
        run={"IM_SIZE": 128},
        sets={
            "DATA_DIR": "fridge_objects",
            "SHIFTED_DIR": "fridge_objects_shifted",
            "NEGATIVES_DIR": "fridge_negatives",
        },
    ),
    "20_annotation": Case(
        fast={"IM_SIZE": 64, "N_GRID": 8, "OUT_DIR": f"outputs/tested_annotation{PROCESS}"},
        changes=USUAL
        | {
            "OUT_DIR": f"outputs/other_annotation{PROCESS}",
            "MY_NAME": "Ann",
            "N_GRID": 4,
            "WRONG": 0.3,
            "CHECKED": 0.4,
        },
        check=lambda r: (
            is_learned(r, "true_accuracy")
            and has_interval(r, "kappa")
            and r["kappa"] > 0.5
            and 0 < r["n_found"] <= r["n_wrong"]
            and r["n_keys"] > 0
        ),
        run={"IM_SIZE": 128},
    ),
    "21_error_browser": Case(
        fast={"IM_SIZE": 64, "WRONG": 0.2, "N_SEEDS": 1, "PAGE": "outputs/tested_errors.html"},
        changes=USUAL
        | {
            "WRONG": 0.1,
            "LOOK": 0.4,
            "CORRECTIONS": "data/fridge_objects/labels.csv",
            "LIKE": "data/fridge_negatives/box/box_00.jpg",
            "PAGE": "outputs/other_errors.html",
            "N_SEEDS": 2,
        },
        check=lambda r: (
            0 < r["n_found"] <= r["n_wrong"] and has_interval(r, "gain") and r["page_mb"] < 30 and len(r["loop"]) == 4
        ),
    ),
    "22_hyperparameters": Case(
        fast={
            "BACKBONES": ["efficientnet_lite0"],
            "IM_SIZES": [64],
            "N_PROBES": 4,
            "N_TUNED": 0,
            "N_SEEDS": 2,
            "N_PROCESSES": 1,
            "JOURNAL": f"outputs/tested_tuning{PROCESS}.log",
        },
        changes={
            "DATA_DIR": OTHER_SET,
            "BACKBONES": ["efficientnet_lite1"],
            "IM_SIZES": [48],
            "N_PROBES": 5,
            "N_TUNED": 1,
            "SAMPLER": "TPESampler",
            "N_SEEDS": 3,
            "N_PROCESSES": 2,
            "JOURNAL": f"outputs/other_tuning{PROCESS}.log",
            "SEED": 1,
        },
        check=lambda r: (
            is_learned(r, "best_cv_accuracy")
            and r["n_trials"] == 5
            and r["n_failed"] == 0
            and {row["parameter"] for row in r["importances"]} == {"C", "backbone", "im_size", "no_effect"}
            and 1 <= r["n_alike"] <= 5
        ),
        run={"IM_SIZES": [64, 128]},
    ),
    "23_hard_negatives_and_active_learning": Case(
        fast={"IM_SIZE": 64, "N_SEEDS": 2, "N_DIVISIONS": 1, "N_LOOK": 5, "OUT_DIR": f"outputs/tested_next{PROCESS}"},
        changes={
            "DATA_DIR": OTHER_SET,
            "NEW_IMAGES": "data/fridge_negatives",
            "NEGATIVES_DIR": "",
            "VIDEO_DIR": "",
            "BACKBONE": "efficientnet_lite1",
            "IM_SIZE": 48,
            "N_SEEDS": 3,
            "STOP_CHANGE": 0.5,
            "N_NEXT": 3,
            "STRATEGY": "k-center",
            "N_LOOK": 4,
            "N_DIVISIONS": 2,
            "OUT_DIR": f"outputs/other_next{PROCESS}",
            "SEED": 1,
        },
        check=lambda r: (
            len(r["curve"]) % 6 == 0
            and {row["stage"] for row in r["mining"]} == {"", "at first", "last round", "stopped"}
            and all(row["difference_low"] <= row["difference_high"] for row in r["stops"])
            and len(r["next"]) == 12
        ),
        sets={
            "DATA_DIR": "fridge_objects",
            "VIDEO_DIR": "fridge_objects_video",
            "NEW_IMAGES": "fridge_objects_video",
            "NEGATIVES_DIR": "fridge_negatives",
        },
    ),
    "30_predict_and_deploy": Case(
        fast={"MODEL_DIR": "outputs/tested_small_deployed", "PAGE_DIR": "outputs/tested_page"},
        changes={
            "DATA_DIR": OTHER_SET,
            "MODEL_DIR": "outputs/other_small_deployed",
            "NEW_IMAGES": "data/fridge_negatives/jar",
            "NEW_CLASS_DIR": "",
            "PAGE_DIR": "outputs/other_page",
            "SEED": 1,
        },
        check=lambda r: (
            r["n_rows"] == r["n_labeled"] > 0
            and r["service_difference"] < 1e-6
            and r["refused_status"] == 422
            and has_interval(r, "new_accuracy")
            and {"torch", "onnx"} <= {row["runtime"] for row in r["runtimes"]}
            and all(row["agreement"] == 1 for row in r["runtimes"] if "int8" not in row["runtime"])
        ),
        run={"MODEL_DIR": "outputs/tested_deployed"},
        sets={"DATA_DIR": "fridge_objects", "NEW_IMAGES": "fridge_negatives"},
    ),
    "31_large_datasets": Case(
        fast={
            "OUT_DIR": f"outputs/tested_many_images{PROCESS}",
            "N_IMAGES": 520,
            "COUNTS": [100],
            "WORKERS": 1,
            "IM_SIZE": 64,
        },
        changes={
            "DATA_DIR": OTHER_SET,
            "OUT_DIR": f"outputs/other_many_images{PROCESS}",
            "N_IMAGES": 530,
            "COUNTS": [60],
            "WORKERS": 2,
            "IM_SIZE": 48,
            "SEED": 1,
        },
        check=lambda r: (
            is_learned(r)
            and has_interval(r, "accuracy")
            and r["n_images"] == 520
            and r["largest_difference"] == r["weight_difference"] == 0
            and len(r["plans"]) == 6
        ),
    ),
}
