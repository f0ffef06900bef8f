"""Stage 04: each draft runs through the gates; what fails goes back to the teacher with the evidence, or starts anew.

Source: paper, stage 4 (with probability p_debug the error goes back for a repair, otherwise generation restarts at the
code stage; after k attempts the task is refused). p_debug, k and the gates are not disclosed: ours.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from synthkit.core.errors import StageError
from synthkit.core.executor import raise_if_stopped
from synthkit.core.files import append_record, read_records, write_records
from synthkit.core.params import SelfDebugParams
from synthkit.core.progress import Progress, show_progress
from synthkit.core.stage import Stage, params_as, under_lock
from synthkit.core.worklist import Worklist, check_owed, count_owed
from synthkit.gym.task import Task, list_tasks
from synthkit.gym.task.config import Origin
from synthkit.records import Attempt, Draft, Proposal, RefusedTask, Verified
from synthkit.stages.common.funnel import Funnel, count_reasons
from synthkit.stages.common.origins import build_origin
from synthkit.stages.common.task_writer import build_meta, write_draft
from synthkit.stages.self_debug.attempts import (
    Debugging,
    DebugJob,
    build_repair_prompt,
    check_code,
    flatten,
    is_spent,
    next_attempt,
)
from synthkit.stages.self_debug.gates import GATES


def params_of(stage: Stage) -> SelfDebugParams:
    """The parameters of this stage."""
    return params_as(stage, SelfDebugParams)


def load_inputs(stage: Stage) -> list[Draft]:
    """The drafts of stage 03."""
    return read_records(stage.input("03_codegen") / "drafts.jsonl", Draft)


def load_jobs(stage: Stage) -> list[DebugJob]:
    """Each draft with its proposal and the attempts that are on record."""
    proposals = read_records(stage.input("02_datasets") / "proposals.jsonl", Proposal)
    by_id = {proposal.task_id: proposal for proposal in proposals}
    past: dict[str, list[Attempt]] = {}
    for attempt in read_attempts(stage):
        past.setdefault(attempt.task_id, []).append(attempt)
    return [DebugJob(by_id[draft.task_id], draft, tuple(past.get(draft.task_id, ()))) for draft in load_inputs(stage)]


@contextmanager
def open_debugging(stage: Stage) -> Iterator[Debugging]:
    """What the work on all tasks shares, open while it lasts."""
    params = params_of(stage)
    yield Debugging(stage, params, stage.open_chat(params.teacher), stage.input("02_datasets") / "data")


def show_prompt(stage: Stage, draft: Draft) -> list[dict[str, str]]:
    """What the teacher would be told if this draft failed: with the real verdict when it did, else an example."""
    job = next(job for job in load_jobs(stage) if job.draft.task_id == draft.task_id)
    failed = next((attempt for attempt in job.past if attempt.gate), None) or Attempt(
        task_id=draft.task_id, number=1, how="draft", code_hash=draft.code_hash, gate="baseline",
        reason="baseline_failed", evidence="(here stands what the failing gate saw)", verdicts=[], scores=None,
        code=draft.code)
    return build_repair_prompt(params_of(stage), job, stage.input("02_datasets") / "data", failed)


@under_lock
def preview(stage: Stage, n: int = 2) -> list[dict[str, Any]]:
    """The first attempt at the first `n` drafts, as rows, nothing recorded."""
    with open_debugging(stage) as context:
        return [flatten(check_code(context, job, job.draft.code, "draft", 1)) for job in load_jobs(stage)[:n]]


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> list[Verified]:
    """Bring each draft through the gates, or refuse it after `max_attempts`; every attempt is kept. Resumable."""
    jobs = sorted(load_jobs(stage), key=name_job)
    work = list_work(stage)
    with show_progress(progress, len(jobs)) as advance:
        rows = work.work_off(jobs, params_of(stage).workers, advance)
    work.rewrite(rows.values())
    attempts = sorted(read_attempts(stage), key=lambda attempt: (attempt.task_id, attempt.number))
    write_records(stage.dir / "attempts.jsonl", attempts)
    check_owed(stage, len(jobs))
    return read_verified(stage)


def list_work(stage: Stage) -> Worklist[DebugJob, Debugging]:
    """The worklist of drafts."""
    return Worklist(stage, {Verified: "verified.jsonl", RefusedTask: "refused.jsonl"}, name_job,
                    lambda row: row.task_id, refuse, open_debugging, debug_task,
                    lambda stage, job: [stage.input("02_datasets") / "data" / job.draft.task_id])


def name_job(job: DebugJob) -> str:
    """The key of a job: its task."""
    return job.draft.task_id


def refuse(job: DebugJob, reason: str, detail: str) -> RefusedTask:
    """The row of a task that no gate refused, and that still has no outcome: a fault of the kit or of the sandbox."""
    return RefusedTask(task_id=job.draft.task_id, title=job.draft.title, attempts=len(job.past), gate="", reason=reason,
                    evidence=detail)


def debug_task(context: Debugging, job: DebugJob) -> Verified | RefusedTask:
    """Repair or restart until the gates are passed or the attempts are used up."""
    attempts = list(job.past)
    while not attempts or attempts[-1].gate:
        if attempts and is_spent(context.params, attempts):
            return give_up(job, attempts)
        attempts.append(next_attempt(context, job, attempts))
        append_record(context.stage.dir / "attempts.jsonl", attempts[-1])
        raise_if_stopped()
    return publish(context, job, attempts)


def publish(context: Debugging, job: DebugJob, attempts: list[Attempt]) -> Verified:
    """Write the verified task with its scores into this stage's MLGym root."""
    proposal, last = job.proposal, attempts[-1]
    scores, measured = last.scores, last.difficulty
    assert scores is not None and measured is not None, "an attempt that passed has scores"
    meta = build_meta(proposal)
    meta = meta.model_copy(update={
        "trivial_score": scores.trivial, "baseline_public": scores.baseline_public,
        "baseline_private": scores.baseline_private, "reference_score": scores.reference,
        "perfect_score": scores.perfect, "reference_model": measured.model, "solver_pass_rate": measured.pass_rate,
        "solver_gain": measured.gain, "gates": [verdict.gate for verdict in last.verdicts],
        "attempts": [f"{attempt.how}: {attempt.gate or 'passed'} {attempt.reason or ''}".strip()
                     for attempt in attempts],
        "origin": meta.origin | {"03_codegen": job.draft.origin, "04_self_debug": add_up(context, attempts)},
    })
    write_draft(context.stage.dir / "tasks", proposal, last.code, context.data / proposal.task_id,
                job.draft.time_limit_s, meta, last.solution)
    return Verified(
        task_id=proposal.task_id, topic_id=proposal.topic_id, title=proposal.title, area=proposal.area,
        difficulty=proposal.difficulty, dataset_id=proposal.dataset.id, target=proposal.target,
        task_kind=proposal.task_kind, metric=proposal.metric, direction=proposal.direction, attempts=len(attempts),
        saved=len(attempts) > 1, code_hash=last.code_hash, scores=scores, measured=measured,
    )


def add_up(context: Debugging, attempts: list[Attempt]) -> Origin:
    """What all attempts after the draft were made from."""
    origin = build_origin(context.stage, context.client, [])
    return origin.model_copy(update={
        "tokens_in": sum(attempt.tokens_in for attempt in attempts),
        "tokens_out": sum(attempt.tokens_out for attempt in attempts),
        "usd": round(sum(attempt.usd for attempt in attempts), 6)})


def give_up(job: DebugJob, attempts: list[Attempt]) -> RefusedTask:
    """The row of a task whose attempts are used up."""
    last = attempts[-1]
    return RefusedTask(task_id=job.draft.task_id, title=job.draft.title, attempts=len(attempts), gate=str(last.gate),
                    reason=str(last.reason), evidence=last.evidence)


def load_attempts(stage: Stage) -> list[dict[str, Any]]:
    """Every attempt as a plain row: task_id, attempt (from 1), how, gate, reason, evidence, code_hash.

    `gate` is None where it passed.
    """
    return [flatten(attempt) for attempt in read_attempts(stage)]


def load_verified(stage: Stage) -> list[dict[str, Any]]:
    """The verified tasks with their measured difficulty, as plain rows; see records.MeasuredDifficulty."""
    return [row.model_dump(include={"task_id", "dataset_id", "metric", "attempts"})
            | {"solver_pass_rate": row.measured.pass_rate, "solver_gain": row.measured.gain,
               "best_model": row.measured.model}
            for row in read_verified(stage)]


def read_attempts(stage: Stage) -> list[Attempt]:
    """Every attempt on record."""
    return read_records(stage.dir / "attempts.jsonl", Attempt)


def read_verified(stage: Stage) -> list[Verified]:
    """The tasks that passed every gate."""
    return read_records(stage.dir / "verified.jsonl", Verified)


def read_refused(stage: Stage) -> list[RefusedTask]:
    """The tasks that did not, and why."""
    return read_records(stage.dir / "refused.jsonl", RefusedTask)


def funnel(stage: Stage) -> Funnel:
    """Drafts, verified tasks, those refused by the reason of their last attempt, and owed."""
    return Funnel(len(load_inputs(stage)), len(read_verified(stage)), count_reasons(read_refused(stage)),
                  count_owed(stage))


def count_gates(stage: Stage) -> list[dict[str, Any]]:
    """What each gate refused, in their order: attempts, of these repaired later, tasks refused, and what repair cost.

    Tokens and USD are those of the requests that followed a refusal by the gate.
    """
    rows: dict[str, dict[str, Any]] = {
        name: {"gate": name, "failed": 0, "repaired": 0, "refused": 0, "tokens": 0, "usd": 0.0}
            for name in [*(name for name, _ in GATES), "reply"]}
    by_task: dict[str, list[Attempt]] = {}
    for attempt in sorted(read_attempts(stage), key=lambda attempt: attempt.number):
        by_task.setdefault(attempt.task_id, []).append(attempt)
    for attempts in by_task.values():
        saved = attempts[-1].gate is None
        for attempt, after in zip(attempts, [*attempts[1:], None], strict=True):
            if attempt.gate is None:
                continue
            row = rows[attempt.gate]
            row["failed"] += 1
            row["repaired"] += saved
            row["refused"] += after is None
            row["tokens"] += after.tokens_in + after.tokens_out if after else 0
            row["usd"] += after.usd if after else 0.0
    return [row for row in rows.values() if row["failed"]]


def check(stage: Stage) -> None:
    """Each draft has one outcome, and each verified task loads, carries its scores and hides its answers."""
    funnel(stage).check(stage, "no task passed the gates", "look at 04_self_debug/attempts.jsonl")
    root = stage.dir / "tasks"
    if list_tasks(root) != sorted(row.task_id for row in read_verified(stage)):
        raise StageError("04_self_debug: tasks/ does not hold the verified tasks", "set resume to never and run again")
    for row in read_verified(stage):
        task = Task.load(root, row.task_id)
        if "data/answers.csv" in task.public_files() or task.meta.baseline_private != row.scores.baseline_private:
            raise StageError(f"04_self_debug: the files of {row.task_id} do not agree with its record",
                             "set resume to never and run again")


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record: tasks saved by the loop, and how often each gate refused."""
    verified = read_verified(stage)
    by_gate = Counter(attempt.gate for attempt in read_attempts(stage) if attempt.gate)
    metrics = {"saved": sum(row.saved for row in verified), "datasets": len({row.dataset_id for row in verified}),
               "attempts": len(read_attempts(stage)), "refused_by_gate": dict(sorted(by_gate.items()))}
    return funnel(stage).finish(stage, metrics)
