"""The simulated storage: what it reads, how long it makes a reader wait by its own clock, one request at a time."""

import threading

import pytest

from utils_cv.studies import storage
from utils_cv.studies.storage import SlowedReader, Storage, measure_read_rate


class Clock:
    """Time that only passes where somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):  # noqa: D102
        return self.now

    def sleep(self, seconds):  # noqa: D102
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(storage.time, "perf_counter", clock.perf_counter)
    monkeypatch.setattr(storage.time, "sleep", clock.sleep)
    return clock


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"x" * 1_000_000)
    return path


def test_a_read_takes_the_access_time_and_the_transfer(clock, path):
    reader = SlowedReader(Storage("slow", read_mb_per_s=10.0, access_ms=20.0))
    assert reader.read_bytes(path) == path.read_bytes()
    assert clock.now - 100.0 == pytest.approx(0.020 + 0.100)


def test_requests_are_served_one_after_the_other(path):
    reader = SlowedReader(Storage("slow", read_mb_per_s=1e6, access_ms=0.0))
    reader._free_at = waiting_until = 1e9  # busy for long: the next request must queue behind
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage.time, "sleep", lambda seconds: None)
        threads = [threading.Thread(target=reader.read_bytes, args=(path,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert reader._free_at - waiting_until == pytest.approx(3e-6, rel=0.2)


@pytest.mark.parametrize(("rate", "access_ms"), [(0, 1), (10, -1)], ids=["no rate", "negative access time"])
def test_impossible_storages_are_refused(rate, access_ms):
    with pytest.raises(ValueError, match="above 0"):
        SlowedReader(Storage("odd", rate, access_ms))


def test_read_rate_counts_bytes_and_files(path):
    rate = measure_read_rate([path, path])
    assert rate.n_files == 2 and rate.mb_per_s == pytest.approx(rate.files_per_s * 1.0)


def test_read_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no files"):
        measure_read_rate([])
