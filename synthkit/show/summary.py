"""summary.json: the figures of a finished or half-finished run, for programs and for the report.

It only reads what the stages left (stage.json, scores.csv, aup.json) and computes nothing that they own.
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
_STAGE_FIELDS = ("name", "requested", "kept", "lost", "seconds", "tokens", "usd")


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
        "stages": [{field: record[field] for field in _STAGE_FIELDS} for record in records if record],
        "models": [], "aup_difference": None, "pool": [], "max_tau": None,
    }
    if records[-1]:
        aup, difference = read_aup(run_dir)
        summary["models"] = summarize_models(read_scores(run_dir), aup)
        summary |= {"aup_difference": difference, "pool": aup.pool, "max_tau": aup.max_tau}
    return summary


def read_scores(run_dir: Path) -> pd.DataFrame:
    """scores.csv of the evaluation: one row a run of one model on one task."""
    path = run_dir / EVAL_STAGE / "scores.csv"
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {error}", "run stage 07 again") from error


def read_aup(run_dir: Path) -> tuple[Aup, dict[str, Any]]:
    """aup.json of the evaluation: the fields of `Aup`, and under `difference` models, value, low and high."""
    path = run_dir / EVAL_STAGE / "aup.json"
    try:
        content = json.loads(path.read_text())
        return Aup(**{field.name: content[field.name] for field in fields(Aup)}), content["difference"]
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{path} cannot be read: {error!r}", "run stage 07 again") from error


def summarize_models(scores: pd.DataFrame, aup: Aup) -> list[dict[str, Any]]:
    """One row a model, in the order of scores.csv: AUP, share of valid submissions, tasks above the baseline.

    A task counts as above the baseline when more than half of its runs end above it; a run without a score does not.
    """
    rows = []
    for name, runs in scores.groupby("model", sort=False):
        rows.append({
            "name": str(name),
            "aup_best": aup.aup["best"][name],
            "aup_last": aup.aup["last"][name],
            "valid_submission_rate": float(runs["valid"].mean()),
            "tasks_above_baseline": count_tasks_above(runs),
            "tasks": int(runs["task"].nunique()),
            "runs": len(runs),
        })
    return rows


def count_tasks_above(runs: pd.DataFrame) -> int:
    """On how many tasks most runs end above the baseline."""
    shares = is_above_baseline(runs, "score_last").groupby(runs["task"]).mean()
    return int((shares > 0.5).sum())


def is_above_baseline(scores: pd.DataFrame, column: str = "score_best") -> pd.Series:
    """Which runs beat their task's baseline, by the metric's own direction; no score is no win."""
    sign = np.where(scores["direction"] == "minimize", -1.0, 1.0)
    return (sign * (scores[column] - scores["baseline"]) > 0).fillna(False)
