"""Rows as flat results: names, order, and no result lost."""

import pandas as pd
import pytest

from utils_cv.flat_results import flatten_rows, make_key


def test_names_come_from_the_rows():
    rows = pd.DataFrame({"megapixels": [0.2, 12.0], "way": ["decode in full", "decode in full"], "ratio": [1.0, 2.0]})
    flat = flatten_rows(rows, ["megapixels", "way"], {"": "ratio", "again": "ratio"})
    assert list(flat) == [
        "0_2_decode_in_full", "0_2_decode_in_full_again", "12_decode_in_full", "12_decode_in_full_again"
    ]  # fmt: skip
    assert flat["12_decode_in_full"] == 2.0


def test_equal_names_are_refused():
    with pytest.raises(ValueError, match="named 'a'"):
        flatten_rows(pd.DataFrame({"name": ["a", "A"], "value": [1, 2]}), ["name"], {"": "value"})


@pytest.mark.parametrize(
    ("words", "key"),
    [(("Rotate by 10°", "low"), "rotate_by_10_low"), (("a", ""), "a"), (("random - grouped",), "random_grouped")],
)
def test_keys_hold_letters_and_digits_only(words, key):
    assert make_key(*words) == key
