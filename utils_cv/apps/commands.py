"""The commands over images and models. Results go to standard output, everything else to standard error.

Nothing heavy is imported before a command runs: `predict` and `serve` need no torch.
"""

import argparse
import contextlib
import csv
import json
import math
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils_cv.system.files import hash_file, write_atomic

DONE, PARTLY, WRONG_USE = 0, 1, 2  # exit codes
LABEL_SEPARATOR, NO_LABEL = "|", "no label"  # of a multi-label model; the folder of images without a label
IMAGES_HELP = "a folder per class, train/val/test folders, or a CSV file"
_RUNTIME_HELP = "what runs the network: onnx (default), int8, openvino, ..."
_N_LISTED = 10  # labels that a summary lists; the images of all others are counted together


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, about: str, *examples: str
) -> Callable[..., Any]:
    """Add a command with its examples and with `--json`; gives the function that adds arguments to it."""
    epilog = "examples:\n" + "\n".join(f"  python -m utils_cv {name} {example}" for example in examples)
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=help, description=f"{help}. {about}", epilog=epilog, formatter_class=raw)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for other programs")
    parser.set_defaults(run=run)
    add_argument: Callable[..., Any] = parser.add_argument
    return add_argument


def in_range(kind: Callable[[str], Any], low: float, high: float) -> Callable[[str], Any]:
    """Make the type of an option that takes numbers from `low` to `high`; the text to number is `int` or `float`."""

    def read(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if low <= (value := kind(text)) <= high:  # so not NaN
                return value
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from {low} to {high}")

    return read


def say(text: str) -> None:
    """Tell the person in front of the screen something that is no result, on a line without the progress bar."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a result as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def add_commands(commands: Any) -> None:
    """Add the commands `predict`, `serve`, `train` and `audit`."""
    add = add_command(
        commands, "predict", _predict, "Label a folder of images with a finished model",
        "Images are\nnever moved or changed.", "my_classifier new_images --output labels.csv",
        "my_classifier new_images --copy-to sorted", "my_classifier photo.jpg --json",
    )  # fmt: skip
    add("model", metavar="MODEL", help="the folder of the finished model")
    add("images", metavar="FOLDER", help="the folder of images, one image, or a pattern in quotes")
    add("--output", type=Path, metavar="FILE", help="CSV, or JSON lines if its name ends with .jsonl; default: printed")
    add("--overwrite", action="store_true", help="replace FILE if it exists")
    add("--reject", action="store_true", help="no label for images of none of the classes, if the model can tell")
    add("--copy-to", type=Path, metavar="DIR", help="also copy the images to DIR/label/")
    add("--runtime", default="auto", help=_RUNTIME_HELP)
    add = add_command(
        commands, "serve", _serve, "Answer uploads of images with labels, until Ctrl-C",
        "\nPOST /predict, GET /model, GET /health.", "my_classifier", "my_classifier --host 0.0.0.0 --port 80",
    )  # fmt: skip
    add("model", metavar="MODEL", help="the folder of the finished model; loaded anew when it changes")
    add("--host", default="127.0.0.1", help="default: this computer only; 0.0.0.0 lets others ask")
    add("--port", type=in_range(int, 0, 65535), default=8000, help="default: 8000; 0 takes any free one")
    add("--runtime", default="auto", help=_RUNTIME_HELP)
    add("--max-file-mb", type=float, default=20.0, help="largest image in MB (default: 20)")
    add("--max-total-mb", type=float, default=100.0, help="largest upload in MB (default: 100)")
    add = add_command(
        commands, "train", _train, "Train on a folder of images and save the model",
        "It is scored once, on\nits test split; cross-validation within the others decides whether fine-tuning pays.",
        "my_images my_classifier", "my_images my_classifier --recipe probe --overwrite",
        "labels.csv my_classifier --backbone efficientnet_lite2 --size 260 --json",
    )  # fmt: skip
    add("images", metavar="FOLDER", help=IMAGES_HELP)
    add("model", metavar="MODEL", type=Path, help="the folder of the finished model; it is made")
    add_training_options(add)
    add("--overwrite", action="store_true", help="replace the model that lies in MODEL")
    add = add_command(
        commands, "audit", _audit, "Look for damaged files, duplicates, leaks and wrong labels",
        "Nothing is\nchanged.", "my_images", "my_images --html report.html", "labels.csv --json",
    )  # fmt: skip
    add("images", metavar="FOLDER", help=IMAGES_HELP)
    add("--html", type=Path, metavar="FILE", help="also write a page with the images that need a look")
    add("--overwrite", action="store_true", help="replace FILE if it exists")


def add_training_options(add: Callable[..., Any]) -> None:
    """Add the options of commands that train."""
    add("--recipe", choices=["select", "probe"], default="select", help="probe: seconds, without fine-tuning")
    add("--backbone", default="efficientnet_lite0", help="pretrained network (efficientnet_lite0)")
    add("--size", type=in_range(int, 16, 4096), default=224, help="side of the square images in pixels (224)")
    add("--seed", type=in_range(int, 0, 2**32 - 1), default=0, help="seed of split and training (0)")
    add("--license", default="other", help="license of the model, for its card, such as mit")


def _predict(options: argparse.Namespace) -> int:
    from utils_cv.models.saved_classifier import load_classifier

    _check_output(options.output, options.overwrite)
    root = Path(options.images).expanduser()
    if options.copy_to and options.copy_to.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{options.copy_to} lies in {root}, where the copies would be labeled next time.")
    classifier = load_classifier(options.model, runtime=options.runtime)
    if options.reject:
        classifier.predict_labels([], reject=True)  # tells why, where the model cannot
    counts, n_problems, is_screen = Counter[str](), 0, not options.output and sys.stdout.isatty()
    with contextlib.ExitStack() as stack:
        write = _open_writer(options.output, options.json, stack)
        for row in classifier.predict_rows(options.images, show_progress=not is_screen):  # rows show it there
            if options.reject and row["is_unknown"]:
                row["label"] = ""
            write({name: _shorten(value) for name, value in row.items()})
            counts[row["label"] or NO_LABEL] += not row["problem"]
            problems = [row["problem"]]
            if options.copy_to and not row["problem"]:
                labels = row["label"].split(LABEL_SEPARATOR) if classifier.info.is_multilabel else [row["label"]]
                problems = [_copy_image(row["image"], label, root, options.copy_to) for label in labels]
            n_problems += any(problems)
            for problem in filter(None, problems):
                say(f"{row['image']}: {problem}")
        if not counts:
            raise ValueError(f"{root.absolute()} holds no images. They are found by extension, such as .jpg or .png.")
    most = dict(counts.most_common(_N_LISTED))
    others = counts.total() - sum(most.values())
    listed = ", ".join([f"{n} {label}" for label, n in most.items() if n] + [f"{others} others"] * (others > 0))
    say(f"{counts.total()} images labeled ({listed}), {n_problems} with problems. {options.output or ''}".rstrip())
    if options.json and options.output:
        print_json({"output": str(options.output), "n_labeled": counts.total(), "n_problems": n_problems})
    return PARTLY if n_problems else DONE


def _check_output(path: Path | None, overwrite: bool) -> None:
    if path and path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file.")
    if path and path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; nothing was written. Choose another name, or pass --overwrite.")


def _open_writer(output: Path | None, as_json: bool, stack: contextlib.ExitStack) -> Callable[[dict[str, Any]], None]:
    """Give a function that writes a row, to the screen or to a file that appears when the stack is closed."""
    file = sys.stdout
    if output:
        path, as_json = stack.enter_context(write_atomic(output)), output.suffix == ".jsonl"
        # Names of files may be no UTF-8.
        file = stack.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
    writers: list[csv.DictWriter] = []

    def write(row: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(row, ensure_ascii=False, allow_nan=False), file=file)
            return
        if not writers:
            writers.append(csv.DictWriter(file, list(row), lineterminator="\n"))
            writers[0].writeheader()
        writers[0].writerow(row)

    return write


def _shorten(value: Any) -> Any:
    """Round a number to six digits; NaN becomes None, which CSV leaves empty."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else float(f"{value:.6g}")


def _copy_image(path: str, label: str, root: Path, out_dir: Path) -> str:
    """Copy an image to `out_dir`/label/ and its path below `root`, unless a file lies there; gives what went wrong."""
    from utils_cv.data.images import find_path

    # Different labels get different folders, with names that other systems take, too.
    forbidden = r'[<>:"/\\|?*%\x00-\x1f]|^\.|[. ]$'
    folder = re.sub(forbidden, lambda found: f"%{ord(found[0]):02X}", label or NO_LABEL)
    source = find_path(path)
    target = out_dir / folder / (source.relative_to(root) if root.is_dir() else source.name)
    try:
        if not target.exists():
            with write_atomic(target) as temporary_path:
                shutil.copy2(source, temporary_path)
        elif hash_file(target) != hash_file(source):
            return f"not copied, another file lies at {target}"
    except OSError as error:
        return f"not copied to {target} ({error.strerror})"
    return ""


def _serve(options: argparse.Namespace) -> int:
    import uvicorn

    from .service import make_app, open_socket

    limits = {"max_file_mb": options.max_file_mb, "max_total_mb": options.max_total_mb}
    app = make_app(options.model, runtime=options.runtime, **limits)
    with open_socket(options.host, options.port) as listening:
        host, port = listening.getsockname()[:2]
        if options.json:
            print_json({"url": f"http://{host}:{port}"})
        say(f"Ask it: curl -F files=@image.jpg http://{host}:{port}/predict    Stop it: Ctrl-C")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])
    return DONE


def _train(options: argparse.Namespace) -> int:
    from utils_cv.data.image_table import describe_table, load_image_table, load_table_images
    from utils_cv.data.splits import complete_splits
    from utils_cv.models.model_files import check_folder

    from .training import RECIPES, train_and_save

    check_folder(options.model, overwrite=options.overwrite)  # before the minutes of training
    table = complete_splits(load_image_table(options.images), seed=options.seed)
    say(describe_table(table))
    images = load_table_images(table, options.size)
    settings = {name: getattr(options, name) for name in ("backbone", "seed", "license", "overwrite")}
    done = train_and_save(images, options.model, recipes=RECIPES[options.recipe], **settings)
    recipe = done.selection.recipe
    if options.json:
        facts = {"n_images": len(images.table), "n_skipped": len(images.skipped), "classes": images.class_names}
        print_json({"model": str(options.model), "recipe": recipe, "scores": done.info.scores} | facts)
    else:
        print(f"{done.score_name} on the test images: {done.score} ({recipe})\nThe model: {options.model}")
    say(f"Label new images with it: python -m utils_cv predict {shlex.quote(str(options.model))} FOLDER")
    return DONE


def _audit(options: argparse.Namespace) -> int:
    from utils_cv.audit.report import audit_images
    from utils_cv.data.image_table import load_image_table

    from .audit_page import make_audit_sections, make_page

    _check_output(options.html, options.overwrite)
    report = audit_images(load_image_table(options.images, min_classes=1))
    if options.html:
        with write_atomic(options.html) as temporary_path:
            page = make_page("Audit of images", make_audit_sections(report))
            temporary_path.write_text(page, encoding="utf-8", errors="backslashreplace")
        say(f"The page with pictures: {options.html}")
    if options.json:
        print_json({"n_images": len(report.facts), "checks": report.summary.to_dict("records")})
    else:
        print(report)
    return PARTLY if len(report.unreadable) else DONE
