"""Stage 02: the teacher names a dataset for each topic; it is found, checked, pinned, and made into a task's files.

Source: paper, stage 2 (a proposal without a match on the Hub is discarded, sampled rows go into the next prompt). How
near a match may be, licences, sizes and how many rows are shown are not disclosed: parameters with our own defaults.
"""

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from synthkit.core.errors import HubError, ReplyError, StageError
from synthkit.core.executor import map_items
from synthkit.core.hub import DatasetInfo, HubClient
from synthkit.core.llm import ChatClient
from synthkit.core.params import DatasetsParams
from synthkit.core.prompts import render_messages
from synthkit.core.records import append_record, read_records, write_records
from synthkit.core.runs import Stage
from synthkit.stages.contamination import Benchmark, load_benchmark
from synthkit.stages.forms import DatasetProposal, Split, TaskPlan
from synthkit.stages.materialise import apply_plan, check_plan, clean_frame, split_frame, write_files
from synthkit.stages.metrics import METRICS_BY_KIND, Direction, MetricName, TaskKind, direction_of
from synthkit.stages.profile import Profile, describe_column, profile_frame
from synthkit.stages.progress import Progress, follow
from synthkit.stages.seeds import derive_seed, make_slug
from synthkit.stages.topics import Topic

SAMPLE_ROWS = 5
RETRIED = "internal_error"  # A fault of ours, not of the dataset: tried again at the next run.


class Proposal(BaseModel):
    """A task that stands on a real dataset; its files lie in data/<task_id>."""

    task_id: str
    topic_id: str
    topic_title: str
    title: str
    area: str
    difficulty: str
    description: str
    dataset: DatasetInfo
    named: str
    near_match: bool
    target: str
    features: list[str]
    task_kind: TaskKind
    metric: MetricName
    direction: Direction
    split: Split
    group_or_time: str | None
    n_train: int
    n_test: int
    columns: list[str]


class Rejected(BaseModel):
    """A topic for which no task could be made, and why."""

    topic_id: str
    title: str
    reason: str
    detail: str
    named: str | None = None


@dataclass(frozen=True)
class Desk:
    """What every topic's work needs: the two services, and what must not be used."""

    stage: Stage
    client: ChatClient
    hub: HubClient
    benchmark: Benchmark


@dataclass
class Found:
    """A dataset that passed the checks, with its table."""

    info: DatasetInfo
    frame: pd.DataFrame
    near_match: bool


def params_of(stage: Stage) -> DatasetsParams:
    assert isinstance(stage.params, DatasetsParams)
    return stage.params


def load_inputs(stage: Stage) -> list[Topic]:
    """The topics of stage 01."""
    return read_records(stage.input("01_topics") / "topics.jsonl", Topic)


def open_desk(stage: Stage) -> Desk:
    params = params_of(stage)
    client = ChatClient(params.teacher, stage.run_dir, stage.name)
    return Desk(stage, client, HubClient(params.hub), load_benchmark(params.benchmark))


def build_proposal_prompt(topic: Topic) -> list[dict[str, str]]:
    """The first question: which dataset?"""
    return render_messages("dataset_proposal", topic=topic)


def build_plan_prompt(topic: Topic, info: DatasetInfo, profile: Profile) -> list[dict[str, str]]:
    """The second question, with what the dataset really holds: which task?"""
    return render_messages("task_plan", topic=topic, dataset=info, profile=profile, metrics=METRICS_BY_KIND)


def show_prompt(stage: Stage, topic: Topic) -> list[dict[str, str]]:
    """Both questions about one topic; the second only when the dataset passed the checks."""
    desk = open_desk(stage)
    first = build_proposal_prompt(topic)
    try:
        found = find_dataset(desk, ask(desk, topic, first, DatasetProposal))
    except (HubError, ReplyError):
        return first
    return first + build_plan_prompt(topic, found.info, profile_found(stage, topic, found))


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
    write_records(stage.dir / "proposals.jsonl", sorted(kept, key=lambda row: row.topic_id))
    write_records(stage.dir / "rejected.jsonl", sorted(rejected, key=lambda row: row.topic_id))
    return read_proposals(stage)


def file_of(row: Proposal | Rejected) -> str:
    return "proposals.jsonl" if isinstance(row, Proposal) else "rejected.jsonl"


def blame_ourselves(topic: Topic, error: Exception) -> Rejected:
    return Rejected(topic_id=topic.id, title=topic.title, reason=RETRIED, detail=f"{type(error).__name__}: {error}")


def propose(desk: Desk, topic: Topic) -> Proposal | Rejected:
    """All of a topic's way from the first question to its files."""
    named: str | None = None
    try:
        proposal = ask(desk, topic, build_proposal_prompt(topic), DatasetProposal)
        named = proposal.dataset_id
        found = find_dataset(desk, proposal)
        profile = profile_found(desk.stage, topic, found)
        plan = ask(desk, topic, build_plan_prompt(topic, found.info, profile), TaskPlan)
        return make_task(desk.stage, topic, named, found, plan)
    except HubError as error:
        return Rejected(topic_id=topic.id, title=topic.title, reason=error.reason, detail=error.cause, named=named)
    except ReplyError as error:
        return Rejected(topic_id=topic.id, title=topic.title, reason="bad_reply", detail=error.cause, named=named)


def profile_found(stage: Stage, topic: Topic, found: Found) -> Profile:
    return profile_frame(found.frame, SAMPLE_ROWS, derive_seed(stage.seed, "rows", topic.id))


def ask(desk: Desk, topic: Topic, messages: list[dict[str, str]], form: type[Any]) -> Any:
    reply, _ = desk.client.ask(messages, form, seed=derive_seed(desk.stage.seed, form.__name__, topic.id))
    return reply


def find_dataset(desk: Desk, proposal: DatasetProposal) -> Found:
    """The dataset that was named or, when there is none of that name, the nearest match that passes the checks.

    Raises HubError with the typed reason: of the named dataset, or not_found.
    """
    desk.benchmark.check_id(proposal.dataset_id)
    candidates = desk.hub.find(proposal.dataset_id, proposal.search_words, params_of(desk.stage).search_limit)
    for candidate in candidates:
        if candidate.exact:
            return take_dataset(desk, candidate.id, near_match=False)
    for candidate in candidates:
        try:
            return take_dataset(desk, candidate.id, near_match=True)
        except HubError:
            continue
    raise HubError("not_found", f"there is no dataset {proposal.dataset_id}, and none of {len(candidates)} near "
                   "matches passes the checks")


def take_dataset(desk: Desk, dataset_id: str, near_match: bool) -> Found:
    params = params_of(desk.stage)
    desk.benchmark.check_id(dataset_id)
    info = desk.hub.verify(dataset_id, params.licences, params.unknown_licence, params.max_download_mb)
    desk.hub.fetch(info, desk.stage.dir / "downloads")
    frame = clean_frame(desk.hub.load_frame(info, None))
    desk.benchmark.check_rows(frame)
    return Found(info, frame, near_match)


def make_task(stage: Stage, topic: Topic, named: str, found: Found, plan: TaskPlan) -> Proposal:
    """Check the plan against the table, split, and write the files. Raises HubError with the typed reason."""
    params = params_of(stage)
    frame = apply_plan(found.frame, plan)
    check_plan(frame, plan, params)
    task_id = f"{make_slug(plan.title)}-{topic.id.split('-')[0]}"
    train, test = split_frame(frame, plan, params, derive_seed(stage.seed, "split", task_id))
    write_files(data_folder(stage, task_id), train, test, plan.task_kind)
    return Proposal(
        task_id=task_id, topic_id=topic.id, topic_title=topic.title, title=plan.title, area=topic.area,
        difficulty=topic.difficulty, description=plan.description, dataset=found.info, named=named,
        near_match=found.near_match,
        target=plan.target, features=[str(name) for name in train.columns[:-1]], task_kind=plan.task_kind,
        metric=plan.metric, direction=direction_of(plan.metric), split=plan.split, group_or_time=plan.group_or_time,
        n_train=len(train), n_test=len(test), columns=[describe_column(str(c), train[c]) for c in train.columns],
    )


def data_folder(stage: Stage, task_id: str) -> Path:
    return stage.dir / "data" / task_id


def load_proposals(stage: Stage) -> list[dict[str, Any]]:
    """The kept proposals as plain rows, for tables and plots."""
    return read_records(stage.dir / "proposals.jsonl")


def read_proposals(stage: Stage) -> list[Proposal]:
    return read_records(stage.dir / "proposals.jsonl", Proposal)


def read_rejected(stage: Stage) -> list[Rejected]:
    return read_records(stage.dir / "rejected.jsonl", Rejected)


def count_reasons(rows: Iterable[Any]) -> dict[str, int]:
    """How many rows were lost for each reason, the commonest first."""
    counts = Counter(row.reason for row in rows)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


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
