"""The machine a program runs on: device, processors, seeds, memory allocator, and one line that names it."""

import ctypes
import logging
import math
import os
import platform
import random
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

DEVICE_VARIABLE = "UTILS_CV_DEVICE"

_logger = logging.getLogger(__name__)

# glibc's names for the parameters of mallopt, from its malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LARGEST_INT = 2**31 - 1


def choose_device() -> str:
    """Choose a device: that of the environment variable `UTILS_CV_DEVICE`, else `cuda`, `mps` or `cpu`."""
    wanted = os.environ.get(DEVICE_VARIABLE)
    if wanted == "cpu":
        return wanted
    available = _list_devices()
    if not wanted:
        return available[0]
    kind, _, index = wanted.partition(":")
    is_there = kind in available
    if is_there and index:
        import torch

        is_there = index.isdigit() and int(index) < (torch.cuda.device_count() if kind == "cuda" else 1)
    if not is_there:
        raise ValueError(
            f"device {wanted!r} (from {DEVICE_VARIABLE}) is not available; this machine and its torch have: "
            f"{', '.join(available)}. Choose one of these, or leave the choice open."
        )
    return wanted


def _list_devices() -> list[str]:
    """Return the kinds of device that torch can use here, fastest first."""
    import torch

    has_mps = hasattr(torch.backends, "mps") and torch.backends.mps.is_available()
    return ["cuda"] * torch.cuda.is_available() + ["mps"] * has_mps + ["cpu"]


def count_cpus() -> int:
    """Return how many processors this process may use: at least 1.

    The processor affinity and the quota of a container both count; `os.cpu_count()` knows neither, so
    that a container limited to 2 of 64 processors would start 64 threads which then wait for each other.
    """
    try:
        n_cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity call
        n_cpus = os.cpu_count() or 1
    quota = _read_cpu_quota(Path("/sys/fs/cgroup"))
    return max(1, n_cpus if quota is None else min(n_cpus, math.ceil(quota)))


def _read_cpu_quota(cgroup_dir: Path) -> float | None:
    """Return the processors a Linux control group (version 1 or 2) grants, None when there is no limit."""
    try:
        version_2 = cgroup_dir / "cpu.max"
        if version_2.exists():
            quota, period = version_2.read_text().split()
        else:
            quota = (cgroup_dir / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroup_dir / "cpu/cpu.cfs_period_us").read_text()
        processors = float(quota) / float(period)
    except (OSError, ValueError):  # no control group, or the word "max"
        return None
    return processors if processors > 0 else None  # version 1 writes -1 for "no limit"


def measure_free_memory_mb() -> float:
    """Measure how much more memory this process may take, without swap, in units of 10**6 bytes."""
    limits = [_read_available_memory(), _read_cgroup_memory(Path("/sys/fs/cgroup")), _read_address_space()]
    return min(limit for limit in limits if limit is not None) / 1e6


def _read_available_memory() -> float:
    if kilobytes := _find_in("/proc/meminfo", r"^MemAvailable:\s*(\d+)"):
        return int(kilobytes) * 1024
    return (_read_memory_gb() or 4.0) * 1e9 / 2  # the system does not say: half of all memory


def _find_in(name: str, pattern: str) -> str:
    """The first group of a pattern in a file of the system, "" where it is not there."""
    path = Path(name)
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return next(re.finditer(pattern, text, re.MULTILINE), [""] * 2)[1]


def _read_cgroup_memory(cgroup_dir: Path) -> float | None:
    """Bytes left below the limit of a Linux control group (version 1 or 2); cached files would be given back."""
    for limit, used in [
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ]:
        try:
            left = int((cgroup_dir / limit).read_text()) - int((cgroup_dir / used).read_text())
            details = (cgroup_dir / used).with_name("memory.stat").read_text()
        except (OSError, ValueError):  # no such group, or the word "max"
            continue
        inactive = re.findall(r"^(?:total_)?inactive_file (\d+)$", details, re.MULTILINE)
        return float(max(0, left + max(map(int, inactive), default=0)))
    return None


def _read_address_space() -> float | None:
    """Bytes left below the limit of this process's address space (`ulimit -v`), where there is one."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        n_pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):  # Windows has no limits, macOS no such file
        return None
    return None if limit == resource.RLIM_INFINITY else float(max(0, limit - n_pages * resource.getpagesize()))


def set_seed(seed: int) -> None:
    """Seed the generators of Python, NumPy and, where it is installed, PyTorch."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; expected a whole number from 0 to 2**32 - 1")
    random.seed(seed)
    np.random.seed(seed)
    if find_spec("torch"):
        import torch

        torch.manual_seed(seed)  # seeds every GPU as well


def tune_allocator() -> bool:
    """Tell glibc's allocator to keep freed memory for the next large tensor; False where there is no glibc.

    Else it faults large blocks in again at every step of a network: large batches train two to three times faster on a
    CPU so, for 10 to 25 percent more peak memory. Call it before the first large tensor. Source: mallopt(3); blocks
    above 32 MB ignore M_MMAP_THRESHOLD, hence M_MMAP_MAX = 0.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        _logger.debug("glibc without mallopt: the allocator stays as it is")
        return False
    return all(
        mallopt(parameter, value) == 1
        for parameter, value in [
            (_M_MMAP_MAX, 0),  # large blocks come from the heap, which is not unmapped when they are freed
            (_M_TRIM_THRESHOLD, _LARGEST_INT),  # the heap's free end is given back only above 2 GB
            (_M_TOP_PAD, 64 * 2**20),  # the heap grows in steps of 64 MB
        ]
    )


def describe_machine() -> str:
    """Return one line on the machine: processor, cores, memory, GPU, and the versions that decide results.

    The GPU is named only when torch has been imported before, since importing it takes seconds.
    """
    from importlib import metadata  # takes 0.02 s, a twentieth of the time to a first prediction

    processor = _find_in("/proc/cpuinfo", r"^model name\s*: *(.*\S)") or platform.processor() or platform.machine()
    parts = [processor, f"{count_cpus()} cores"]
    memory_gb = _read_memory_gb()
    if memory_gb:
        parts.append(f"{memory_gb:.0f} GB memory")
    torch = sys.modules.get("torch")
    if torch is not None:
        parts.append(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA GPU")
    parts.append(f"{platform.system()}, Python {platform.python_version()}")
    parts += [f"{name} {metadata.version(name)}" for name in ("torch", "timm", "fastai") if find_spec(name)]
    return ", ".join(parts)


def _read_memory_gb() -> float | None:
    """Return the machine's memory in units of 10**9 bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
