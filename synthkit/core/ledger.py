"""What a run spends: every request is reserved before it is sent and settled after, across all processes.

The ledger is one sqlite file in the run's folder. A reservation whose process died is released at the
next opening. The budget is hard: a request that could pass it is not sent.
"""

import os
import sqlite3
import threading
from pathlib import Path

from synthkit.core.errors import BudgetError

SCHEMA = """CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, stage TEXT NOT NULL, pid INTEGER, open INTEGER NOT NULL,
    usd REAL NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, estimated INTEGER NOT NULL)"""


class Ledger:
    """The ledger of a run. `budget_usd` is the limit over all stages; 0 allows only requests that cost nothing."""

    def __init__(self, run_dir: Path, budget_usd: float):
        self.path, self.budget_usd = run_dir / "ledger.sqlite", budget_usd
        self.local = threading.local()
        run_dir.mkdir(parents=True, exist_ok=True)
        with self.connection() as db:
            db.execute(SCHEMA)
            db.execute("BEGIN IMMEDIATE")
            open_pids = [pid for (pid,) in db.execute("SELECT DISTINCT pid FROM requests WHERE open")]
            db.executemany("DELETE FROM requests WHERE open AND pid = ?", [(p,) for p in open_pids if not is_alive(p)])

    def connection(self) -> sqlite3.Connection:
        if not hasattr(self.local, "db"):
            self.local.db = open_database(self.path)
        return self.local.db

    def reserve(self, stage: str, usd: float) -> int:
        """Set aside what a request may cost at most. Raises BudgetError when that would pass the budget."""
        with self.connection() as db:
            db.execute("BEGIN IMMEDIATE")
            (spent,) = db.execute("SELECT COALESCE(SUM(usd), 0) FROM requests").fetchone()
            if usd > 0 and spent + usd > self.budget_usd:
                raise BudgetError(
                    f"the run's budget of {self.budget_usd:.2f} USD does not cover the next request: "
                    f"{spent:.4f} USD are spent or reserved, it may cost {usd:.4f}",
                    "raise teacher.budget_usd and start again; everything finished is kept and not paid twice",
                )
            row = db.execute("INSERT INTO requests VALUES (NULL, ?, ?, 1, ?, 0, 0, 0)", (stage, os.getpid(), usd))
            return int(row.lastrowid or 0)

    def settle(self, request: int, tokens_in: int, tokens_out: int, usd: float, estimated: bool) -> None:
        """Replace a reservation by what the request really cost. `estimated`: the endpoint gave no usage."""
        with self.connection() as db:
            db.execute(
                "UPDATE requests SET open = 0, usd = ?, tokens_in = ?, tokens_out = ?, estimated = ? WHERE id = ?",
                (usd, tokens_in, tokens_out, int(estimated), request),
            )

    def release(self, request: int) -> None:
        """Take back the reservation of a request that failed."""
        with self.connection() as db:
            db.execute("DELETE FROM requests WHERE id = ?", (request,))


def stage_usage(run_dir: Path, stage: str) -> tuple[int, float]:
    """(tokens in and out, USD) that a stage has used so far."""
    path = run_dir / "ledger.sqlite"
    if not path.exists():
        return 0, 0.0
    db = open_database(path)
    query = "SELECT COALESCE(SUM(tokens_in + tokens_out), 0), COALESCE(SUM(usd), 0) FROM requests WHERE stage = ?"
    tokens, usd = db.execute(query + " AND NOT open", (stage,)).fetchone()
    db.close()
    return int(tokens), round(float(usd), 6)


def open_database(path: Path) -> sqlite3.Connection:
    """A connection that waits for other writers and loses at most the last moments in a power cut."""
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    return db


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
