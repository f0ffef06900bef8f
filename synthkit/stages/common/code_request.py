"""The request for a task's code, which stage 03 sends first and stage 04 again; and how the task's data begin."""

from pathlib import Path

from synthkit.core.prompts import render_messages
from synthkit.records import Proposal

SHOWN_FILES = ("train", "test", "sample_submission")


def build_code_request(proposal: Proposal, data: Path, *, sample_rows: int, time_limit_s: int, evaluation: str,
                       attempt: int) -> list[dict[str, str]]:
    """The exact messages that ask for a task's files; stage 04 asks the same again when it starts anew.

    `data` is the task's folder of stage 02, of whose files the first `sample_rows` rows are shown. `evaluation` says
    who writes evaluate.py, 'teacher' or 'kit'. `attempt` counts from 1 and stands in the text, so that a new attempt
    is a new request.
    """
    by_kit = evaluation == "kit" and not proposal.custom_metric
    return render_messages("task_code", task=proposal, files=read_heads(data, sample_rows), attempt=attempt,
                           time_limit_s=time_limit_s, by_kit=by_kit)


def read_heads(data: Path, rows: int) -> dict[str, str]:
    """The first rows of each file that a solver sees, as text."""
    return {name: read_head(data / f"{name}.csv", rows) for name in SHOWN_FILES}


def read_head(path: Path, rows: int) -> str:
    """The header and the first rows of a CSV file, as they stand in it."""
    with path.open(encoding="utf-8") as lines:
        return "".join(line for line, _ in zip(lines, range(rows + 1), strict=False)).strip()
