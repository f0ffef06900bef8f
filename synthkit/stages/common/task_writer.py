"""A task's files around what the teacher wrote: configuration, data and provenance are the kit's own work."""

import hashlib
from pathlib import Path

from synthkit.gym.scoring.evaluations import compose_evaluate
from synthkit.gym.task import SOLUTION, build_csv_task, write_task
from synthkit.gym.task.config import TaskMeta
from synthkit.records import Proposal, TaskCode


def hash_task_code(code: TaskCode) -> str:
    """A short hash of a task's code, by which versions of it are told apart."""
    return hashlib.sha256(code.model_dump_json().encode()).hexdigest()[:16]


def complete_code(proposal: Proposal, code: TaskCode, evaluation: str) -> TaskCode:
    """The files with the kit's own evaluation, where it is to write that; a custom metric is the teacher's alone."""
    if evaluation == "teacher" or proposal.custom_metric:
        return code
    return code.model_copy(update={"evaluate_py": compose_evaluate(proposal.task_kind, proposal.metric)})


def build_meta(proposal: Proposal) -> TaskMeta:
    """What synthkit.yaml says of a task before its scores are known."""
    dataset = proposal.dataset
    return TaskMeta(
        metric=proposal.metric, direction=proposal.direction, task_kind=proposal.task_kind, target=proposal.target,
        dataset_id=dataset.id, dataset_revision=dataset.revision, licence=dataset.licence,
        citation=dataset.citation or None, difficulty=proposal.difficulty, topic=proposal.topic_title,
        dataset_files={file.path: file.sha256 for file in dataset.files}, origin={"02_datasets": proposal.origin},
    )


def write_draft(root: Path, proposal: Proposal, code: TaskCode, data: Path, time_limit_s: int,
                meta: TaskMeta | None = None, solution: str = "") -> None:
    """Write a task into an MLGym root, replacing one of the same id. A solution lies outside of its workspace."""
    meta = meta or build_meta(proposal)
    config, dataset = build_csv_task(
        proposal.task_id, proposal.title, code.description, describe_columns(proposal),
        time_limit_s=time_limit_s, meta=meta,
    )
    files: dict[str, str | Path] = {"baseline.py": code.baseline_py, "evaluate.py": code.evaluate_py}
    files |= {SOLUTION: solution} if solution else {}
    files |= {f"data/{path.relative_to(data)}": path for path in sorted(data.rglob("*")) if path.is_file()}
    write_task(root, config, [dataset], meta, files)


def describe_columns(proposal: Proposal) -> str:
    """The dataset's text in the task: its source, and how the columns were made that are not in it."""
    text = f"{proposal.n_train} rows to train on, {proposal.n_test} to predict, from {proposal.dataset.id}."
    lags = [name for name in proposal.features if name.startswith(f"{proposal.target}_lag_")]
    if proposal.pictures:
        text += f" {proposal.pictures} holds the path of a PNG file, relative to data/."
    return f"{text} {proposal.target}_lag_k is {proposal.target} k rows earlier." if lags else text
