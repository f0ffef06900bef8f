"""summary.json: the figures of a finished or half-finished run, for programs and for the report.

All of them come from what the stages left: stage.json, scores.csv and aup.json.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthkit.core.chain import load_stage_record
from synthkit.core.errors import RecordError
from synthkit.core.files import write_json
from synthkit.core.params import STAGES
from synthkit.gym.aup import Aup

EVAL_STAGE = "07_mlgym_eval"
# The keys of a stage in summary.json, which programs read, with the fields of its record.
_STAGE_FIELDS = {"name": "name", "requested": "requested", "kept": "kept", "lost": "refused", "seconds": "seconds",
                 "tokens": "tokens", "usd": "usd"}


def write_summary(run_dir: Path) -> dict[str, Any]:
    """Write `summary.json` into the run's folder and return it; stages that did not finish are left out.

    Raises RecordError when a file of the evaluation cannot be read.
    """
    summary = build_summary(run_dir)
    write_json(run_dir / "summary.json", summary)
    return summary


def build_summary(run_dir: Path) -> dict[str, Any]:
    """The content of summary.json: stages, models, the AUP difference with its 95 % interval, and the pool."""
    records = [load_stage_record(run_dir, name) for name in STAGES]
    summary: dict[str, Any] = {
        "stages": [{key: record[field] for key, field in _STAGE_FIELDS.items()} for record in records if record],
        "models": [], "aup_difference": None, "pool": [], "max_tau": None,
    }
    if records[-1]:
        aup, difference = read_aup(run_dir)
        summary["models"] = summarise_models(read_scores(run_dir), aup)
        summary |= {"aup_difference": difference, "pool": aup.pool, "max_tau": aup.max_tau}
    return summary


def read_scores(run_dir: Path) -> pd.DataFrame:
    """scores.csv of the evaluation, one row a run of one model on one task. Raises RecordError."""
    path = run_dir / EVAL_STAGE / "scores.csv"
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {error}", "run stage 07 again") from error


def read_aup(run_dir: Path) -> tuple[Aup, dict[str, Any]]:
    """aup.json of the evaluation: the AUP, and the difference of two models with its interval.

    The difference has `models`, `value`, `low` and `high`. Raises RecordError.
    """
    path = run_dir / EVAL_STAGE / "aup.json"
    try:
        content = json.loads(path.read_text())
        return Aup(**{field.name: content[field.name] for field in fields(Aup)}), content["difference"]
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{path} cannot be read: {error!r}", "run stage 07 again") from error


def summarise_models(scores: pd.DataFrame, aup: Aup) -> list[dict[str, Any]]:
    """One row a model, in the order of scores.csv: AUP, share of valid submissions, tasks above the baseline.

    A task counts as above the baseline when more than half of its runs end above it; a run without a score does not.
    """
    rows = []
    for key, runs in scores.groupby("model", sort=False):
        name = str(key)
        rows.append({
            "name": name,
            "aup_best": aup.aup["best"][name],
            "aup_last": aup.aup["last"][name],
            "valid_submission_rate": float(runs["valid"].mean()),
            "tasks_above_baseline": count_tasks_above(runs),
            "tasks": int(runs["task"].nunique()),
            "runs": len(runs),
        })
    return rows


def count_tasks_above(runs: pd.DataFrame) -> int:
    """On how many tasks more than half of the runs end above the baseline, by their last submission."""
    shares = is_above_baseline(runs, "score_last").groupby(runs["task"]).mean()
    return int((shares > 0.5).sum())


def is_above_baseline(scores: pd.DataFrame, column: str = "score_best") -> pd.Series:
    """Which runs beat their task's baseline, in the metric's own direction; a run without a score does not."""
    return measure_lead(scores, column) > 0


def measure_lead(scores: pd.DataFrame, column: str) -> pd.Series:
    """How much better than its task's baseline each run is, in the metric's unit; NaN for a run without a score."""
    sign = np.where(scores["direction"] == "minimize", -1.0, 1.0)
    return (scores[column] - scores["baseline"]) * sign
