"""What a run spends: every request is reserved before it is sent and settled after, across all processes.

The ledger is one sqlite file in the run's folder. A reservation whose process died is released at the
next opening. The budget is hard: a request that could pass it is not sent.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from synthkit.core.errors import BudgetError
from synthkit.core.records import explain_full_disk

SCHEMA = """CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY, stage TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, open INTEGER NOT NULL,
    usd REAL NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, estimated INTEGER NOT NULL)"""
# The sum of all charges, kept beside them: adding up a million at every request would hold up all others.
TOTAL = ("CREATE TABLE IF NOT EXISTS total (usd REAL NOT NULL)",
         "CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON charges BEGIN UPDATE total SET usd = usd + NEW.usd; END",
         "CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON charges BEGIN UPDATE total SET usd = usd - OLD.usd; END",
         "CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE ON charges "
         "BEGIN UPDATE total SET usd = usd + NEW.usd - OLD.usd; END",
         "DELETE FROM total", "INSERT INTO total SELECT COALESCE(SUM(usd), 0) FROM charges")
SAME_START_S = 2.0


class Ledger:
    """The ledger of a run. `budget_usd` is the limit over all stages; 0 allows only requests that cost nothing."""

    def __init__(self, run_dir: Path, budget_usd: float):
        self.path, self.budget_usd = run_dir / "ledger.sqlite", budget_usd
        self.local = threading.local()
        self.started = psutil.Process().create_time()
        with self.transaction() as db:
            db.execute(SCHEMA)
            owners = db.execute("SELECT DISTINCT pid, started FROM charges WHERE open").fetchall()
            dead = [owner for owner in owners if not is_alive(*owner)]
            db.executemany("DELETE FROM charges WHERE open AND pid = ? AND started = ?", dead)
            for statement in TOTAL:
                db.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread that no other process writes beside; rolled back when the block fails."""
        with explain_full_disk(self.path):
            if not hasattr(self.local, "db"):
                self.local.db = open_database(self.path)
            with self.local.db as db:
                db.execute("BEGIN IMMEDIATE")
                yield db

    def reserve(self, stage: str, usd: float) -> int:
        """Set aside what a request may cost at most. Raises BudgetError when that would pass the budget."""
        with self.transaction() as db:
            (spent,) = db.execute("SELECT usd FROM total").fetchone()
            if usd > 0 and spent + usd > self.budget_usd:
                raise BudgetError(
                    f"the run's budget of {self.budget_usd:.2f} USD does not cover the next request: "
                    f"{spent:.4f} USD are spent or reserved, it may cost {usd:.4f}",
                    "raise teacher.budget_usd and start again; everything finished is kept and not paid twice",
                )
            row = db.execute("INSERT INTO charges VALUES (NULL, ?, ?, ?, 1, ?, 0, 0, 0)",
                             (stage, os.getpid(), self.started, usd))
            return int(row.lastrowid or 0)

    def settle(self, request: int, tokens_in: int, tokens_out: int, usd: float, estimated: bool) -> None:
        """Replace a reservation by what the request really cost. `estimated`: the endpoint gave no usage."""
        with self.transaction() as db:
            db.execute(
                "UPDATE charges SET open = 0, usd = ?, tokens_in = ?, tokens_out = ?, estimated = ? WHERE id = ?",
                (usd, tokens_in, tokens_out, int(estimated), request),
            )

    def release(self, request: int) -> None:
        """Take back the reservation of a request that failed."""
        with self.transaction() as db:
            db.execute("DELETE FROM charges WHERE id = ?", (request,))


def stage_usage(run_dir: Path, stage: str) -> tuple[int, float]:
    """(tokens in and out, USD) that a stage has used so far."""
    path = run_dir / "ledger.sqlite"
    if not path.exists():
        return 0, 0.0
    db = open_database(path)
    db.execute(SCHEMA)
    query = "SELECT COALESCE(SUM(tokens_in + tokens_out), 0), COALESCE(SUM(usd), 0) FROM charges WHERE stage = ?"
    tokens, usd = db.execute(query + " AND NOT open", (stage,)).fetchone()
    db.close()
    return int(tokens), round(float(usd), 6)


def open_database(path: Path) -> sqlite3.Connection:
    """A connection that waits for other writers, and of which a power cut takes at most the last moments."""
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=60, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        return db


def is_alive(pid: int, started: float) -> bool:
    """Whether the very process still runs: pids are used again, in containers soon."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < SAME_START_S and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
