"""Stage 03: the teacher writes description, baseline and evaluation of each task; the kit writes the rest around them.

Source: paper, stage 3 (MLGym-compatible configuration, starter code and evaluation script are generated). That a
baseline is always made is our choice. Nothing is run here: a draft may well be broken.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.core.errors import StageError
from synthkit.core.files import read_records
from synthkit.core.llm import ChatClient
from synthkit.core.params import CodegenParams
from synthkit.core.progress import Progress, show_progress
from synthkit.core.stage import Stage, params_as, under_lock
from synthkit.core.worklist import Worklist, check_owed, count_owed
from synthkit.records import Draft, Proposal, RefusedDraft, TaskCode
from synthkit.stages.common.code_request import build_code_request
from synthkit.stages.common.funnel import Funnel, count_reasons
from synthkit.stages.common.origins import build_origin
from synthkit.stages.common.seeds import derive_seed
from synthkit.stages.common.task_writer import complete_code, hash_task_code, write_draft


def params_of(stage: Stage) -> CodegenParams:
    """The parameters of this stage."""
    return params_as(stage, CodegenParams)


def load_inputs(stage: Stage) -> list[Proposal]:
    """The tasks that stage 02 put on a dataset."""
    return read_records(stage.input("02_datasets") / "proposals.jsonl", Proposal)


def data_of(stage: Stage, proposal: Proposal) -> Path:
    """The folder with a task's train.csv, test.csv, sample_submission.csv and answers.csv."""
    return stage.input("02_datasets") / "data" / proposal.task_id


def show_prompt(stage: Stage, proposal: Proposal) -> list[dict[str, str]]:
    """The request for one task's files."""
    params = params_of(stage)
    return build_code_request(proposal, data_of(stage, proposal), sample_rows=params.sample_rows,
                              time_limit_s=params.time_limit_s, evaluation=params.evaluation, attempt=1)


@under_lock
def preview(stage: Stage, n: int = 1) -> list[dict[str, Any]]:
    """The drafts of the first `n` tasks, as rows, nothing recorded; the full run then has them for nothing."""
    with open_drafting(stage) as context:
        return [draft_task(context, proposal).code.model_dump() for proposal in load_inputs(stage)[:n]]


@dataclass(frozen=True)
class Drafting:
    """What the work on every draft needs."""

    stage: Stage
    client: ChatClient


@contextmanager
def open_drafting(stage: Stage) -> Iterator[Drafting]:
    """The teacher, open while drafts are asked for."""
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
    """The worklist of proposals."""
    return Worklist(stage, {Draft: "drafts.jsonl", RefusedDraft: "refused.jsonl"}, name_task, name_task, refuse,
                    open_drafting, draft_task, lambda stage, proposal: [data_of(stage, proposal)])


def name_task(row: Proposal | Draft | RefusedDraft) -> str:
    """The key of a row: its task."""
    return row.task_id


def draft_task(context: Drafting, proposal: Proposal) -> Draft:
    """Ask for one task's files and write them. Raises ReplyError when the reply does not match the schema."""
    stage, messages = context.stage, show_prompt(context.stage, proposal)
    seed = derive_seed(stage.seed, "TaskCode", proposal.task_id, 1)
    code, replies = context.client.ask(messages, TaskCode, sample=1, seed=seed)
    limit, evaluation = params_of(stage).time_limit_s, params_of(stage).evaluation
    code = complete_code(proposal, code, evaluation)
    write_draft(stage.dir / "tasks", proposal, code, data_of(stage, proposal), limit)
    return Draft(task_id=proposal.task_id, title=proposal.title, metric=proposal.metric, time_limit_s=limit,
                 evaluation=evaluation, code_hash=hash_task_code(code), code=code,
                 origin=build_origin(stage, context.client, replies))


def refuse(proposal: Proposal, reason: str, detail: str) -> RefusedDraft:
    """The row of a proposal for which no code came."""
    return RefusedDraft(task_id=proposal.task_id, title=proposal.title, reason=reason, detail=detail)


def load_drafts(stage: Stage) -> list[dict[str, Any]]:
    """The drafts as plain rows with their files, for tables and exercises."""
    return [row.model_dump(exclude={"code"}) | row.code.model_dump() for row in read_drafts(stage)]


def read_drafts(stage: Stage) -> list[Draft]:
    """The drafts."""
    return read_records(stage.dir / "drafts.jsonl", Draft)


def read_refused(stage: Stage) -> list[RefusedDraft]:
    """The proposals without a draft, and why."""
    return read_records(stage.dir / "refused.jsonl", RefusedDraft)


def funnel(stage: Stage) -> Funnel:
    """Tasks on a dataset, drafts of them, refused and owed."""
    return Funnel(len(load_inputs(stage)), len(read_drafts(stage)), count_reasons(read_refused(stage)),
                  count_owed(stage))


def check(stage: Stage) -> None:
    """Each task has one record, and each draft its files; whether they work is for stage 04 to find out."""
    funnel(stage).check(stage, "no draft was written", "look at 03_codegen/refused.jsonl")
    for draft in read_drafts(stage):
        folder = stage.dir / "tasks" / "data" / draft.task_id
        if (folder / "baseline.py").read_text(encoding="utf-8") != draft.code.baseline_py:
            raise StageError(f"03_codegen: {folder}/baseline.py is not what the record says",
                             "set resume to never and run again")


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record."""
    return funnel(stage).finish(stage, {"distinct_codes": len({row.code_hash for row in read_drafts(stage)})})
