"""Tests of utils_cv.system.threads."""

import re
import threading
import time

import pytest

from utils_cv.system.threads import announce, map_in_threads


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


@pytest.mark.parametrize(
    ("home", "shown"),
    [
        pytest.param("/home/ann", "~/pixels, /tmp/home/ann/pixels", id="a home folder"),
        pytest.param("/", "/home/ann/pixels, /tmp/home/ann/pixels", id="no home folder of one's own"),
    ],
)
def test_long_work_is_announced_without_the_place_of_the_home_folder(home, shown, capsys, monkeypatch):
    monkeypatch.setattr("utils_cv.system.threads.os.path.expanduser", lambda path: home)
    monkeypatch.setattr("utils_cv.system.threads.os.sep", "/")
    announce("Work", range(100), list, "in /home/ann/pixels, /tmp/home/ann/pixels")
    assert re.fullmatch(f"Work: about 0 s here, in {shown}\n", capsys.readouterr().out)
