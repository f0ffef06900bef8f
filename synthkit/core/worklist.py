"""The one resumable loop of all stages: what is left, map, record, count, owed.

Every item ends as kept or refused, in a record file of the stage, or as owed, in `owed.jsonl`. Refused is the data's or
the model's own fault, with a typed reason. Owed is what infrastructure held up (timeouts, 429, 5xx, a sandbox or a node
that died): no finished work, so the next call tries it again; what dies twice in a row was killed by the item. An
exception that nobody expected leaves its item owed once, with its traceback; when one comes again the item is refused
as `kit_fault`. One item's exception costs no other item's result. What a person has to act on stops the loop, and
counts as no try.
"""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from synthkit.core.errors import HubError, ReplyError, SynthkitError
from synthkit.core.executor import map_items
from synthkit.core.files import append_record, read_records, write_records
from synthkit.core.params import SpreadParams
from synthkit.core.ray_executor import RemoteWork, map_on_ray
from synthkit.core.stage import Stage

Item = TypeVar("Item")
Context = TypeVar("Context")
KIT_FAULT = "kit_fault"
UNEXPECTED = "unexpected"
OWED_FILE = "owed.jsonl"
# What dies at two tries in a row is killed by what runs in it: the reason of what is owed, then that of a refusal.
KILLED = {"sandbox": "sandbox_died", "worker": "worker_died"}
MAX_TRACE_CHARS = 4000


class OwedItem(BaseModel):
    """An item that is still to be done: why its last try failed, how many there were, how many were unexpected."""

    id: str
    reason: str
    cause: str
    tries: int
    faults: int = 0
    traceback: str = ""


@dataclass(frozen=True)
class Worklist(Generic[Item, Context]):
    """How one stage works through its items.

    `files` names the record file of each type of row that `work` may give; the first is of what was kept. `key` names
    an item, `row_key` the item that a row is of. `refuse(item, reason, detail)` is the row of a refused item. `open`
    gives what all items need (clients, caches) while the loop runs. `inputs` names the files that one item is made
    from, for a machine that has no access to the run's folder.
    """

    stage: Stage
    files: Mapping[type[BaseModel], str]
    key: Callable[[Item], str]
    row_key: Callable[[Any], str]
    refuse: Callable[[Item, str, str], BaseModel]
    open: Callable[[Stage], AbstractContextManager[Context]]
    work: Callable[[Context, Item], BaseModel]
    inputs: Callable[[Stage, Item], Sequence[Path]] | None = None

    def read_rows(self) -> dict[str, BaseModel]:
        """Every row on record, kept and refused, by the key of its item."""
        return {self.row_key(row): row for model, name in self.files.items()
                for row in read_records(self.stage.dir / name, model)}

    def work_off(self, items: Sequence[Item], workers: int,
                 advance: Callable[[int], Any] = lambda n: None) -> dict[str, BaseModel]:
        """Work on each item without a row; every outcome is on disk before the next is looked at.

        `advance` is told how many items have an outcome: those of earlier calls first, then one by one. Returns the
        rows of all items, in their order; an item that is owed has none. Raises what stops the loop, once what was
        under way has ended and been recorded.
        """
        rows, owed = self.read_rows(), read_owed(self.stage)
        left = [item for item in items if self.key(item) not in rows]
        advance(len(items) - len(left))
        if left:
            self.stage.reopen()
            try:
                self._map(left, workers, rows, owed, advance)
            finally:
                write_owed(self.stage, rows)
        return {key: rows[key] for item in items if (key := self.key(item)) in rows}

    def _map(self, left: Sequence[Item], workers: int, rows: dict[str, BaseModel], owed: dict[str, OwedItem],
             advance: Callable[[int], Any]) -> None:
        for item, result in self._results(left, workers):
            try:
                outcome = self.settle(item, result, owed.get(self.key(item)))
            except Exception as error:
                outcome = self.owe(item, error, owed.get(self.key(item)))
            if isinstance(outcome, OwedItem):
                append_record(self.stage.dir / OWED_FILE, outcome)
                owed[outcome.id] = outcome
            else:
                append_record(self.stage.dir / self.files[type(outcome)], outcome)
                rows[self.key(item)] = outcome
            advance(1)

    def _results(self, left: Sequence[Item], workers: int) -> Iterable[tuple[Item, BaseModel | Exception]]:
        stage, params = self.stage, self.stage.params
        if isinstance(params, SpreadParams) and params.executor == "ray" and self.inputs is not None:
            work = RemoteWork(stage, params.ray, self.open, self.work, self.inputs)
            yield from map_on_ray(work, left, workers)
            return
        with self.open(self.stage) as context:
            yield from map_items(lambda item: self.work(context, item), left, workers)

    def settle(self, item: Item, result: BaseModel | Exception, before: OwedItem | None) -> BaseModel:
        """The row of an item from what its work gave, or an OwedItem; `before` is what it owed until now."""
        if not isinstance(result, Exception):
            return result
        tries = before.tries + 1 if before else 1
        faults = before.faults if before else 0
        if isinstance(result, SynthkitError) and result.retryable:
            reason = str(getattr(result, "reason", "endpoint"))
            if reason in KILLED and before and before.reason == reason:
                return self.refuse(item, KILLED[reason], result.cause)
            return OwedItem(id=self.key(item), reason=reason, cause=result.cause, tries=tries, faults=faults)
        if isinstance(result, ReplyError | HubError):
            return self.refuse(item, result.reason, result.cause)
        unexpected = self.owe(item, result, before)
        if faults:
            return self.refuse(item, KIT_FAULT, f"{unexpected.cause}\n{unexpected.traceback}")
        return unexpected

    def owe(self, item: Item, error: Exception, before: OwedItem | None) -> OwedItem:
        """An item that is owed for an exception that nobody expected."""
        return OwedItem(id=self.key(item), reason=UNEXPECTED, cause=f"{type(error).__name__}: {error}",
                        tries=before.tries + 1 if before else 1, faults=before.faults + 1 if before else 1,
                        traceback="".join(traceback.format_exception(error))[-MAX_TRACE_CHARS:])

    def rewrite(self, rows: Iterable[BaseModel]) -> None:
        """Write the record files anew in the order of `rows`, and `owed.jsonl` without what is done by now.

        So that an interrupted and an uninterrupted run leave the same bytes.
        """
        rows = list(rows)
        for model, name in self.files.items():
            write_records(self.stage.dir / name, [row for row in rows if type(row) is model])
        write_owed(self.stage, {self.row_key(row) for row in rows})


def read_owed(stage: Stage) -> dict[str, OwedItem]:
    """What a stage owes, by item; of several lines of one item the last counts."""
    return {row.id: row for row in read_records(stage.dir / OWED_FILE, OwedItem)}


def write_owed(stage: Stage, done: Iterable[str]) -> None:
    """Write `owed.jsonl` anew, in a fixed order and without items that are done; no file when nothing is owed."""
    finished = set(done)
    left = sorted((row for row in read_owed(stage).values() if row.id not in finished), key=lambda row: row.id)
    if left:
        write_records(stage.dir / OWED_FILE, left)
    else:
        (stage.dir / OWED_FILE).unlink(missing_ok=True)


def check_owed(stage: Stage, requested: int) -> None:
    """At the end of a stage's run: raises StageError when it owes more than its parameters allow."""
    stage.check_owed(requested, count_owed(stage))


def count_owed(stage: Stage) -> dict[str, int]:
    """How many items a stage owes, by reason."""
    counts: dict[str, int] = {}
    for row in read_owed(stage).values():
        counts[row.reason] = counts.get(row.reason, 0) + 1
    return dict(sorted(counts.items()))
