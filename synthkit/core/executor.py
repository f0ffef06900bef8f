"""The same map over items for every stage: results arrive as they finish and are saved by the caller at once."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from synthkit.core.errors import BudgetError, EndpointError, RecordError, SandboxError

Item = TypeVar("Item")
Result = TypeVar("Result")
STOPS = (BudgetError, EndpointError, SandboxError, RecordError)


def map_items(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield (item, result) as they finish, from `workers` threads; an item's own failure is yielded as data.

    What a person has to act on (budget, endpoint, sandbox, disk) or an interrupt stops the map: items
    that have not begun are dropped, those under way end, and the error is raised.
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    futures: dict[Future[Result], Item] = {pool.submit(function, item): item for item in items}
    try:
        for future in as_completed(futures):
            yield futures[future], settle(future)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def settle(future: "Future[Result]") -> "Result | Exception":
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, STOPS) or not isinstance(error, Exception):
        raise error
    return error
