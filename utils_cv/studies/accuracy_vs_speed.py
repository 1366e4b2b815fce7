"""Accuracy against speed: backbones, sizes of the image and runtimes, on the same images and this machine."""

import functools
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from utils_cv.data import decoding, images
from utils_cv.evaluation.metrics import compare_accuracy, measure_accuracy
from utils_cv.models import features, quantization
from utils_cv.models.backbones import describe_backbone
from utils_cv.models.model_files import list_versions, read_model_info
from utils_cv.models.quantization import MAX_LOSS, decide_offer
from utils_cv.models.runtimes import INT8_RUNTIMES, list_runtimes, make_run
from utils_cv.models.saved_classifier import ImageClassifier
from utils_cv.system.files import get_cache_dir, write_atomic
from utils_cv.system.machine import count_cpus, tune_allocator
from utils_cv.training import linear_probe as probes
from utils_cv.training import training

from . import speed_trials
from .experiment import join_results, run_trials
from .speed_times import measure_times
from .speed_trials import SizedImages

TABLE_NAME = "table.csv"
SCORE_COLUMNS = ["accuracy", "accuracy_low", "accuracy_high"]
DIFFERENCE_COLUMNS = ["difference", "difference_low", "difference_high"]


def accuracy_vs_speed(
    table: pd.DataFrame,
    backbones: Sequence[str],
    *,
    im_sizes_px: Sequence[int] = (0,),
    runtimes: Sequence[str] = ("onnx",),
    vary: str = "all",
    n_repeats: int = 30,
    batch_size: int = 16,
    n_threads: int | None = None,
    seed: int = 0,
    work_dir: str | Path | None = None,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train each backbone at each size once, score every runtime's own answers, and time all of them in turn.

    Training is the linear probe. The models and every finished row are kept in `work_dir`: a call that was stopped
    goes on where it was, and another call trains only what is new. Times are measured together at the end of every
    call, because only times that were measured in turn compare.

    Args:
        table: An image table with splits `train` and `test`.
        backbones: Names that `models.backbones.load_backbone` takes. Where the weights cannot be had, for lack of a
            network, the architecture is timed and its accuracy is NaN.
        im_sizes_px: Sides of the images; 0 takes the size each backbone was pretrained on.
        runtimes: See `utils_cv.models.runtimes.list_runtimes`.
        vary: "all" studies every combination; "one" changes one thing at a time around the first of each.
        n_repeats: Timed runs of one image in each setting.
        batch_size: Images a call when images a second are measured.
        n_threads: Threads of one call. Default: as many as this process may use.
        seed: Seed of the probes.
        work_dir: Where to keep models, finished rows (`trials`) and the table of the last call (`table.csv`).
            Default: a folder of the user's cache for these images and seed.
        show_progress: Show bars with the time left.

    Returns:
        One row a setting: `name`, `backbone`, `im_size_px`, `runtime`; `accuracy` on the test split with
        `accuracy_low` and `accuracy_high` (95 %) and `n_test`; `difference` to the most accurate row, paired, with
        `difference_low` and `difference_high`; `min_ms`, `median_ms`, `p95_ms` of the network alone for one image,
        `n_threads`, `busy`; `open_ms`, the median to open and resize one image file; `images_per_second` in batches;
        `size_mb` of the file, `peak_memory_mb` of a fresh process with one image, in units of 10**6 bytes;
        `n_parameters`, `n_multiply_adds` of the backbone; `train_seconds`, `is_trained`; `is_offered`, false for 8 bits
        that are not faster than the same network in floats, or not shown to lose at most one point of accuracy.

    Raises:
        ValueError: If there is nothing to compare, no test image, or a runtime is unknown.

    Example:
        >>> rows = accuracy_vs_speed(table, ["efficientnet_lite0"], runtimes=["torch", "onnx"])  # doctest: +SKIP
        >>> plot_accuracy_vs_latency(rows)  # doctest: +SKIP
    """
    _check_request(table, backbones, im_sizes_px, runtimes, vary)
    tune_allocator()
    fingerprint = _fingerprint(table, seed)
    work_dir = Path(work_dir) if work_dir else _find_work_dir(fingerprint)
    settings = _list_settings(backbones, im_sizes_px, runtimes, vary, seed)
    trainings = [{name: row[name] for name in ("backbone", "im_size_px", "seed")} for row in settings]
    trainings = [row for i, row in enumerate(trainings) if row not in trainings[:i]]
    sized = SizedImages(table)
    keep = joblib.Memory(work_dir / "trials" / fingerprint[:16], verbose=0).cache
    data = {"images": sized, "models_dir": work_dir}
    train = functools.partial(keep(speed_trials.train_one, ignore=list(data)), **data)
    trained = join_results(trainings, run_trials(train, trainings, description="train", show_progress=show_progress))
    speed_trials.restore_models(sized, work_dir, settings)
    answer = functools.partial(keep(speed_trials.answer_one, ignore=list(data)), **data)
    answered = join_results(settings, run_trials(answer, settings, description="score", show_progress=show_progress))
    rows = answered.merge(trained, on=["backbone", "im_size_px", "seed"], validate="many_to_one")
    rows.insert(0, "name", [_name(row) for row in rows.to_dict("records")])
    y_true = speed_trials.normalize_labels(table.loc[table["split"] == "test", "label"])
    rows = _score(rows, y_true)
    times = measure_times(
        table, rows, work_dir, n_repeats=n_repeats, batch_size=batch_size, n_threads=n_threads or count_cpus()
    )
    rows = rows.merge(times, on="name", validate="one_to_one")
    rows = rows.assign(is_offered=_list_offers(rows, y_true)).drop(columns=["answers", "seed"])
    with write_atomic(work_dir / TABLE_NAME) as temporary_path:
        rows.to_csv(temporary_path, index=False)
    return rows


def find_study_model(table: pd.DataFrame, backbone: str, im_size_px: int, *, seed: int = 0) -> Path:
    """Find the finished model that `accuracy_vs_speed` trained and kept in the user's cache.

    Args:
        table: The same image table.
        backbone: Of the row.
        im_size_px: Of the row.
        seed: The same seed.

    Returns:
        The folder, for `utils_cv.models.saved_classifier.load_classifier`; copy it to keep it.

    Raises:
        FileNotFoundError: The study has not trained such a model.

    Example:
        >>> folder = find_study_model(table, row["backbone"], row["im_size_px"])  # doctest: +SKIP
    """
    folder = speed_trials.find_model_dir(_find_work_dir(_fingerprint(table, seed)), backbone, im_size_px)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No model at {folder}: call accuracy_vs_speed on this table first, with {backbone} at {im_size_px} px."
        )
    return folder


def load_study_classifier(table: pd.DataFrame, row: Mapping[str, Any] | pd.Series, *, seed: int = 0) -> ImageClassifier:
    """Load the finished model of a row of `accuracy_vs_speed`, in the runtime of that row.

    Args:
        table: The same image table.
        row: With `backbone`, `im_size_px` and `runtime`, as `utils_cv.studies.model_choice.pick` gives it.
        seed: The same seed.

    Returns:
        The classifier. To use it elsewhere, copy the folder that `find_study_model` names.

    Raises:
        FileNotFoundError: The study has not trained such a model.

    Example:
        >>> classifier = load_study_classifier(table, pick(rows, max_latency_ms=10))  # doctest: +SKIP
    """
    folder = find_study_model(table, row["backbone"], row["im_size_px"], seed=seed)
    return ImageClassifier(read_model_info(folder), row["runtime"], make_run(folder, row["runtime"]))


def _find_work_dir(fingerprint: str) -> Path:
    return get_cache_dir("studies") / f"accuracy_vs_speed_{fingerprint[:16]}"


def _list_settings(
    backbones: Sequence[str], im_sizes_px: Sequence[int], runtimes: Sequence[str], vary: str, seed: int
) -> list[dict[str, Any]]:
    """List the settings once each, ordered by size, so that images of one size are opened once."""
    combinations = itertools.product(backbones, im_sizes_px, runtimes)
    first = (backbones[0], im_sizes_px[0], runtimes[0])
    settings: list[dict[str, Any]] = []
    for combination in combinations:
        n_changed = sum(given != base for given, base in zip(combination, first, strict=True))
        backbone, size, runtime = combination
        size_px = size or describe_backbone(backbone).im_size_px
        setting = {"backbone": backbone, "im_size_px": size_px, "seed": seed, "runtime": runtime}
        if setting not in settings and (vary == "all" or n_changed <= 1):
            settings.append(setting)
    return sorted(settings, key=lambda setting: setting["im_size_px"])


def _check_request(
    table: pd.DataFrame, backbones: Sequence[str], im_sizes_px: Sequence[int], runtimes: Sequence[str], vary: str
) -> None:
    if vary not in ("all", "one"):
        raise ValueError(f"Got vary={vary!r}, expected 'all' or 'one'.")
    if not backbones or not im_sizes_px or not runtimes:
        raise ValueError(
            f"Got backbones={list(backbones)}, im_sizes_px={list(im_sizes_px)}, runtimes={list(runtimes)}; expected at "
            "least one of each, such as ['efficientnet_lite0'], [0], ['onnx']."
        )
    unknown = [name for name in runtimes if name not in list_runtimes()]
    if unknown:
        raise ValueError(f"Got runtimes {unknown}; here there are {', '.join(list_runtimes())}.")
    if not (table["split"] == "test").any():
        raise ValueError("The table has no test images to score on: utils_cv.data.splits.complete_splits(table).")


def _fingerprint(table: pd.DataFrame, seed: int) -> str:
    """Hash the images (name, label, split, size in bytes), the seed, and the versions and code that decide answers."""
    digest = hashlib.sha256(json.dumps([seed, list_versions()]).encode())
    digest.update(_hash_code())
    for row in table[["path", "image", "label", "split"]].itertuples(index=False):
        n_bytes = Path(str(row.path)).stat().st_size
        digest.update(f"{row.image}\t{row.label}\t{row.split}\t{n_bytes}\n".encode())
    return digest.hexdigest()


@functools.cache  # what is imported does not change when somebody edits the file meanwhile
def _hash_code() -> bytes:
    modules = (decoding, images, features, probes, training, quantization, speed_trials)
    return hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).digest()


def _name(row: dict[Any, Any]) -> str:
    return f"{row['backbone']} {row['im_size_px']} px {row['runtime']}"


def _score(rows: pd.DataFrame, y_true: Sequence[str]) -> pd.DataFrame:
    """Add accuracy, and the paired difference to the most accurate row; NaN for what was not trained."""
    answers = [json.loads(text) for text in rows["answers"]]
    scores = [measure_accuracy(y_true, labels) for labels in answers]
    is_trained = rows["is_trained"].to_numpy(dtype=bool)
    values = np.where(is_trained, [score.value for score in scores], -1.0)
    best = answers[int(values.argmax())]
    differences = [compare_accuracy(y_true, labels, best) for labels in answers]
    for columns, results in ((SCORE_COLUMNS, scores), (DIFFERENCE_COLUMNS, differences)):
        table = pd.DataFrame([result[:3] for result in results], columns=columns, index=rows.index)
        table[~is_trained] = np.nan
        rows = pd.concat([rows, table], axis=1)
    return rows.assign(n_test=len(y_true))


def _list_offers(rows: pd.DataFrame, y_true: Sequence[str]) -> list[bool]:
    """Say which settings may be chosen: 8 bits only where their own network in floats, paired, is hardly better."""
    records = rows.to_dict("records")
    return [row["runtime"] not in INT8_RUNTIMES or _passes_gate(row, rows, y_true) for row in records]


def _passes_gate(row: dict[Any, Any], rows: pd.DataFrame, y_true: Sequence[str]) -> bool:
    """Compare 8 bits with the fastest runtime of the same network in floats; without one they do not pass."""
    same = (rows["backbone"] == row["backbone"]) & (rows["im_size_px"] == row["im_size_px"])
    floats = rows[same & ~rows["runtime"].isin(INT8_RUNTIMES)].sort_values("median_ms")
    if floats.empty:
        return False
    difference = compare_accuracy(y_true, json.loads(row["answers"]), json.loads(floats["answers"].iloc[0]))
    times = {"float_ms": floats["median_ms"].iloc[0], "int8_ms": row["median_ms"]}
    return decide_offer(difference, **times, max_loss=MAX_LOSS)[0]
