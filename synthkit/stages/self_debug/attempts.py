"""Attempts at one task: its draft, and what the teacher makes of it after a gate has refused it."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from synthkit.core.errors import ReplyError
from synthkit.core.llm import ChatClient, Reply
from synthkit.core.params import SelfDebugParams
from synthkit.core.prompts import render_messages
from synthkit.core.stage import Stage
from synthkit.stages.codegen.stage import build_prompt, read_heads
from synthkit.stages.common.forms import TaskCode, TaskSolution
from synthkit.stages.common.seeds import derive_random, derive_seed
from synthkit.stages.common.task_writer import Draft, complete_code, hash_code
from synthkit.stages.datasets.proposing import Proposal
from synthkit.stages.self_debug.candidate import Difficulty, Scores, open_trial
from synthkit.stages.self_debug.gates import Verdict, run_gates

How = Literal["draft", "repair", "restart"]


class Attempt(BaseModel):
    """One try at a task: where its code came from, each gate's verdict, and the scores when it passed all.

    Tokens and USD are those of the requests that made and solved it, at the list price even where a reply was kept from
    before; what a draft cost stands in stage 03. `diff` is from the try before, `final` says that no other code could
    do better.
    """

    task_id: str
    number: int
    how: How
    code_hash: str
    gate: str | None
    reason: str | None
    evidence: str
    verdicts: list[Verdict]
    scores: Scores | None
    difficulty: Difficulty | None = None
    solution: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    final: bool = False
    diff: str = ""
    code: TaskCode


@dataclass(frozen=True)
class Shop:
    """What the work on every task needs."""

    stage: Stage
    params: SelfDebugParams
    client: ChatClient
    data: Path


@dataclass(frozen=True)
class Job:
    """One task: its proposal, its first draft, and the attempts that an interrupted run already made."""

    proposal: Proposal
    draft: Draft
    past: tuple[Attempt, ...] = ()


def build_repair_prompt(shop_params: SelfDebugParams, job: Job, data: Path, last: Attempt) -> list[dict[str, str]]:
    """The first request again, the teacher's answer to it, and what the gates said of that."""
    return [
        *build_code_prompt(shop_params, job, data, 1),
        {"role": "assistant", "content": last.code.model_dump_json()},
        *render_messages("task_repair", attempt=last.number + 1, gate=last.gate, reason=last.reason,
                         evidence=last.evidence),
    ]


def build_code_prompt(shop_params: SelfDebugParams, job: Job, data: Path, attempt: int) -> list[dict[str, str]]:
    return build_prompt(job.proposal, data / job.proposal.task_id, sample_rows=shop_params.sample_rows,
                        time_limit_s=job.draft.time_limit_s, evaluation=job.draft.evaluation, attempt=attempt)


def next_attempt(shop: Shop, job: Job, attempts: list[Attempt]) -> Attempt:
    """The draft as it is, then what the teacher makes of the last failure; a bad reply is a failed attempt."""
    number = len(attempts) + 1
    if not attempts:
        return try_code(shop, job, job.draft.code, "draft", number)
    how: How = "restart"
    if derive_random(shop.stage.seed, "p_debug", job.draft.task_id, number).random() < shop.params.p_debug:
        how = "repair"
    last = attempts[-1]
    try:
        code, replies = ask_again(shop, job, last, how)
    except ReplyError as error:
        verdict = Verdict(gate="reply", reason=error.reason, evidence=error.cause)
        return record_attempt(job, last.code, how, number, [verdict])
    code = complete_code(job.proposal, code, job.draft.evaluation)
    attempt = try_code(shop, job, code, how, number, replies)
    return attempt.model_copy(update={"diff": compare_code(last.code, code)})


def ask_again(shop: Shop, job: Job, last: Attempt, how: How) -> tuple[TaskCode, list[Reply]]:
    number = last.number + 1
    if how == "repair":
        messages = build_repair_prompt(shop.params, job, shop.data, last)
    else:
        messages = build_code_prompt(shop.params, job, shop.data, number)
    seed = derive_seed(shop.stage.seed, "TaskCode", job.draft.task_id, number)
    return shop.client.ask(messages, TaskCode, sample=number, seed=seed)


def try_code(shop: Shop, job: Job, code: TaskCode, how: How, number: int, replies: Sequence[Reply] = ()) -> Attempt:
    """Put one version of a task's code through the gates. `replies` are those that it was made from."""
    spent = list(replies)

    def solve(nth: int) -> str:
        solution, more = ask_for_script(shop, job, code, number, nth)
        spent.extend(more)
        return solution.solution_py

    with open_trial(job.proposal, code, shop.data / job.proposal.task_id, time_limit_s=job.draft.time_limit_s,
                    margin=shop.params.margin, leak=shop.params.leak, seed=shop.stage.seed,
                    sandbox=shop.params.sandbox, solve=solve, solve_tries=shop.params.solve_tries) as trial:
        attempt = record_attempt(job, code, how, number, run_gates(trial), trial.scores, trial.difficulty)
    tokens_in, tokens_out = sum(reply.tokens_in for reply in spent), sum(reply.tokens_out for reply in spent)
    return attempt.model_copy(update={
        "solution": trial.solution if attempt.scores else "", "tokens_in": tokens_in, "tokens_out": tokens_out,
        "usd": shop.client.price(tokens_in, tokens_out)})


def ask_for_script(shop: Shop, job: Job, code: TaskCode, number: int, nth: int) -> tuple[TaskSolution, list[Reply]]:
    """The teacher's nth solution of a task as one of its attempts has it."""
    data = shop.data / job.proposal.task_id
    messages = render_messages(
        "task_solution", task=job.proposal, description=code.description, baseline=code.baseline_py, number=nth,
        files=read_heads(data, shop.params.sample_rows), time_limit_s=job.draft.time_limit_s)
    seed = derive_seed(shop.stage.seed, "TaskSolution", job.draft.task_id, number, nth)
    return shop.client.ask(messages, TaskSolution, sample=nth, seed=seed)


def compare_code(old: TaskCode, new: TaskCode) -> str:
    """What changed between two versions of a task's files, as a unified diff."""
    lines: list[str] = []
    for name in TaskCode.model_fields:
        before, after = (getattr(code, name).splitlines() for code in (old, new))
        lines += difflib.unified_diff(before, after, name, name, lineterm="", n=1)
    return "\n".join(lines)


def is_spent(params: SelfDebugParams, attempts: list[Attempt]) -> bool:
    """Whether a task's repairs have used what one task may use, in tries, tokens or USD."""
    tokens = sum(attempt.tokens_in + attempt.tokens_out for attempt in attempts)
    usd = sum(attempt.usd for attempt in attempts)
    return (len(attempts) >= params.max_tries or attempts[-1].final
            or (params.max_task_tokens is not None and tokens >= params.max_task_tokens)
            or (params.max_task_usd is not None and usd >= params.max_task_usd))


def record_attempt(job: Job, code: TaskCode, how: How, number: int, verdicts: list[Verdict],
                   scores: Scores | None = None, difficulty: Difficulty | None = None) -> Attempt:
    last = verdicts[-1]
    return Attempt(
        task_id=job.draft.task_id, number=number, how=how, code_hash=hash_code(code), code=code, verdicts=verdicts,
        scores=scores, difficulty=difficulty if scores else None, gate=last.gate if last.reason else None,
        reason=last.reason, evidence=last.evidence, final=last.final,
    )


def flatten(attempt: Attempt) -> dict[str, Any]:
    row = attempt.model_dump(include={"task_id", "how", "gate", "reason", "evidence", "code_hash"})
    return {"task_id": row.pop("task_id"), "try": attempt.number, **row}
