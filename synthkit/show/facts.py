"""What the report says in words: its headline, the refusals with an example each, a trajectory to read, provenance."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from synthkit.core.files import read_records
from synthkit.core.text import cut_end
from synthkit.core.worklist import KIT_FAULT, OWED_FILE
from synthkit.show.scores import measure_gain
from synthkit.show.summary import EVAL_STAGE, is_above_baseline
from synthkit.show.text import clean_text

_EXPLAINS = ("detail", "cause", "message", "evidence", "why", "error", "exit_status")
_NAMES = ("title", "task_id", "topic_id", "dataset_id", "id")


def write_headline(summary: Mapping[str, Any]) -> str:
    """The finding in one sentence, as far as the run has come."""
    models = {model["name"]: model for model in summary["models"]}
    if {"student", "base"} <= set(models):
        student, base = models["student"], models["base"]
        return (f"On tasks it has never seen, the trained student hands in a valid solution in "
                f"{_percent(student)} of its runs; the same model before training, in {_percent(base)}.")
    if not summary["stages"]:
        return "No stage of this run has finished yet."
    last = summary["stages"][-1]
    return f"The run has come as far as {last['name']}: {last['kept']} of {last['requested']} kept."


def _percent(model: Mapping[str, Any]) -> str:
    return f"{100 * model['valid_submission_rate']:.0f} %"


def list_refusals(run_dir: Path, records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every reason for which a stage refused something, with its count; the kit's own faults come first.

    `example` is one refusal in words, empty where no record of the stage tells of it.
    """
    refusals = []
    for name, record in records.items():
        rows = read_records(run_dir / name / "refused.jsonl")
        for reason, n in sorted(record["refused"].items(), key=lambda item: (item[0] != KIT_FAULT, -item[1])):
            if n:
                example = next((row for row in rows if row.get("reason") == reason), {})
                refusals.append({"stage": name, "reason": reason, "n": n, "example": _describe_refusal(example)})
    return sorted(refusals, key=lambda refusal: refusal["reason"] != KIT_FAULT)


def list_owed(run_dir: Path, records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What finished stages still owe: one row a stage and reason, with the count and one cause as an example."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, record in records.items():
        for row in read_records(run_dir / name / OWED_FILE) if record["owed"] else []:
            entry = found.setdefault((name, row["reason"]), {"stage": name, "reason": row["reason"], "n": 0,
                                                             "example": " ".join(clean_text(row["cause"]).split())})
            entry["n"] += 1
    return list(found.values())


def list_charges(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each stage's requests cost: one row a stage and kind of charge (see core/ledger.py) that has requests."""
    return [{"stage": name, "kind": kind, **charge} for name, record in records.items()
            for kind, charge in record["charges"].items() if charge["requests"]]


def _describe_refusal(row: Mapping[str, Any]) -> str:
    what = next((str(row[key]) for key in _NAMES if row.get(key)), "")
    why = next((str(row[key]) for key in _EXPLAINS if row.get(key)), "")
    why = " ".join(clean_text(why).split())
    return ": ".join(part for part in (what, cut_end(why, 220)) if part)


def choose_trajectory(run_dir: Path, scores: pd.DataFrame) -> dict[str, Any] | None:
    """The trajectory most worth reading, as its folder, who acted and on which task; None when there is none yet.

    It is the student's run with the largest gain. Without one, it is a run of the teacher: of those that the filter
    kept and that beat the baseline, the one of middle length.
    """
    if len(scores):
        runs = scores[(scores["model"] == "student") & is_above_baseline(scores)]
        for _, run in runs.loc[measure_gain(runs).sort_values(ascending=False).index].iterrows():
            folder = run_dir / EVAL_STAGE / "trajectories" / "student" / run["task"] / str(run["run"])
            if any(folder.glob("*.traj")):
                return {"path": folder, "who": "student", "task": run["task"]}
    stage = run_dir / "05_trajectories"
    rows = [row for row in read_records(stage / "rollouts.jsonl") if row["kept"] and row["better"]]
    if not rows:
        return None
    row = sorted(rows, key=lambda row: row["steps"])[len(rows) // 2]
    folder = stage / "trajectories" / row["task_id"] / f"{row['rollout']:03d}"
    return {"path": folder, "who": "teacher", "task": row["task_id"]}


def collect_provenance(run_dir: Path, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What somebody needs to make the run again: versions, parameters, teacher, seed, datasets and their licences."""
    params = run_dir / "params.yaml"
    text = params.read_text() if params.is_file() else ""
    versions: dict[str, str] = {"python": platform.python_version()}
    for record in records.values():
        versions |= record.get("versions", {})
    values = yaml.safe_load(text) or {}
    finished = [record["finished_at"] for record in records.values()]
    return {
        "params": text,
        "versions": dict(sorted(versions.items())),
        "datasets": _list_datasets(run_dir),
        "finished_at": max(finished)[:16].replace("T", " ") if finished else "",
        "teacher": values.get("trajectories", {}).get("teacher", {}).get("model", "scripted-teacher"),
        "seed": values.get("topics", {}).get("seed", 0),
    }


def _list_datasets(run_dir: Path) -> list[dict[str, Any]]:
    """Each dataset behind a verified task, once, with the number of tasks made of it."""
    verified = {row.get("task_id") for row in read_records(run_dir / "04_self_debug" / "verified.jsonl")}
    found: dict[str, dict[str, Any]] = {}
    for row in read_records(run_dir / "02_datasets" / "proposals.jsonl"):
        if row["task_id"] in verified:
            dataset = row["dataset"]
            entry = found.setdefault(dataset["id"], {**dataset, "tasks": 0})
            entry["tasks"] += 1
    return sorted(found.values(), key=lambda entry: entry["id"])
