"""Study of notebook 02: which network, size and runtime to choose, from accuracy and speed measured on this machine.

Each backbone and size gets one linear probe, which is saved. Each runtime gives its own answers on the validation
images. All settings are timed in turn.
"""

import functools
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from utils_cv.data.image_table import TableImages, load_table_images
from utils_cv.data.images import find_path, load_pixels
from utils_cv.data.labels import is_multilabel
from utils_cv.data.lazy_pixels import hash_files
from utils_cv.data.splits import list_groups
from utils_cv.evaluation.metrics import compare_accuracy, measure_accuracy
from utils_cv.models.backbones import describe_backbone
from utils_cv.models.features import run_in_batches
from utils_cv.models.model_files import INFO_NAME, list_versions, read_model_info
from utils_cv.models.quantization import add_int8, check_int8, measure_logit_error
from utils_cv.models.runtimes import INT8_RUNTIMES, RUNTIME_FILES, list_runtimes, load_network
from utils_cv.models.saved_classifier import save_classifier
from utils_cv.system.files import get_cache_dir
from utils_cv.system.machine import tune_allocator
from utils_cv.system.timing import measure_fresh_process, measure_in_turn
from utils_cv.training.learner import make_dataloaders, make_learner
from utils_cv.training.linear_probe import linear_probe
from utils_cv.training.trained_models import make_trained_model

_PEAK_MEMORY_SCRIPT = """
import numpy as np
from utils_cv.models.runtimes import load_network
load_network({folder!r}, {runtime!r})(np.zeros((1, {size}, {size}, 3), np.uint8))
"""


def list_settings(backbones: Sequence[str], im_sizes_px: Sequence[int], runtimes: Sequence[str]) -> pd.DataFrame:
    """List settings that change one thing at a time around the first backbone, size and runtime.

    Args:
        backbones: Any names that `utils_cv.models.backbones.load_backbone` takes.
        im_sizes_px: Sides of the images, in pixels; 0 is the size that each backbone was pretrained on.
        runtimes: See `utils_cv.models.runtimes.list_runtimes`.

    Returns:
        One row per setting, the first one first: `name`, `backbone`, `im_size_px`, `runtime`.

    Raises:
        ValueError: One of the lists is empty, or a runtime is not installed.

    Example:
        >>> list_settings(["efficientnet_lite0"], [0, 128], ["onnx", "torch"])["name"].tolist()
        ['efficientnet_lite0 224 px onnx', 'efficientnet_lite0 224 px torch', 'efficientnet_lite0 128 px onnx']
    """
    if not backbones or not im_sizes_px or not runtimes:
        raise ValueError(
            f"Got backbones={list(backbones)}, im_sizes_px={list(im_sizes_px)}, runtimes={list(runtimes)}; expected at "
            "least one of each, such as ['efficientnet_lite0'], [0], ['onnx']."
        )
    unknown = [name for name in runtimes if name not in list_runtimes()]
    if unknown:
        raise ValueError(f"Got runtimes {unknown}; installed here: {', '.join(list_runtimes())}.")
    first = (backbones[0], im_sizes_px[0], runtimes[0])
    rows = {}
    for chosen in itertools.product(backbones, im_sizes_px, runtimes):
        if sum(given != base for given, base in zip(chosen, first, strict=True)) <= 1:
            backbone, size_px, runtime = chosen
            size_px = size_px or describe_backbone(backbone).im_size_px
            rows[f"{backbone} {size_px} px {runtime}"] = (backbone, size_px, runtime)
    settings = pd.DataFrame.from_dict(rows, orient="index", columns=["backbone", "im_size_px", "runtime"])
    return settings.rename_axis("name").reset_index()


def compare_settings(
    table: pd.DataFrame, settings: pd.DataFrame, *, n_repeats: int = 30, batch_size: int = 16, seed: int = 0
) -> pd.DataFrame:
    """Train each backbone at each size once, score every runtime's own answers, and time all settings in turn.

    Trained models are kept in the user's cache, so that a call that was stopped, or one with more settings, trains only
    what is new. Scores are those of the validation images, which are there to choose by. Score the chosen setting once
    on the test images.

    Args:
        table: An image table with splits `train` and `valid`, one label per image.
        settings: From `list_settings`.
        n_repeats: Timed runs of one image in each setting.
        batch_size: Images per call when images per second are measured.
        seed: Seed of the probes.

    Returns:
        One row per setting, with the columns of `settings` and

        - `valid_accuracy`, `valid_accuracy_low`, `valid_accuracy_high` (95 %) on `n_valid` images, or groups where the
          table has a column `group`; NaN where pretrained weights cannot be had for lack of a network, and `is_trained`
          is False;
        - `weights_license`, of the pretrained weights;
        - `difference`, `difference_low`, `difference_high` to the first trained setting, paired; NaN for the same
          network in 32-bit floats, whose answers are the same;
        - `min_ms`, `median_ms`, `p95_ms` of the network alone for one image, `n_threads`, `busy` (something else was
          running), `images_per_second` in batches, `open_ms` to open and resize one file;
        - `size_mb` of the file, and `peak_memory_mb` of a fresh process that predicts one image, in 10**6 bytes;
        - `is_offered`, False for an 8-bit network that does not pass its check, and `note`, what that found, or why a
          network is not trained;
        - `model_dir`, the folder for `utils_cv.models.saved_classifier.load_classifier`.

    Raises:
        ValueError: There are no validation images, or an image has several labels.

    Example:
        >>> settings = list_settings(["efficientnet_lite0"], [0], ["torch", "onnx"])
        >>> rows = compare_settings(table, settings)  # doctest: +SKIP
        >>> plot_accuracy_vs_latency(rows, accuracy="valid_accuracy")  # doctest: +SKIP
    """
    if is_multilabel(table):
        raise ValueError("This study takes one label per image; this table has images with several labels or none.")
    if not (table["split"] == "valid").any():
        raise ValueError("The table has no validation images to choose by: utils_cv.data.splits.complete_splits.")
    tune_allocator()
    models_dir, rows = _find_models_dir(table, seed), []
    with tqdm(total=len(settings), desc="train and score") as bar:
        for size_px, part in settings.groupby("im_size_px"):  # images are opened once per size
            images = load_table_images(table, int(size_px))
            for setting in part.to_dict("records"):
                rows.append({"name": setting["name"], **_answer(images, setting, models_dir, seed)})
                bar.update()
    rows = settings.merge(pd.DataFrame(rows), on="name", validate="one_to_one")
    valid = images.table[images.table["split"] == "valid"]
    y_true, groups = valid["label"].to_numpy(dtype=str), list_groups(valid)
    rows = _add_scores(rows, y_true, groups)
    rows = rows.join(_measure_times(rows, images.table["path"].head(n_repeats), n_repeats, batch_size))
    rows = _add_offers(rows, y_true, groups)
    rows["note"] = rows["note"].where(rows["is_trained"], rows["problem"])
    return rows.drop(columns=["answers", "logits", "problem"])


def select_setting(
    rows: pd.DataFrame,
    *,
    prefer: Literal["accuracy", "speed", "size"] = "accuracy",
    min_accuracy: float = 0.0,
    max_latency_ms: float = np.inf,
) -> pd.Series:
    """Select the best setting within limits; of equals the faster one.

    Args:
        rows: From `compare_settings`. Settings without accuracy, and 8-bit networks that are not offered, are left out.
        prefer: "accuracy" takes the most accurate, "speed" the fastest, "size" the one with the smallest file.
        min_accuracy: The lowest validation accuracy allowed, in [0, 1].
        max_latency_ms: The longest median time of the network for one image.

    Returns:
        The row.

    Raises:
        ValueError: Nothing is within the limits; the message says how far the measured settings go.
    """
    offered = rows[rows["valid_accuracy"].notna() & rows["is_offered"]]
    if offered.empty:
        raise ValueError(f"None of {len(rows)} settings can be offered. {'; '.join(rows['note'].unique())}")
    is_allowed = (offered["valid_accuracy"] >= min_accuracy) & (offered["median_ms"] <= max_latency_ms)
    if not is_allowed.any():
        raise ValueError(
            f"None of {len(offered)} offered settings has min_accuracy={min_accuracy:.3f} within "
            f"max_latency_ms={max_latency_ms:g}; got at best accuracy {offered['valid_accuracy'].max():.3f} and "
            f"{offered['median_ms'].min():.1f} ms. Relax a limit, or measure more backbones, sizes and runtimes."
        )
    order = {"accuracy": ["valid_accuracy", "median_ms"], "speed": ["median_ms"], "size": ["size_mb", "median_ms"]}
    is_ascending = [name != "valid_accuracy" for name in order[prefer]]
    return offered[is_allowed].sort_values(order[prefer], ascending=is_ascending, kind="stable").iloc[0]


def _find_models_dir(table: pd.DataFrame, seed: int) -> Path:
    """The folder of the user's cache for these images, this seed, these versions and this code."""
    facts = table.filter(["image", "label", "split", "group"]).to_csv()
    key = hash_files([find_path(path) for path in table["path"]], facts, seed, list_versions(), _hash_code())
    return get_cache_dir("studies") / f"accuracy_vs_speed_{key[:16]}"


@functools.cache  # what is imported does not change when somebody edits a file meanwhile
def _hash_code() -> bytes:
    root = Path(__file__).parents[1]
    paths = [path for room in ("data", "models", "training") for path in sorted((root / room).glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).digest()


def _answer(images: TableImages, setting: Mapping[str, Any], models_dir: Path, seed: int) -> dict[str, Any]:
    """Train or find the model of a setting, and let its runtime answer the validation images."""
    size_px, runtime = setting["im_size_px"], setting["runtime"]
    folder, problem = _train(images, setting["backbone"], models_dir, seed)
    file = folder / RUNTIME_FILES[runtime]
    if runtime in INT8_RUNTIMES and not (file.is_file() and file.name in read_model_info(folder).files):
        add_int8(folder, images, is_checked=False)
    valid_rows = np.flatnonzero(images.table["split"] == "valid")
    logits = run_in_batches(load_network(folder, runtime), images.pixels, valid_rows)
    script = _PEAK_MEMORY_SCRIPT.format(folder=str(folder), runtime=runtime, size=size_px)
    return {
        "answers": np.array(images.class_names)[logits.argmax(axis=1)],
        "logits": logits,
        "is_trained": not problem,
        "problem": problem,
        "weights_license": describe_backbone(setting["backbone"]).license,
        "size_mb": file.stat().st_size / 1e6,
        "peak_memory_mb": measure_fresh_process(script).peak_memory_mb,
        "model_dir": str(folder),
    }


def _train(images: TableImages, backbone: str, models_dir: Path, seed: int) -> tuple[Path, str]:
    """Find a finished model, or train it; without pretrained weights an untrained one is saved to be timed, and why."""
    folder = models_dir / f"{backbone.replace('/', '_')}_{images.pixels.shape[1]}px"
    if (folder / INFO_NAME).is_file():
        return folder, ""
    problem = ""
    try:
        trained = linear_probe(images, backbone=backbone, seed=seed)
    except ConnectionError as error:  # the speed does not depend on the weights
        problem = f"not trained: {error}"
        folder = folder.with_name(f"{folder.name}_untrained")
        trained = make_trained_model(make_learner(make_dataloaders(images), backbone, pretrained=False))
    save_classifier(trained, folder, images=images, overwrite=True, title=f"{backbone}, {images.pixels.shape[1]} px")
    return folder, problem


def _add_scores(rows: pd.DataFrame, y_true: np.ndarray, groups: np.ndarray | None = None) -> pd.DataFrame:
    """Add accuracies, and differences to the first row; NaN for what is not trained or the same network in floats."""
    # Without any trained network all are NaN, whatever the base.
    base = rows.loc[rows["is_trained"].idxmax()]
    scores = [measure_accuracy(y_true, answers, groups=groups) for answers in rows["answers"]]
    changes = [compare_accuracy(y_true, answers, base["answers"], groups=groups) for answers in rows["answers"]]
    scores = pd.DataFrame([score.name_limits("valid_accuracy") for score in scores])
    differences = pd.DataFrame([change.name_limits("difference") for change in changes])
    is_same = (rows["model_dir"] == base["model_dir"]) & ~rows["runtime"].isin(INT8_RUNTIMES)
    scores[~rows["is_trained"]] = differences[~rows["is_trained"] | is_same] = np.nan
    n_valid = len(y_true) if groups is None else len(set(groups))
    return pd.concat([rows, scores, differences], axis=1).assign(n_valid=n_valid)


def _measure_times(rows: pd.DataFrame, paths: Sequence[str], n_repeats: int, batch_size: int) -> pd.DataFrame:
    """Time all settings in turn, one image and in batches; and apart from the networks, opening files at each size."""
    one, many = {}, {}
    for row in rows.itertuples():
        run, shape = load_network(str(row.model_dir), str(row.runtime)), (row.im_size_px, row.im_size_px, 3)
        pixels = np.random.default_rng(0).integers(0, 256, (batch_size, *shape), dtype=np.uint8)
        one[str(row.name)], many[str(row.name)] = functools.partial(run, pixels[:1]), functools.partial(run, pixels)
    # no warning: the column `busy` says it
    times = measure_in_turn(one, n_repeats=n_repeats, warn=False).drop(columns=["name", "n_repeats"])
    batches = measure_in_turn(many, n_warmup=1, n_repeats=max(2, n_repeats // 10), warn=False)
    open_ms = {}  # the median file's
    for size_px in rows["im_size_px"].unique():
        opening = {path: functools.partial(load_pixels, path, size_px) for path in paths}
        timed = measure_in_turn(opening, n_warmup=1, n_repeats=3, settle_ms=0, warn=False)
        open_ms[size_px] = timed["median_ms"].median()
    return times.assign(
        images_per_second=1000 * batch_size / batches["median_ms"], open_ms=rows["im_size_px"].map(open_ms)
    )


def _add_offers(rows: pd.DataFrame, y_true: np.ndarray, groups: np.ndarray | None = None) -> pd.DataFrame:
    """Check 8-bit networks against the fastest runtime of the same network in 32-bit floats."""
    offers = [(True, "")] * len(rows)
    for i, row in rows[rows["runtime"].isin(INT8_RUNTIMES)].iterrows():
        same = rows[(rows["model_dir"] == row["model_dir"]) & ~rows["runtime"].isin(INT8_RUNTIMES)]
        if same.empty:
            offers[i] = (False, "nothing in 32-bit floats was measured to compare with")
            continue
        base = same.loc[same["median_ms"].idxmin()]
        options = {"float_ms": base["median_ms"], "int8_ms": row["median_ms"], "groups": groups}
        options["logit_error"] = measure_logit_error(base["logits"], row["logits"])
        found = check_int8(y_true, base["answers"], row["answers"], **options)
        offers[i] = (found["is_offered"], found["reason"])
    return rows.assign(is_offered=[offer for offer, _ in offers], note=[note for _, note in offers])
