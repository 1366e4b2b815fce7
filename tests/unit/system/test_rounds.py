"""Rounds: who is called when, and ratios taken within a round."""

import pandas as pd
import pytest

from utils_cv.system.timing import measure_rounds, summarize_rounds


def test_functions_are_called_in_turn_after_one_round_that_does_not_count():
    calls = []
    rounds = measure_rounds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, n_rounds=3)
    assert calls == ["a", "b"] * 4
    assert len(rounds) == 6 and rounds["round"].tolist() == [0, 0, 1, 1, 2, 2]


def test_times_are_per_image():
    ms = iter([8.0])

    class Clock:
        name = pd.Series(["x"])

    with pytest.MonkeyPatch.context() as patch:
        fake = lambda *_, **__: pd.DataFrame({"name": Clock.name, "median_ms": [next(ms)]})  # noqa: E731
        patch.setattr("utils_cv.system.timing.measure_in_turn", fake)
        assert measure_rounds({"x": print}, n_rounds=1, n_images=4)["ms"].item() == 2.0


def test_the_ratio_is_the_median_of_the_ratios_in_each_round():
    rounds = pd.DataFrame({"round": [0, 1, 2] * 2, "name": ["slow"] * 3 + ["fast"] * 3, "ms": [10, 20, 90, 5, 5, 30]})
    fast = summarize_rounds(rounds, baseline="slow").set_index("name").loc["fast"]
    assert (fast["ratio"], fast["ratio_low"], fast["ratio_high"], fast["n_rounds"]) == (3.0, 2.0, 4.0, 3)
    assert fast["median_ms"] == 5.0 and fast["images_per_second"] == 200.0


def test_rows_keep_their_order():
    rounds = pd.DataFrame({"round": [0, 0, 0], "name": ["z", "a", "m"], "ms": [1.0, 1.0, 1.0]})
    assert summarize_rounds(rounds, baseline="a")["name"].tolist() == ["z", "a", "m"]


def test_an_unknown_baseline_and_no_rounds_are_refused():
    with pytest.raises(ValueError, match="No setting 'c'"):
        summarize_rounds(pd.DataFrame({"round": [0], "name": ["a"], "ms": [1.0]}), baseline="c")
    with pytest.raises(ValueError, match="n_rounds"):
        measure_rounds({"a": print}, n_rounds=0)
