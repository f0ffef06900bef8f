"""The same map over items for every stage: results arrive as they finish and are saved by the caller at once."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeGuard, TypeVar

from synthkit.core.errors import (
    BudgetError,
    EndpointError,
    ParamError,
    RecordError,
    SandboxError,
    StageError,
    SynthkitError,
)
from synthkit.core.files import explain_full_disk, is_disk_full

Item = TypeVar("Item")
Result = TypeVar("Result")
STOPS = (BudgetError, EndpointError, SandboxError, RecordError, ParamError, StageError, CancelledError)
_current = threading.local()


def map_items(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield (item, result) as they finish, from `workers` threads; an item's own failure is yielded as data.

    What a person has to act on (budget, endpoint, sandbox, disk) stops the map, and so does an interrupt: items that
    have not begun are dropped, those under way end, at the latest where they call `raise_if_stopped`, and what they
    gave is still yielded; then the error is raised. A second interrupt does not wait for them, but a process whose
    threads they are ends only with them. SIGTERM is an interrupt.
    """
    stopped = threading.Event()

    def attempt(item: Item) -> Result:
        if stopped.is_set():
            raise CancelledError
        try:
            with stop_with(stopped):
                return function(item)
        except CancelledError as error:
            if stopped.is_set():
                raise
            raise RuntimeError("something was cancelled that nobody had asked to stop") from error
        except BaseException as error:
            if not is_data(error):
                stopped.set()
            raise

    ended: SimpleQueue[Future[Result] | None] = SimpleQueue()
    pool = ThreadPoolExecutor(max_workers=workers)
    with defer_interrupts(stopped, lambda: ended.put(None)) as interrupts:
        futures = {pool.submit(attempt, item): item for item in items}
        for future in futures:
            future.add_done_callback(ended.put)
        try:
            yield from collect(futures, ended)
        finally:
            stopped.set()
            pool.shutdown(wait=len(interrupts) < 2, cancel_futures=True)
        if interrupts:
            raise KeyboardInterrupt


def collect(
    futures: "dict[Future[Result], Item]", ended: "SimpleQueue[Future[Result] | None]"
) -> Iterator[tuple[Item, Result | Exception]]:
    """What items gave, as they finish; then the first error that stopped the map, if one did."""
    stop: BaseException | None = None
    left = len(futures)
    while left:
        future = ended.get()
        if future is None:
            continue
        left -= 1
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            yield futures[future], future.result()
        elif is_data(error):
            yield futures[future], error
        elif not isinstance(error, CancelledError):
            stop = stop or error
    explain_stop(stop)


def explain_stop(stop: BaseException | None) -> None:
    """Raise what stopped a map, a full disk with cause and fix; nothing when nothing did."""
    if stop:
        with explain_full_disk(Path(getattr(stop, "filename", None) or "a file")):
            raise stop


@contextmanager
def defer_interrupts(stopped: threading.Event, wake: Callable[[], Any]) -> Iterator[list[int]]:
    """While the block runs, a first SIGINT or SIGTERM only sets `stopped` and is noted; a second one interrupts.

    An interrupt that broke into the recording of a result would lose it. Only the main thread gets signals: in another
    one nothing is deferred.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, frame: Any) -> None:
        noted.append(number)
        if len(noted) > 1:
            raise KeyboardInterrupt
        stopped.set()
        wake()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def is_data(error: BaseException) -> TypeGuard[Exception]:
    """Whether an error is an item's own, so that the others go on: its own fault, or one that may pass."""
    if isinstance(error, SynthkitError) and error.retryable:
        return True
    return isinstance(error, Exception) and not isinstance(error, STOPS) and not is_disk_full(error)


@contextmanager
def stop_with(stopped: threading.Event) -> Iterator[None]:
    """Work of this thread within the block ends, at the places made for it, once `stopped` is set."""
    _current.stopped = stopped
    try:
        yield
    finally:
        _current.stopped = None


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
