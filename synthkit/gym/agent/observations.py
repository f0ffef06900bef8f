"""What the agent reads: the task in the first message, scores, and outputs cut to a size a model can take."""

import csv
import json
from collections import Counter
from pathlib import Path, PurePosixPath

from synthkit.core.prompts import render_prompt
from synthkit.gym.scoring import Score, is_table
from synthkit.gym.scoring.baseline import Metrics, measure_improvement
from synthkit.gym.scoring.csv_form import SUBMISSION
from synthkit.gym.task import SAMPLE, Task

NAMED_FILES = 20


def describe_task(task: Task, baseline: Metrics, *, training_timeout_s: int, action_timeout_s: int) -> str:
    """The task as the agent is told it; `baseline` is its score on the rows that validate scores."""
    files = task.public_files()
    sample = files.get(SAMPLE)
    value = baseline.get(task.metric or "")
    return render_prompt(
        "agent_task", name=task.name, description=task.description, metric=task.metric, direction=task.direction,
        task_kind=task.meta.task_kind, files=name_some(list(files)), columns=read_header(sample) if sample else None,
        baseline=None if value is None else format_number(value), training_timeout_s=training_timeout_s,
        action_timeout_s=action_timeout_s,
    )


def describe_score(task: Task, score: Score, baseline: Metrics) -> str:
    """What `validate` answers."""
    if score.metrics is None:
        missing = score.failure == "submission_not_found"
        return f"{score.message}." if missing else f"Invalid submission: {score.message}"
    return "\n".join([
        f"Your {SUBMISSION if is_table(task) else 'submission'} is valid.",
        f"Baseline score: {format_metrics(baseline) or 'NA'}",
        f"Your score: {format_metrics(score.metrics)}{compare(task, score.metrics, baseline)}",
    ])


def compare(task: Task, metrics: Metrics, baseline: Metrics) -> str:
    """What stands behind a score: better than the baseline or not; '' where one of both lacks the task's metric."""
    if task.metric not in metrics or task.metric not in baseline:
        return ""
    return f" ({'better' if measure_improvement(task, metrics, baseline) > 0 else 'not better'} than the baseline)"


def read_header(path: Path) -> list[str]:
    """The column names of a CSV file; none for an empty one."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines), [])


def name_some(files: list[str]) -> list[str]:
    """The files to name in a prompt: all, or the first and how many more there are; a crowded folder by its name."""
    homes = Counter(str(PurePosixPath(path).parent) for path in files)
    crowds = {home: f"{home}/ ({n} files)" for home, n in homes.items() if n > NAMED_FILES and home != "."}
    names = list(dict.fromkeys(crowds.get(str(PurePosixPath(path).parent), path) for path in files))
    more = len(names) - NAMED_FILES
    return names if more <= 0 else [*names[:NAMED_FILES], f"(and {more} more)"]


def format_number(value: float) -> str:
    """Four decimals; a value too small for them in three significant digits."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.3g}"


def format_metrics(metrics: Metrics) -> str:
    """Metrics as a JSON object with rounded numbers; '' for none."""
    inner = ", ".join(f"{json.dumps(name)}: {format_number(value)}" for name, value in metrics.items())
    return f"{{{inner}}}" if metrics else ""
