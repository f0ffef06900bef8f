"""How a running notebook is stopped: the first interrupt lets what is under way end, the second ends the kernel.

Left to themselves, papermill and nbclient kill a kernel some seconds after an interrupt, and with it the answers that
are paid for and still to come. Here the kernel alone is interrupted, as from a notebook's stop button: the cell's own
code ends its work and records it. Then no further cell is begun, and the kernel ends by itself.
"""

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from nbclient.exceptions import CellExecutionComplete
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger
from papermill.utils import remove_args

ENGINE = "stoppable"
STOPPING = "stopping: waiting for what is under way; interrupt again to end at once\n"
LOST_REPLY_S = 10.0


class Kernel(Protocol):
    """What can be told to a kernel's process."""

    def interrupt_now(self) -> None:
        """Interrupt the cell that it works on."""

    def kill_now(self) -> None:
        """End it at once, with all that it started in its process group."""


class Stop:
    """Whether an end was asked for, and who has to be told.

    A kernel hears an interrupt only while it works on a cell, so one that comes before is passed on when the cell has
    begun. It is passed on once: a second one would not wait for what is under way.
    """

    def __init__(self) -> None:
        self.asked = False
        self.passed_on = False
        self.in_cell = False
        self.kernel: Kernel | None = None

    def handle_signal(self, number: int, frame: object) -> None:
        """An interrupt arrived; without a kernel the second one ends at once."""
        if not self.asked:
            self.asked = True
            self.pass_on()
            with suppress(OSError, RuntimeError, ValueError):  # Whoever read it may have been interrupted too.
                sys.stderr.write(STOPPING)
                sys.stderr.flush()
        elif self.kernel is not None:
            self.kernel.kill_now()
        else:
            raise KeyboardInterrupt

    def begin_cell(self) -> None:
        """The kernel works on a cell from now on; an interrupt that came before it is passed on."""
        self.in_cell = True
        self.pass_on()

    def pass_on(self) -> None:
        """Interrupt the kernel, once, if an end was asked for and it can hear of it."""
        if self.asked and self.in_cell and not self.passed_on and self.kernel is not None:
            self.passed_on = True
            self.kernel.interrupt_now()

    def raise_if_asked(self) -> None:
        """Raises KeyboardInterrupt when an end was asked for."""
        if self.asked:
            raise KeyboardInterrupt

    def give_up(self, reply: "asyncio.Future[Any]") -> None:
        """End a kernel that is idle again and still owes its reply: the interrupt struck between cell and reply."""
        if not reply.done() and self.kernel is not None:
            self.kernel.kill_now()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """SIGINT and SIGTERM stop what runs in this block in order; only the main thread can hear them."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop.handle_signal) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler or signal.SIG_DFL)


class StoppableClient(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
    """A notebook's client that begins no cell after a stop was asked for, and says which kernel has to hear of it."""

    stop: Stop

    def create_kernel_manager(self) -> Any:
        """The kernel's manager, which an interrupt goes to from now on."""
        manager = super().create_kernel_manager()
        self.stop.kernel = manager
        return manager

    def execute_cell(self, cell: Any, cell_index: int, *args: Any, **kwargs: Any) -> Any:
        """As nbclient does. Raises KeyboardInterrupt instead of beginning a cell when an end was asked for."""
        self.stop.raise_if_asked()
        try:
            return super().execute_cell(cell, cell_index, *args, **kwargs)
        finally:
            self.stop.in_cell = False

    def process_message(self, msg: Any, *args: Any, **kwargs: Any) -> Any:
        """As nbclient does; the kernel's own message says when it has begun a cell, and so can hear an interrupt."""
        if msg["header"]["msg_type"] == "execute_input":
            self.stop.begin_cell()
        try:
            return super().process_message(msg, *args, **kwargs)
        except CellExecutionComplete:
            if self.stop.asked and self.task_poll_for_reply is not None:
                asyncio.get_running_loop().call_later(LOST_REPLY_S, self.stop.give_up, self.task_poll_for_reply)
            raise


class StoppableEngine(NBClientEngine):  # type: ignore[misc]
    """Papermill's own engine with that client; `stop` is given to `papermill.execute_notebook`."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, stop: Stop, start_timeout: int = 60,
                                 **kwargs: Any) -> Any:
        """What papermill calls: execute the notebook of `nb_man`, a cell without a limit of time."""
        kwargs = remove_args(["input_path", "timeout", "startup_timeout", "execution_timeout"], **kwargs)
        client = StoppableClient(nb_man, timeout=None, startup_timeout=start_timeout, kernel_name=kernel_name,
                                 log=logger, **kwargs)
        client.stop = stop
        return client.execute()


papermill_engines.register(ENGINE, StoppableEngine)
