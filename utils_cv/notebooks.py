"""Notebooks as programs: results that people and tests read, and a strict papermill.

From a shell: `python -m utils_cv run notebooks/01_training_introduction.ipynb --parameter EPOCHS=1`.
"""

import ast
import html
import logging
import math
import numbers
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd

# A kernel prints warnings about its connection, and what a stop broke in it, into the terminal, to no use.
QUIET_KERNEL = ["--IPKernelApp.log_level=50"]
RESULTS_MIME = "application/vnd.utils-cv.results+json"
Results = dict[str, Any]


class NotebookError(RuntimeError):
    """A notebook did not run to its end; the message names the cell and the executed copy."""


def show_results(headlines: Mapping[str, Any], *, recorded: Mapping[str, Any] | None = None) -> None:
    """Show the headline results of a notebook, and record everything that documents and tests read.

    Args:
        headlines: Five to eight names with numbers, strings or scores; they are shown as a table. NumPy scalars are
            welcome. A score is a named tuple with `value`, `low`, `high` and perhaps `n`; `accuracy` is then recorded
            as `accuracy`, `accuracy_low`, `accuracy_high` and `accuracy_n`.
        recorded: More of the same, and tables (a DataFrame, or a list of flat rows), which are not shown. A missing
            value of a table is recorded as null.

    Raises:
        ValueError: If a value is of another kind or not finite, or both hold the same name.
    """
    from IPython.display import display

    content = {"headlines": _flatten(headlines), "recorded": _flatten(recorded or {})}
    repeated = sorted(set(content["headlines"]) & set(content["recorded"]))
    if repeated:
        raise ValueError(f"Got {', '.join(repeated)} as headline and as recorded result; expected each name once.")
    rows = {name: _format(value) for name, value in headlines.items()}
    text = "\n".join(["Results", *(f"  {name}: {value}" for name, value in rows.items())])
    cells = "".join(
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    shown = f"<p><b>Results</b></p><table><tbody>{cells}</tbody></table>"
    display({"text/plain": text, "text/html": shown, RESULTS_MIME: content}, raw=True)


def show_table(table: pd.DataFrame, *, n_rows: int = 20) -> None:
    """Show a table, left-aligned, with equally many decimals in a column; no text is cut, and no column is left out.

    A score and its limits (`accuracy`, `accuracy_low`, `accuracy_high`) become one column.

    Args:
        table: Any DataFrame. An index that has a name is shown as the first columns.
        n_rows: Rows to show; a line below says how many more there are.
    """
    from IPython.display import display

    more = f"and {len(table) - n_rows} more rows" if len(table) > n_rows else "" if len(table) else "no rows"
    table = (table if table.index.names == [None] else table.reset_index()).iloc[:n_rows]
    for name in [name for name in table if {f"{name}_low", f"{name}_high"} <= set(table)]:
        scores = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        d = 1 if pd.to_numeric(table[name], errors="coerce").abs().max() >= 10 else 3  # counts, or shares
        texts = ["" if _is_missing(a) else f"{a:.{d}f} ({low:.{d}f} to {high:.{d}f})" for a, low, high in scores]
        table = table.assign(**{name: texts}).drop(columns=[f"{name}_low", f"{name}_high"])
    names = [" ".join(str(part) for part in np.atleast_1d(name) if part != "") for name in table.columns.to_list()]
    shown = pd.DataFrame({i: _format_column(table.iloc[:, i]) for i in range(len(names))}).set_axis(names, axis=1)
    with pd.option_context("display.max_colwidth", None):
        cells = shown.to_html(index=False, border=0)
    for tag in ("th", "td"):  # a style of each cell, because style sheets of others are not trusted
        cells = cells.replace(f"<{tag}>", f'<{tag} style="text-align: left">')
    text = f"{shown.to_string(index=False)}\n{more}".strip() if len(table) else more
    display({"text/plain": text, "text/html": f"{cells}<p>{more}</p>"}, raw=True)


def _format_column(values: pd.Series) -> list[str]:
    """Numbers with equally many decimals, two digits of small ones; nothing where a value is missing."""
    sizes = pd.to_numeric(values, errors="coerce").abs().dropna()
    form = ".0f" if (sizes % 1 == 0).all() else ".2g" if sizes.max() < 0.01 else ".3f" if sizes.max() < 10 else ".1f"
    texts = [f"{value:{form}}" if isinstance(value, float) else _format(value) for value in values]
    return ["" if _is_missing(value) else text for value, text in zip(values, texts, strict=True)]


def read_results(path: str | Path) -> Results:
    """Read the names and values of the last `show_results` of an executed notebook; a table is a list of rows."""
    content = _find_results(path)[RESULTS_MIME]
    return {**content["headlines"], **content["recorded"]}


def read_headlines(path: str | Path) -> str:
    """Read the table of headline results as an executed notebook shows it, as text."""
    return str(_find_results(path)["text/plain"])


def _find_results(path: str | Path) -> Results:
    """Find the last output of `show_results`, by media type."""
    for cell in reversed(nbformat.read(path, as_version=4).cells):
        for output in cell.get("outputs", []):
            if RESULTS_MIME in output.get("data", {}):
                return dict(output["data"])
    raise ValueError(
        f"{path} holds no recorded results: expected an output of show_results. "
        "Was the notebook executed to its end? Run it with utils_cv.notebooks.run_notebook."
    )


def list_parameters(path: str | Path) -> dict[str, Any]:
    """Read the parameters of a notebook, name to default, from its cell of literals tagged `parameters`."""
    cells = [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
    ]
    if len(cells) != 1:
        raise ValueError(
            f"{path} has {len(cells)} cells tagged 'parameters', expected one: tag the cell of UPPER_CASE "
            "literals (in JupyterLab: property inspector, cell tags)."
        )
    parameters = {}
    for statement in ast.parse(cells[0].source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                parameters[name] = _read_literal(path, name, value)
            case _:
                raise ValueError(
                    f"{path}: the parameters cell holds {ast.unparse(statement)!r}, expected NAME = literal."
                )
    return parameters


def run_notebook(
    path: str | Path,
    out_path: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 3600.0,
    show_progress: bool = True,
) -> Results:
    """Execute a notebook with papermill and return its results; `timeout_s` is the limit for all of it.

    A misspelled parameter, of which papermill only warns, a wrong type and a missing tag are errors before it runs.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    path, out_path, parameters = Path(path), Path(out_path), dict(parameters or {})
    if not path.is_file():
        others = ", ".join(sorted(other.name for other in path.parent.glob("*.ipynb")))
        raise FileNotFoundError(f"No notebook at {path}. There are: {others or f'no notebooks in {path.parent}'}.")
    check_parameters(path, parameters)
    out_path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    papermill_log = logging.getLogger("papermill")
    papermill_log.setLevel(logging.WARNING)  # its INFO lines repeat the progress bar
    try:
        papermill.execute_notebook(
            str(path),
            str(out_path),
            parameters=parameters,
            kernel_name="python3",
            language="python",  # notebooks by other editors may not say it
            extra_arguments=QUIET_KERNEL,
            progress_bar={"desc": path.stem} if show_progress else False,
            timeout_func=lambda cell: max(1, math.ceil(deadline - time.monotonic())),
        )
    except papermill.PapermillExecutionError as error:
        first_line = (error.source.strip().splitlines() or [""])[0]
        raise NotebookError(
            f"{path.name} failed in code cell {error.exec_count} ({first_line!r}):\n"
            f"{error.ename}: {error.evalue}\nThe executed copy, up to that cell: {out_path}"
        ) from error
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(_describe_stop(path, out_path, timeout_s, error)) from error
    return read_results(out_path)


def _flatten(values: Mapping[str, Any]) -> Results:
    """Turn scores, tables and NumPy scalars into what JSON holds."""
    plain: Results = {}
    for name, value in values.items():
        if hasattr(value, "to_dict"):
            value = value.to_dict("records")
        if isinstance(value, list):
            plain[name] = [_flatten_row(f"{name}[{i}]", row) for i, row in enumerate(value)]
        else:
            plain |= {key: _to_plain(key, item) for key, item in _split_score(name, value).items()}
    return plain


def _flatten_row(place: str, row: Mapping[str, Any]) -> Results:
    if not isinstance(row, Mapping):
        raise ValueError(
            f"{place} is {row!r}; expected a table: a DataFrame, or a list of rows such as {{'epoch': 1}}."
        )
    flat = {key: item for name, value in row.items() for key, item in _split_score(str(name), value).items()}
    return {key: None if _is_missing(item) else _to_plain(f"{place}.{key}", item) for key, item in flat.items()}


def _split_score(name: str, value: Any) -> Results:
    """Give a score's limits names of their own; anything else keeps its name."""
    if not hasattr(value, "_asdict"):
        return {name: value}
    parts = value._asdict()
    return {name if part == "value" else f"{name}_{part}": item for part, item in parts.items()}


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, numbers.Real) and math.isnan(value))


def _to_plain(name: str, value: Any) -> Any:
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, bool | str | numbers.Integral):
        return value
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    raise ValueError(
        f"Result {name!r} is {value!r} ({type(value).__name__}); expected a finite number, a string, a score, or "
        "(under recorded=) a table."
    )


def _format(value: Any) -> str:
    if hasattr(value, "_asdict"):
        n = f", n = {value.n}" if hasattr(value, "n") else ""
        return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f}{n})"
    return f"{value:.4g}" if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) else str(value)


def _read_literal(path: str | Path, name: str, value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError as error:
        raise ValueError(
            f"{path}: parameter {name} is {ast.unparse(value)!r}, expected a literal such as 3, 0.5, 'text' or "
            "[1, 2]. Compute in a later cell."
        ) from error


def check_parameters(path: Path, parameters: Mapping[str, Any]) -> None:
    """Raise a ValueError where a notebook has no such parameter, or one of another type."""
    defaults = list_parameters(path)
    unknown = sorted(set(parameters) - set(defaults))
    if unknown:
        raise ValueError(f"{path.name} has no parameter {', '.join(unknown)}. It has: {', '.join(defaults)}.")
    for name, value in parameters.items():
        default = defaults[name]
        allowed = (int, float) if isinstance(default, float) else (type(default),)
        is_flag_for_number = isinstance(value, bool) and not isinstance(default, bool)
        if default is not None and (not isinstance(value, allowed) or is_flag_for_number):
            raise ValueError(
                f"{path.name}: {name}={value!r} is of type {type(value).__name__}, expected "
                f"{type(default).__name__} as in the default {default!r}."
            )


def _describe_stop(path: Path, out_path: Path, timeout_s: float, error: Exception) -> str:
    cells = nbformat.read(out_path, as_version=4).cells
    started = [cell for cell in cells if cell.metadata.get("papermill", {}).get("status") == "running"]
    where = f"in the cell {started[-1].source.strip().splitlines()[0]!r}" if started else "between two cells"
    reason = f"was stopped {where}: its limit of {timeout_s:g} s was up"
    if "Timeout" not in type(error).__name__:
        reason = f"lost its kernel {where} (out of memory?)"
    return f"{path.name} {reason}.\nThe executed copy, up to that cell: {out_path}"
