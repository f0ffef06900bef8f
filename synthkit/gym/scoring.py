"""Scores a submission where the agent cannot reach: a fresh sandbox, the pristine evaluate.py, answers from the vault.

The vault is the task's root; it is never mounted where an agent's code runs. What the agent hands in is bytes, taken
out of its workspace without following links and checked here before evaluate.py reads it. With `score_on: halves` the
rows are ranked by a hash of task and row id: the first half is public (validate), the other private (submit).
"""

import csv
import hashlib
import io
import json
import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthkit.core.errors import TaskError
from synthkit.core.params import SandboxParams
from synthkit.gym.bwrap import WORKSPACE
from synthkit.gym.sandbox import Result
from synthkit.gym.task import Task
from synthkit.gym.workspace import BadFile, read_file, run_script

Part = Literal["public", "private", "all"]
Failure = Literal["submission_not_found", "bad_submission", "evaluation_format_error", "evaluation_timeout"]

SUBMISSION = "submission.csv"
ANSWERS = "data/answers.csv"
SAMPLE = "data/sample_submission.csv"
TEST = "data/test.csv"
STDOUT = ".evaluation.json"
DEFAULT_TIMEOUT_S = 3600
MAX_MESSAGE_CHARS = 300
# What pandas reads as missing.
MISSING = frozenset(["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
                     "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"])


@dataclass
class Score:
    """The metrics of a submission, or why there are none; `message` may be shown to the agent."""

    metrics: dict[str, float] | None
    failure: Failure | None
    message: str
    seconds: float


class Unscored(Exception):
    """A submission that gets no score, and why."""

    def __init__(self, failure: Failure, message: str):
        super().__init__(message)
        self.failure: Failure = failure


@dataclass
class Table:
    """A CSV file: its columns, and its rows by the values of the first column."""

    columns: list[str]
    rows: dict[str, list[str]]


def score_submission(task: Task, submission: Path | bytes | None, part: Part, params: SandboxParams) -> Score:
    """Score a submission on a part of the test rows; None, or a path where nothing is, counts as not found.

    Raises SandboxError when no sandbox can be started, TaskError for a kind of submission that is not a CSV file.
    """
    if task.config.task_entrypoint != "CSVSubmissionTasks" or not task.config.evaluation_paths:
        raise TaskError(f"task {task.id}: only CSV submissions with an evaluation script can be scored",
                        "choose a task whose task_entrypoint is CSVSubmissionTasks")
    started = time.monotonic()
    try:
        metrics = evaluate(task, take_submission(submission), part, params)
    except Unscored as error:
        return Score(None, error.failure, str(error), time.monotonic() - started)
    return Score(metrics, None, "", time.monotonic() - started)


def run_baseline(task: Task, params: SandboxParams) -> tuple[Result, bytes | None]:
    """Run the task's baseline on its public files in a fresh sandbox; returns also the submission it left."""
    if not task.config.baseline_paths:
        raise TaskError(f"task {task.id} has no baseline", "name a script in baseline_paths")
    command = f"python {shlex.quote(task.config.baseline_paths[0])}"
    result, left = run_script(task.public_files(), command, params, find_timeout(task), keep=[SUBMISSION])
    return result, left.get(SUBMISSION)


def take_submission(submission: Path | bytes | None) -> bytes:
    if isinstance(submission, bytes):
        return submission
    try:
        data = read_file(submission.parent, submission.name) if submission else None
    except BadFile as error:
        raise Unscored("bad_submission", str(error)) from error
    if data is None:
        raise Unscored("submission_not_found", f"{SUBMISSION} is missing")
    return data


def evaluate(task: Task, submission: bytes, part: Part, params: SandboxParams) -> dict[str, float]:
    script = task.config.evaluation_paths[0]
    files: dict[str, bytes | Path] = {**task.all_files(), SUBMISSION: submission}
    if task.meta.score_on == "halves":
        faults = check_form(task, submission)
        if faults:
            raise Unscored("bad_submission", faults)
        files = {name: files[name] for name in (script, TEST)} | restrict(task, submission, part)
    command = f"python {shlex.quote(script)} --submission_file {WORKSPACE}/{SUBMISSION} >{STDOUT}"
    # The script is the teacher's work: as untrusted as the agent's.
    result, left = run_script(files, command, params, find_timeout(task), keep=[STDOUT])
    if result.timed_out:
        raise Unscored("evaluation_timeout", f"the evaluation took longer than {find_timeout(task):g} s")
    if result.exit_code != 0:
        raise Unscored("bad_submission", find_message(result.output) or f"{script} exited with {result.exit_code}")
    return read_metrics(left.get(STDOUT, b""), script)


def find_timeout(task: Task) -> float:
    return task.config.training_timeout or DEFAULT_TIMEOUT_S


def check_form(task: Task, submission: bytes) -> str:
    """What is wrong with a submission's form, in one sentence: columns, ids, missing values. '' when nothing is."""
    answers, sample = read_vault(task)
    try:
        table = read_table(submission, SUBMISSION)
    except ValueError as error:
        return str(error)
    return find_faults(table, sample, answers, numeric=task.meta.task_kind == "regression")


def read_vault(task: Task) -> tuple[Table, Table]:
    """(answers, sample submission) of a task. Raises TaskError when they are not tables of the same rows."""
    files = task.all_files()
    try:
        answers, sample = (read_table(files[name].read_bytes(), name) for name in (ANSWERS, SAMPLE))
    except (KeyError, ValueError) as error:
        raise TaskError(f"task {task.id}: {error}", f"a task scored by halves needs {ANSWERS} and {SAMPLE}") from error
    if answers.rows.keys() != sample.rows.keys():
        raise TaskError(f"task {task.id}: {ANSWERS} and {SAMPLE} differ in their ids")
    return answers, sample


def restrict(task: Task, submission: bytes, part: Part) -> dict[str, bytes]:
    """The submission and the answers with the rows of a part only, both in the answers' order."""
    answers, sample = read_vault(task)
    table = read_table(submission, SUBMISSION)
    order = [table.columns.index(name) for name in sample.columns]
    ordered = Table(sample.columns, {key: [row[at] for at in order] for key, row in table.rows.items()})
    rows = choose_rows(task.id, list(answers.rows), part)
    return {ANSWERS: format_table(answers, rows), SUBMISSION: format_table(ordered, rows)}


def find_faults(table: Table, sample: Table, answers: Table, *, numeric: bool) -> str:
    """What is wrong with a submission, in one sentence; '' when nothing is."""
    if sorted(table.columns) != sorted(sample.columns) or table.columns[0] != sample.columns[0]:
        return f"the columns are {', '.join(table.columns)[:100]}; expected are {', '.join(sample.columns)}"
    extra, lacking = table.rows.keys() - sample.rows.keys(), sample.rows.keys() - table.rows.keys()
    if extra or lacking:
        return (f"the ids are not those of {SAMPLE}: {len(lacking)} are missing, {len(extra)} are unknown "
                f"({len(table.rows)} rows, expected {len(sample.rows)})")
    labels = {value for row in answers.rows.values() for value in row}
    values = [(key, value) for key, row in table.rows.items() for value in row[1:]]
    missing = [key for key, value in values if value.strip() in MISSING - labels]
    if missing:
        return f"{len(missing)} values are missing, the first at id {missing[0][:50]}"
    wrong = [key for key, value in values if numeric and not is_finite(value)]
    return f"{len(wrong)} values are not finite numbers, the first at id {wrong[0][:50]}" if wrong else ""


def read_table(data: bytes, name: str) -> Table:
    """A CSV file keyed by its first column, whole numbers in one spelling. Raises ValueError."""
    try:
        lines = [line for line in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name} is not a CSV file: {error}") from error
    if not lines:
        raise ValueError(f"{name} is empty")
    columns = [column.strip() for column in lines[0]]
    if any(len(line) != len(columns) for line in lines):
        raise ValueError(f"{name} has rows with more or fewer values than columns")
    rows = {spell_id(line[0]): [spell_id(line[0]), *line[1:]] for line in lines[1:]}
    if len(rows) != len(lines) - 1:
        raise ValueError(f"{name} has {len(lines) - 1 - len(rows)} duplicate ids")
    return Table(columns, rows)


def spell_id(text: str) -> str:
    """pandas writes whole numbers as 7.0 once a column has held a missing value."""
    text = text.strip()
    return text[:-2] if text.endswith(".0") and text[:-2].isdecimal() else text


def choose_rows(task_id: str, ids: list[str], part: Part) -> list[str]:
    """The ids of a part, in their given order. The halves do not depend on that order."""
    if part == "all":
        return ids
    ranked = sorted(ids, key=lambda key: hashlib.sha256(f"{task_id}{key}".encode()).digest())
    public = set(ranked[:(len(ranked) + 1) // 2])
    return [key for key in ids if (key in public) == (part == "public")]


def format_table(table: Table, rows: list[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([table.columns, *(table.rows[key] for key in rows)])
    return text.getvalue().encode()


def read_metrics(stdout: bytes, script: str) -> dict[str, float]:
    """The one JSON object of finite numbers that an evaluation may print."""
    text = stdout[:100_000].decode("utf-8", "replace").strip()
    try:
        metrics = json.loads(text)
    except (ValueError, RecursionError):
        metrics = None
    if not isinstance(metrics, dict) or not metrics or not all(is_number(value) for value in metrics.values()):
        shown = text[:MAX_MESSAGE_CHARS]
        raise Unscored("evaluation_format_error", f"{script} did not print one JSON object of finite numbers: {shown}")
    return {name: float(value) for name, value in metrics.items()}


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)


def is_finite(value: object) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def find_message(output: str) -> str:
    """The last line that a failed script printed: an exception's message, or what it says to its user."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:MAX_MESSAGE_CHARS] if lines else ""
