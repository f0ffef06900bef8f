"""From one topic to a task on a real dataset: two questions to the teacher, and the checks between and after them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from synthkit.core.errors import HubError, ReplyError
from synthkit.core.hub import DatasetInfo, HubClient
from synthkit.core.llm import ChatClient
from synthkit.core.params import DatasetsParams
from synthkit.core.prompts import render_messages
from synthkit.core.runs import Stage
from synthkit.stages.contamination import Benchmark, load_benchmark
from synthkit.stages.forms import DatasetProposal, Split, TaskPlan
from synthkit.stages.harvest import Topic
from synthkit.stages.materialise import apply_plan, check_plan, clean_frame, split_frame, write_files
from synthkit.stages.metrics import METRICS_BY_KIND, Direction, MetricName, TaskKind, direction_of
from synthkit.stages.profile import Profile, describe_column, profile_frame
from synthkit.stages.seeds import derive_seed, make_slug

SAMPLE_ROWS = 5


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
