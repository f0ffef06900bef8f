"""Replies on disk by the hash of their request, so that a resumed run sends no request for a reply that had arrived.

Kept are answers that cannot be used too: they were paid for, and asking again would give another.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from synthkit.core.files import explain_full_disk
from synthkit.core.ledger import create_table, open_database
from synthkit.core.llm.completions import Completion

SCHEMA = """CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT NOT NULL, tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL, fault TEXT NOT NULL,
    why TEXT NOT NULL)"""
COLUMNS = tuple(column.name for column in fields(Completion))


class ReplyCache:
    """The replies of a run; safe for threads and processes. Raises RecordError for the file of an older kit."""

    def __init__(self, path: Path):
        self.path, self.local = path, threading.local()
        with explain_full_disk(path):
            create_table(self.connection(), path, "replies", SCHEMA)

    def connection(self) -> Connection:
        """This thread's own connection."""
        if not hasattr(self.local, "db"):
            self.local.db = open_database(self.path)
        connection: Connection = self.local.db
        return connection

    def get(self, key: str) -> Completion | None:
        """What was kept under a key."""
        query = f"SELECT {', '.join(COLUMNS)} FROM replies WHERE key = ?"
        with explain_full_disk(self.path):
            row = self.connection().execute(query, (key,)).fetchone()
        if row is None:
            return None
        values = dict(zip(COLUMNS, row, strict=True))
        return Completion(**values | {"estimated": bool(values["estimated"])})

    def put(self, key: str, completion: Completion) -> None:
        """Keep an answer. Raises DiskFullError."""
        row = (key, *(getattr(completion, name) for name in COLUMNS))
        names = f"key, {', '.join(COLUMNS)}"
        with explain_full_disk(self.path):
            self.connection().execute(
                f"INSERT OR REPLACE INTO replies ({names}) VALUES ({', '.join('?' * len(row))})", row)


def hash_request(place: str, weights: str, request: dict[str, Any], sample: int, seed: int | None) -> str:
    """The key of a request: where it goes (`place` as configured, never a drawn port), to which weights, and all of it.

    `sample` tells requests apart that are repeated on purpose; `seed` counts even where it is not sent.
    """
    return hashlib.sha256(json.dumps([place, weights, request, sample, seed], sort_keys=True).encode()).hexdigest()


@dataclass
class Flight:
    """A request that is under way, and how many threads want its reply."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0


class Flights:
    """Lets one thread send a request and pay for it; other threads with the same request wait for its reply."""

    def __init__(self) -> None:
        self.guard, self.under_way = threading.Lock(), dict[str, Flight]()

    @contextmanager
    def join(self, key: str) -> Iterator[None]:
        """Be the only thread with this key while the block runs."""
        with self.guard:
            flight = self.under_way.setdefault(key, Flight())
            flight.wanted += 1
        try:
            with flight.lock:
                yield
        finally:
            with self.guard:
                flight.wanted -= 1
                if not flight.wanted:
                    del self.under_way[key]
