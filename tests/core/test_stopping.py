"""Which kernel hears of an interrupt, when, and how often; what a run makes of it is told in test_runner."""

import asyncio
import os
import signal
import threading

import pytest

from synthkit.core.stopping import STOPPING, Stop, stop_on_signals


class Kernel:
    def __init__(self) -> None:
        self.told: list[str] = []

    def interrupt_now(self) -> None:
        self.told.append("interrupt")

    def kill_now(self) -> None:
        self.told.append("kill")


def test_a_kernel_at_work_is_interrupted_once_and_then_killed(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = Kernel()
    with stop_on_signals() as stop:
        stop.kernel = kernel
        stop.begin_cell()
        assert kernel.told == []
        os.kill(os.getpid(), signal.SIGTERM)
        stop.begin_cell()
        assert kernel.told == ["interrupt"] and capsys.readouterr().err == STOPPING
        os.kill(os.getpid(), signal.SIGINT)
        assert kernel.told == ["interrupt", "kill"] and capsys.readouterr().err == ""
        with pytest.raises(KeyboardInterrupt):
            stop.raise_if_asked()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_between_cells_waits_for_the_cell_that_was_sent() -> None:
    stop = Stop()
    stop.kernel = kernel = Kernel()
    stop.handle_signal(signal.SIGINT, None)
    assert kernel.told == []
    stop.begin_cell()
    assert kernel.told == ["interrupt"]


def test_without_a_kernel_the_second_interrupt_ends_at_once() -> None:
    stop = Stop()
    stop.handle_signal(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        stop.handle_signal(signal.SIGINT, None)


def test_a_kernel_that_never_replies_is_given_up() -> None:
    loop = asyncio.new_event_loop()
    stop, late, there = Stop(), loop.create_future(), loop.create_future()
    stop.kernel = kernel = Kernel()
    there.set_result({})
    stop.give_up(there)
    assert kernel.told == []
    stop.give_up(late)
    assert kernel.told == ["kill"]
    loop.close()


def test_another_thread_leaves_the_signals_alone() -> None:
    seen: list[object] = []
    before = signal.getsignal(signal.SIGINT)

    def look() -> None:
        with stop_on_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
