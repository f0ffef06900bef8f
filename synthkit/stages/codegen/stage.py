"""Stage 03: the teacher writes description, baseline and evaluation of each task; the kit writes the rest around them.

Source: paper, stage 3 (MLGym-compatible configuration, starter code and evaluation script are generated). That a
baseline is always made is our choice. Nothing is run here: a draft may well be broken.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from synthkit.core.errors import StageError
from synthkit.core.files import read_records
from synthkit.core.llm import ChatClient
from synthkit.core.params import CodegenParams
from synthkit.core.progress import Progress, show_progress
from synthkit.core.prompts import render_messages
from synthkit.core.stage import Stage, under_lock
from synthkit.core.worklist import Worklist, check_owed, count_owed
from synthkit.stages.common.forms import TaskCode
from synthkit.stages.common.origins import build_origin
from synthkit.stages.common.refusals import count_reasons
from synthkit.stages.common.seeds import derive_seed
from synthkit.stages.common.task_writer import Draft, complete_code, hash_code, write_draft
from synthkit.stages.datasets.proposing import Proposal

SHOWN_FILES = ("train", "test", "sample_submission")


class Rejected(BaseModel):
    """A proposal for which the teacher wrote nothing usable."""

    task_id: str
    title: str
    reason: str
    detail: str


def params_of(stage: Stage) -> CodegenParams:
    assert isinstance(stage.params, CodegenParams)
    return stage.params


def load_inputs(stage: Stage) -> list[Proposal]:
    """The tasks that stage 02 put on a dataset."""
    return read_records(stage.input("02_datasets") / "proposals.jsonl", Proposal)


def data_of(stage: Stage, proposal: Proposal) -> Path:
    """The folder with a task's train.csv, test.csv, sample_submission.csv and answers.csv."""
    return stage.input("02_datasets") / "data" / proposal.task_id


def build_prompt(proposal: Proposal, data: Path, *, sample_rows: int, time_limit_s: int, evaluation: str,
                 attempt: int) -> list[dict[str, str]]:
    """The exact messages that ask for a task's files; stage 04 asks the same again when it starts anew."""
    by_kit = evaluation == "kit" and not proposal.custom_metric
    return render_messages("task_code", task=proposal, files=read_heads(data, sample_rows), attempt=attempt,
                           time_limit_s=time_limit_s, by_kit=by_kit)


def read_heads(data: Path, rows: int) -> dict[str, str]:
    """How the files begin that a solver sees."""
    return {name: read_head(data / f"{name}.csv", rows) for name in SHOWN_FILES}


def read_head(path: Path, rows: int) -> str:
    """The header and the first rows of a CSV file, as they stand in it."""
    with path.open(encoding="utf-8") as lines:
        return "".join(line for line, _ in zip(lines, range(rows + 1), strict=False)).strip()


def show_prompt(stage: Stage, proposal: Proposal) -> list[dict[str, str]]:
    """The request for one task's files."""
    params = params_of(stage)
    return build_prompt(proposal, data_of(stage, proposal), sample_rows=params.sample_rows,
                        time_limit_s=params.time_limit_s, evaluation=params.evaluation, attempt=1)


@under_lock
def preview(stage: Stage, n: int = 1) -> list[dict[str, Any]]:
    """The drafts of the first `n` tasks, as rows, nothing recorded; the full run then has them for nothing."""
    with open_drafting(stage) as drafting:
        return [draft_task(drafting, proposal).code.model_dump() for proposal in load_inputs(stage)[:n]]


@dataclass(frozen=True)
class Drafting:
    """What the work on every draft needs."""

    stage: Stage
    client: ChatClient


@contextmanager
def open_drafting(stage: Stage) -> Iterator[Drafting]:
    yield Drafting(stage, stage.open_chat(params_of(stage).teacher))


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> list[Draft]:
    """Ask for the files of each task that has no record yet, and write them as an MLGym root under tasks/."""
    proposals = sorted(load_inputs(stage), key=name_task)
    work = list_work(stage)
    with show_progress(progress, len(proposals)) as advance:
        rows = work.work_off(proposals, params_of(stage).teacher.concurrency, advance)
    work.rewrite(rows.values())
    check_owed(stage, len(proposals))
    return read_drafts(stage)


def list_work(stage: Stage) -> Worklist[Proposal, Drafting]:
    return Worklist(stage, {Draft: "drafts.jsonl", Rejected: "rejected.jsonl"}, name_task, name_task, refuse,
                    open_drafting, draft_task, lambda stage, proposal: [data_of(stage, proposal)])


def name_task(row: Proposal | Draft | Rejected) -> str:
    return row.task_id


def draft_task(drafting: Drafting, proposal: Proposal) -> Draft:
    """Ask for one task's files and write them. Raises ReplyError when the reply does not match the schema."""
    stage, messages = drafting.stage, show_prompt(drafting.stage, proposal)
    seed = derive_seed(stage.seed, "TaskCode", proposal.task_id, 1)
    code, replies = drafting.client.ask(messages, TaskCode, sample=1, seed=seed)
    limit, evaluation = params_of(stage).time_limit_s, params_of(stage).evaluation
    code = complete_code(proposal, code, evaluation)
    write_draft(stage.dir / "tasks", proposal, code, data_of(stage, proposal), limit)
    return Draft(task_id=proposal.task_id, title=proposal.title, metric=proposal.metric, time_limit_s=limit,
                 evaluation=evaluation, code_hash=hash_code(code), code=code,
                 origin=build_origin(stage, drafting.client, replies))


def refuse(proposal: Proposal, reason: str, detail: str) -> Rejected:
    return Rejected(task_id=proposal.task_id, title=proposal.title, reason=reason, detail=detail)


def load_drafts(stage: Stage) -> list[dict[str, Any]]:
    """The drafts as plain rows with their files, for tables and exercises."""
    return [row.model_dump(exclude={"code"}) | row.code.model_dump() for row in read_drafts(stage)]


def read_drafts(stage: Stage) -> list[Draft]:
    return read_records(stage.dir / "drafts.jsonl", Draft)


def read_rejected(stage: Stage) -> list[Rejected]:
    return read_records(stage.dir / "rejected.jsonl", Rejected)


def funnel(stage: Stage) -> tuple[int, int, dict[str, int], dict[str, int]]:
    """(tasks on a dataset, drafts, lost by reason, owed by reason): the last three add up to the first."""
    return len(load_inputs(stage)), len(read_drafts(stage)), count_reasons(read_rejected(stage)), count_owed(stage)


def check(stage: Stage) -> None:
    """Each task has one record, and each draft its files; whether they work is for stage 04 to find out."""
    requested, kept, lost, owed = funnel(stage)
    if not kept:
        raise StageError(f"03_codegen: no draft was written; lost: {lost}", "look at 03_codegen/rejected.jsonl")
    if kept + sum(lost.values()) + sum(owed.values()) != requested:
        raise StageError(f"03_codegen: {requested} tasks, but {kept} drafts and {sum(lost.values())} rejected",
                         "run the stage again")
    for draft in read_drafts(stage):
        folder = stage.dir / "tasks" / "data" / draft.task_id
        if (folder / "baseline.py").read_text(encoding="utf-8") != draft.code.baseline_py:
            raise StageError(f"03_codegen: {folder}/baseline.py is not what the record says",
                             "set resume to never and run again")


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record."""
    requested, kept, lost, owed = funnel(stage)
    metrics = {"distinct_codes": len({row.code_hash for row in read_drafts(stage)})}
    return stage.finish(requested, kept, lost, metrics, owed=owed)
