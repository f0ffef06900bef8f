"""Stage 02: the teacher names a dataset for each topic; it is found, checked, pinned, and made into a task's files.

Source: paper, stage 2 (a proposal without a match on the Hub is refused, sampled rows go into the next prompt). How
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
from synthkit.records import Proposal, RefusedTopic, Topic
from synthkit.stages.common.funnel import Funnel, count_reasons
from synthkit.stages.common.similarity import TextIndex
from synthkit.stages.datasets.forms import DatasetProposal
from synthkit.stages.datasets.proposing import (
    Proposing,
    ask,
    build_plan_prompt,
    build_proposal_prompt,
    data_folder,
    open_proposing,
    params_of,
    propose,
)

SAME_TASK = 0.8  # TF-IDF cosine of two tasks' texts from which they are near-duplicates.


def load_inputs(stage: Stage) -> list[Topic]:
    """The topics of stage 01."""
    return read_records(stage.input("01_topics") / "topics.jsonl", Topic)


@under_lock
def show_prompt(stage: Stage, topic: Topic) -> list[dict[str, str]]:
    """Both questions about one topic; the second only when the dataset passed the checks. Asks the first."""
    first = build_proposal_prompt(topic)
    with open_proposing(stage) as context:
        try:
            found = context.datasets.find(ask(context, topic, first, DatasetProposal)[0])
        except (HubError, ReplyError):
            return first
    return first + build_plan_prompt(stage, topic, found.source)


@under_lock
def preview(stage: Stage, n: int = 2) -> list[dict[str, Any]]:
    """What comes of the first `n` topics, as rows, nothing recorded; the run then has the replies for nothing."""
    with open_proposing(stage) as context:
        return [propose_or_refuse(context, topic).model_dump() for topic in load_inputs(stage)[:n]]


def propose_or_refuse(context: Proposing, topic: Topic) -> Proposal | RefusedTopic:
    """One topic's outcome as the run would record it."""
    try:
        return propose(context, topic)
    except (HubError, ReplyError) as error:
        return refuse(topic, error.reason, error.cause)


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> list[Proposal]:
    """Propose, find, check, pin and write a task for each topic that has no record yet."""
    work = list_work(stage)
    topics = load_inputs(stage)
    with show_progress(progress, len(topics)) as advance:
        rows = work.work_off(topics, params_of(stage).teacher.concurrency, advance).values()
    # A task that was dropped carries its proposal: one that it repeats may have been owed until now.
    whole = [row.proposal if isinstance(row, RefusedTopic) and row.proposal else row for row in rows]
    tasks = [row for row in whole if isinstance(row, Proposal)]
    kept, repeated = drop_near_duplicates(tasks, params_of(stage).max_near_duplicates)
    refused = [row for row in whole if isinstance(row, RefusedTopic)]
    work.rewrite([*kept, *sorted([*refused, *repeated], key=name_topic)])
    check_owed(stage, len(topics))
    return read_proposals(stage)


def list_work(stage: Stage) -> Worklist[Topic, Proposing]:
    """The worklist of topics."""
    return Worklist(stage, {Proposal: "proposals.jsonl", RefusedTopic: "refused.jsonl"}, lambda topic: topic.id,
                    name_topic, refuse, open_proposing, propose)


def name_topic(row: Proposal | RefusedTopic) -> str:
    """The key of a row: its topic."""
    return row.topic_id


def refuse(topic: Topic, reason: str, detail: str) -> RefusedTopic:
    """The row of a topic of which nothing came."""
    return RefusedTopic(topic_id=topic.id, title=topic.title, reason=reason, detail=detail)


def drop_near_duplicates(rows: list[Proposal], max_near_duplicates: int) -> tuple[list[Proposal], list[RefusedTopic]]:
    """(tasks kept, near-duplicates dropped): a task is dropped when as many kept ones as allowed are close to it.

    Two tasks are near-duplicates when dataset, target and metric are the same and their texts are close. They are
    looked for before any code is asked for, so they cost nothing more.
    """
    kept: list[Proposal] = []
    dropped: list[RefusedTopic] = []
    groups: dict[tuple[str, str, str], tuple[TextIndex, list[str]]] = {}
    for row in rows:
        texts, ids = groups.setdefault((row.dataset.id, row.target, row.metric), (TextIndex(), []))
        near = [ids[at] for at, closeness in enumerate(texts.compare(describe(row))) if closeness >= SAME_TASK]
        if len(near) < max_near_duplicates:
            kept.append(row)
            texts.add(describe(row))
            ids.append(row.task_id)
            continue
        detail = f"{row.task_id} is a near-duplicate of {', '.join(near)}"
        dropped.append(RefusedTopic(topic_id=row.topic_id, title=row.topic_title, reason="near_duplicate",
                                    detail=detail, named=row.named, proposal=row))
    return kept, dropped


def describe(row: Proposal) -> str:
    """A task's text, as near-duplicates are looked for in it."""
    return f"{row.title} {row.description} {' '.join(row.features)}"


def load_proposals(stage: Stage) -> list[dict[str, Any]]:
    """The kept proposals as plain rows, for tables and plots."""
    return read_records(stage.dir / "proposals.jsonl")


def read_proposals(stage: Stage) -> list[Proposal]:
    """The tasks on a dataset."""
    return read_records(stage.dir / "proposals.jsonl", Proposal)


def read_refused(stage: Stage) -> list[RefusedTopic]:
    """The topics without a task, and why."""
    return read_records(stage.dir / "refused.jsonl", RefusedTopic)


def funnel(stage: Stage) -> Funnel:
    """Topics, those that got a task, refused and owed."""
    return Funnel(len(load_inputs(stage)), len(read_proposals(stage)), count_reasons(read_refused(stage)),
                  count_owed(stage))


def check(stage: Stage) -> None:
    """Each topic has one record, task ids are unique, and no test label lies in a file that a solver sees."""
    proposals = read_proposals(stage)
    funnel(stage).check(stage, "no topic got a dataset", "look at 02_datasets/refused.jsonl")
    if len({row.task_id for row in proposals}) < len(proposals):
        raise StageError("02_datasets: two tasks have the same id", "set resume to never and run again")
    for row in proposals:
        check_files(data_folder(stage, row.task_id), row)


def check_files(folder: Path, row: Proposal) -> None:
    """Raises StageError when the files of a task do not agree with its row, or give labels away."""
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
    return funnel(stage).finish(stage, metrics)
