"""Attempts at one task: its draft, and what the teacher makes of it after a gate has refused it."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from synthkit.core.errors import ReplyError
from synthkit.core.llm import ChatClient, Reply
from synthkit.core.params import SelfDebugParams
from synthkit.core.prompts import render_messages
from synthkit.core.stage import Stage
from synthkit.records import (
    Attempt,
    Draft,
    How,
    MeasuredDifficulty,
    Proposal,
    Scores,
    TaskCode,
    Text,
    Verdict,
)
from synthkit.stages.common.code_request import build_code_request, read_heads
from synthkit.stages.common.seeds import derive_random, derive_seed
from synthkit.stages.common.task_writer import complete_code, hash_task_code
from synthkit.stages.self_debug.candidate import open_candidate
from synthkit.stages.self_debug.gates import run_gates


class TaskSolution(BaseModel):
    """The form of a reply: a script that beats a task's baseline, asked for where no generic model does."""

    solution_py: Text


@dataclass(frozen=True)
class Debugging:
    """What the work on every task needs: the teacher, the parameters, and the data of stage 02."""

    stage: Stage
    params: SelfDebugParams
    client: ChatClient
    data: Path


@dataclass(frozen=True)
class DebugJob:
    """One task: its proposal, its first draft, and the attempts that an interrupted run already made."""

    proposal: Proposal
    draft: Draft
    past: tuple[Attempt, ...] = ()


def build_repair_prompt(params: SelfDebugParams, job: DebugJob, data: Path, last: Attempt) -> list[dict[str, str]]:
    """The first request again, the teacher's answer to it, and what the gates said of that."""
    return [
        *build_code_prompt(params, job, data, 1),
        {"role": "assistant", "content": last.code.model_dump_json()},
        *render_messages("task_repair", attempt=last.number + 1, gate=last.gate, reason=last.reason,
                         evidence=last.evidence),
    ]


def build_code_prompt(params: SelfDebugParams, job: DebugJob, data: Path, attempt: int) -> list[dict[str, str]]:
    """The request for the task's code, as stage 03 sent it but for the number of the attempt."""
    return build_code_request(job.proposal, data / job.proposal.task_id, sample_rows=params.sample_rows,
                              time_limit_s=job.draft.time_limit_s, evaluation=job.draft.evaluation, attempt=attempt)


def next_attempt(context: Debugging, job: DebugJob, attempts: list[Attempt]) -> Attempt:
    """The draft as it is, then what the teacher makes of the last failure; a bad reply is a failed attempt."""
    number = len(attempts) + 1
    if not attempts:
        return check_code(context, job, job.draft.code, "draft", number)
    how: How = "restart"
    if derive_random(context.stage.seed, "p_debug", job.draft.task_id, number).random() < context.params.p_debug:
        how = "repair"
    last = attempts[-1]
    try:
        code, replies = ask_again(context, job, last, how)
    except ReplyError as error:
        verdict = Verdict(gate="reply", reason=error.reason, evidence=error.cause)
        return record_attempt(job, last.code, how, number, [verdict])
    code = complete_code(job.proposal, code, job.draft.evaluation)
    attempt = check_code(context, job, code, how, number, replies)
    return attempt.model_copy(update={"diff": compare_code(last.code, code)})


def ask_again(context: Debugging, job: DebugJob, last: Attempt, how: How) -> tuple[TaskCode, list[Reply]]:
    """The teacher's next version of a task's code: a repair of the last one, or a new start. Raises ReplyError."""
    number = last.number + 1
    if how == "repair":
        messages = build_repair_prompt(context.params, job, context.data, last)
    else:
        messages = build_code_prompt(context.params, job, context.data, number)
    seed = derive_seed(context.stage.seed, "TaskCode", job.draft.task_id, number)
    return context.client.ask(messages, TaskCode, sample=number, seed=seed)


def check_code(context: Debugging, job: DebugJob, code: TaskCode, how: How, number: int,
               replies: Sequence[Reply] = ()) -> Attempt:
    """Put one version of a task's code through the gates. `replies` are those that it was made from."""
    spent = list(replies)

    def solve(nth: int) -> str:
        solution, more = ask_for_script(context, job, code, number, nth)
        spent.extend(more)
        return solution.solution_py

    params = context.params
    with open_candidate(job.proposal, code, context.data / job.proposal.task_id, time_limit_s=job.draft.time_limit_s,
                        margin=params.margin, leak=params.leak, seed=context.stage.seed, sandbox=params.sandbox,
                        solve=solve, solver_attempts=params.solver_attempts) as candidate:
        attempt = record_attempt(job, code, how, number, run_gates(candidate), candidate.scores, candidate.difficulty)
    tokens_in, tokens_out = sum(reply.tokens_in for reply in spent), sum(reply.tokens_out for reply in spent)
    return attempt.model_copy(update={
        "solution": candidate.solution if attempt.scores else "", "tokens_in": tokens_in, "tokens_out": tokens_out,
        "usd": context.client.price(tokens_in, tokens_out)})


def ask_for_script(context: Debugging, job: DebugJob, code: TaskCode, number: int,
                   nth: int) -> tuple[TaskSolution, list[Reply]]:
    """The teacher's nth solution for one version of a task. Raises ReplyError."""
    data = context.data / job.proposal.task_id
    messages = render_messages(
        "task_solution", task=job.proposal, description=code.description, baseline=code.baseline_py, number=nth,
        files=read_heads(data, context.params.sample_rows), time_limit_s=job.draft.time_limit_s)
    seed = derive_seed(context.stage.seed, "TaskSolution", job.draft.task_id, number, nth)
    return context.client.ask(messages, TaskSolution, sample=nth, seed=seed)


def compare_code(old: TaskCode, new: TaskCode) -> str:
    """What changed between two versions of a task's files, as a unified diff."""
    lines: list[str] = []
    for name in TaskCode.model_fields:
        before, after = (getattr(code, name).splitlines() for code in (old, new))
        lines += difflib.unified_diff(before, after, name, name, lineterm="", n=1)
    return "\n".join(lines)


def is_spent(params: SelfDebugParams, attempts: list[Attempt]) -> bool:
    """Whether a task's attempts have used what one task may use, in number, tokens or USD."""
    tokens = sum(attempt.tokens_in + attempt.tokens_out for attempt in attempts)
    usd = sum(attempt.usd for attempt in attempts)
    return (len(attempts) >= params.max_attempts or attempts[-1].final
            or (params.max_task_tokens is not None and tokens >= params.max_task_tokens)
            or (params.max_task_usd is not None and usd >= params.max_task_usd))


def record_attempt(job: DebugJob, code: TaskCode, how: How, number: int, verdicts: list[Verdict],
                   scores: Scores | None = None, difficulty: MeasuredDifficulty | None = None) -> Attempt:
    """The row of an attempt from its verdicts, the last of which tells its outcome."""
    last = verdicts[-1]
    return Attempt(
        task_id=job.draft.task_id, number=number, how=how, code_hash=hash_task_code(code), code=code, verdicts=verdicts,
        scores=scores, difficulty=difficulty if scores else None, gate=last.gate if last.reason else None,
        reason=last.reason, evidence=last.evidence, final=last.final,
    )


def flatten(attempt: Attempt) -> dict[str, Any]:
    """An attempt as a plain row, without its code."""
    row = attempt.model_dump(include={"task_id", "how", "gate", "reason", "evidence", "code_hash"})
    return {"task_id": row.pop("task_id"), "attempt": attempt.number, **row}
