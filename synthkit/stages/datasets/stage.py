"""Stage 02: the teacher names a dataset for each topic; it is found, checked, pinned, and made into a task's files.

Source: paper, stage 2 (a proposal without a match on the Hub is discarded, sampled rows go into the next prompt). How
near a match may be, licences, sizes and how many rows are shown are not disclosed: parameters with our own defaults.
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from synthkit.core.errors import HubError, ReplyError, StageError
from synthkit.core.files import read_records
from synthkit.core.progress import Progress, show_progress
from synthkit.core.stage import Stage, under_lock
from synthkit.core.worklist import Worklist, check_owed, count_owed
from synthkit.stages.common.forms import DatasetProposal
from synthkit.stages.common.refusals import count_reasons
from synthkit.stages.common.similarity import TextIndex
from synthkit.stages.datasets.proposing import (
    Desk,
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
from synthkit.stages.topics.pool import Topic

SAME_TASK = 0.8  # TF-IDF cosine of two tasks' texts from which they say the same.


def load_inputs(stage: Stage) -> list[Topic]:
    """The topics of stage 01."""
    return read_records(stage.input("01_topics") / "topics.jsonl", Topic)


@under_lock
def show_prompt(stage: Stage, topic: Topic) -> list[dict[str, str]]:
    """Both questions about one topic; the second only when the dataset passed the checks. Asks the first."""
    first = build_proposal_prompt(topic)
    with open_desk(stage) as desk:
        try:
            found = desk.library.find(ask(desk, topic, first, DatasetProposal)[0])
        except (HubError, ReplyError):
            return first
    return first + build_plan_prompt(stage, topic, found.source)


@under_lock
def preview(stage: Stage, n: int = 2) -> list[dict[str, Any]]:
    """What comes of the first `n` topics, as rows, nothing recorded; the run then has the replies for nothing."""
    with open_desk(stage) as desk:
        return [propose_or_refuse(desk, topic).model_dump() for topic in load_inputs(stage)[:n]]


def propose_or_refuse(desk: Desk, topic: Topic) -> Proposal | Rejected:
    """One topic's outcome as the run would record it."""
    try:
        return propose(desk, topic)
    except (HubError, ReplyError) as error:
        return refuse(topic, error.reason, error.cause)


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> list[Proposal]:
    """Propose, find, check, pin and write a task for each topic that has no record yet."""
    work = list_work(stage)
    topics = load_inputs(stage)
    with show_progress(progress, len(topics)) as advance:
        rows = work.work_off(topics, params_of(stage).teacher.concurrency, advance).values()
    # A task that was dropped as a twin carries its proposal, since another twin may have been owed until now.
    whole = [row.proposal if isinstance(row, Rejected) and row.proposal else row for row in rows]
    kept, twins = drop_twins([row for row in whole if isinstance(row, Proposal)], params_of(stage).max_twins)
    refused = [row for row in whole if isinstance(row, Rejected)]
    work.rewrite([*kept, *sorted([*refused, *twins], key=name_topic)])
    check_owed(stage, len(topics))
    return read_proposals(stage)


def list_work(stage: Stage) -> Worklist[Topic, Desk]:
    return Worklist(stage, {Proposal: "proposals.jsonl", Rejected: "rejected.jsonl"}, lambda topic: topic.id,
                    name_topic, refuse, open_desk, propose)


def name_topic(row: Proposal | Rejected) -> str:
    return row.topic_id


def refuse(topic: Topic, reason: str, detail: str) -> Rejected:
    return Rejected(topic_id=topic.id, title=topic.title, reason=reason, detail=detail)


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
                                detail=f"{row.task_id} says what {', '.join(twins)} says", proposal=row))
    return kept, dropped


def describe(row: Proposal) -> str:
    return f"{row.title} {row.description} {' '.join(row.features)}"


def load_proposals(stage: Stage) -> list[dict[str, Any]]:
    """The kept proposals as plain rows, for tables and plots."""
    return read_records(stage.dir / "proposals.jsonl")


def read_proposals(stage: Stage) -> list[Proposal]:
    return read_records(stage.dir / "proposals.jsonl", Proposal)


def read_rejected(stage: Stage) -> list[Rejected]:
    return read_records(stage.dir / "rejected.jsonl", Rejected)


def funnel(stage: Stage) -> tuple[int, int, dict[str, int], dict[str, int]]:
    """(topics, kept, lost by reason, owed by reason): kept, lost and owed add up to the first."""
    return (len(load_inputs(stage)), len(read_proposals(stage)), count_reasons(read_rejected(stage)),
            count_owed(stage))


def check(stage: Stage) -> None:
    """Each topic has one record, task ids are unique, and no test label lies in a file that a solver sees."""
    proposals = read_proposals(stage)
    requested, kept, lost, owed = funnel(stage)
    if not proposals:
        raise StageError(f"02_datasets: no topic got a dataset; lost: {lost}", "look at 02_datasets/rejected.jsonl")
    if kept + sum(lost.values()) + sum(owed.values()) != requested:
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


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record; the downloads are not needed any more."""
    proposals = read_proposals(stage)
    shutil.rmtree(stage.dir / "downloads", ignore_errors=True)
    metrics = {"datasets": len({row.dataset.id for row in proposals}),
               "near_matches": sum(row.near_match for row in proposals)}
    requested, kept, lost, owed = funnel(stage)
    return stage.finish(requested, kept, lost, metrics, owed=owed)
