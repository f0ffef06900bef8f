"""The form of a CSV submission, checked before any evaluation reads it, and the public and private half of its rows.

The submission is the agent's work: bytes, columns and ids are compared with the sample submission and the vault's
answers. With `score_on: halves` the rows are ranked by a hash of task and row id: the first half is public, the other
private.
"""

import csv
import hashlib
import io
import math
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from synthkit.core.errors import TaskError
from synthkit.gym.task import ANSWERS, SAMPLE, Task

Part = Literal["public", "private", "all"]

SUBMISSION = "submission.csv"
MIN_BYTES, BYTES_OF_SAMPLE = 1 << 20, 64
SPARE_LINES = 1000
# What pandas reads as missing.
MISSING = frozenset(["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
                     "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"])


@dataclass
class Table:
    """A CSV file: its columns, and its rows by the values of the first column."""

    columns: list[str]
    rows: dict[str, list[str]]


def check_form(task: Task, submission: bytes) -> str:
    """What is wrong with a submission's form, in one sentence: columns, ids, missing values. '' when nothing is."""
    answers, sample = read_vault(task)
    most_bytes = max(MIN_BYTES, BYTES_OF_SAMPLE * len(format_table(sample, list(sample.rows))))
    if len(submission) > most_bytes:
        return f"{SUBMISSION} is larger than {most_bytes >> 20} MiB"
    try:
        table = read_table(submission, SUBMISSION, len(sample.rows))
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
    """The submission and the answers with the rows of a part only, both in the answers' order; CSV bytes by path.

    `submission` has passed `check_form`. Raises TaskError when the answers are no table, KeyError or ValueError for a
    submission of another form.
    """
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


def read_table(data: bytes, name: str, most_rows: int | None = None) -> Table:
    """A CSV file keyed by its first column, whole numbers in one spelling. Raises ValueError.

    What an agent hands in is not read much beyond `most_rows`: enough to tell of duplicates, and it could be endless.
    """
    most_lines = None if most_rows is None else 2 * most_rows + SPARE_LINES
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        lines = list(islice(filter(None, reader), most_lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name} is not a CSV file: {error}") from error
    if not lines:
        raise ValueError(f"{name} is empty")
    if len(lines) == most_lines:
        raise ValueError(f"{name} has more rows than the {most_rows} that are expected")
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
    """The CSV text of a table's rows with these keys, in their order; UTF-8, lines end with \\n."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([table.columns, *(table.rows[key] for key in rows)])
    return text.getvalue().encode()


def is_finite(value: str | float) -> bool:
    """Whether a text or a number is a finite number, to Python's float()."""
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False
