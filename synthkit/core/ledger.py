"""What a run spends: every request is reserved before it is sent and settled after, across all processes.

The ledger is one sqlite file in the run's folder. The budget is hard: a request that could pass it is not sent. What
nobody can tell the price of (its process died, its connection was cut) is charged with all that it could cost, as
`presumed`. USD at the list price of the parameters; tokens as the endpoint counts them, or estimated from bytes.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, TypedDict

import psutil

from synthkit.core.errors import BudgetError, RecordError
from synthkit.core.executor import pause
from synthkit.core.files import explain_full_disk

Kind = Literal["paid", "free", "cached", "presumed"]
SCHEMA = """CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY, stage TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, open INTEGER NOT NULL,
    usd REAL NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, estimated INTEGER NOT NULL,
    kind TEXT NOT NULL)"""
# The sum of all charges, kept beside them: adding up a million at every request would hold up all others.
TOTAL = ("CREATE INDEX IF NOT EXISTS held ON charges (pid, started) WHERE open",
         "CREATE TABLE IF NOT EXISTS total (usd REAL NOT NULL)",
         "CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON charges BEGIN UPDATE total SET usd = usd + NEW.usd; END",
         "CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON charges BEGIN UPDATE total SET usd = usd - OLD.usd; END",
         "CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE ON charges "
         "BEGIN UPDATE total SET usd = usd + NEW.usd - OLD.usd; END",
         "DELETE FROM total", "INSERT INTO total SELECT COALESCE(SUM(usd), 0) FROM charges")
INSERT = ("INSERT INTO charges (stage, pid, started, open, usd, tokens_in, tokens_out, estimated, kind) "
          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
SAME_START_S = 2.0
POLL_S = 0.1
# Longer than any request with all that it may wait for: what is still open then was left behind.
STUCK_S = 1800.0


class Charge(TypedDict):
    """Requests of one kind together: how many, their tokens in and out, and USD at the list price."""

    requests: int
    tokens: int
    usd: float


class Ledger:
    """The ledger of a run; safe for threads and processes.

    `budget_usd` is the limit over all stages; 0 allows only requests that cost nothing. Raises RecordError for the
    file of an older kit.
    """

    def __init__(self, run_dir: Path, budget_usd: float):
        self.path, self.budget_usd = run_dir / "ledger.sqlite", budget_usd
        self.local = threading.local()
        self.started = psutil.Process().create_time()
        with self.transaction() as db:
            create_table(db, self.path, "charges", SCHEMA)
            for statement in TOTAL:
                db.execute(statement)
            presume_dead(db)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread that no other process writes beside; rolled back when the block fails."""
        with explain_full_disk(self.path):
            if not hasattr(self.local, "db"):
                self.local.db = open_database(self.path)
            with self.local.db as db:
                db.execute("BEGIN IMMEDIATE")
                yield db

    def reserve(self, stage: str, usd: float, tokens_in: int = 0) -> int:
        """Set aside what a request may cost at most, and return the number to settle it by.

        Where open reservations leave no room it waits for them to settle. Raises BudgetError as soon as what is
        settled alone leaves none, or when nothing settles for half an hour, and CancelledError when the map that it is
        called in stops. `tokens_in` is what a presumed charge will say of its input.
        """
        before, since = None, time.monotonic()
        while True:
            with self.transaction() as db:
                settled, held = self._add_up(db, usd)
                if usd <= 0 or settled + held + usd <= self.budget_usd:
                    # Should this process die, the row already says what it then is.
                    row = db.execute(INSERT, (stage, os.getpid(), self.started, 1, usd, tokens_in, 0, 1, "presumed"))
                    return int(row.lastrowid or 0)
            if (settled, held) != before:
                before, since = (settled, held), time.monotonic()
            stuck = time.monotonic() - since > STUCK_S
            if not held or stuck or settled + usd > self.budget_usd:
                raise BudgetError(
                    f"the run's budget of {self.budget_usd:.2f} USD does not cover the next request: "
                    f"{settled:.4f} USD are spent, it may cost {usd:.4f}",
                    "raise teacher.budget_usd and start again; everything finished is kept and not paid twice",
                )
            pause(POLL_S)

    def _add_up(self, db: sqlite3.Connection, usd: float) -> tuple[float, float]:
        """USD that are settled, and held by open reservations; the second is looked up only where room is short."""
        (total,) = db.execute("SELECT usd FROM total").fetchone()
        if total + usd <= self.budget_usd:
            return total, 0.0
        presume_dead(db)
        (held,) = db.execute("SELECT COALESCE(SUM(usd), 0) FROM charges WHERE open").fetchone()
        return total - held, held

    def settle(self, request: int, tokens_in: int, tokens_out: int, usd: float, estimated: bool, kind: Kind) -> None:
        """Replace a reservation by what the request cost. `estimated`: the endpoint gave no usage to believe."""
        values = (usd, tokens_in, tokens_out, int(estimated), kind, request)
        with self.transaction() as db:
            db.execute("UPDATE charges SET open = 0, usd = ?, tokens_in = ?, tokens_out = ?, estimated = ?, kind = ? "
                       "WHERE id = ?", values)

    def presume(self, request: int) -> None:
        """Charge a reservation in full: the request may have been worked on, and its reply never arrived."""
        with self.transaction() as db:
            db.execute("UPDATE charges SET open = 0 WHERE id = ?", (request,))

    def release(self, request: int) -> None:
        """Take back the reservation of a request that cost nothing: it was not sent, or it was refused."""
        with self.transaction() as db:
            db.execute("DELETE FROM charges WHERE id = ?", (request,))

    def note_cached(self, stage: str, tokens_in: int, tokens_out: int) -> None:
        """Note a reply that the cache gave: 0 USD, and tokens that count for no stage's usage."""
        with self.transaction() as db:
            db.execute(INSERT, (stage, os.getpid(), self.started, 0, 0.0, tokens_in, tokens_out, 0, "cached"))


def stage_usage(run_dir: Path, stage: str) -> tuple[int, float]:
    """(tokens in and out, USD) that a stage has used so far; replies from the cache and open requests do not count."""
    charges = [charge for kind, charge in stage_charges(run_dir, stage).items() if kind != "cached"]
    return sum(charge["tokens"] for charge in charges), round(sum(charge["usd"] for charge in charges), 6)


def stage_charges(run_dir: Path, stage: str) -> dict[str, Charge]:
    """What a stage was charged, by kind: {"paid": {"requests": 3, "tokens": 900, "usd": 0.02}, ...}.

    Kinds: `paid`, `free` (an endpoint without a price), `cached` and `presumed`; a kind without a request is left
    out, and so is a request that is still open. Raises RecordError for the file of an older kit.
    """
    path = run_dir / "ledger.sqlite"
    if not path.exists():
        return {}
    db = open_database(path)
    try:
        create_table(db, path, "charges", SCHEMA)
        rows = db.execute("SELECT kind, COUNT(*), SUM(tokens_in + tokens_out), SUM(usd) FROM charges "
                          "WHERE stage = ? AND NOT open GROUP BY kind ORDER BY kind", (stage,)).fetchall()
    finally:
        db.close()
    return {kind: {"requests": count, "tokens": tokens, "usd": round(usd, 6)} for kind, count, tokens, usd in rows}


def open_database(path: Path) -> sqlite3.Connection:
    """A connection that waits for other writers, and of which a power cut takes at most the last moments."""
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=60, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        return db


def create_table(db: sqlite3.Connection, path: Path, name: str, schema: str) -> None:
    """Create a table that is not there yet. Raises RecordError when it is there with other columns."""
    db.execute(schema)
    with closing(sqlite3.connect(":memory:")) as wanted:
        wanted.execute(schema)
        if list_columns(db, name) == list_columns(wanted, name):
            return
    raise RecordError(f"{path} was written by an older kit", "start a new run, or finish this one with that kit")


def list_columns(db: sqlite3.Connection, table: str) -> list[str]:
    """Names of a table's columns, in order."""
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def presume_dead(db: sqlite3.Connection) -> None:
    """Charge the open reservations of processes that are no more in full, as presumed."""
    owners = db.execute("SELECT DISTINCT pid, started FROM charges WHERE open").fetchall()
    dead = [owner for owner in owners if not is_alive(*owner)]
    db.executemany("UPDATE charges SET open = 0 WHERE open AND pid = ? AND started = ?", dead)


def is_alive(pid: int, started: float) -> bool:
    """Whether the very process still runs: pids are used again, in containers soon."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < SAME_START_S and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
