"""The command that makes a report of a folder of images: one page and a finished model."""

import argparse
from pathlib import Path
from typing import Any

from .commands import DONE, IMAGES_HELP, add_command, add_training_options, print_json, say


def add_report_command(commands: Any) -> None:
    """Add the command `report`."""
    add = add_command(
        commands, "report", _report, "Audit, split, train, score and time: one page and a finished model",
        "Nothing is\nchanged in FOLDER. Start it again after a stop: it goes on with the next step.",
        "my_images", "my_images --output outputs/my_report --recipe probe", "labels.csv --overwrite --json",
    )  # fmt: skip
    add("images", metavar="FOLDER", help=IMAGES_HELP)
    add("--output", type=Path, metavar="DIR", help="folder of page and model; default: outputs/report_of_FOLDER")
    add_training_options(add)
    add("--overwrite", action="store_true", help="replace a report on other images or with other settings")


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
