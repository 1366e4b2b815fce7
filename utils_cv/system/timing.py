"""Times that can be trusted: warm-up, synchronisation, repeats, settings in turn, and fresh processes."""

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .machine import count_cpus

if TYPE_CHECKING:
    import pandas as pd

# On an idle machine the median of a network's time lies within a fifth of its minimum, and one run in twenty
# takes up to 1.6 times as long. Wider spreads mean that something else was running.
_BUSY_MEDIAN_RATIO = 1.3
_BUSY_P95_RATIO = 2.0
# PyTorch's OpenMP threads look for work for some milliseconds after a call before they sleep; 5 were not always enough.
_SETTLE_MS = 10.0
_MAX_SETTLING_CALLS = 100
# VmHWM starts at zero for a new program; ru_maxrss, the portable figure, starts at the size of the parent on Linux.
_REPORT_PEAK_MEMORY = """
def _report_peak_memory():
    import pathlib, sys
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        n_bytes = int(line.split()[1]) * 1024
    elif sys.platform == "win32":
        import psutil
        n_bytes = psutil.Process().memory_info().peak_wset
    else:
        import resource
        n_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stderr.write(f"\\npeak memory: {n_bytes}")
_report_peak_memory()
"""


class Timer:
    """Context manager that measures wall time.

    Attributes:
        seconds: Time since the block was entered; fixed once it has been left.

    Example:
        >>> with Timer() as timer:
        ...     total = sum(range(1000))
        >>> timer.seconds < 1
        True
    """

    def __enter__(self) -> "Timer":
        self._start = time.perf_counter()
        self._end: float | None = None
        return self

    def __exit__(self, *exception: object) -> None:
        self._end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time in seconds."""
        return (time.perf_counter() if self._end is None else self._end) - self._start


def measure_in_turn(
    functions: Mapping[str, Callable[[], object]],
    *,
    n_warmup: int = 5,
    n_repeats: int = 30,
    settle_ms: float = _SETTLE_MS,
    warn: bool = True,
) -> "pd.DataFrame":
    """Time several functions in turn: a, b, c, a, b, c, ...

    A machine whose speed drifts (heat, other users) then disturbs all of them alike, and their ratios hold.

    Taking turns has a price that `settle_ms` pays: the threads of PyTorch keep a processor busy for some milliseconds
    after a call. On 2 cores a network in ONNX Runtime took 13.7 instead of 7.9 ms when its turn came right after.

    Args:
        functions: Each called without arguments; the keys name the rows. A GPU works on after a call has returned: end
            such a function with `torch.cuda.synchronize()`.
        n_warmup: Calls of each before the timed ones.
        n_repeats: Timed calls of each.
        settle_ms: Each timed call comes right after untimed calls of the same function that take at least this long
            together, so that neither the threads nor the caches of the function before are in its time. 0 makes none,
            and neither does one function alone.
        warn: Whether to warn, once, when the spread says that the machine was busy.

    Returns:
        One row per function, in the given order: `name`, `min_ms`, `median_ms`, `p95_ms`, `n_repeats`, `busy` (True
        when the spread says that something else was running), `n_threads` (of torch if it is loaded, otherwise the
        processors of this process).

    Raises:
        ValueError: There is nothing to time.

    Example:
        >>> table = measure_in_turn({"list": lambda: list(range(9)), "tuple": lambda: tuple(range(9))})
        >>> table["name"].tolist()
        ['list', 'tuple']
    """
    if not functions or n_repeats < 1:
        raise ValueError(f"nothing to time: {len(functions)} functions, {n_repeats} repeats; expected 1 or more")
    for _ in range(n_warmup):
        for function in functions.values():
            function()
    times_ms: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(n_repeats):
        for name, function in functions.items():
            if len(functions) > 1:
                _settle(function, settle_ms)
            start = time.perf_counter_ns()
            function()
            times_ms[name].append((time.perf_counter_ns() - start) / 1e6)
    import pandas as pd

    table = pd.DataFrame([_summarize(name, times) for name, times in times_ms.items()])
    busy = table.loc[table["busy"], "name"].tolist()
    if busy and warn:
        warnings.warn(
            f"the machine seems to have been busy: times of {', '.join(busy)} scatter widely. "
            "Close other programs and measure again, or compare the `min_ms` column only.",
            stacklevel=2,
        )
    torch = sys.modules.get("torch")
    return table.assign(n_threads=torch.get_num_threads() if torch else count_cpus())


def _settle(function: Callable[[], object], settle_ms: float) -> None:
    start = time.perf_counter_ns()
    for _ in range(_MAX_SETTLING_CALLS):
        if time.perf_counter_ns() - start >= settle_ms * 1e6:
            break
        function()


def _summarize(name: str, times_ms: list[float]) -> dict[str, Any]:
    low, middle, high = np.percentile(times_ms, [0, 50, 95]).tolist()
    busy = middle > _BUSY_MEDIAN_RATIO * low or high > _BUSY_P95_RATIO * low
    return {"name": name, "min_ms": low, "median_ms": middle, "p95_ms": high, "n_repeats": len(times_ms), "busy": busy}


class FreshProcess(NamedTuple):
    """What a script took in a process of its own."""

    seconds: float  # wall time from the start of the interpreter to its end, imports included
    peak_memory_mb: float  # largest memory held at any time, in units of 10**6 bytes
    output: str  # what the script printed


def measure_fresh_process(script: str) -> FreshProcess:
    """Run Python code in a fresh interpreter: its time and peak memory; code that fails is a RuntimeError."""
    with Timer() as timer:
        result = subprocess.run(
            [sys.executable, "-c", script + _REPORT_PEAK_MEMORY],
            capture_output=True, text=True, encoding="utf-8", timeout=600, check=False,
        )  # fmt: skip
    if result.returncode:
        last_lines = "\n".join(result.stderr.strip().splitlines()[-8:])
        raise RuntimeError(f"the script ended with status {result.returncode}:\n{last_lines}")
    n_bytes = int(result.stderr.rpartition("peak memory: ")[2])
    return FreshProcess(timer.seconds, n_bytes / 1e6, result.stdout)


def format_duration(seconds: float) -> str:
    """Say a time in the unit that suits it: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
