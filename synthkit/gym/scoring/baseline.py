"""The baseline's score, which results are compared with: stored with the task, or measured by running it."""

import math
import threading
from dataclasses import replace
from pathlib import Path

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import open_sandbox
from synthkit.gym.sandbox.folders import open_folder
from synthkit.gym.sandbox.workspace import prepare_workspace
from synthkit.gym.scoring.csv_form import Part
from synthkit.gym.scoring.scoring import find_submission, score_submission
from synthkit.gym.scoring.submissions import find_command, find_timeout
from synthkit.gym.task import Task

Metrics = dict[str, float]

_lock = threading.Lock()
_measured: dict[tuple[Path, str, str], tuple[Metrics, Metrics]] = {}


def find_baseline(task: Task, params: SandboxParams) -> tuple[Metrics, Metrics]:
    """The baseline's scores on the public and the private part: those stored with the task, else by running it.

    It is run once per process, not at every reset as in MLGym. Both are empty when the task has no baseline, or one
    that leaves no valid submission.
    """
    stored = task.config.baseline_scores[0] if task.config.baseline_scores else {}
    meta = task.meta
    if meta.score_on == "all" and stored:
        return stored, stored
    if meta.metric and meta.baseline_public is not None and meta.baseline_private is not None:
        return {meta.metric: meta.baseline_public}, {meta.metric: meta.baseline_private}
    if not task.config.baseline_paths:
        return {}, {}
    key = (task.root, task.id, task.config.model_dump_json() + params.model_dump_json())
    with _lock:
        if key not in _measured:
            _measured[key] = measure_baseline(task, params)
    return _measured[key]


def name_metric(task: Task, baseline: Metrics) -> Task:
    """The task with the baseline's first metric as its own when its files name none."""
    if task.metric or not baseline:
        return task
    return replace(task, meta=task.meta.model_copy(update={"metric": next(iter(baseline))}))


def measure_baseline(task: Task, params: SandboxParams) -> tuple[Metrics, Metrics]:
    """Run the baseline in a fresh workspace and score what it leaves; (public, private)."""
    parts: tuple[Part, ...] = ("all",) if task.meta.score_on == "all" else ("public", "private")
    with open_folder() as folder:
        workspace = Path(folder)
        prepare_workspace(task, workspace)
        with open_sandbox(workspace, params) as sandbox:
            sandbox.run(find_command(task, "baseline", params), find_timeout(task))
        scores = [score_submission(task, find_submission(task, workspace), part, params).metrics or {}
                  for part in parts]
    return scores[0], scores[-1]


def measure_improvement(task: Task, metrics: Metrics, baseline: Metrics) -> float:
    """How much better than the baseline, in shares of the baseline's size: 0.1 is ten percent better.

    Negative when worse; the plain difference when the baseline is 0; 0 when either has no finite value.
    """
    score, floor = metrics.get(task.metric or "", math.nan), baseline.get(task.metric or "", math.nan)
    gain = (score - floor) / (abs(floor) or 1.0)
    if not math.isfinite(gain):
        return 0.0
    return gain if task.direction == "maximize" else -gain
