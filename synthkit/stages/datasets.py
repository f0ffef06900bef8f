"""Stage 02: the teacher names a dataset for each topic; it is found, checked, pinned, and made into a task's files.

Source: paper, stage 2 (a proposal without a match on the Hub is discarded, sampled rows go into the next prompt). How
near a match may be, licences, sizes and how many rows are shown are not disclosed: parameters with our own defaults.
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from synthkit.core.errors import HubError, ReplyError, StageError
from synthkit.core.executor import map_items
from synthkit.core.records import append_record, read_records, write_records
from synthkit.core.runs import Stage
from synthkit.stages.forms import DatasetProposal
from synthkit.stages.harvest import Topic
from synthkit.stages.losses import RETRIED, count_reasons
from synthkit.stages.progress import Progress, follow
from synthkit.stages.proposals import (
    Proposal,
    Rejected,
    ask,
    build_plan_prompt,
    build_proposal_prompt,
    data_folder,
    open_desk,
    params_of,
    propose,
)
from synthkit.stages.similarity import TextIndex

SAME_TASK = 0.8  # TF-IDF cosine of two tasks' texts from which they say the same.


def load_inputs(stage: Stage) -> list[Topic]:
    """The topics of stage 01."""
    return read_records(stage.input("01_topics") / "topics.jsonl", Topic)


def show_prompt(stage: Stage, topic: Topic) -> list[dict[str, str]]:
    """Both questions about one topic; the second only when the dataset passed the checks."""
    desk = open_desk(stage)
    first = build_proposal_prompt(topic)
    try:
        found = desk.library.find(ask(desk, topic, first, DatasetProposal)[0])
    except (HubError, ReplyError):
        return first
    return first + build_plan_prompt(stage, topic, found.source)


def preview(stage: Stage, n: int = 2) -> list[dict[str, Any]]:
    """What comes of the first `n` topics, as rows, nothing recorded; the run then has the replies for nothing."""
    desk = open_desk(stage)
    return [propose(desk, topic).model_dump() for topic in load_inputs(stage)[:n]]


def run(stage: Stage, progress: Progress | None = None) -> list[Proposal]:
    """Propose, find, check, pin and write a task for each topic that has no record yet."""
    topics = load_inputs(stage)
    kept, rejected = read_proposals(stage), [row for row in read_rejected(stage) if row.reason != RETRIED]
    done = {row.topic_id for row in [*kept, *rejected]}
    left = [topic for topic in topics if topic.id not in done]
    if left:
        desk = open_desk(stage)
        results = map_items(lambda topic: propose(desk, topic), left, params_of(stage).teacher.concurrency)
        for topic, result in follow(progress, results, total=len(topics), done=len(done)):
            row = result if isinstance(result, BaseModel) else blame_ourselves(topic, result)
            append_record(stage.dir / file_of(row), row)
            (kept if isinstance(row, Proposal) else rejected).append(row)
    kept, twins = drop_twins(sorted(kept, key=lambda row: row.topic_id), params_of(stage).max_twins)
    rejected += twins
    write_records(stage.dir / "proposals.jsonl", kept)
    write_records(stage.dir / "rejected.jsonl", sorted(rejected, key=lambda row: row.topic_id))
    return read_proposals(stage)


def drop_twins(rows: list[Proposal], max_twins: int) -> tuple[list[Proposal], list[Rejected]]:
    """(tasks to go on with, those that `max_twins` earlier ones already say).

    Two tasks are twins when dataset, target and metric are the same and what they say is close. They are looked for
    before any code is asked for, so a twin costs nothing more.
    """
    kept: list[Proposal] = []
    dropped: list[Rejected] = []
    groups: dict[tuple[str, str, str], tuple[TextIndex, list[str]]] = {}
    for row in rows:
        texts, ids = groups.setdefault((row.dataset.id, row.target, row.metric), (TextIndex(), []))
        twins = [ids[at] for at, closeness in enumerate(texts.compare(describe(row))) if closeness >= SAME_TASK]
        if len(twins) < max_twins:
            kept.append(row)
            texts.add(describe(row))
            ids.append(row.task_id)
            continue
        dropped.append(Rejected(topic_id=row.topic_id, title=row.topic_title, reason="same_task", named=row.named,
                                detail=f"{row.task_id} says what {', '.join(twins)} says"))
    return kept, dropped


def describe(row: Proposal) -> str:
    return f"{row.title} {row.description} {' '.join(row.features)}"


def file_of(row: Proposal | Rejected) -> str:
    return "proposals.jsonl" if isinstance(row, Proposal) else "rejected.jsonl"


def blame_ourselves(topic: Topic, error: Exception) -> Rejected:
    return Rejected(topic_id=topic.id, title=topic.title, reason=RETRIED, detail=f"{type(error).__name__}: {error}")


def load_proposals(stage: Stage) -> list[dict[str, Any]]:
    """The kept proposals as plain rows, for tables and plots."""
    return read_records(stage.dir / "proposals.jsonl")


def read_proposals(stage: Stage) -> list[Proposal]:
    return read_records(stage.dir / "proposals.jsonl", Proposal)


def read_rejected(stage: Stage) -> list[Rejected]:
    return read_records(stage.dir / "rejected.jsonl", Rejected)


def funnel(stage: Stage) -> tuple[int, int, dict[str, int]]:
    """(topics, kept, lost by reason): the three add up."""
    return len(load_inputs(stage)), len(read_proposals(stage)), count_reasons(read_rejected(stage))


def check(stage: Stage) -> None:
    """Each topic has one record, task ids are unique, and no test label lies in a file that a solver sees."""
    proposals = read_proposals(stage)
    requested, kept, lost = funnel(stage)
    if not proposals:
        raise StageError(f"02_datasets: no topic got a dataset; lost: {lost}", "look at 02_datasets/rejected.jsonl")
    if kept + sum(lost.values()) != requested:
        raise StageError(f"02_datasets: {requested} topics, but {kept} kept and {sum(lost.values())} rejected",
                         "run the stage again")
    if len({row.task_id for row in proposals}) < kept:
        raise StageError("02_datasets: two tasks have the same id", "set resume to never and run again")
    for row in proposals:
        check_files(data_folder(stage, row.task_id), row)


def check_files(folder: Path, row: Proposal) -> None:
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("train", "test", "answers", "sample_submission")}
    sound = (
        row.target not in tables["test"].columns
        and len(tables["train"]) == row.n_train
        and list(tables["answers"]["id"]) == list(tables["test"]["id"]) == list(tables["sample_submission"]["id"])
        and tables["sample_submission"][row.target].nunique() == 1
    )
    if not sound:
        raise StageError(f"02_datasets: the files of {row.task_id} do not agree with its record",
                         "set resume to never and run again")


def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record; the downloads are not needed any more."""
    proposals = read_proposals(stage)
    shutil.rmtree(stage.dir / "downloads", ignore_errors=True)
    metrics = {"datasets": len({row.dataset.id for row in proposals}),
               "near_matches": sum(row.near_match for row in proposals)}
    return stage.finish(*funnel(stage), metrics=metrics)
