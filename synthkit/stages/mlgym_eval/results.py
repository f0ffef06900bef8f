"""The scores of all runs as one table, and AUP of the pool with its interval."""

from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.core.files import read_records
from synthkit.core.stage import Stage
from synthkit.gym.aup import Aup, Interval, bootstrap_aup_difference, compute_aup
from synthkit.records import EvalRun

if TYPE_CHECKING:
    import pandas as pd

COMPARED = ("student", "base")


def read_runs(stage: Stage) -> list[EvalRun]:
    """Every run on record."""
    return read_records(stage.dir / "runs.jsonl", EvalRun)


def scores(stage: Stage) -> "pd.DataFrame":
    """One row a run: model, task, run, score_best, score_last, baseline, direction, valid, exit_status."""
    import pandas as pd

    table = pd.DataFrame([run.model_dump() for run in read_runs(stage)], columns=list(EvalRun.model_fields))
    return table.astype({"score_best": float, "score_last": float})


def comparable(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the tasks that every model has played: a run that the kit could not play is no model's failure."""
    played = table.groupby("task")["model"].nunique()
    return table[table["task"].isin(played[played == table["model"].nunique()].index)]


def aup(stage: Stage) -> Aup:
    """AUP of the pool base, student, teacher and the tasks' baseline. It has a meaning only in this pool."""
    return compute_aup(comparable(scores(stage)))


def difference(stage: Stage) -> Interval:
    """AUP of the student minus AUP of the base, with a 95 % bootstrap interval over tasks and runs."""
    return bootstrap_aup_difference(comparable(scores(stage)), *COMPARED, kind="last", seed=stage.seed)


def to_plain(value: Any) -> Any:
    """numpy arrays as lists, all the way down, for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    return value
