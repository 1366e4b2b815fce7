"""Tests of utils_cv.system.threads."""

import threading
import time

import pytest

from utils_cv.system.threads import map_in_threads


def test_results_keep_the_order_of_the_items():
    def wait_longer_for_small(number):
        time.sleep(0.002 * (10 - number))
        return number * number

    assert list(map_in_threads(wait_longer_for_small, range(10), n_threads=4)) == [n * n for n in range(10)]


def test_no_items_give_no_results():
    assert list(map_in_threads(abs, [], n_threads=2, show_progress=True)) == []


def test_the_first_exception_stops_the_work():
    done = []

    def fail_at_three(number):
        if number == 3:
            raise OSError("disk full")
        done.append(number)

    with pytest.raises(OSError, match="disk full"):
        list(map_in_threads(fail_at_three, range(10_000), n_threads=2))
    assert len(done) < 100


def test_results_that_nobody_takes_do_not_pile_up():
    started = []
    results = map_in_threads(started.append, range(10_000), n_threads=2)
    next(results)
    assert len(started) <= 2 * 8 + 2
    results.close()


def test_every_thread_works_at_the_same_time():
    meeting = threading.Barrier(3, timeout=10)
    assert len(list(map_in_threads(lambda item: meeting.wait(), range(3), n_threads=3))) == 3
