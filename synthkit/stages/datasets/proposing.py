"""From one topic to a task on a real dataset: two questions to the teacher, and the checks between and after them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from synthkit.core.errors import HubError, ReplyError
from synthkit.core.hub import DatasetInfo, HubClient
from synthkit.core.llm import ChatClient, Reply
from synthkit.core.params import DatasetsParams
from synthkit.core.prompts import render_messages
from synthkit.core.stage import Stage
from synthkit.gym.scoring.metrics import METRICS_BY_KIND, MetricName, TaskKind, direction_of
from synthkit.gym.task.config import Origin
from synthkit.gym.task.published import Direction
from synthkit.stages.common.forms import CustomMetric, DatasetProposal, Split, TaskPlan
from synthkit.stages.common.images import holds_pictures
from synthkit.stages.common.origins import build_origin
from synthkit.stages.common.seeds import derive_seed, make_slug
from synthkit.stages.datasets.column_summary import describe_column, sample_rows
from synthkit.stages.datasets.contamination import load_benchmark
from synthkit.stages.datasets.sources import Found, Library, Source
from synthkit.stages.datasets.task_data import apply_plan, check_plan, split_frame, write_files
from synthkit.stages.topics.pool import Topic

SAMPLE_ROWS = 5
M = TypeVar("M", bound=BaseModel)


class Proposal(BaseModel):
    """A task that stands on a real dataset; its files lie in data/<task_id>.

    `metric` names its score; with a `custom_metric` that is its name, and `standard_metric` the nearest one known.
    """

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
    metric: str
    standard_metric: MetricName
    custom_metric: CustomMetric | None = None
    direction: Direction
    split: Split
    group_or_time: str | None
    n_train: int
    n_test: int
    columns: list[str]
    pictures: str | None = None
    origin: Origin


class Rejected(BaseModel):
    """A topic for which no task could be made, and why; of one that another task already says, the proposal too."""

    topic_id: str
    title: str
    reason: str
    detail: str
    named: str | None = None
    proposal: Proposal | None = None


@dataclass(frozen=True)
class Desk:
    """What every topic's work needs: the teacher, the datasets, and one thread for all work on tables.

    Many threads at tables would be no faster, take a third more processor time, and hold on to twice the memory.
    """

    stage: Stage
    client: ChatClient
    library: Library
    tables: ThreadPoolExecutor


def params_of(stage: Stage) -> DatasetsParams:
    assert isinstance(stage.params, DatasetsParams)
    return stage.params


@contextmanager
def open_desk(stage: Stage) -> Iterator[Desk]:
    params = params_of(stage)
    client = stage.open_chat(params.teacher)
    hub, benchmark = HubClient(params.hub), load_benchmark(params.benchmark)
    with ThreadPoolExecutor(1) as tables:
        yield Desk(stage, client, Library(hub, benchmark, params, stage.dir / "downloads", tables), tables)


def build_proposal_prompt(topic: Topic) -> list[dict[str, str]]:
    """The first question: which dataset?"""
    return render_messages("dataset_proposal", topic=topic)


def build_plan_prompt(stage: Stage, topic: Topic, source: Source) -> list[dict[str, str]]:
    """The second question, with what the dataset really holds: which task?"""
    sample = sample_rows(source.frame, SAMPLE_ROWS, derive_seed(stage.seed, "rows", topic.id))
    return render_messages("task_plan", topic=topic, dataset=source.info, rows=source.rows, columns=source.columns,
                           sample=sample, metrics=METRICS_BY_KIND)


def propose(desk: Desk, topic: Topic) -> Proposal | Rejected:
    """All of a topic's way from the first question to its files. Raises ReplyError for a reply that cannot be used."""
    proposal, replies = ask(desk, topic, build_proposal_prompt(topic), DatasetProposal)
    named = proposal.dataset_id
    try:
        found = desk.library.find(proposal)
        messages = desk.tables.submit(build_plan_prompt, desk.stage, topic, found.source).result()
        plan, more = ask(desk, topic, messages, TaskPlan)
        origin = build_origin(desk.stage, desk.client, [*replies, *more])
        return desk.tables.submit(make_task, desk.stage, topic, named, found, plan, origin).result()
    except (HubError, ReplyError) as error:
        return Rejected(topic_id=topic.id, title=topic.title, reason=error.reason, detail=error.cause, named=named)


def ask(desk: Desk, topic: Topic, messages: list[dict[str, str]], form: type[M]) -> tuple[M, list[Reply]]:
    return desk.client.ask(messages, form, seed=derive_seed(desk.stage.seed, form.__name__, topic.id))


def make_task(stage: Stage, topic: Topic, named: str, found: Found, plan: TaskPlan, origin: Origin) -> Proposal:
    """Check the plan against the table, split, and write the files. Raises HubError with the typed reason."""
    params, own = params_of(stage), plan.custom_metric
    frame = apply_plan(found.source.frame, plan)
    check_plan(frame, plan, params)
    task_id = f"{make_slug(plan.title)}-{topic.id.split('-')[0]}"
    train, test = split_frame(frame, plan, params, derive_seed(stage.seed, "split", task_id))
    write_files(data_folder(stage, task_id), train, test, plan.task_kind)
    return Proposal(
        task_id=task_id, topic_id=topic.id, topic_title=topic.title, title=plan.title, area=topic.area,
        difficulty=topic.difficulty, description=plan.description, dataset=found.source.info, named=named,
        near_match=found.near_match,
        target=plan.target, features=[str(name) for name in train.columns[:-1]], task_kind=plan.task_kind,
        metric=own.name if own else plan.metric, standard_metric=plan.metric, custom_metric=own,
        direction=own.direction if own else direction_of(plan.metric), split=plan.split,
        group_or_time=plan.group_or_time,
        n_train=len(train), n_test=len(test), columns=[describe_column(str(c), train[c]) for c in train.columns],
        pictures=next((str(name) for name in train.columns if holds_pictures(train[name])), None), origin=origin,
    )


def data_folder(stage: Stage, task_id: str) -> Path:
    return stage.dir / "data" / task_id
