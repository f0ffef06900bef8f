"""The map over items: results as they come, failures as data, and a clean stop for what a person must act on."""

import errno
import sqlite3
import threading
from pathlib import Path

import pytest

from synthkit.core.errors import BudgetError, DiskFullError, EndpointError, RecordError, ReplyError, SandboxError
from synthkit.core.executor import map_items, pause
from synthkit.core.files import explain_full_disk


def test_every_item_comes_with_its_result_or_its_failure() -> None:
    def work(n: int) -> int:
        if n == 3:
            raise ReplyError("no form")
        return n * n

    results = dict(map_items(work, range(6), workers=3))
    assert isinstance(results.pop(3), ReplyError)
    assert results == {0: 0, 1: 1, 2: 4, 4: 16, 5: 25}


def test_results_arrive_before_the_last_item_is_done() -> None:
    first_seen = threading.Event()

    def work(n: int) -> bool:
        return n == 0 or first_seen.wait(300)

    for n, result in map_items(work, [0, 1], workers=2):
        assert result is True
        if n == 0:
            first_seen.set()


def test_workers_are_a_limit() -> None:
    lock, running, most = threading.Lock(), [0], [0]
    together = threading.Barrier(3, timeout=300)

    def work(n: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait()
        with lock:
            running[0] -= 1

    assert len(list(map_items(work, range(9), workers=3))) == 9
    assert most == [3]


@pytest.mark.parametrize("error", [
    BudgetError("spent"), EndpointError("gone"), SandboxError("none"), DiskFullError("full"), RecordError("torn"),
    SystemExit(3),
])
def test_what_a_person_must_act_on_stops_the_map(error: BaseException) -> None:
    begun = []

    def work(n: int) -> int:
        begun.append(n)
        raise error

    with pytest.raises(type(error)) as caught:
        list(map_items(work, range(500), workers=1))
    assert caught.value is error
    assert begun == [0]


def test_what_was_under_way_when_the_map_stops_is_not_lost() -> None:
    begun, failed = threading.Barrier(2, timeout=300), threading.Event()

    def work(name: str) -> str:
        begun.wait()
        if name == "bad":
            raise BudgetError("spent")
        failed.wait(300)
        return name

    seen: list[str] = []
    threading.Timer(0.05, failed.set).start()
    with pytest.raises(BudgetError):
        for name, _ in map_items(work, ["bad", "good"], workers=2):
            seen.append(name)
    assert seen == ["good"]


def test_a_full_disk_is_not_an_items_own_failure() -> None:
    def work(n: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "tasks/t1/train.csv")

    with pytest.raises(RecordError, match=r"the disk is full: tasks/t1/train\.csv"):
        list(map_items(work, range(3), workers=2))


def test_a_full_disk_that_was_explained_keeps_the_name_of_its_file() -> None:
    def work(n: int) -> None:
        with explain_full_disk(Path("run/ledger.sqlite")):
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(RecordError, match=r"the disk is full: run/ledger\.sqlite"):
        list(map_items(work, range(3), workers=2))


def test_leaving_early_drops_what_has_not_begun() -> None:
    begun, second = [], threading.Event()

    def work(n: int) -> None:
        begun.append(n)
        if n:
            second.set()
            pause(300)
            begun.append(-1)

    results = map_items(work, range(500), workers=1)
    next(iter(results))
    assert second.wait(300)
    results.close()
    assert begun == [0, 1]
