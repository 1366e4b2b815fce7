"""Numbers in Markdown that come from notebooks and benchmarks: filled in by `make refresh`, checked by a test.

A number stands between two comments, which a rendered page does not show:

    The probe scores <!--01.accuracy:.2f-->0.93<!--/--> on <!--01.n_test-->160<!--/--> images.

`01` is the beginning of a notebook's file name, `accuracy` a key of its `show_results`, and `.2f` a format of Python.
A cell of a recorded table is named by its row: `10.curve[n_per_class=80].accuracy` or, where several columns tell rows
apart, `02.settings[backbone=efficientnet_lite0,runtime=onnx].median_ms`; `[0]` and `[-1]` are the first and last row.
`benchmarks/peers.table[set=ants_bees,recipe=probe].accuracy` is read from `benchmarks/results/peers.json`.
A line must not begin with such a comment: Markdown would take the whole line for HTML.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

_NUMBER = re.compile(
    r"<!--(?P<source>(?:benchmarks/)?\w+)\.(?P<key>\w+(?:\[[^\]]*\]\.\w+)?)(?P<spec>:[^>]*?)?-->(?P<shown>[^<]*)<!--/-->"
)
_FENCED_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class SourcedNumber(NamedTuple):
    """A number of a document and where it comes from.

    Attributes:
        source: Beginning of the notebook's file name, such as `01`, or `benchmarks/` and the name of a JSON file.
        key: Name of the result, or of a table with a row and a column.
        spec: Format of Python, such as `.2f`; empty shows the value as it is.
        shown: What the document says now.
    """

    source: str
    key: str
    spec: str
    shown: str


def list_numbers(text: str) -> list[SourcedNumber]:
    """List the numbers of a document that come from notebooks and benchmarks, in order.

    Example:
        >>> list_numbers("It scores <!--01.accuracy:.2f-->0.93<!--/-->.")[0].key
        'accuracy'
    """
    return [
        SourcedNumber(match["source"], match["key"], (match["spec"] or "").lstrip(":"), match["shown"])
        for match in _NUMBER.finditer(text)
    ]


def fill_numbers(text: str, find_results: Callable[[str], Mapping[str, Any]]) -> str:
    """Write the recorded results into a document.

    Args:
        text: A Markdown document with numbers between comments.
        find_results: Gives the results of a source, such as the notebook whose file name begins with its argument.

    Returns:
        The document with the present numbers; everything else stays as it is.

    Raises:
        ValueError: If a source did not record a key, or a format does not fit; names both.

    Example:
        >>> fill_numbers("It scores <!--01.accuracy:.2f-->?<!--/-->.", lambda notebook: {"accuracy": 0.925})
        'It scores <!--01.accuracy:.2f-->0.93<!--/-->.'
    """

    def fill(match: re.Match[str]) -> str:
        spec = match["spec"] or ""
        value = format_number(find_results(match["source"]), match["source"], match["key"], spec.lstrip(":"))
        return f"<!--{match['source']}.{match['key']}{spec}-->{value}<!--/-->"

    return _NUMBER.sub(fill, text)


def format_number(results: Mapping[str, Any], source: str, key: str, spec: str) -> str:
    """Format one recorded result.

    Percent are set with a space, and a negative number gets a real minus sign. The format `points` shows a difference
    of fractions in percentage points with one decimal. `score`, `score %` and `score points` add the recorded interval.

    Args:
        results: What the source recorded.
        source: Its name, for the error.
        key: Which result.
        spec: Format of Python.

    Raises:
        ValueError: If there is no such result, or the format does not fit it.
    """
    value = find_value(results, source, key)
    limits = _find_limits(results, source, key) if spec.startswith("score") else None
    try:
        if limits:
            shown = _format_score(value, *limits, unit=spec.removeprefix("score"))
        else:
            shown = f"{value * 100:.1f}" if spec == "points" else format(value, spec)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {key} is {value!r}, which format {spec!r} does not fit.") from error
    if isinstance(value, str):
        return shown
    return re.sub(r"(?<!\d)-(?=\d)", "−", shown).replace("%", " %")


def _find_limits(results: Mapping[str, Any], source: str, key: str) -> tuple[float, float]:
    """Find the interval beside a value: `accuracy_low` and `accuracy_high`, or `low` and `high` beside `value`."""
    beginning = key.removesuffix("value") if key.endswith("].value") else f"{key}_"
    low, high = (find_value(results, source, beginning + end) for end in ("low", "high"))
    return low, high


def _format_score(value: float, low: float, high: float, *, unit: str) -> str:
    if unit == " %":
        return f"{value:.0%} ({100 * low:.0f} to {100 * high:.0f})"
    if unit == " points":
        return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    if unit:
        raise ValueError(f"Got unit {unit!r}.")
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def find_value(results: Mapping[str, Any], source: str, key: str) -> Any:
    """Find a recorded value: a single one, or a cell of a table.

    Raises:
        ValueError: If there is no such value, or not exactly one row fits; says what there is.

    Example:
        >>> find_value({"curve": [{"n": 5, "accuracy": 0.7}, {"n": 80, "accuracy": 0.9}]}, "10", "curve[n=80].accuracy")
        0.9
    """
    name, bracket, rest = key.partition("[")
    if name not in results:
        raise ValueError(f"{source} recorded no {name!r}; it recorded: {', '.join(results)}.")
    if not bracket:
        return results[name]
    condition, _, column = rest.partition("].")
    table = results[name]
    if re.fullmatch(r"-?\d+", condition):
        rows = table[int(condition) :][:1]
    else:
        wanted = dict(part.partition("=")[::2] for part in condition.split(","))
        rows = [row for row in table if all(_show(row.get(part)) == text for part, text in wanted.items())]
    if len(rows) != 1 or column not in rows[0]:
        raise ValueError(
            f"{source}: {key} fits {len(rows)} of {len(table)} rows, expected one with that column. "
            f"The first row is {table[0] if table else None}."
        )
    return rows[0][column]


def _show(value: Any) -> str:
    """Write a value of a table as a condition does: 80 for 80.0, text as it is."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def list_unsourced_numbers(text: str, given: Mapping[str, str]) -> list[str]:
    """List the numbers of a document's prose that no notebook or benchmark recorded.

    Code, addresses, link targets, names of notebooks, image texts and headings do not count.

    Args:
        text: A Markdown document.
        given: Phrases with numbers that need no experiment (such as `Python 3.11`), each with the reason why.

    Returns:
        Each such number with the words around it.

    Example:
        >>> list_unsourced_numbers("It takes 3 minutes on 2 cores.", {"2 cores": "the machine"})
        ['It takes 3 minutes on cores.']
    """
    prose = _NUMBER.sub(" ", _FENCED_CODE.sub(" ", text))
    prose = re.sub(r"<!--.*?-->|<[^>]+>|`[^`]*`|!\[[^\]]*\]\([^)]*\)", " ", prose, flags=re.DOTALL)
    prose = re.sub(r"\[[^\]]*\]\([^)]*\.ipynb\)", " ", prose)  # names of notebooks are numbered
    prose = re.sub(r"\]\([^)]*\)|https?://\S+", "] ", prose)
    prose = re.sub(r"\b(notebook|section)s?\s+\d+(\s+to\s+\d+)?", r"\1", prose, flags=re.IGNORECASE)  # where to look
    prose = re.sub(r"^#+ .*$|^\s*\d+\. ", " ", prose, flags=re.MULTILINE)
    for phrase in sorted(given, key=len, reverse=True):
        pattern = r"\s+".join(re.escape(word) for word in phrase.split())  # a line may break anywhere
        prose = re.sub(pattern, re.sub(r"\d[\d.,]*\s?", "", phrase), prose)
    return list(_list_sentences_with_digits(prose))


def _list_sentences_with_digits(prose: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n|\n(?=[|*-])", prose):
        for sentence in re.split(r"(?<=[.!?:])\s+", paragraph):
            if re.search(r"(?<![\w-])\d", sentence):
                yield " ".join(sentence.split())
