"""The filter of stage 05: which rollouts are worth learning from.

Source: paper, stage 5: kept with a successful submission and at most 48K tokens. The other reasons are ours.
"""

from collections import Counter

from synthkit.core.params import TrajectoriesParams
from synthkit.records import Rollout

# What ends an episode so that its record teaches something wrong, whatever was handed in at that moment.
BROKEN_ENDINGS = {"exit_format": "format_exit", "exit_context": "context_exit", "exit_api": "api_exit",
                  "exit_error": "error_exit", "exit_cost": "cost_exit", "exit_time": "time_exit",
                  "exit_cpu": "time_exit", "early_exit": "early_exit"}
FAILED_ENDINGS = {"submission_not_found": "no_submission", "evaluation_format_error": "bad_submission",
                  "EvaluationTimeout": "evaluation_timeout", "skipped": "gave_up", "exit_forfeit": "gave_up"}


def judge_rollouts(rows: list[Rollout], params: TrajectoriesParams) -> list[Rollout]:
    """The filter: a pure function of all rollouts in their order."""
    seen: set[tuple[str, str]] = set()
    taken: Counter[str] = Counter()
    judged = []
    for row in rows:
        reason = find_fault(row, params)
        if reason is None and (row.task_id, row.conversation_hash) in seen:
            reason = "duplicate"
        if reason is None and params.max_kept_per_task and taken[row.task_id] >= params.max_kept_per_task:
            reason = "over_cap"
        if reason is None:
            seen.add((row.task_id, row.conversation_hash))
            taken[row.task_id] += 1
        judged.append(row.model_copy(update={"kept": reason is None, "reason": reason}))
    return judged


def find_fault(row: Rollout, params: TrajectoriesParams) -> str | None:
    """Why a rollout is not worth learning from; None when it is."""
    if row.fault:
        return row.fault
    for ending, reason in BROKEN_ENDINGS.items():
        if ending in row.exit_status:
            return reason
    if row.score is None:
        return next((reason for ending, reason in FAILED_ENDINGS.items() if row.exit_status.startswith(ending)),
                    "no_submission")
    return "too_long" if row.n_tokens > params.max_tokens else None
