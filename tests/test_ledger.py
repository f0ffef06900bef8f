"""The ledger: a hard budget over threads and processes, and nothing held by a process that died."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synthkit.core.errors import BudgetError, RecordError
from synthkit.core.ledger import Ledger, stage_usage

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
        ledger.settle(request, 10, 5, 0.02, estimated=False)
except BudgetError:
    print(sent)
"""
HOLD = """
import sys
from pathlib import Path
from synthkit.core.ledger import Ledger
Ledger(Path(sys.argv[1]), 1.0).reserve("01_topics", 0.9)
print("held", flush=True)
sys.stdin.read()
"""


def start(code: str, run: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)


def test_usage_is_counted_by_stage(tmp_path: Path) -> None:
    assert stage_usage(tmp_path, "01_topics") == (0, 0.0)
    ledger = Ledger(tmp_path, 1.0)
    for stage, usd in (("01_topics", 0.1), ("01_topics", 0.2), ("03_codegen", 0.4)):
        ledger.settle(ledger.reserve(stage, 0.5), 10, 5, usd, estimated=False)
    ledger.release(ledger.reserve("01_topics", 0.1))
    ledger.reserve("01_topics", 0.1)
    assert stage_usage(tmp_path, "01_topics") == (30, 0.3)
    assert stage_usage(tmp_path, "03_codegen") == (15, 0.4)


def test_what_is_reserved_counts_until_it_is_settled_or_released(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1.0)
    held = ledger.reserve("01_topics", 0.9)
    with pytest.raises(BudgetError, match=r"budget of 1\.00 USD(.|\n)*0\.9000 USD are spent or reserved"):
        ledger.reserve("02_datasets", 0.2)
    ledger.settle(held, 1, 1, 0.1, estimated=False)
    ledger.release(ledger.reserve("02_datasets", 0.9))
    ledger.reserve("02_datasets", 0.9)


def test_a_budget_of_nothing_allows_what_is_free(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 0.0)
    ledger.settle(ledger.reserve("01_topics", 0.0), 10, 5, 0.0, estimated=True)
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
            ledger.settle(ledger.reserve("01_topics", 0.1), 1, 0, 0.1, estimated=False)
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_one, range(40))) in (9, 10)
    assert stage_usage(tmp_path, "01_topics")[1] <= 1.0


def test_a_reservation_lives_as_long_as_its_process(tmp_path: Path) -> None:
    with start(HOLD, tmp_path) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(BudgetError):
            Ledger(tmp_path, 1.0).reserve("01_topics", 0.5)
        os.kill(holder.pid, signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # Dead and not yet reaped: a zombie.
        Ledger(tmp_path, 1.0).reserve("01_topics", 0.5)


def test_a_reused_process_id_does_not_keep_a_dead_reservation(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1.0)
    ledger.started -= 1000  # As a process of the same id would have left it that ran before this one.
    ledger.reserve("01_topics", 0.9)
    Ledger(tmp_path, 1.0).reserve("01_topics", 0.9)


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1.0)
    with ledger.transaction() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    ledger.local.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RecordError, match=r"the disk is full: .*ledger\.sqlite"):
        for _ in range(1000):
            ledger.reserve("x" * 1000, 0.0)
