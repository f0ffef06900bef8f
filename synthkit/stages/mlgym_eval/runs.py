"""A run from its plan to its row: which model plays which task, and what came of it."""

from dataclasses import dataclass

import numpy as np

from synthkit.gym.task import Task
from synthkit.gym.trajectory import Trajectory
from synthkit.records import EvalRun, ModelName


@dataclass(frozen=True)
class EvalJob:
    """One run that is to be played; `seed` is its own, and the same for every model."""

    model: ModelName
    task_id: str
    run: int
    seed: int

    @property
    def id(self) -> str:
        """Model, task and number: the key of the run."""
        return f"{self.model}/{self.task_id}/{self.run:03d}"


def summarise_run(task: Task, job: EvalJob, trajectory: Trajectory) -> EvalRun:
    """Best and last score of a run, both on the rows of the baseline's score, never on the public part.

    Best is over everything that was validated or handed in, scored where the agent could not see it.
    """
    metric = str(task.metric)
    part = "all" if task.meta.score_on == "all" else "private"
    final = [s for s, p in zip(trajectory.scores, trajectory.parts, strict=True) if p == part]
    values = [s[metric] for s in trajectory.shadow_scores + final if np.isfinite(s.get(metric, np.nan))]
    last = final[-1].get(metric) if final else None
    best = (max if task.direction == "maximize" else min)(values) if values else None
    return EvalRun(
        model=job.model, task=task.id, run=job.run, score_best=best, score_last=last,
        baseline=trajectory.baseline[metric], direction=task.direction, valid=trajectory.final_score is not None,
        exit_status=trajectory.exit_status, steps=len(trajectory.steps),
        tokens_in=trajectory.tokens_in, tokens_out=trajectory.tokens_out,
    )
