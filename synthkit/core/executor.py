"""The same map over items for every stage: results arrive as they finish and are saved by the caller at once."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TypeGuard, TypeVar

from synthkit.core.errors import BudgetError, DiskFullError, EndpointError, SandboxError, SynthkitError
from synthkit.core.records import explain_full_disk, is_disk_full

Item = TypeVar("Item")
Result = TypeVar("Result")
STOPS = (BudgetError, EndpointError, SandboxError, DiskFullError, CancelledError)
_current = threading.local()


def map_items(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield (item, result) as they finish, from `workers` threads; an item's own failure is yielded as data.

    What a person has to act on (budget, endpoint, sandbox, disk) stops the map, and so does an interrupt: items that
    have not begun are dropped, those under way end, at the latest where they call `raise_if_stopped`, and what they
    gave is still yielded; then the error is raised. A second interrupt does not wait for them.
    """
    stopped = threading.Event()

    def attempt(item: Item) -> Result:
        if stopped.is_set():
            raise CancelledError
        _current.stopped = stopped
        try:
            return function(item)
        except BaseException as error:
            if not is_data(error):
                stopped.set()
            raise
        finally:
            _current.stopped = None

    pool = ThreadPoolExecutor(max_workers=workers)
    futures = {pool.submit(attempt, item): item for item in items}
    try:
        yield from collect(futures, stopped)
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


def collect(
    futures: "dict[Future[Result], Item]", stopped: threading.Event
) -> Iterator[tuple[Item, Result | Exception]]:
    """What items gave, as they finish; then the first error that stopped the map, if one did."""
    stop: BaseException | None = None
    ended: SimpleQueue[Future[Result]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    left = len(futures)
    while left:
        try:
            future = ended.get()
        except KeyboardInterrupt as interrupt:
            if isinstance(stop, KeyboardInterrupt):
                raise
            stop = interrupt
            stopped.set()
            continue
        left -= 1
        error = CancelledError() if future.cancelled() else future.exception()
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
    """Whether an error is an item's own, so that the others go on: its own fault, or one that may pass."""
    if isinstance(error, SynthkitError) and error.retryable:
        return True
    return isinstance(error, Exception) and not isinstance(error, STOPS) and not is_disk_full(error)


def raise_if_stopped() -> None:
    """For work that takes long, at places where nothing is lost: end it when the map that it is part of is stopping.

    Raises CancelledError, which counts as no try.
    """
    stopped = getattr(_current, "stopped", None)
    if stopped is not None and stopped.is_set():
        raise CancelledError


def pause(seconds: float) -> None:
    """Wait, but not longer than the map goes on; raises CancelledError when it is stopping."""
    stopped = getattr(_current, "stopped", None) or threading.Event()
    if stopped.wait(seconds):
        raise CancelledError
