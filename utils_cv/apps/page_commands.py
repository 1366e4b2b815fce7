"""The commands whose result is a page in the browser: a report on images, and a page to label them."""

import argparse
from pathlib import Path
from typing import Any

from .commands import DONE, IMAGES_HELP, add_command, add_training_options, print_json, say


def add_page_commands(commands: Any) -> None:
    """Add the commands `report` and `annotate`."""
    add = add_command(
        commands, "report", _report, "Audit, split, train, score and time: one page and a finished model",
        "Nothing is\nchanged in FOLDER. Start it again after a stop: it goes on with the next step.",
        "my_images", "my_images --output outputs/my_report --recipe probe", "labels.csv --overwrite --json",
    )  # fmt: skip
    add("images", metavar="FOLDER", help=IMAGES_HELP)
    add("--output", type=Path, metavar="DIR", help="folder of page and model; default: outputs/report_of_FOLDER")
    add_training_options(add)
    add("--overwrite", action="store_true", help="replace a report on other images or with other settings")
    add = add_command(
        commands, "annotate", _annotate, "Label images on a page in the browser, until Ctrl-C",
        "Every choice is\nsaved at once; start it again to go on. The file loads as a data set, also for `train`.",
        "photos --output labels.csv --classes can carton jar", "my_images --correct --output corrected.csv",
    )  # fmt: skip
    add("images", metavar="FOLDER", help="a folder of images; with --correct also a CSV file of images and labels")
    add("--output", type=Path, metavar="FILE", required=True, help="CSV file that choices are appended to")
    add("--classes", nargs="+", default=[], metavar="CLASS", help="the classes; the page can add others")
    add("--correct", action="store_true", help="show the labels that the images have, to keep or correct them")
    add("--several", action="store_true", help="an image may have several labels")
    add("--name", default="", help="who labels; default: the name of the user")
    add("--by-name", action="store_true", help="sort by name and start at once, instead of look-alikes side by side")


def _report(options: argparse.Namespace) -> int:
    from .report import MODEL, make_report

    output = options.output or Path("outputs") / f"report_of_{Path(options.images).resolve().stem}"
    settings = {"recipe": options.recipe, "backbone": options.backbone, "license": options.license}
    settings |= {"im_size_px": options.size, "seed": options.seed, "overwrite": options.overwrite}
    page = make_report(options.images, output, **settings)
    if options.json:
        print_json({"page": str(page), "model": str(output / MODEL)})
    else:
        print(f"The page: {page}\nThe model: {output / MODEL}")
    say("Open the page in a browser; it needs no network.")
    return DONE


def _annotate(options: argparse.Namespace) -> int:
    from utils_cv.data.image_files import list_image_files
    from utils_cv.data.image_table import find_dir, load_image_table
    from utils_cv.data.labels import is_multilabel, list_class_names

    from .annotation import AnnotationServer, sort_by_likeness

    if options.correct:
        table = load_image_table(options.images, min_classes=1)
        paths, labels, class_names = table["path"].tolist(), table["label"].tolist(), list_class_names(table)
        options.several |= is_multilabel(table)
    else:
        paths, labels, class_names = list_image_files(folder := find_dir(options.images)), [], []
        if not paths:
            raise ValueError(f"No images in {folder}, or in its folders. Give the folder that holds your images.")
    if not options.by_name:
        from utils_cv.models.features import compute_features

        order = sort_by_likeness(compute_features(paths, show_progress=True))
        paths, labels = [paths[i] for i in order], [labels[i] for i in order if labels]
    class_names = [*options.classes, *(name for name in class_names if name not in options.classes)]
    how = {"several": options.several, "annotator": options.name}
    server = AnnotationServer(paths, options.output, class_names, labels=labels, **how)
    if options.json:
        print_json({"url": server.url, "output": str(options.output)})
    say(f"{len(paths)} images. Open {server.url}    Stop it: Ctrl-C")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        people = server.describe("")["people"]
        made = ", ".join(f"{name} {n}" for name, n in people.items()) or "nobody any"
        raise KeyboardInterrupt(f"Images labeled: {made}. They are in {options.output}.") from None
    return DONE
