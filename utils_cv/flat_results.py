"""Rows of a study as flat results, so that documents can quote each number by a name of its own."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def flatten_rows(rows: pd.DataFrame, by: Sequence[str], columns: Mapping[str, str]) -> dict[str, Any]:
    """Turn rows into single results, named by what tells the rows apart.

    Args:
        rows: A table of a study.
        by: Columns whose values, joined, name the results; anything but letters and digits becomes "_".
        columns: Ending of the name to the column of the value; "" adds no ending.

    Returns:
        Name to value, in the order of the rows.

    Raises:
        ValueError: If two results would have the same name.

    Example:
        >>> rows = pd.DataFrame({"way": ["in full", "reduced"], "ratio": [1.0, 4.0]})
        >>> flatten_rows(rows, ["way"], {"ratio": "ratio"})
        {'in_full_ratio': 1.0, 'reduced_ratio': 4.0}
    """
    results: dict[str, Any] = {}
    for row in rows.to_dict("records"):
        for ending, column in columns.items():
            name = make_key(*(f"{row[part]:g}" if isinstance(row[part], float) else row[part] for part in by), ending)
            if name in results:
                raise ValueError(f"Two results are named {name!r}; name more columns than {list(by)}.")
            results[name] = row[column]
    return results


def make_key(*words: Any) -> str:
    """Join words into a name of small letters, digits and underscores.

    Example:
        >>> make_key("rotate up to 10°", "low")
        'rotate_up_to_10_low'
    """
    return "_".join(filter(None, (re.sub(r"[^a-z0-9]+", "_", str(word).lower()).strip("_") for word in words)))
