"""Numbers in Markdown that come from notebooks: filled in by `make refresh`, checked by a test.

A number stands between two comments, which a rendered page does not show:

    The probe scores <!--01.accuracy:.2f-->0.93<!--/--> on <!--01.n_test-->160<!--/--> images.

`01` is the beginning of a notebook's file name, `accuracy` a key of its `show_results`, and `.2f` a format of Python.
A line must not begin with such a comment: Markdown would take the whole line for HTML.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

_NUMBER = re.compile(r"<!--(?P<notebook>\w+)\.(?P<key>\w+)(?P<spec>:[^>]*?)?-->(?P<shown>[^<]*)<!--/-->")
_FENCED_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class SourcedNumber(NamedTuple):
    """A number of a document and where it comes from.

    Attributes:
        notebook: Beginning of the notebook's file name, such as `01`.
        key: Name of the result.
        spec: Format of Python, such as `.2f`; empty shows the value as it is.
        shown: What the document says now.
    """

    notebook: str
    key: str
    spec: str
    shown: str


def list_numbers(text: str) -> list[SourcedNumber]:
    """List the numbers of a document that come from a notebook, in order.

    Example:
        >>> list_numbers("It scores <!--01.accuracy:.2f-->0.93<!--/-->.")[0].key
        'accuracy'
    """
    return [
        SourcedNumber(match["notebook"], match["key"], (match["spec"] or "").lstrip(":"), match["shown"])
        for match in _NUMBER.finditer(text)
    ]


def fill_numbers(text: str, find_results: Callable[[str], Mapping[str, Any]]) -> str:
    """Write the recorded results into a document.

    Args:
        text: A Markdown document with numbers between comments.
        find_results: Gives the results of the notebook whose file name begins with its argument.

    Returns:
        The document with the present numbers; everything else stays as it is.

    Raises:
        ValueError: If a notebook did not record a key, or a format does not fit; names both.

    Example:
        >>> fill_numbers("It scores <!--01.accuracy:.2f-->?<!--/-->.", lambda notebook: {"accuracy": 0.925})
        'It scores <!--01.accuracy:.2f-->0.93<!--/-->.'
    """

    def fill(match: re.Match[str]) -> str:
        spec = match["spec"] or ""
        value = format_number(find_results(match["notebook"]), match["notebook"], match["key"], spec.lstrip(":"))
        return f"<!--{match['notebook']}.{match['key']}{spec}-->{value}<!--/-->"

    return _NUMBER.sub(fill, text)


def format_number(results: Mapping[str, Any], notebook: str, key: str, spec: str) -> str:
    """Format one recorded result.

    Percent are set with a space, and a negative number gets a real minus sign. The format `points` shows a difference
    of fractions in percentage points with one decimal.

    Args:
        results: What the notebook recorded.
        notebook: Its name, for the error.
        key: Which result.
        spec: Format of Python.

    Raises:
        ValueError: If there is no such result, or the format does not fit it.
    """
    if key not in results:
        known = ", ".join(name for name, value in results.items() if not isinstance(value, list))
        raise ValueError(f"Notebook {notebook} recorded no {key!r}; it recorded: {known}.")
    try:
        shown = f"{results[key] * 100:.1f}" if spec == "points" else format(results[key], spec)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Notebook {notebook}: {key} is {results[key]!r}, which format {spec!r} does not fit."
        ) from error
    if isinstance(results[key], str):
        return shown
    return re.sub(r"^-", "−", shown).replace("%", " %")


def list_unsourced_numbers(text: str, given: Mapping[str, str]) -> list[str]:
    """List the numbers of a document's prose that no notebook recorded.

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
