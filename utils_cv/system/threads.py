"""Work on many files at once, in order, with a progress bar and in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from .timing import Timer, format_duration

N_MANY, _N_TIMED = 2000, 32  # items from which on their time is estimated before; by so many of them
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    n_threads: int,
    n_ahead: int = 8,
    n_items: int | None = None,
    description: str = "",
    show_progress: bool = False,
) -> Generator[Result, None, None]:
    """Apply a function to every item in threads, and give the results in the order of the items.

    Unlike `ThreadPoolExecutor.map` it holds only a few results that nobody has taken yet, `n_ahead` per thread, and an
    interruption or exception drops the work that has not begun. A generator's caller gives the bar `n_items`.
    """
    from tqdm.auto import tqdm  # takes 0.03 s, which a single image does not need

    n_items = len(items) if n_items is None and isinstance(items, Sized) else n_items
    waiting: deque[Future[Result]] = deque()
    with (
        ThreadPoolExecutor(n_threads) as pool,
        tqdm(total=n_items, desc=description, leave=False, disable=not show_progress) as bar,
    ):
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= n_threads * n_ahead:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def map_in_shards(
    function: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    *,
    shard_size: int,
    n_done: int = 0,
    description: str = "",
    show_progress: bool = False,
) -> Iterator[Result]:
    """Apply a function to one part of the items after the other through joblib, and give the results in their order."""
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    shards = [items[first : first + shard_size] for first in range(0, len(items), shard_size)]
    results = Parallel(return_as="generator")(delayed(function)(shard) for shard in shards)
    bar: dict[str, Any] = {"initial": n_done, "total": n_done + len(items), "unit": "image"}
    with tqdm(**bar, desc=description, disable=not show_progress) as shown:
        for shard, result in zip(shards, results, strict=True):
            yield result
            shown.update(len(shard))


def announce(what: str, items: Sequence[Item], work: Callable[[Sequence[Item]], object], needs: str) -> None:
    """Say in one line, before long work on many items, how long it takes, by the time of a few, and what it needs."""
    from tqdm.auto import tqdm

    sample = items[:: max(1, len(items) // _N_TIMED)]
    with Timer() as timer:
        work(sample)
    seconds = timer.seconds * len(items) / len(sample)
    home = os.path.expanduser("~") + os.sep  # noqa: PTH111 - never an error
    tqdm.write(f"{what}: about {format_duration(seconds)} here, {needs}".replace(f" {home}", f" ~{os.sep}"))
