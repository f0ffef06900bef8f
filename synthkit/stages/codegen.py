"""Stage 03: the teacher writes description, baseline and evaluation of each task; the kit writes the rest around them.

Source: paper, stage 3 (MLGym-compatible configuration, starter code and evaluation script are generated). That a
baseline is always made is our choice. Nothing is run here: a draft may well be broken.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from synthkit.core.errors import ReplyError, StageError
from synthkit.core.executor import map_items
from synthkit.core.llm import ChatClient
from synthkit.core.params import CodegenParams
from synthkit.core.prompts import render_messages
from synthkit.core.records import append_record, read_records, write_records
from synthkit.core.runs import Stage
from synthkit.stages.drafting import Draft, complete_code, hash_code, write_draft
from synthkit.stages.forms import TaskCode
from synthkit.stages.losses import RETRIED, count_reasons
from synthkit.stages.origins import build_origin
from synthkit.stages.progress import Progress, follow
from synthkit.stages.proposals import Proposal
from synthkit.stages.seeds import derive_seed

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


def preview(stage: Stage, n: int = 1) -> list[dict[str, Any]]:
    """The drafts of the first `n` tasks, as rows, nothing recorded; the full run then has them for nothing."""
    client = open_client(stage)
    return [draft_task(stage, client, proposal).code.model_dump() for proposal in load_inputs(stage)[:n]]


def open_client(stage: Stage) -> ChatClient:
    return ChatClient(params_of(stage).teacher, stage.run_dir, stage.name)


def run(stage: Stage, progress: Progress | None = None) -> list[Draft]:
    """Ask for the files of each task that has no record yet, and write them as an MLGym root under tasks/."""
    proposals = load_inputs(stage)
    drafts, rejected = read_drafts(stage), [row for row in read_rejected(stage) if row.reason != RETRIED]
    done = {row.task_id for row in [*drafts, *rejected]}
    left = [proposal for proposal in proposals if proposal.task_id not in done]
    if left:
        client = open_client(stage)
        results = map_items(lambda one: draft_task(stage, client, one), left, params_of(stage).teacher.concurrency)
        for proposal, result in follow(progress, results, total=len(proposals), done=len(done)):
            if isinstance(result, Draft):
                append_record(stage.dir / "drafts.jsonl", result)
                drafts.append(result)
            else:
                rejected.append(reject(proposal, result))
                append_record(stage.dir / "rejected.jsonl", rejected[-1])
    write_records(stage.dir / "drafts.jsonl", sorted(drafts, key=lambda row: row.task_id))
    write_records(stage.dir / "rejected.jsonl", sorted(rejected, key=lambda row: row.task_id))
    return read_drafts(stage)


def draft_task(stage: Stage, client: ChatClient, proposal: Proposal) -> Draft:
    """Ask for one task's files and write them. Raises ReplyError when the reply has not the form."""
    messages = show_prompt(stage, proposal)
    seed = derive_seed(stage.seed, "TaskCode", proposal.task_id, 1)
    code, replies = client.ask(messages, TaskCode, sample=1, seed=seed)
    limit, evaluation = params_of(stage).time_limit_s, params_of(stage).evaluation
    code = complete_code(proposal, code, evaluation)
    write_draft(stage.dir / "tasks", proposal, code, data_of(stage, proposal), limit)
    return Draft(task_id=proposal.task_id, title=proposal.title, metric=proposal.metric, time_limit_s=limit,
                 evaluation=evaluation, code_hash=hash_code(code), code=code,
                 origin=build_origin(stage, client, replies))


def reject(proposal: Proposal, error: Exception) -> Rejected:
    reason = "bad_reply" if isinstance(error, ReplyError) else RETRIED
    return Rejected(task_id=proposal.task_id, title=proposal.title, reason=reason,
                    detail=f"{type(error).__name__}: {error}")


def load_drafts(stage: Stage) -> list[dict[str, Any]]:
    """The drafts as plain rows with their files, for tables and exercises."""
    return [row.model_dump(exclude={"code"}) | row.code.model_dump() for row in read_drafts(stage)]


def read_drafts(stage: Stage) -> list[Draft]:
    return read_records(stage.dir / "drafts.jsonl", Draft)


def read_rejected(stage: Stage) -> list[Rejected]:
    return read_records(stage.dir / "rejected.jsonl", Rejected)


def funnel(stage: Stage) -> tuple[int, int, dict[str, int]]:
    """(tasks on a dataset, drafts, lost by reason): the three add up."""
    return len(load_inputs(stage)), len(read_drafts(stage)), count_reasons(read_rejected(stage))


def check(stage: Stage) -> None:
    """Each task has one record, and each draft its files; whether they work is for stage 04 to find out."""
    requested, kept, lost = funnel(stage)
    if not kept:
        raise StageError(f"03_codegen: no draft was written; lost: {lost}", "look at 03_codegen/rejected.jsonl")
    if kept + sum(lost.values()) != requested:
        raise StageError(f"03_codegen: {requested} tasks, but {kept} drafts and {sum(lost.values())} rejected",
                         "run the stage again")
    for draft in read_drafts(stage):
        folder = stage.dir / "tasks" / "data" / draft.task_id
        if (folder / "baseline.py").read_text(encoding="utf-8") != draft.code.baseline_py:
            raise StageError(f"03_codegen: {folder}/baseline.py is not what the record says",
                             "set resume to never and run again")


def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record."""
    return stage.finish(*funnel(stage), metrics={"distinct_codes": len({row.code_hash for row in read_drafts(stage)})})
