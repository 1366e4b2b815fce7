"""The machine: devices that are there, processors that may be used, seeds that repeat, and one line that names it."""

import os
import platform
import random
import sys

import numpy as np
import pytest
import torch

from utils_cv.system import machine
from utils_cv.system.machine import (
    choose_device,
    count_cpus,
    describe_machine,
    measure_free_memory_mb,
    set_seed,
    tune_allocator,
)


@pytest.fixture(autouse=True)
def without_variable(monkeypatch):
    monkeypatch.delenv(machine.DEVICE_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("devices", "variable", "chosen"),
    [
        pytest.param(["mps", "cpu"], None, "mps", id="the fastest kind"),
        pytest.param(["cuda", "cpu"], "cpu", "cpu", id="the variable decides"),
        pytest.param(["cuda", "cpu"], "", "cuda", id="an empty variable"),
        pytest.param(["cuda", "cpu"], "cuda:1", "cuda:1", id="a numbered device"),
    ],
)
def test_a_device_is_chosen(monkeypatch, devices, variable, chosen):
    monkeypatch.setattr(machine, "_list_devices", lambda: devices)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if variable is not None:
        monkeypatch.setenv(machine.DEVICE_VARIABLE, variable)
    assert choose_device() == chosen


@pytest.mark.parametrize(
    ("devices", "name"),
    [*[("cpu", name) for name in ("cuda", "cuda:0", "mps", "tpu")], ("cuda, cpu", "cuda:2"), ("cuda, cpu", "cuda:x")],
    ids=str,
)
def test_a_device_that_is_not_there_is_named_with_those_that_are_and_with_the_variable(monkeypatch, devices, name):
    monkeypatch.setattr(machine, "_list_devices", lambda: devices.split(", "))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv(machine.DEVICE_VARIABLE, name)
    with pytest.raises(ValueError, match=rf"'{name}' \(from {machine.DEVICE_VARIABLE}\) is not.*: {devices}\."):
        choose_device()


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param({"cpu.max": "150000 100000"}, 1.5, id="version 2"),
        pytest.param({"cpu.max": "max 100000"}, None, id="version 2, no limit"),
        pytest.param({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5, id="version 1"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, id="version 1, no limit"),
        pytest.param({}, None, id="no control group"),
    ],
)
def test_the_quota_of_a_container_is_read(tmp_path, files, quota):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert machine._read_cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "n_cpus"), [(0.5, 1), (1.5, 2), (64.0, 3), (None, 3)])
def test_a_quota_limits_the_processors_but_never_below_one(monkeypatch, quota, n_cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(machine, "_read_cpu_quota", lambda _: quota)
    assert count_cpus() == n_cpus


def test_without_linux_the_machine_is_counted_and_named_all_the_same(monkeypatch):
    for name in ("sched_getaffinity", "sysconf"):  # macOS has no such affinity, Windows neither
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(machine, "_read_cpu_quota", lambda _: None)
    monkeypatch.setattr(machine, "_read_cgroup_memory", lambda _: None)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(machine.Path, "exists", lambda _: False)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert count_cpus() == 6 and measure_free_memory_mb() == 2000
    line = describe_machine()
    assert line.startswith("arm, 6 cores, ") and "GB memory" not in line and "Windows, Python" in line


def draw():
    return random.random(), np.random.random(), torch.rand(1).item()


def test_a_seed_in_range_repeats_every_generator():
    set_seed(3)
    first = draw()
    set_seed(3)
    assert draw() == first
    set_seed(4)
    assert all(one != other for one, other in zip(draw(), first, strict=True))
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match="from 0 to"):
            set_seed(seed)


def test_keeping_memory_is_harmless_twice_and_says_where_it_does_nothing(monkeypatch):
    assert tune_allocator() == tune_allocator()
    monkeypatch.setattr("sys.platform", "darwin")
    assert tune_allocator() is False


def test_the_machine_is_named_in_one_line():
    line = describe_machine()
    assert "\n" not in line and f"{count_cpus()} cores" in line
    assert f"Python {platform.python_version()}" in line and "torch " in line


CGROUPS = {
    "version 2": {"memory.max": "5000000", "memory.current": "4500000", "memory.stat": "inactive_file 200000\n"},
    "version 1": {
        "memory/memory.limit_in_bytes": "5000000",
        "memory/memory.usage_in_bytes": "4500000",
        "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 200000",
    },
    "no limit": {"memory.max": "max", "memory.current": "4500000", "memory.stat": ""},
    "no group": {},
}


@pytest.mark.parametrize("kind", CGROUPS)
def test_free_memory_is_what_a_container_leaves(tmp_path, kind):
    for name, content in CGROUPS[kind].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert machine._read_cgroup_memory(tmp_path) == (None if kind.startswith("no") else 700_000)


@pytest.mark.linux
def test_free_memory_is_the_smallest_of_its_limits(monkeypatch):
    import resource

    free_mb = measure_free_memory_mb()
    assert 0 < free_mb <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    used_mb = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() / 1e6  # noqa: SIM115, PTH123
    limit = int((used_mb + 50) * 1e6), resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit)
    assert measure_free_memory_mb() == pytest.approx(min(50, free_mb), abs=10)
