"""Work of threads that runs a bounded way ahead of what is asked for."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(
    make: Callable[[Item], Made], items: Iterable[Item], workers: int, most: int
) -> Generator[Made, None, None]:
    """Yield `make(item)` of each item in order, made by threads while the caller does something else.

    An error of `make` is raised where its item would have been yielded. Closing the iterator waits for what is being made.

    Args:
        make: called in several threads at once.
        items: read as they are needed.
        workers: threads; with 0 everything is made when it is asked for.
        most: items that are made or being made before they are asked for, which bounds the memory.
    """
    if not workers:
        yield from map(make, items)
        return
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
