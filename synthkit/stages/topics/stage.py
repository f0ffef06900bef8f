"""Stage 01: sample machine-learning topics from the teacher, evenly over a grid, without near-duplicates.

Source: paper, stage 1 (about 1,000 topics); its prompt, its duplicate control and its temperature are not disclosed.
What was asked and answered lies in batches.jsonl; topics and refused ideas follow from it, so an interrupted run gives
the same files as an uninterrupted one. Its items are requests: one that is owed ends the sampling with its round, since
later requests depend on what it brings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from synthkit.core.errors import StageError
from synthkit.core.files import read_records, write_records
from synthkit.core.llm import ChatClient
from synthkit.core.params import TopicsParams
from synthkit.core.progress import Progress, show_progress
from synthkit.core.prompts import render_messages
from synthkit.core.stage import Stage, params_as, under_lock
from synthkit.core.worklist import Worklist, count_owed
from synthkit.records import Batch, Cell, Topic, TopicIdea
from synthkit.stages.common.funnel import Funnel
from synthkit.stages.common.seeds import derive_random, derive_seed
from synthkit.stages.topics.grid import Grid, deal_cells, read_grid
from synthkit.stages.topics.pool import TopicPool

ROUNDS = 8  # Requests of a round go out together; they see what the rounds before found, so there must be several.
SHOWN = 80  # Titles that a request shows as taken.


class TopicBatch(BaseModel):
    """The form of one reply."""

    topics: list[TopicIdea]


def params_of(stage: Stage) -> TopicsParams:
    """The parameters of this stage."""
    return params_as(stage, TopicsParams)


def load_inputs(stage: Stage) -> list[Cell]:
    """The cells of the grid, in the seeded order in which they are asked for."""
    grid = read_grid(params_of(stage).grid)
    return deal_cells(grid, [], len(grid.cells()), stage.seed)


def build_prompt(stage: Stage, batch: Batch, taken: list[str]) -> list[dict[str, str]]:
    """The exact messages of one request; of many taken titles a seeded sample is shown."""
    shown = taken
    if len(taken) > SHOWN:
        shown = sorted(derive_random(stage.seed, "taken", batch.number).sample(taken, SHOWN))
    return render_messages("topics", cells=batch.cells, taken=shown, batch=batch.number)


def show_prompt(stage: Stage) -> list[dict[str, str]]:
    """The first request of the run."""
    return build_prompt(stage, plan_first(stage), [])


@under_lock
def preview(stage: Stage) -> list[dict[str, Any]]:
    """What comes of the first request, as rows, nothing recorded; the full run then has the reply for nothing."""
    with open_asking(stage) as context:
        batch = ask_batch(context, plan_first(stage))
    return [topic.model_dump() for topic in fill_pool(stage, [batch]).topics]


def plan_first(stage: Stage) -> Batch:
    """The first request of the run, as it is planned while nothing was asked yet."""
    return plan_round(stage, read_grid(params_of(stage).grid), [], TopicPool())[0]


@dataclass(frozen=True)
class Asking:
    """What the requests of a round share: the teacher, and the titles that there are already."""

    stage: Stage
    client: ChatClient
    taken: list[str]


@contextmanager
def open_asking(stage: Stage, taken: list[str] | None = None) -> Iterator[Asking]:
    """What the requests of a round share, open while they are sent."""
    yield Asking(stage, stage.open_chat(params_of(stage).teacher), taken or [])


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> list[Topic]:
    """Ask until there are `n_topics`, or `max_idle_batches` in a row brought nothing new. Resumable at any point."""
    batches: list[Batch] = []
    pool = TopicPool()
    with show_progress(progress, params_of(stage).n_topics) as advance:
        for _ in sample_topics(stage, batches, pool):
            advance(1)
    list_work(stage, []).rewrite(batches)
    write_records(stage.dir / "topics.jsonl", pool.topics)
    write_records(stage.dir / "refused.jsonl", pool.refused_ideas)
    outcomes = count_outcomes(stage, pool)
    stage.check_owed(outcomes.requested, outcomes.owed)
    return pool.topics


def list_work(stage: Stage, taken: list[str]) -> Worklist[Batch, Asking]:
    """The worklist of requests; `taken` are the titles of the topics so far."""
    return Worklist(stage, {Batch: "batches.jsonl"}, name_batch, name_batch, refuse,
                    lambda stage: open_asking(stage, taken), ask_batch)


def name_batch(batch: Batch) -> str:
    """The key of a request: its number, with zeros so that keys sort as numbers do."""
    return f"{batch.number:06d}"


def refuse(batch: Batch, reason: str, detail: str) -> Batch:
    """A request that brought nothing: its cells count as refused for this reason."""
    return batch.model_copy(update={"reason": reason, "detail": detail})


def sample_topics(stage: Stage, batches: list[Batch], pool: TopicPool) -> Iterator[Topic]:
    """Round by round, fill `batches` and `pool`; yields each topic that was kept.

    What batches.jsonl holds is not asked again. Ends with a round that leaves a request owed.
    """
    params, grid = params_of(stage), read_grid(params_of(stage).grid)
    while len(pool.topics) < params.n_topics and pool.idle < params.max_idle_batches:
        planned = plan_round(stage, grid, batches, pool)
        work = list_work(stage, [topic.title for topic in pool.topics])
        rows = work.work_off(planned, params.teacher.concurrency)
        known = {int(key): batch for key, batch in rows.items() if isinstance(batch, Batch)}
        check_same_cells(planned, known)
        before = len(pool.topics)
        answered = [known[batch.number] for batch in planned if batch.number in known]
        batches += answered
        pool.add_batches(answered, params.similarity)
        yield from pool.topics[before:]
        if len(answered) < len(planned):
            return


def plan_round(stage: Stage, grid: Grid, batches: list[Batch], pool: TopicPool) -> list[Batch]:
    """The next requests, numbered from 1, with the cells whose area was asked for least."""
    params = params_of(stage)
    missing = params.n_topics - len(pool.topics)
    at_once = max(1, params.n_topics // (ROUNDS * params.batch_size))
    asked = [cell for batch in batches for cell in batch.cells]
    cells = deal_cells(grid, asked, min(missing, at_once * params.batch_size), stage.seed)
    chunks = [cells[at:at + params.batch_size] for at in range(0, len(cells), params.batch_size)]
    return [Batch(number=len(batches) + 1 + k, cells=chunk) for k, chunk in enumerate(chunks)]


def ask_batch(context: Asking, batch: Batch) -> Batch:
    """One request. Raises ReplyError for a reply that cannot be used."""
    stage, messages = context.stage, build_prompt(context.stage, batch, context.taken)
    reply, _ = context.client.ask(messages, TopicBatch, sample=batch.number,
                                 seed=derive_seed(stage.seed, "topics", batch.number))
    return batch.model_copy(update={"ideas": reply.topics[:len(batch.cells)]})


def check_same_cells(planned: list[Batch], known: dict[int, Batch]) -> None:
    """Raises StageError when a request on record asked for other cells than the plan has for its number."""
    for batch in planned:
        if batch.number in known and known[batch.number].cells != batch.cells:
            raise StageError("01_topics: the grid was changed since this run began",
                             "set resume to never, so that the old topics are archived, or restore the grid")


def load_topics(stage: Stage) -> list[dict[str, Any]]:
    """The kept topics as plain rows, for tables and plots."""
    return read_records(stage.dir / "topics.jsonl")


def read_topics(stage: Stage) -> list[Topic]:
    """The kept topics."""
    return read_records(stage.dir / "topics.jsonl", Topic)


def read_batches(stage: Stage) -> list[Batch]:
    """Every request on record with what came of it."""
    return read_records(stage.dir / "batches.jsonl", Batch)


def read_pool(stage: Stage) -> TopicPool:
    """The pool that the recorded batches fill."""
    return fill_pool(stage, read_batches(stage))


def fill_pool(stage: Stage, batches: list[Batch]) -> TopicPool:
    """A pool of these batches, with the similarity that the parameters set."""
    pool = TopicPool()
    pool.add_batches(batches, params_of(stage).similarity)
    return pool


def funnel(stage: Stage) -> Funnel:
    """Topics asked for, kept, refused and owed.

    A request that is owed ends the sampling, so all topics that are missing then are owed for its reason.
    """
    return count_outcomes(stage, read_pool(stage))


def count_outcomes(stage: Stage, pool: TopicPool) -> Funnel:
    """The funnel of a pool that is at hand: to compare all topics again takes long when there are many."""
    reasons = count_owed(stage)
    missing = max(0, params_of(stage).n_topics - len(pool.topics))
    owed = {max(reasons, key=lambda reason: reasons[reason]): missing} if reasons and missing else {}
    return Funnel(pool.requested + sum(owed.values()), len(pool.topics), pool.refused, owed)


def check(stage: Stage) -> None:
    """Ids and titles are unique, no two topics are near-duplicates, and there is at least one."""
    topics = read_topics(stage)
    if not topics:
        raise StageError("01_topics: no topic was kept", "look at 01_topics/batches.jsonl for what the teacher replied")
    for name in ("id", "title"):
        if len({getattr(topic, name) for topic in topics}) < len(topics):
            raise StageError(f"01_topics: two topics have the same {name}", "set resume to never and run again")
    if topics != read_pool(stage).topics:
        raise StageError("01_topics: topics.jsonl does not follow from batches.jsonl", "run the stage again")


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record, with the number of topics in each area."""
    areas: dict[str, int] = {}
    for topic in read_topics(stage):
        areas[topic.area] = areas.get(topic.area, 0) + 1
    params, pool = params_of(stage), read_pool(stage)
    outcomes = count_outcomes(stage, pool)
    if outcomes.kept < params.n_topics and pool.idle < params.max_idle_batches and not outcomes.owed:
        raise StageError(f"01_topics: {outcomes.kept} of {params.n_topics} topics, and not all was asked for yet",
                         "run the stage to its end first")
    return outcomes.finish(stage, {"areas": areas, "batches": len(read_batches(stage))})
