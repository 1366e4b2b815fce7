"""The rooms of the house: a file imports only from floors below it, and nothing heavy where it is not needed."""

import ast
import subprocess
import sys

import pytest

from utils_cv.data.image_table import find_repository

FLOORS = {
    0: "audit_report color_modes similar_codes thumbnail_overlap "
    "documents files flat_results figure_style intervals label_arrays threads public_sets weights",
    1: "calibration decoding image_cache label_placement labels metrics multilabel_metrics notebooks padding "
    "plots probes ranking runtime score_plots splits timing near_duplicates trials repeats blocks model_files "
    "differences novelty validation_scores",
    2: "augmentation callbacks images twins publishing study_plots backbones model_cards onnx_models rounds storage "
    "label_errors",
    3: "audit_plots damage image_facts image_tables "
    "downsizing checkpoints distribution features table_images image_inputs quantization "
    "speed_plots experiment_plots throughput_plots curve_plots",
    4: "datasets learners audit int8_gate exports",
    5: "fine_tuning trained explanations classifiers runners",
    6: "training scratch studies.probe_trials studies.test_set_labels studies.test_set_size studies.learning_curve_fit "
    "studies.scored_images studies.shifts studies.training_speed studies.model_choice studies.throughput",
    7: "ladder studies.training_effort "
    "studies.speed_trials studies.rungs studies.learning_curve studies.imbalance studies.label_noise "
    "studies.label_review studies.augmentation studies.epoch_stages studies.leakage",
    8: "studies.speed_times __main__",
    9: "studies.accuracy_vs_speed",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
PACKAGE = find_repository() / "utils_cv"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.stem != "__init__")


def name_module(path):
    """`metrics`, or `studies.learning_curve` for a file in a subfolder."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def list_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("utils_cv"):
            base = node.module.removeprefix("utils_cv").lstrip(".")
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            # `from utils_cv import metrics` names modules, `from utils_cv.evaluation.metrics import Score` what is in one
            yield from (name if name in FLOOR else base for name in names)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("utils_cv.")]
            yield from (name.removeprefix("utils_cv.") for name in names)


@pytest.mark.parametrize("path", FILES, ids=name_module)
def test_imports_point_down(path):
    name = name_module(path)
    for imported in list_imports(path):
        assert FLOOR[imported] < FLOOR[name], f"{name} (floor {FLOOR[name]}) imports {imported} ({FLOOR[imported]})"


@pytest.mark.parametrize("path", FILES, ids=name_module)
def test_no_star_imports(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert all(alias.name != "*" for node in nodes for alias in node.names)


@pytest.mark.parametrize(
    "name",
    [
        "classifiers",
        "metrics",
        "splits",
        "images",
        "notebooks",
        "timing",
        "runtime",
        "files",
        "datasets",
        "plots",
        "labels",
    ],
    ids=str,
)
def test_light_files_import_neither_torch_nor_fastai(name):
    code = f"import sys, utils_cv.{name}; sys.exit(bool({{'torch', 'fastai', 'timm'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import utils_cv; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 2
