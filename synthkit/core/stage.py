"""An open stage: its folder in the run, the stages that it stands on, and the record that is written last.

A stage counts as finished only when its `stage.json` is there, made with these parameters from the results of the
stages before it (core/chain.py). Whoever writes in the folder holds the run's lock (core/lock.py); a reader needs none.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from synthkit.core import chain
from synthkit.core.chain import load_stage_record, read_opened
from synthkit.core.errors import StageError
from synthkit.core.files import FORMAT, write_json
from synthkit.core.lock import hold_run
from synthkit.core.params import STAGES, StageParams, TeacherParams
from synthkit.core.params_table import find_section, list_params, make_table

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

    from synthkit.core.llm import ChatClient, Sender

    OpenSender = Callable[[TeacherParams, str], Sender]

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=StageParams)
RENEWED = ("attempt", "seconds", "versions", "finished_at")  # What a second finish alone does not make a change.


@dataclass
class Stage:
    """An open stage. `resumed`: its folder already holds work; `finished`: that work is complete.

    `made_from` names the results of the stage before that it was opened on, `code` its code, `codes` all code that
    worked on its folder, `spent` the seconds that were worked on it before `started`. `folder_id` tells the folder
    from a later one of the same name. `sender` opens what sends requests in place of this process; without one they
    leave from here.
    """

    name: str
    params: StageParams
    run_dir: Path
    dir: Path
    attempt: str
    fingerprint: str
    resumed: bool
    finished: bool
    started: float
    made_from: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    codes: list[str] = field(default_factory=list)
    spent: float = 0.0
    folder_id: str = ""
    sender: "OpenSender | None" = None

    @property
    def seed(self) -> int:
        """The run's seed, which every random choice of the stage follows from."""
        return self.params.seed

    def open_chat(self, teacher: TeacherParams, weights: str = "") -> "ChatClient":
        """A client for a teacher or a served student; `weights` is a hash of the student's. See ChatClient."""
        from synthkit.core.llm import ChatClient

        sender = self.sender(teacher, weights) if self.sender else None
        return ChatClient(teacher, self.run_dir, self.name, weights=weights, sender=sender)

    @property
    def made_by_other_code(self) -> bool:
        """Whether other code than today's made what lies in the folder, or some of it."""
        return chain.holds_other_code(self.codes, self.code)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the run's lock while something is written.

        Raises StageError when another process has it, or when the stage's folder is another one by now.
        """
        with hold_run(self.run_dir, self.name):
            if self.folder_id and read_opened(self.dir).get("folder") != self.folder_id:
                raise StageError(f"{self.name} has been opened anew since, with other parameters or inputs",
                                 "open it again: restart its notebook and run it from the top")
            yield

    def input(self, stage_name: str) -> Path:
        """The folder of an earlier stage.

        Raises StageError when a stage before this one has not finished, or was made again since this one was opened.
        """
        if stage_name in list(STAGES)[:list(STAGES).index(self.name)]:
            chain.check_chain(self.run_dir, self.name)
            if chain.name_below(self.run_dir, self.name) != dict(self.made_from):
                raise StageError(f"{chain.previous_stage(self.name)} has been made again since {self.name} was opened",
                                 f"open {self.name} again: restart its notebook and run it from the top")
        elif load_stage_record(self.run_dir, stage_name) is None:
            raise StageError(f"{self.name} needs {stage_name}, which has not finished in this run",
                             f"run notebooks/{stage_name}.ipynb to its end first")
        return self.run_dir / stage_name

    def reopen(self) -> None:
        """Before new work is done: note the code that does it, and take the completion record away, if there is one.

        So record and folder agree always: work that is interrupted leaves an unfinished stage.
        """
        with self.hold():
            record = load_stage_record(self.run_dir, self.name)
            self.finished = False
            self.codes = [*self.codes, *([] if self.code in self.codes else [self.code])]
            if record:
                self.started, self.spent = time.time(), float(record["seconds"])
            self.note_opening()
            (self.dir / chain.RECORD).unlink(missing_ok=True)

    def finish(self, requested: int, kept: int, refused: Mapping[str, int], metrics: Mapping[str, Any] | None = None,
               *, owed: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Write the completion record, last and atomically, and return it.

        Each item that was asked for is kept, refused or owed: requested = kept + refused + owed. `refused` counts the
        refused ones by reason, `owed` the owed ones. A second call writes the record anew from what is there now; where
        all of it is as before, but for times and versions, the old record stays and only takes this attempt's id.
        Raises StageError when the counts do not add up, and when more is owed than the parameters allow: owed work is
        not finished work.
        """
        due = {reason: count for reason, count in sorted((owed or {}).items()) if count}
        self.check_counts(requested, kept, refused, due)
        with self.hold():
            self.check_owed(requested, due)
            old = load_stage_record(self.run_dir, self.name)
            record = self.make_record(requested, kept, refused, metrics or {}, sum(due.values()))
            if old and all(old.get(key) == value for key, value in record.items() if key not in RENEWED):
                record = old | {"attempt": self.attempt}
            write_json(self.dir / chain.RECORD, record)
        self.finished = True
        return record

    def check_owed(self, requested: int, owed: Mapping[str, int]) -> None:
        """Raises StageError when more is owed than the parameters allow; the stage is then not finished."""
        if chain.may_owe(self.params, requested, sum(owed.values())):
            return
        self.reopen()
        text = ", ".join(f"{reason} {count}" for reason, count in owed.items())
        raise StageError(f"{self.name} still owes {sum(owed.values())} of {requested} ({text})",
                         "run it again to try them once more, or allow a share: run.allow_owed")

    def check_counts(self, requested: int, kept: int, refused: Mapping[str, int], owed: Mapping[str, int]) -> None:
        """Every item that was asked for is kept, refused for a reason, or owed."""
        ended = kept + sum(refused.values()) + sum(owed.values())
        if ended != requested:
            raise StageError(f"{self.name} was asked for {requested}, but {ended} are accounted for: {kept} kept, "
                             f"{sum(refused.values())} refused, {sum(owed.values())} owed",
                             "run the stage to its end; when it has ended, this is a fault of the kit")

    def make_record(self, requested: int, kept: int, refused: Mapping[str, int], metrics: Mapping[str, Any],
                    owed: int) -> dict[str, Any]:
        """The completion record as it would be written now, with what the ledger says of tokens and USD."""
        from synthkit.core.ledger import stage_charges, stage_usage

        tokens, usd = stage_usage(self.run_dir, self.name)
        record = {
            "format": FORMAT, "name": self.name, "attempt": self.attempt, "fingerprint": self.fingerprint,
            "results": chain.hash_results(self.run_dir, self.name), "made_from": dict(self.made_from),
            "requested": requested, "kept": kept, "refused": dict(sorted(refused.items())), "owed": owed,
            "metrics": dict(metrics), "tokens": tokens, "usd": usd,
            "charges": stage_charges(self.run_dir, self.name),
            "codes": self.codes or [self.code], "made_by_other_code": self.made_by_other_code,
            "seconds": round(self.spent + time.time() - self.started, 1),
            "versions": chain.list_versions(), "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return dict(json.loads(json.dumps(record)))  # As it will be read again, so that it can be compared.

    def note_opening(self) -> None:
        """Write when the folder was opened to work and by what, how long it was worked in before, and by what code."""
        write_json(self.dir / chain.OPENED, {
            "format": FORMAT, "folder": self.folder_id, "fingerprint": self.fingerprint, "opened_at": self.started,
            "seconds_before": round(self.spent, 1), "codes": self.codes,
        })

    def describe(self, section: str = "") -> "Styler":
        """The effective parameters with what they mean, and whether the stage starts, continues or is complete.

        `section` names one that holds parameters itself, such as "teacher": these are then shown. Raises ParamError
        for any other name.
        """
        if section:
            return make_table(list_params(find_section(self.params, section)))
        state = "complete" if self.finished else "continued" if self.resumed else "fresh"
        state += ", made by other code" if self.made_by_other_code else ""
        place = f"{self.params.run_dir}/{self.name}"
        return make_table([
            ("stage", f"{self.name} ({state})", "The stage, and whether its work is fresh, continued or complete."),
            ("folder", place, "Where its work lies, relative to the repository's root."),
            *(row for row in list_params(self.params) if row[0] != "run_dir"),
        ])


def params_as(stage: Stage, model: type[M]) -> M:
    """A stage's parameters as its own model of them."""
    assert isinstance(stage.params, model), f"{stage.name} has {type(stage.params).__name__}"
    return stage.params


def under_lock(function: Callable[Concatenate[Stage, P], R]) -> Callable[Concatenate[Stage, P], R]:
    """For a function whose first argument is a Stage and that writes in its folder: it holds the run's lock."""

    @wraps(function)
    def locked(stage: Stage, /, *args: P.args, **named: P.kwargs) -> R:
        with stage.hold():
            return function(stage, *args, **named)

    return locked
