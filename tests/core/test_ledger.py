"""The ledger: a hard budget over threads and processes, and what a process left open when it died is charged."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from synthkit.core import ledger as ledgers
from synthkit.core.errors import BudgetError, RecordError
from synthkit.core.executor import map_items
from synthkit.core.ledger import Ledger, open_database, stage_charges, stage_usage

SPEND = """
import sys
from pathlib import Path
from synthkit.core.errors import BudgetError
from synthkit.core.ledger import Ledger
ledger, sent = Ledger(Path(sys.argv[1]), 1.0), 0
sys.stdin.readline()
try:
    while True:
        request = ledger.reserve("01_topics", 0.05)
        sent += 1
        ledger.settle(request, 10, 5, 0.02, estimated=False, kind="paid")
except BudgetError:
    print(sent)
"""
HOLD = """
import sys
from pathlib import Path
from synthkit.core.ledger import Ledger
Ledger(Path(sys.argv[1]), 1.0).reserve("01_topics", float(sys.argv[2]), 40)
print("held", flush=True)
sys.stdin.read()
"""


def start(code: str, run: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, str(run), *arguments], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)


def kill(process: "subprocess.Popen[str]") -> None:
    """End a process at once and leave it unreaped: dead, but still listed, as a zombie."""
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set as soon as a reservation waits for others."""
    waits, pause = threading.Event(), ledgers.pause

    def pause_and_tell(seconds: float) -> None:
        waits.set()
        pause(0.01)

    monkeypatch.setattr(ledgers, "pause", pause_and_tell)
    return waits


def test_usage_is_counted_by_stage(tmp_path: Path) -> None:
    assert stage_usage(tmp_path, "01_topics") == (0, 0.0)
    ledger = Ledger(tmp_path, 1.0)
    for stage, usd in (("01_topics", 0.1), ("01_topics", 0.2), ("03_codegen", 0.4)):
        ledger.settle(ledger.reserve(stage, 0.5), 10, 5, usd, estimated=False, kind="paid" if usd else "free")
    ledger.release(ledger.reserve("01_topics", 0.1))
    ledger.reserve("01_topics", 0.1)
    assert stage_usage(tmp_path, "01_topics") == (30, 0.3)
    assert stage_usage(tmp_path, "03_codegen") == (15, 0.4)


def test_what_is_reserved_counts_until_it_is_settled_or_released(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1.0)
    ledger.settle(ledger.reserve("01_topics", 0.9), 1, 1, 0.1, estimated=False, kind="paid")
    ledger.release(ledger.reserve("02_datasets", 0.9))
    held = ledger.reserve("02_datasets", 0.9)
    ledger.settle(held, 1, 1, 0.9, estimated=False, kind="paid")
    with pytest.raises(BudgetError, match=r"budget of 1\.00 USD(.|\n)*1\.0000 USD are spent, it may cost 0\.2000"):
        ledger.reserve("02_datasets", 0.2)


def test_near_the_cap_a_request_waits_for_others_to_settle(tmp_path: Path, waits: threading.Event) -> None:
    ledger = Ledger(tmp_path, 1.0)
    held = ledger.reserve("01_topics", 0.9)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.reserve, "01_topics", 0.5)
        assert waits.wait(300) and not waiting.done()
        ledger.settle(held, 1, 1, 0.5, estimated=False, kind="paid")
        ledger.settle(waiting.result(300), 1, 1, 0.4, estimated=False, kind="paid")
    assert stage_usage(tmp_path, "01_topics") == (4, 0.9)


def test_a_request_that_waits_gives_up_when_what_is_settled_leaves_no_room(
        tmp_path: Path, waits: threading.Event) -> None:
    ledger = Ledger(tmp_path, 1.0)
    held = ledger.reserve("01_topics", 0.9)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.reserve, "01_topics", 0.5)
        assert waits.wait(300)
        ledger.presume(held)
        with pytest.raises(BudgetError, match=r"0\.9000 USD are spent"):
            waiting.result(300)


def test_a_request_that_waits_ends_with_the_map_that_it_is_part_of(tmp_path: Path, waits: threading.Event) -> None:
    ledger = Ledger(tmp_path, 1.0)
    ledger.reserve("01_topics", 0.9)
    ended: list[type[BaseException]] = []

    def work(item: str) -> None:
        if item == "stops":
            assert waits.wait(300)
            raise BudgetError("enough")
        try:
            ledger.reserve("01_topics", 0.5)
        except CancelledError as error:
            ended.append(type(error))
            raise

    with pytest.raises(BudgetError, match="enough"):
        list(map_items(work, ["waits", "stops"], 2))
    assert ended == [CancelledError]


def test_a_budget_of_nothing_allows_what_is_free(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 0.0)
    ledger.settle(ledger.reserve("01_topics", 0.0), 10, 5, 0.0, estimated=True, kind="free")
    with pytest.raises(BudgetError, match=r"fix: raise teacher\.budget_usd"):
        ledger.reserve("01_topics", 1e-6)


def test_two_processes_share_one_budget(tmp_path: Path) -> None:
    with start(SPEND, tmp_path) as first, start(SPEND, tmp_path) as second:
        for process in (first, second):
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        sent = [int(process.communicate()[0]) for process in (first, second)]
    # 48 replies of 0.02 USD leave room for no further reservation of 0.05; one may be open in the other process.
    assert 46 <= sum(sent) <= 48
    assert stage_usage(tmp_path, "01_topics") == (15 * sum(sent), round(0.02 * sum(sent), 6))


def test_threads_never_pass_the_budget(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1.0)

    def try_one(n: int) -> bool:
        try:
            ledger.settle(ledger.reserve("01_topics", 0.1), 1, 0, 0.1, estimated=False, kind="paid")
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_one, range(40))) in (9, 10)
    assert stage_usage(tmp_path, "01_topics")[1] <= 1.0


@pytest.mark.parametrize("usd", [0.9, 0.0])
def test_what_a_process_left_open_when_it_died_is_charged_in_full(tmp_path: Path, usd: float) -> None:
    with start(HOLD, tmp_path, str(usd)) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        Ledger(tmp_path, 1.0)
        assert stage_charges(tmp_path, "01_topics") == {}, "it lives"
        kill(holder)
        ledger = Ledger(tmp_path, 1.0)
    assert stage_charges(tmp_path, "01_topics") == {"presumed": {"requests": 1, "tokens": 40, "usd": usd}}
    if usd:
        with pytest.raises(BudgetError):
            ledger.reserve("01_topics", 0.5)


def test_a_process_that_dies_is_noticed_by_those_who_wait_for_it(tmp_path: Path, waits: threading.Event) -> None:
    ledger = Ledger(tmp_path, 1.0)
    with start(HOLD, tmp_path, "0.9") as holder, ThreadPoolExecutor(1) as pool:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        waiting = pool.submit(ledger.reserve, "01_topics", 0.5)
        assert waits.wait(300) and not waiting.done()
        kill(holder)
        with pytest.raises(BudgetError):
            waiting.result(300)
    assert stage_charges(tmp_path, "01_topics")["presumed"]["usd"] == 0.9


def test_a_reused_process_id_does_not_keep_a_reservation_open(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 2.0)
    ledger.started -= 1000  # As a process of the same id would have left it that ran before this one.
    ledger.reserve("01_topics", 0.9)
    Ledger(tmp_path, 2.0).reserve("01_topics", 0.9)
    assert stage_usage(tmp_path, "01_topics") == (0, 0.9)


def test_kinds_of_charge_are_told_apart(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 9.0)
    for usd in (0.5, 0.25, 0.0):
        ledger.settle(ledger.reserve("01_topics", 1.0), 10, 5, usd, estimated=False, kind="paid" if usd else "free")
    ledger.note_cached("01_topics", 100, 50)
    ledger.presume(ledger.reserve("01_topics", 1.0, 7))
    ledger.reserve("01_topics", 1.0)
    assert stage_charges(tmp_path, "01_topics") == {
        "cached": {"requests": 1, "tokens": 150, "usd": 0.0}, "free": {"requests": 1, "tokens": 15, "usd": 0.0},
        "paid": {"requests": 2, "tokens": 30, "usd": 0.75}, "presumed": {"requests": 1, "tokens": 7, "usd": 1.0}}
    assert stage_usage(tmp_path, "01_topics") == (52, 1.75), "a reply from the cache is used once"
    assert stage_charges(tmp_path, "02_datasets") == {}


def test_the_ledger_of_an_older_kit_is_refused_in_words(tmp_path: Path) -> None:
    db = open_database(tmp_path / "ledger.sqlite")
    db.execute("CREATE TABLE charges (id INTEGER PRIMARY KEY, stage TEXT NOT NULL, usd REAL NOT NULL)")
    for read in (lambda: Ledger(tmp_path, 1.0), lambda: stage_usage(tmp_path, "01_topics")):
        with pytest.raises(RecordError, match=r"ledger\.sqlite was written by an older kit(.|\n)*start a new run"):
            read()


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1.0)
    with ledger.transaction() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    ledger.local.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RecordError, match=r"the disk is full: .*ledger\.sqlite"):
        for _ in range(1000):
            ledger.reserve("x" * 1000, 0.0)
