"""The command `run`: execute notebooks with other parameters."""

import argparse
import ast
import difflib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .commands import DONE, PARTLY, add_command, in_range, print_json, say


def add_notebook_command(commands: Any) -> None:
    """Add the command `run`."""
    add = add_command(
        commands, "run", _run, "Execute notebooks with other parameters", "The originals stay as they\nare.", "01",
        "01 --parameter DATA_DIR=/my/images --parameter EPOCHS=2", "00 01 02 --parameter DATA_DIR=/my/images",
        "10 --list-parameters",
    )  # fmt: skip
    add("notebooks", nargs="+", help="a path, or the start of a name in notebooks/, such as 01")
    add("--parameter", action="append", default=[], metavar="NAME=VALUE", help="for all notebooks that have it")
    add("--list-parameters", action="store_true", help="show the parameters, run nothing")
    add("--output-dir", type=Path, default=Path("outputs"), help="where executed copies go")
    add("--timeout-s", type=in_range(float, 1, 10**7), default=3600.0, help="limit for each notebook, in seconds")


def _run(options: argparse.Namespace) -> int:
    from utils_cv.notebooks import NotebookError, check_parameters, list_parameters, read_headlines, run_notebook

    paths = [_find_notebook(name) for name in options.notebooks]
    defaults = {path: list_parameters(path) for path in paths}
    parameters = _share_out(options.parameter, defaults)
    for path in paths:
        check_parameters(path, parameters[path])
    if options.list_parameters:
        for path, own in defaults.items():
            lines = "\n".join(f"  {name}={value!r}" for name, value in own.items())
            print_json({path.stem: own}) if options.json else print(f"{path.stem}\n{lines}")
        return DONE
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{options.output_dir} cannot be made ({error.strerror}): choose another --output-dir") from error
    for path in paths:
        start, out_path = time.perf_counter(), options.output_dir / path.name
        try:
            results = run_notebook(path, out_path, parameters[path], timeout_s=options.timeout_s)
        except (KeyboardInterrupt, NotebookError) as error:
            if _is_interruption(error):
                raise KeyboardInterrupt(f"The executed part of {path.name}: {out_path}") from None
            say(f"\n{error}")
            return PARTLY
        seconds = round(time.perf_counter() - start, 1)
        if options.json:
            print_json({"notebook": path.stem, "copy": str(out_path), "seconds": seconds, "results": results})
        else:
            print(f"\n{out_path} ({seconds:.0f} s)\n{read_headlines(out_path)}", flush=True)
    say(f"\nThe executed copies are in {options.output_dir}: open them in JupyterLab (make lab).")
    return DONE


def _is_interruption(error: BaseException | None) -> bool:
    """Tell whether Ctrl-C lies behind an error: the kernel that is then ended may fail in another way."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _is_interruption(error.__context__))


def _find_notebook(name: str) -> Path:
    """Find a notebook by its path, or by the start of its name in the folder `notebooks`."""
    if Path(name).is_file():
        return Path(name)
    parent = Path(name).parent
    folders = [parent] if parent.name else [Path("notebooks"), Path(__file__).parents[2] / "notebooks"]
    folder = next((folder for folder in folders if any(folder.glob("*.ipynb"))), folders[0])
    there = sorted(folder.glob("*.ipynb"))
    found = [path for path in there if path.name.startswith(Path(name).name)]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(path.stem for path in found or there) or "none"
    hint = _suggest(Path(name).stem, [path.stem for path in found or there])
    raise FileNotFoundError(f"{len(found) or 'No'} notebooks fit {name!r}. In {folder} there are: {listed}.{hint}")


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    return f" Did you mean {close[0]}?" if close else ""


def _share_out(texts: Sequence[str], defaults: Mapping[Path, Mapping[str, Any]]) -> dict[Path, dict[str, Any]]:
    """Give each NAME=VALUE to the notebooks that have a parameter of this name; at least one must."""
    known = sorted({name for own in defaults.values() for name in own})
    parameters: dict[Path, dict[str, Any]] = {path: {} for path in defaults}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"Got --parameter {text!r}, expected NAME=VALUE such as EPOCHS=2.")
        if name not in known:
            hint = _suggest(name.upper(), known)
            raise ValueError(f"No notebook named here has a parameter {name}.{hint} There are: {', '.join(known)}.")
        for path, own in defaults.items():
            if name in own:
                parameters[path][name] = value if isinstance(own[name], str) else _parse(value)
            else:
                say(f"{path.stem} has no parameter {name}.")
    return parameters


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # of the wrong type, which is said later
