"""Scores a submission where the agent cannot reach: a fresh sandbox, the pristine evaluation, labels from the vault.

The vault is the task's root; it is never mounted where an agent's code runs. A table is taken out of the workspace as
bytes, without following links, and checked before the evaluation reads it. What else MLGym takes as a submission (a
model, a language model, Python code) is evaluated by `submissions.py`.
"""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from synthkit.core.errors import TaskError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Result, make_plain
from synthkit.gym.sandbox.backends.session_files import WORKSPACE
from synthkit.gym.sandbox.workspace import BadFile, read_file, run_script
from synthkit.gym.scoring.csv_form import SUBMISSION, Part, check_form, is_finite, restrict
from synthkit.gym.scoring.submissions import (
    MAX_MESSAGE_CHARS,
    STDOUT,
    Failure,
    Unscored,
    check_result,
    evaluate_folder,
    find_command,
    find_timeout,
)
from synthkit.gym.task import TEST, Task

# tqdm's bars, which MLGym leaves out too.
PROGRESS = re.compile(r"\d+%\|.*\| *\d+/\d+ \[|^ *\d+it \[")


@dataclass
class Score:
    """The metrics of a submission, or why there are none; `message` may be shown to the agent."""

    metrics: dict[str, float] | None
    failure: Failure | None
    message: str
    seconds: float


def score_submission(task: Task, submission: Path | bytes | None, part: Part, params: SandboxParams) -> Score:
    """Score a submission on a part of the test rows; None, or a path where nothing is, counts as not found.

    `submission` is what `find_submission` names: the table of a CSV task (or its bytes), the workspace of any other.
    Raises SandboxError when no sandbox can be started, TaskError for a task without an evaluation.
    """
    if not task.config.evaluation_paths:
        raise TaskError(f"task {task.id} has no evaluation", "name a script in evaluation_paths")
    started = time.monotonic()
    try:
        metrics = evaluate(task, submission, part, params)
    except Unscored as error:
        # A column's name or an evaluation's output may hold terminal escapes, or lines that look like a score.
        message = " ".join(make_plain(str(error)).split())
        return Score(None, error.failure, message, time.monotonic() - started)
    return Score(metrics, None, "", time.monotonic() - started)


def find_submission(task: Task, workspace: Path) -> Path:
    """Where the submission of a workspace lies: a table, or for the other kinds the workspace as a whole."""
    return workspace / SUBMISSION if is_table(task) else workspace


def is_table(task: Task) -> bool:
    """Whether a task takes one CSV file, and not the workspace as a whole."""
    return task.config.task_entrypoint == "CSVSubmissionTasks"


def run_baseline(task: Task, params: SandboxParams) -> tuple[Result, bytes | None]:
    """Run a CSV task's baseline on its public files in a fresh sandbox; returns also the submission it left."""
    command = find_command(task, "baseline", params)
    result, left = run_script(task.public_files(), command, params, find_timeout(task), keep=[SUBMISSION])
    return result, left.get(SUBMISSION)


def evaluate(task: Task, submission: Path | bytes | None, part: Part, params: SandboxParams) -> dict[str, float]:
    """The metrics of a submission. Raises Unscored with the reason for none, SandboxError, TaskError."""
    script = task.config.evaluation_paths[0]
    if is_table(task):
        return read_metrics(evaluate_table(task, take_table(submission), part, params), script)
    if not isinstance(submission, Path):
        raise Unscored("submission_not_found", "there is no workspace to evaluate")
    stdout = evaluate_folder(task, submission, params)
    if task.config.task_entrypoint == "PythonSubmissionTasks":
        return read_metrics(stdout, script)
    # Training code prints much; the first line that begins an object is the result (MLGym, environment/tasks.py).
    return read_metrics(next((line for line in stdout.splitlines() if line.startswith(b"{")), b""), script)


def take_table(submission: Path | bytes | None) -> bytes:
    """A table's bytes, read from an untrusted workspace where it is given as a path. Raises Unscored."""
    if isinstance(submission, bytes):
        return submission
    try:
        data = read_file(submission.parent, submission.name) if submission else None
    except BadFile as error:
        raise Unscored("bad_submission", str(error)) from error
    if data is None:
        raise Unscored("submission_not_found", f"{SUBMISSION} is missing")
    return data


def evaluate_table(task: Task, submission: bytes, part: Part, params: SandboxParams) -> bytes:
    """What the evaluation prints about a table's rows of one part."""
    files: dict[str, bytes | Path] = {**task.all_files(), SUBMISSION: submission}
    if task.meta.score_on == "halves":
        faults = check_form(task, submission)
        if faults:
            raise Unscored("bad_submission", faults)
        kept = (task.config.evaluation_paths[0], TEST)
        files = {**{name: files[name] for name in kept}, **restrict(task, submission, part)}
    command = f"{find_command(task, 'evaluation', params)} --submission_file {WORKSPACE}/{SUBMISSION} >{STDOUT}"
    # The script is the teacher's work: as untrusted as the agent's.
    result, left = run_script(files, command, params, find_timeout(task), keep=[STDOUT])
    check_result(task, result)
    return left.get(STDOUT, b"")


def read_metrics(stdout: bytes, script: str) -> dict[str, float]:
    """The one JSON object of finite numbers that an evaluation may print."""
    lines = re.split(r"[\r\n]+", stdout[:100_000].decode("utf-8", "replace"))
    text = "\n".join(line for line in lines if not PROGRESS.search(line)).strip()
    try:
        metrics = json.loads(text)
    except (ValueError, RecursionError):
        metrics = None
    if not isinstance(metrics, dict) or not metrics or not all(is_number(value) for value in metrics.values()):
        shown = text[:MAX_MESSAGE_CHARS]
        raise Unscored("evaluation_format_error", f"{script} did not print one JSON object of finite numbers: {shown}")
    return {name: float(value) for name, value in metrics.items()}


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)
