"""Work on many files at once, in order, with a progress bar and in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD_PER_THREAD = 8


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    n_threads: int,
    n_items: int | None = None,
    description: str = "",
    show_progress: bool = False,
) -> Iterator[Result]:
    """Apply a function to every item in threads, and give the results in the order of the items.

    Threads help where the function mostly waits or works in C without Python's lock, as decoding an image does. Unlike
    `ThreadPoolExecutor.map` it holds only a few results that nobody has taken yet, and an interruption (or the first
    exception, which is raised here) drops the work that has not begun. The bar asks a generator's caller for `n_items`.

    Example:
        >>> list(map_in_threads(abs, [-1, 2, -3], n_threads=2))
        [1, 2, 3]
    """
    n_items = len(items) if n_items is None and isinstance(items, Sized) else n_items
    waiting: deque[Future[Result]] = deque()
    with (
        ThreadPoolExecutor(n_threads) as pool,
        tqdm(total=n_items, desc=description, leave=False, disable=not show_progress) as bar,
    ):
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= n_threads * _AHEAD_PER_THREAD:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
