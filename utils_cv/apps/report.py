"""One folder in, one decision out: audit, split, recipe, score, speed and a finished model, on one HTML page."""

import html
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils_cv.audit.report import add_groups, audit_images
from utils_cv.data.image_table import describe_table, load_image_table, load_table_images
from utils_cv.data.images import find_path
from utils_cv.data.lazy_pixels import hash_files
from utils_cv.data.splits import complete_splits
from utils_cv.evaluation.intervals import Score
from utils_cv.evaluation.label_errors import rank_suspects
from utils_cv.evaluation.metrics import compute_class_table, compute_confusion
from utils_cv.evaluation.multilabel import apply_thresholds
from utils_cv.models.quantization import compare_runtimes
from utils_cv.plots.scores import plot_confusion
from utils_cv.system.files import hash_file, write_atomic
from utils_cv.system.machine import describe_machine
from utils_cv.system.timing import Timer, format_duration

from .audit_page import N_SHOWN, make_audit_sections, make_cards, make_page, show_image
from .training import RECIPES, train_and_save

MODEL, PAGE, STEPS = "model", "report.html", "steps"  # in the folder of a report
PACKAGE = Path(__file__).parents[1]
_N_TIMED = 256  # images whose answers are compared between runtimes
_DOUBTED = -0.5  # margin below which a label deserves a look
_RECIPE_FACTS = ("recipe", "n", "accuracy", "loss", "gain", "gain_error", "is_selected")

Found = dict[str, Any]


def make_report(
    images: str | Path,
    folder: str | Path,
    *,
    recipe: str = "select",
    backbone: str = "efficientnet_lite0",
    im_size_px: int = 224,
    seed: int = 0,
    license: str = "other",
    overwrite: bool = False,
) -> Path:
    """Audit, split, select a recipe, score it, time it, save model and page; after a stop the same call goes on."""
    folder, table = Path(folder), load_image_table(images)
    settings: Found = {"recipe": recipe, "backbone": backbone, "im_size_px": im_size_px, "seed": seed}
    settings["license"] = license
    key = _make_key(table, settings)
    _check_folder(folder, key, overwrite)
    audit = _keep(folder, "audit", key, lambda: _audit(table))
    grouped = table.assign(group=audit["groups"]) if audit["groups"] else table
    table = complete_splits(grouped, seed=seed)
    trained = _keep(folder, "training", key, lambda: _train(table, folder / MODEL, **settings))
    speed = _keep(folder, "speed", key, lambda: _measure_speed(table, folder / MODEL, im_size_px))
    sections = [
        *_describe_result(images, folder, table, audit, trained, speed),
        *_show_training(trained, audit["value_range"]),
        f"<h2>Speed of the finished model</h2>{_show_table(speed['runtimes'])}<p>{speed['note']}</p>",
        "<h2>Audit</h2>",
        *audit["sections"],
        f"<h2>Model card</h2><pre>{html.escape((folder / MODEL / 'README.md').read_text(encoding='utf-8'))}</pre>",
    ]
    _write(folder / PAGE, make_page(f"Report on {Path(images).name}", sections))
    return folder / PAGE


def _make_key(table: pd.DataFrame, settings: dict[str, Any]) -> str:
    """Tell this report from one on changed images, with other settings, or by another version of this library."""
    rows = table.drop(columns="path").astype(str).to_numpy().tolist()
    # Between two releases only the files themselves tell versions apart.
    code = [hash_file(path) for path in sorted(PACKAGE.rglob("*.py"))]
    return hash_files([find_path(path) for path in table["path"]], settings, rows, code)


def _check_folder(folder: Path, key: str, overwrite: bool) -> None:
    kept = sorted(folder.glob(f"{STEPS}/*.json"))
    if not kept and folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds files, but no report; choose another folder.")
    if not overwrite and any(json.loads(path.read_text(encoding="utf-8"))["key"] != key for path in kept):
        raise FileExistsError(
            f"{folder} holds a report on other images or settings, or by another version of utils_cv; pass "
            "overwrite=True to replace it."
        )


def _keep(folder: Path, step: str, key: str, work: Callable[[], Found]) -> Found:
    """Take what a step found from its file, or do the work and write the file."""
    path = folder / STEPS / f"{step}.json"
    if path.exists() and (kept := json.loads(path.read_text(encoding="utf-8")))["key"] == key:
        found: Found = kept["found"]
        return found
    print(f"{step} ...", file=sys.stderr, flush=True)
    with Timer() as timer:
        found = work()
    found["seconds"] = timer.seconds
    _write(path, json.dumps({"key": key, "found": found}))
    return found


def _write(path: Path, text: str) -> None:
    with write_atomic(path) as temporary_path:
        temporary_path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _audit(table: pd.DataFrame) -> Found:
    report = audit_images(table)
    n_found = {name: len(getattr(report, name)) for name in ("unreadable", "leaks", "label_conflicts", "duplicates")}
    needs_groups = n_found["duplicates"] > 0 and (table["split"] == "").any()
    groups = add_groups(table, report)["group"].tolist() if needs_groups else []
    return {"sections": make_audit_sections(report), "groups": groups, "value_range": report.value_range, **n_found}


def _train(table: pd.DataFrame, folder: Path, *, recipe: str, im_size_px: int, **options: Any) -> Found:
    images = load_table_images(table, im_size_px)
    done = train_and_save(images, folder, recipes=RECIPES[recipe], overwrite=True, **options)
    found: Found = {"recipe": done.selection.recipe, "name": done.score_name, "score": done.score}
    found |= {"recipes": done.selection.scores.to_dict("records")}
    found |= {"classes": images.class_names, "thresholds": done.info.thresholds}
    for part, answers in (("test", done.predictions), ("held_out", done.selection.held_out)):
        found[part] = {"y_true": answers.y_true.tolist(), "probabilities": answers.probabilities.round(4).tolist()}
        found[part] |= {name: answers.table[name].tolist() for name in ("image", "path")}
        found[part]["groups"] = None if answers.groups is None else answers.groups.tolist()
    return found


def _measure_speed(table: pd.DataFrame, folder: Path, im_size_px: int) -> Found:
    images = load_table_images(table[table["split"] == "valid"].head(_N_TIMED), im_size_px)
    runtimes = compare_runtimes(folder, np.asarray(images.pixels[:]))
    busy = " Other programs were running, so times are too long." if runtimes["busy"].any() else ""
    note = f"Answers are compared with PyTorch's on {len(images.pixels)} images. {describe_machine()}.{busy}"
    return {"runtimes": runtimes.drop(columns="busy").round(4).to_dict("records"), "note": html.escape(note)}


def _describe_result(images: Any, folder: Path, table: Any, audit: Found, trained: Found, speed: Found) -> list[str]:
    """The decision and what comes next, in sentences that these images made."""
    score, seconds = Score(*trained["score"]), sum(found["seconds"] for found in (audit, trained, speed))
    next_steps = [f"Label new images: {_show_command('predict', folder / MODEL, 'FOLDER')}"]
    if audit["leaks"]:
        leaks = "images stand in another part of the split as well: the score is too good. Look at them first."
        next_steps.insert(0, f"{audit['leaks']} {leaks}")
    doubted = 0 if trained["name"] != "accuracy" else int((_rank(trained["held_out"])["margin"] < _DOUBTED).sum())
    if doubted:
        next_steps.append(
            f"The model clearly contradicts {doubted} labels. Look at them below, and correct what is wrong: "
            + _show_command("annotate", images, "--correct", "--output", folder / "corrected.csv")
        )
    fastest = min(speed["runtimes"], key=lambda row: float(row["median_ms"]))
    next_steps.append(f"The fastest runtime here is {fastest['runtime']}: {fastest['median_ms']:.1f} ms per image.")
    lines = html.escape(describe_table(table)).replace("\n", "<br>")
    return [
        f"<p><b>{trained['name']} on the test images: {score}</b>, recipe {trained['recipe']}. The brackets hold the "
        f"95 % interval. The model lies in <code>{html.escape(str(folder / MODEL))}</code>.</p>",
        f"<p>{lines}</p><ul>{''.join(f'<li>{step}</li>' for step in next_steps)}</ul>",
        f"<p>Made in {format_duration(seconds)}.</p>",
    ]


def _show_command(*words: Any) -> str:
    return f"<code>python -m utils_cv {html.escape(shlex.join(map(str, words)))}</code>"


def _show_training(trained: Found, value_range: int) -> list[str]:
    """Recipes and mistakes; and for one label per image the classes and doubted labels."""
    recipes = (
        "<h2>Recipes, by cross-validation</h2><p>The test images took no part in this choice. <i>gain</i> is how much "
        "lower the loss is than that of the best recipe above, with its standard error.</p>"
    )
    sections = [recipes + _show_table([{name: row[name] for name in _RECIPE_FACTS} for row in trained["recipes"]])]
    test, held_out, names = trained["test"], trained["held_out"], trained["classes"]
    y_true, probabilities = np.array(test["y_true"]), np.array(test["probabilities"])
    if trained["name"] != "accuracy":
        mistakes = _list_wrong_labels(y_true, probabilities, trained["thresholds"], names)
        title = "Mistakes on test images, the most wrong labels first"
        return [*sections, _show_images(title, test, mistakes, value_range)]
    y_pred, surest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    by_class = compute_class_table(y_true, y_pred, names, groups=test["groups"])
    sections.append(f"<h2>Each class, on the test images</h2>{_show_table(by_class.to_dict('records'))}")
    sections.append(_draw(plot_confusion(compute_confusion(y_true, y_pred, names)), "Test images by class"))
    wrong = np.flatnonzero(y_true != y_pred)
    mistakes = [
        (i, f"true: {names[y_true[i]]}", f"predicted: {names[y_pred[i]]}, {surest[i]:.0%}")
        for i in wrong[np.argsort(-surest[wrong], kind="stable")]
    ]
    sections.append(_show_images("Mistakes on test images, the surest first", test, mistakes, value_range))
    suspects = _rank(held_out).query("margin < 0")
    doubts = [
        (row.row, f"label: {names[row.label]}", f"the model: {names[row.suggested]}") for row in suspects.itertuples()
    ]
    title = "Labels that a model contradicts which did not learn the image, the most suspect first"
    return [*sections, _show_images(title, held_out, doubts, value_range)]


def _list_wrong_labels(y_true: Any, probabilities: Any, thresholds: Any, names: Any) -> list[tuple[Any, ...]]:
    """For each image with mistakes which labels were missed and which were added, the surest of equally many first."""
    is_yes = apply_thresholds(probabilities, thresholds)
    is_wrong = is_yes != y_true
    order = np.lexsort([-(np.abs(y_true - probabilities) * is_wrong).max(axis=1), -is_wrong.sum(axis=1)])
    words = np.where(is_yes, "added", "missed")
    return [
        (i, *(f"{words[i, k]}: {names[k]}, {probabilities[i, k]:.0%}" for k in np.flatnonzero(is_wrong[i])))
        for i in order[: is_wrong.any(axis=1).sum()]
    ]


def _show_images(title: str, answers: Found, rows: Sequence[tuple[Any, ...]], value_range: int) -> str:
    """Pictures of the first rows: each is a position in `answers` and the lines below its name."""
    cards = [show_image(answers["path"][i], [answers["image"][i], *words], value_range) for i, *words in rows[:N_SHOWN]]
    return make_cards(title, len(rows), cards)


def _rank(held_out: Found) -> pd.DataFrame:
    return rank_suspects(np.array(held_out["probabilities"]), np.array(held_out["y_true"]))


def _show_table(rows: Sequence[Found]) -> str:
    return str(pd.DataFrame(rows).to_html(index=False, float_format="{:.3f}".format, na_rep=""))


def _draw(axes: Any, words: str) -> str:
    """A figure as SVG in the page, with words for those who do not see it."""
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    axes.figure.savefig(buffer, format="svg", bbox_inches="tight")
    plt.close(axes.figure)
    svg = re.sub(r"^.*?<svg", f'<svg role="img" aria-label="{html.escape(words)}"', buffer.getvalue(), flags=re.S)
    return f'<figure style="width: auto">{svg}</figure>'
