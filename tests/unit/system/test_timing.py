"""Times: what is called, how often and in which order; never how long it took."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils_cv.system import timing
from utils_cv.system.timing import Timer, format_duration, measure_fresh_process, measure_in_turn


@pytest.fixture
def make_work(monkeypatch):
    """Makes a function each call of which takes its own time, in milliseconds, by the clock."""

    def make(*milliseconds):
        ticks, steps = [0], iter(milliseconds)

        def work():
            ticks[0] += next(steps) * 1_000_000

        monkeypatch.setattr(time, "perf_counter_ns", lambda: ticks[0])
        return work

    return make


def test_timer_runs_on_within_its_block_and_stops_when_it_is_left(monkeypatch):
    clock = iter([10.0, 11.0, 13.0, 20.0, 99.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    with Timer() as timer:
        assert (timer.seconds, timer.seconds) == (1.0, 3.0)
    assert timer.seconds == timer.seconds == 10.0


def test_timer_keeps_the_time_of_a_block_that_failed():
    with pytest.raises(RuntimeError), Timer() as timer:
        raise RuntimeError
    assert timer.seconds == timer.seconds >= 0


@pytest.mark.parametrize(
    ("names", "settle_ms", "expected"),
    [
        pytest.param("ab", 10, "ab" + "aabb" * 2, id="each after a call of its own"),
        pytest.param("ab", 25, "ab" + "aaaabbbb" * 2, id="each after as many as take so long"),
        pytest.param("ab", 0, "ab" + "ab" * 2, id="unsettled"),
        pytest.param("a", 10, "a" + "a" * 2, id="one function alone"),
    ],
)
def test_functions_are_called_in_turn_after_a_warm_up_in_turn(monkeypatch, names, settle_ms, expected):
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in names}
    monkeypatch.setattr(time, "perf_counter_ns", lambda: len(calls) * 10_000_000)  # each call takes 10 ms
    table = measure_in_turn(functions, n_warmup=1, n_repeats=2, settle_ms=settle_ms, warn=False)
    assert "".join(calls) == expected
    assert table["name"].tolist() == list(names) and set(table["n_repeats"]) == {2}


def test_the_call_that_settles_is_not_timed(make_work):
    work = make_work(90, 10, 90, 20)  # what the threads of the other function leave behind, and its own time
    table = measure_in_turn({"a": work, "b": lambda: None}, n_warmup=0, n_repeats=2, warn=False)
    assert (table["min_ms"][0], table["median_ms"][0]) == (10, 15)


def test_times_are_minimum_median_and_95th_percentile(make_work):
    functions = {"a": make_work(0, 10, 20, 30, 40)}  # the first is the warm-up
    row = measure_in_turn(functions, n_warmup=1, n_repeats=4, warn=False).iloc[0]
    assert (row["min_ms"], row["median_ms"]) == (10, 25) and row["p95_ms"] == pytest.approx(38.5)


@pytest.mark.parametrize(
    ("milliseconds", "is_busy"),
    [([10] * 20, False), ([10, *[14] * 19], True), ([*[10] * 17, 30, 30, 30], True), ([*[10] * 19, 11], False)],
    ids=["steady", "most calls slow", "some calls very slow", "one a little slow"],
)
def test_wide_spread_warns_once_where_wanted_and_names_the_function(make_work, recwarn, milliseconds, is_busy):
    for warn in (True, False):
        table = measure_in_turn({"lite0": make_work(*milliseconds)}, n_warmup=0, n_repeats=20, warn=warn)
        assert table["busy"].tolist() == [is_busy]
    assert [("lite0" in str(warning.message)) for warning in recwarn] == [True] * is_busy


def test_threads_are_stated_as_torch_has_them():
    import torch

    assert measure_in_turn({"a": int}, n_repeats=1, warn=False)["n_threads"].item() == torch.get_num_threads()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(lambda: measure_in_turn({}), ValueError, "nothing to time", id="no function"),
        pytest.param(lambda: measure_in_turn({"a": int}, n_repeats=0), ValueError, "nothing to time", id="no repeat"),
        pytest.param(lambda: measure_in_turn({"a": lambda: 1 / 0}), ZeroDivisionError, "zero", id="error inside"),
        pytest.param(
            lambda: measure_fresh_process("raise ValueError('too hot')"),
            RuntimeError, r"status 1:[\s\S]*ValueError: too hot", id="a script that fails",
        ),
    ],
)  # fmt: skip
def test_errors_say_why(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_fresh_process_gives_output_and_memory_of_its_own():
    small = measure_fresh_process("print('done')")
    large = measure_fresh_process("held = bytearray(200_000_000)\nprint(len(held))")
    assert small.output == "done\n" and large.output == "200000000\n"
    assert small.seconds > 0 and large.peak_memory_mb - small.peak_memory_mb > 150


def test_fresh_process_knows_nothing_of_this_one():
    assert measure_fresh_process("import sys; print('pytest' in sys.modules)").output == "False\n"


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (600, "10 minutes"), (36_000, "10.0 hours")], ids=str)
def test_a_duration_is_said_in_the_unit_that_suits_it(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("platform", "n_bytes"), [("win32", 77), ("darwin", 88)])
def test_peak_memory_is_read_where_windows_and_macos_keep_it(platform, n_bytes, monkeypatch, capsys):
    info, usage = SimpleNamespace(peak_wset=77), SimpleNamespace(ru_maxrss=88)
    process = SimpleNamespace(memory_info=lambda: info)
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=lambda: process))
    monkeypatch.setitem(sys.modules, "resource", SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: usage))
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(sys, "platform", platform)
    exec(timing._REPORT_PEAK_MEMORY, {})
    assert capsys.readouterr().err == f"\npeak memory: {n_bytes}"
