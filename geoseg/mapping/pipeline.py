"""Work that overlaps in time, in bounded memory and always in the same order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END: Any = object()


def usable_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items; while one is used, the next is made in a thread of its own, and no more than that."""
    with ThreadPoolExecutor(1, "geoseg-ahead") as thread:
        try:
            coming = thread.submit(next, items, _END)
            while (item := coming.result()) is not _END:
                coming = thread.submit(next, items, _END)
                yield item
                del item
        finally:
            if isinstance(items, Generator):
                thread.submit(items.close).result()  # in its own thread, where it entered what it now leaves


def one_behind(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """`function` of every item, in order; it works in a thread of its own while the next item is made."""
    with ThreadPoolExecutor(1, "geoseg-behind") as thread:
        before: Future[Result] | None = None
        for item in items:
            if before is not None:
                yield before.result()
            before = thread.submit(function, item)
            del item
        if before is not None:
            yield before.result()


def in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, most: int
) -> Generator[tuple[Item, Result], None, None]:
    """Every item with `function` of it, in the order of the items, whichever is ready first; at most `most` are under way."""
    under_way: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            under_way.append((item, pool.submit(function, item)))
            if len(under_way) >= most:
                done, result = under_way.popleft()
                yield done, result.result()
                del done, result
            del item
        while under_way:
            done, result = under_way.popleft()
            yield done, result.result()
    finally:
        for _, left in under_way:
            left.cancel()
