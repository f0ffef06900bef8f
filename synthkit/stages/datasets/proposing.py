"""From one topic to a task on a real dataset: two questions to the teacher, and the checks between and after them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from synthkit.core.errors import HubError, ReplyError
from synthkit.core.hub import HubClient
from synthkit.core.llm import ChatClient, Reply
from synthkit.core.params import DatasetsParams
from synthkit.core.prompts import render_messages
from synthkit.core.stage import Stage, params_as
from synthkit.gym.scoring.metrics import METRICS_BY_KIND, direction_of
from synthkit.gym.task.config import Origin
from synthkit.records import Proposal, RefusedTopic, Topic
from synthkit.stages.common.images import holds_pictures
from synthkit.stages.common.origins import build_origin
from synthkit.stages.common.seeds import derive_seed, make_slug
from synthkit.stages.datasets.column_summary import describe_column, sample_rows
from synthkit.stages.datasets.contamination import read_benchmark
from synthkit.stages.datasets.forms import DatasetProposal, TaskPlan
from synthkit.stages.datasets.sources import DatasetCache, Found, Source
from synthkit.stages.datasets.splits import split_frame
from synthkit.stages.datasets.table import apply_plan, check_plan
from synthkit.stages.datasets.task_data import write_files

SAMPLE_ROWS = 5
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Proposing:
    """What the work on every topic needs: the teacher, the datasets, and one thread for all work on tables.

    Many threads at tables would be no faster, take a third more processor time, and hold on to twice the memory.
    """

    stage: Stage
    client: ChatClient
    datasets: DatasetCache
    tables: ThreadPoolExecutor


def params_of(stage: Stage) -> DatasetsParams:
    """The parameters of this stage."""
    return params_as(stage, DatasetsParams)


@contextmanager
def open_proposing(stage: Stage) -> Iterator[Proposing]:
    """Teacher, datasets and the thread for tables, open while topics are worked on."""
    params = params_of(stage)
    client = stage.open_chat(params.teacher)
    hub, benchmark = HubClient(params.hub), read_benchmark(params.benchmark)
    with ThreadPoolExecutor(1) as tables:
        cache = DatasetCache(hub, benchmark, params, stage.dir / "downloads", tables)
        yield Proposing(stage, client, cache, tables)


def build_proposal_prompt(topic: Topic) -> list[dict[str, str]]:
    """The first question: which dataset?"""
    return render_messages("dataset_proposal", topic=topic)


def build_plan_prompt(stage: Stage, topic: Topic, source: Source) -> list[dict[str, str]]:
    """The second question, with what the dataset really holds: which task?"""
    sample = sample_rows(source.frame, SAMPLE_ROWS, derive_seed(stage.seed, "rows", topic.id))
    return render_messages("task_plan", topic=topic, dataset=source.info, rows=source.rows, columns=source.columns,
                           sample=sample, metrics=METRICS_BY_KIND)


def propose(context: Proposing, topic: Topic) -> Proposal | RefusedTopic:
    """All of a topic's way from the first question to its files. Raises ReplyError for a reply that cannot be used."""
    proposal, replies = ask(context, topic, build_proposal_prompt(topic), DatasetProposal)
    named = proposal.dataset_id
    try:
        found = context.datasets.find(proposal)
        messages = context.tables.submit(build_plan_prompt, context.stage, topic, found.source).result()
        plan, more = ask(context, topic, messages, TaskPlan)
        origin = build_origin(context.stage, context.client, [*replies, *more])
        return context.tables.submit(make_task, context.stage, topic, named, found, plan, origin).result()
    except (HubError, ReplyError) as error:
        return RefusedTopic(topic_id=topic.id, title=topic.title, reason=error.reason, detail=error.cause, named=named)


def ask(context: Proposing, topic: Topic, messages: list[dict[str, str]], form: type[M]) -> tuple[M, list[Reply]]:
    """One question about a topic, answered in a form, and the replies that it took. Raises ReplyError."""
    return context.client.ask(messages, form, seed=derive_seed(context.stage.seed, form.__name__, topic.id))


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
    """Where the files of a task lie."""
    return stage.dir / "data" / task_id
