"""The same map over items for every stage: results arrive as they finish and are saved by the caller at once."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeGuard, TypeVar

from synthkit.core.errors import BudgetError, EndpointError, RecordError, SandboxError
from synthkit.core.records import explain_full_disk, is_disk_full

Item = TypeVar("Item")
Result = TypeVar("Result")
STOPS = (BudgetError, EndpointError, SandboxError, RecordError, CancelledError)


def map_items(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield (item, result) as they finish, from `workers` threads; an item's own failure is yielded as data.

    What a person has to act on (budget, endpoint, sandbox, disk) stops the map: items that have not begun
    are dropped, those under way end and are still yielded, then the error is raised. An interrupt drops
    what has not begun and is raised once those under way have ended.
    """
    stopped = threading.Event()

    def attempt(item: Item) -> Result:
        if stopped.is_set():
            raise CancelledError
        try:
            return function(item)
        except BaseException as error:
            if not is_data(error):
                stopped.set()
            raise

    pool = ThreadPoolExecutor(max_workers=workers)
    futures = {pool.submit(attempt, item): item for item in items}
    try:
        yield from collect(futures)
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


def collect(futures: "dict[Future[Result], Item]") -> Iterator[tuple[Item, Result | Exception]]:
    """What items gave, as they finish; then the first error that stopped the map, if one did."""
    stop: BaseException | None = None
    for future in as_completed(futures):
        error = future.exception()
        if error is None:
            yield futures[future], future.result()
        elif is_data(error):
            yield futures[future], error
        elif not isinstance(error, CancelledError):
            stop = stop or error
    if stop:
        with explain_full_disk(Path(getattr(stop, "filename", None) or "a file")):
            raise stop


def is_data(error: BaseException) -> TypeGuard[Exception]:
    """Whether an error is an item's own, so that the others go on."""
    return isinstance(error, Exception) and not isinstance(error, STOPS) and not is_disk_full(error)
