"""The one loop of all stages: kept, refused and owed; retries that happen; faults that cost no other item's result."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel

from synthkit.core import worklist
from synthkit.core.chain import load_stage_record
from synthkit.core.errors import (
    BudgetError,
    CutReply,
    DiskFullError,
    HubError,
    SandboxDied,
    SynthkitError,
    TransientEndpointError,
)
from synthkit.core.files import read_records
from synthkit.core.opening import open_stage
from synthkit.core.stage import Stage
from synthkit.core.worklist import OwedItem, Worklist, count_owed, read_owed


class Kept(BaseModel):
    id: str
    value: int


class Refused(BaseModel):
    id: str
    reason: str
    detail: str


Faults = dict[str, list[BaseException | None]]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return open_stage("01_topics", {"run_dir": str(tmp_path / "run")})


def make_work(stage: Stage, faults: Faults, begun: list[str] | None = None) -> Worklist[str, None]:
    """Each item gives a row, unless `faults` has an exception left for it; None there is a try that goes well."""

    @contextmanager
    def open_nothing(stage: Stage) -> Iterator[None]:
        yield None

    def work(context: None, item: str) -> Kept:
        if begun is not None:
            begun.append(item)
        fault = faults[item].pop(0) if faults.get(item) else None
        if fault is not None:
            raise fault
        return Kept(id=item, value=len(item))

    return Worklist(stage, {Kept: "kept.jsonl", Refused: "refused.jsonl"}, str, lambda row: row.id,
                    lambda item, reason, detail: Refused(id=item, reason=reason, detail=detail), open_nothing, work)


def run(stage: Stage, faults: Faults, items: str = "abcde") -> dict[str, BaseModel]:
    work = make_work(stage, faults)
    rows = work.work_off(list(items), 2)
    work.rewrite(rows.values())
    return rows


def reason_of(rows: dict[str, BaseModel], item: str) -> str | None:
    return getattr(rows.get(item), "reason", None)


@pytest.mark.parametrize(("fault", "reason"), [
    (CutReply("cut"), "reply_cut"), (HubError("gated", "it is gated"), "gated"),
])
def test_the_items_own_fault_is_refused_with_its_typed_reason(stage: Stage, fault: Exception, reason: str) -> None:
    rows = run(stage, {"b": [fault]})
    assert reason_of(rows, "b") == reason and sorted(rows) == list("abcde") and not read_owed(stage)
    assert [row.id for row in read_records(stage.dir / "kept.jsonl", Kept)] == list("acde")
    begun: list[str] = []
    make_work(stage, {}, begun).work_off(list("abcde"), 2)
    assert begun == [], "what is refused is finished work"


@pytest.mark.parametrize(("fault", "reason"), [
    (TransientEndpointError("answered 503"), "endpoint"), (SandboxDied("it died"), "sandbox"),
])
def test_what_infrastructure_held_up_is_owed_and_tried_again(stage: Stage, fault: SynthkitError, reason: str) -> None:
    whole = run(stage, {}, "abcde")
    for path in stage.dir.glob("*.jsonl"):
        path.unlink()
    rows = run(stage, {"b": [fault], "d": [fault]})
    assert list(rows) == list("ace") and count_owed(stage) == {reason: 2}
    assert {row.id: row.tries for row in read_owed(stage).values()} == {"b": 1, "d": 1}
    begun: list[str] = []
    assert make_work(stage, {}, begun).work_off(list("abcde"), 2) == whole
    assert sorted(begun) == ["b", "d"], "only what is owed is tried again"
    run(stage, {})
    assert not (stage.dir / "owed.jsonl").exists()


def test_what_an_endpoint_fails_in_is_owed_however_often(stage: Stage) -> None:
    for tries in range(1, 5):
        run(stage, {"c": [TransientEndpointError("busy")]})
        assert read_owed(stage)["c"].tries == tries


def test_a_sandbox_that_dies_at_every_try_was_killed_by_what_ran_in_it(stage: Stage) -> None:
    run(stage, {"c": [SandboxDied("it died")]})
    rows = run(stage, {"c": [SandboxDied("it died")]})
    assert reason_of(rows, "c") == "sandbox_died" and not read_owed(stage)


def test_an_exception_that_nobody_expected_is_owed_once_and_then_the_kits_fault(stage: Stage) -> None:
    assert list(run(stage, {"c": [ZeroDivisionError("one by nought")]})) == list("abde")
    (owed,) = read_owed(stage).values()
    assert (owed.reason, owed.faults) == ("unexpected", 1) and "ZeroDivisionError: one by nought" in owed.traceback
    run(stage, {"c": [TransientEndpointError("busy")]})
    assert read_owed(stage)["c"].reason == "endpoint"
    rows = run(stage, {"c": [ValueError("again")]})
    refused = rows["c"]
    assert isinstance(refused, Refused) and refused.reason == "kit_fault" and "Traceback" in refused.detail
    assert sorted(rows) == list("abcde") and not read_owed(stage)


def test_one_items_exception_costs_no_other_items_result(stage: Stage) -> None:
    """The others are under way while it is raised, and there are more to come."""
    rows = run(stage, {"a": [KeyError("x")], "c": [RuntimeError("y")]}, "abcdefghij")
    assert sorted(rows) == list("bdefghij")
    assert {row.id for row in read_records(stage.dir / "kept.jsonl", Kept)} == set("bdefghij")


def test_what_a_person_must_act_on_stops_the_loop_and_counts_as_no_try(stage: Stage) -> None:
    with pytest.raises(BudgetError):
        make_work(stage, {"b": [BudgetError("spent")]}).work_off(list("abcdefghij"), 1)
    assert [row.id for row in read_records(stage.dir / "kept.jsonl", Kept)] == ["a"]
    assert not read_owed(stage)
    assert sorted(run(stage, {}, "abcdefghij")) == list("abcdefghij")


def test_new_work_takes_a_finished_stages_record_away(stage: Stage) -> None:
    run(stage, {"b": [TransientEndpointError("busy")]}, "ab")
    stage.params = stage.params.model_copy(update={"allow_owed": 0.5})
    stage.finish(2, 1, {}, owed=count_owed(stage))
    make_work(stage, {"b": [BudgetError("spent")]}).work_off(["a"], 1)
    assert load_stage_record(stage.run_dir, stage.name), "nothing was left to do"
    with pytest.raises(BudgetError):
        make_work(stage, {"b": [BudgetError("spent")]}).work_off(["a", "b"], 1)
    assert load_stage_record(stage.run_dir, stage.name) is None


def test_rows_are_in_the_order_of_the_items_whoever_finished_first(stage: Stage) -> None:
    gate = threading.Event()
    work = make_work(stage, {})

    def slow_first(context: None, item: str) -> Kept:
        if item == "a":
            gate.wait(300)
        if item == "e":
            gate.set()
        return Kept(id=item, value=0)

    slow = Worklist(stage, work.files, work.key, work.row_key, work.refuse, work.open, slow_first)
    rows = slow.work_off(list("abcde"), 2)
    appended = [row.id for row in read_records(stage.dir / "kept.jsonl", Kept)]
    assert appended[-1] in "ae" and appended != list("abcde")
    slow.rewrite(rows.values())
    assert [row.id for row in read_records(stage.dir / "kept.jsonl", Kept)] == list("abcde")


def test_of_several_lines_of_an_owed_item_the_last_counts(stage: Stage) -> None:
    lines = [OwedItem(id="a", reason="endpoint", cause="", tries=n) for n in (1, 2)]
    (stage.dir / "owed.jsonl").write_text("".join(f'{{"format":3,{line.model_dump_json()[1:]}\n' for line in lines))
    assert read_owed(stage)["a"].tries == 2


INTERRUPTED = """
import sys, threading
from concurrent.futures import CancelledError
from contextlib import nullcontext
from pydantic import BaseModel
from synthkit.core.executor import pause
from synthkit.core.opening import open_stage
from synthkit.core.worklist import Worklist
class Row(BaseModel):
    id: str
stage = open_stage("01_topics", {"run_dir": sys.argv[1]})
both = threading.Barrier(2)
def work(context, item):
    if both.wait() == 0:
        print("under way", flush=True)
    try:
        pause(600)
    except CancelledError:
        return Row(id=item)
list_ = Worklist(stage, {Row: "rows.jsonl"}, str, lambda row: row.id, None, lambda stage: nullcontext(), work)
list_.work_off(["a", "b", "c", "d"], 2)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_what_finishes_after_an_interrupt_is_recorded(tmp_path: Path, sent: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(tmp_path)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "under way\n"
    process.send_signal(sent)
    _, errors = process.communicate(timeout=300)
    assert "KeyboardInterrupt" in errors
    rows = read_records(tmp_path / "01_topics" / "rows.jsonl")
    assert sorted(row["id"] for row in rows) == ["a", "b"], "what was under way, and nothing that had not begun"


def test_a_row_of_an_older_format_is_refused_in_words(stage: Stage) -> None:
    (stage.dir / "kept.jsonl").write_text(json.dumps({"id": "a", "value": 1}) + "\n")
    with pytest.raises(SynthkitError, match=r"written by an older version of the kit(.|\n)*--run NAME"):
        run(stage, {})


def test_progress_is_told_of_what_is_done_and_of_each_outcome(stage: Stage) -> None:
    run(stage, {"c": [TransientEndpointError("busy")]}, "abc")
    told: list[int] = []
    make_work(stage, {}).work_off(list("abcd"), 1, told.append)
    assert told == [2, 1, 1]




def test_what_was_owed_stays_so_when_its_row_cannot_be_written(
        stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stage, {"c": [ZeroDivisionError("x")]}, "abc")

    def refuse(path: Path, row: BaseModel) -> None:
        raise DiskFullError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(worklist, "append_record", refuse)
        with pytest.raises(DiskFullError):
            make_work(stage, {}).work_off(list("abc"), 1)
    assert read_owed(stage)["c"].faults == 1


def test_a_refusal_that_cannot_be_made_costs_no_other_items_result(stage: Stage) -> None:
    work = make_work(stage, {"a": [CutReply("cut")]})

    def fail(item: str, reason: str, detail: str) -> BaseModel:
        raise KeyError("no baseline")

    broken = Worklist(stage, work.files, work.key, work.row_key, fail, work.open, work.work)
    assert sorted(broken.work_off(list("abcd"), 2)) == list("bcd")
    assert read_owed(stage)["a"].cause == "KeyError: 'no baseline'"
