"""The command line: `python -m utils_cv run NOTEBOOK ...`."""

import argparse
import ast
import sys
import time
from pathlib import Path
from typing import Any

from utils_cv.notebooks import NotebookError, list_parameters, read_headlines, run_notebook


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words of the command line; None takes those of this process.

    Returns:
        0 when all notebooks ran, 1 when one failed, 2 when a file or parameter is wrong.
    """
    options = _make_parser().parse_args(arguments)
    try:
        _run(options)
    except NotebookError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except (FileNotFoundError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m utils_cv", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="execute notebooks; the originals stay as they are")
    run.add_argument("notebooks", nargs="+", type=Path)
    run.add_argument("--output-dir", type=Path, default=Path("outputs"), help="where executed copies go")
    run.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("--timeout-s", type=float, default=3600.0, help="limit for each notebook, in seconds")
    return parser


def _run(options: argparse.Namespace) -> None:
    rows = []
    for path in options.notebooks:
        start = time.perf_counter()
        out_path = options.output_dir / path.name
        parameters = _parse_parameters(path, options.parameter)
        run_notebook(path, out_path, parameters, timeout_s=options.timeout_s)
        rows.append((out_path, time.perf_counter() - start))
    for out_path, seconds in rows:
        print(f"\n{out_path} ({seconds:.0f} s)\n{read_headlines(out_path)}")
    print(f"\nThe executed copies are in {options.output_dir}: open them in JupyterLab (make lab).")


def _parse_parameters(path: Path, texts: list[str]) -> dict[str, Any]:
    """Turn NAME=VALUE words into values; the text stays a string where the notebook's default is one."""
    defaults = list_parameters(path) if path.is_file() else {}
    parameters = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"Got --parameter {text!r}, expected NAME=VALUE such as EPOCHS=2.")
        if isinstance(defaults.get(name), str):
            parameters[name] = value
            continue
        try:
            parameters[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parameters[name] = value  # run_notebook says that the type is wrong
    return parameters


if __name__ == "__main__":
    sys.exit(main())
