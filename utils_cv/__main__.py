"""Image classification from the command line. Results go to standard output, progress to standard error."""

import argparse
import io
import os
import sys
import warnings

from utils_cv.apps.commands import DONE, WRONG_USE, add_commands, say
from utils_cv.apps.notebook_command import add_notebook_command
from utils_cv.apps.page_commands import add_page_commands

INTERRUPTED = 130  # what shells expect after Ctrl-C
_EXTRAS = {"serve": ("fastapi", "uvicorn", "python_multipart"), "notebooks": ("papermill", "nbclient", "nbformat")}
_CODES = "exit codes: 0 done; 1 something could not be opened, or a notebook failed; 2 wrong use"


def main(arguments: list[str] | None = None) -> int:
    """Run one command, by default that of this process; gives the exit code."""
    options = _make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what the terminal cannot show
    with warnings.catch_warnings():
        # Large photographs, which are opened; what is too large is refused.
        warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")
        warnings.showwarning = lambda message, *_, **__: say(f"Note: {message}")  # without a line of our source
        try:
            code: int = options.run(options)
            sys.stdout.flush()
        except KeyboardInterrupt as stop:
            say(f"\nStopped. {stop}".rstrip())
            return INTERRUPTED
        except BrokenPipeError:  # whoever reads the results, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except (ImportError, OSError, ValueError) as error:
            say(f"\n{_explain(error)}")
            return WRONG_USE
    return code


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m utils_cv", description=__doc__, epilog=_CODES)
    commands = parser.add_subparsers(metavar="command", required=True)
    add_commands(commands)
    add_page_commands(commands)
    add_notebook_command(commands)
    return parser


def _explain(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = next((extra for extra, names in _EXTRAS.items() if error.name.split(".")[0] in names), "train")
        return f"This command needs the package {error.name}: pip install 'utils_cv[{extra}]'."
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    return str(error).replace("overwrite=True", "--overwrite")


if __name__ == "__main__":
    sys.exit(main())
