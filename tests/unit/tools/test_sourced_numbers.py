"""Numbers in documents: filled in from results, and none without a source."""

import pytest

from tools.sourced_numbers import fill_numbers, list_numbers, list_unsourced_numbers

CURVE = [
    {"n": 5, "name": "probe", "accuracy": 0.7},
    {"n": 80.0, "name": "probe", "accuracy": 0.9049, "accuracy_low": 0.85, "accuracy_high": 0.95},
    {"n": 160, "name": "gain", "value": -0.02, "low": -0.05, "high": 0.011},
]
RESULTS = {"01": {"accuracy": 0.9251, "n_test": 160, "difference": -0.0312, "best": "lite0", "curve": CURVE}}
RESULTS["benchmarks/peers"] = {
    "machine": "AMD EPYC",
    "table": [{"n": "all", "seconds": 3.5}, {"n": 10, "seconds": 1.5}],
}


@pytest.mark.parametrize(
    ("marker", "shown"),
    [
        pytest.param("01.accuracy:.2f", "0.93", id="decimal places"),
        pytest.param("01.accuracy:.0%", "93 %", id="percent with a space"),
        pytest.param("01.difference:+.1%", "−3.1 %", id="real minus sign"),
        pytest.param("01.difference:points", "−3.1", id="percentage points"),
        pytest.param("01.n_test", "160", id="no format"),
        pytest.param("01.best", "lite0", id="word"),
        pytest.param("01.curve[n=80].accuracy:.2f", "0.90", id="row of a table"),
        pytest.param("01.curve[name=probe,n=5].accuracy", "0.7", id="row by two columns"),
        pytest.param("01.curve[-1].n:.0f", "160", id="last row"),
        pytest.param("01.curve[n=80].accuracy:score", "0.90 (0.85 to 0.95)", id="score"),
        pytest.param("01.curve[n=80].accuracy:score %", "90 % (85 to 95)", id="score in percent"),
        pytest.param("01.curve[name=gain].value:score points", "−2.0 (−5.0 to +1.1)", id="score in points"),
        pytest.param("benchmarks/peers.machine", "AMD EPYC", id="benchmark"),
        pytest.param("benchmarks/peers.table[n=all].seconds", "3.5", id="row of a benchmark"),
    ],
)
def test_numbers_are_filled_in_and_nothing_else_changes(marker, shown):
    text = f"Before 0.5 <!--{marker}-->?<!--/--> after.\n"
    filled = fill_numbers(text, RESULTS.__getitem__)
    assert filled == f"Before 0.5 <!--{marker}-->{shown}<!--/--> after.\n"
    assert fill_numbers(filled, RESULTS.__getitem__) == filled
    assert list_numbers(filled)[0].shown == shown


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        pytest.param("01.acuracy", "no 'acuracy'; it recorded: accuracy, n_test", id="unknown key"),
        pytest.param("01.curve[name=probe].accuracy", "fits 2 of 3 rows", id="two rows"),
        pytest.param("01.curve[n=7].accuracy", "fits 0 of 3 rows", id="no row"),
        pytest.param("01.curve[n=5].speed", "one with that column", id="no such column"),
        pytest.param("01.curve[n=5].accuracy:score", "one with that column", id="no interval"),
        pytest.param("01.best:.2f", "best is 'lite0'", id="format does not fit"),
    ],
)
def test_a_number_without_a_source_is_an_error(marker, message):
    with pytest.raises(ValueError, match=message):
        fill_numbers(f"<!--{marker}-->?<!--/-->", RESULTS.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("It scores 0.93.", ["It scores 0.93."], id="typed by hand"),
        pytest.param("It scores <!--01.accuracy:.2f-->0.93<!--/-->.", [], id="from a notebook"),
        pytest.param("Run `make test PYTHON=python3.11`.\n\n```\nsleep 5\n```\n", [], id="code"),
        pytest.param("See [the card](data/v2.md) and ![12 cans](a1.png).", [], id="links"),
        pytest.param("## 3. Three\n\n1. first\n2. second\n", [], id="headings and lists"),
        pytest.param("On 2 cores, with Python 3.11.", [], id="given"),
        pytest.param("On 2 cores it takes 7 s.", ["On cores it takes 7 s."], id="given beside typed"),
        pytest.param("The lite0 network and ResNet-18.", [], id="names"),
    ],
)
def test_numbers_typed_by_hand_are_found(text, expected):
    assert list_unsourced_numbers(text, {"2 cores": "the machine", "Python 3.11": "oldest supported"}) == expected
