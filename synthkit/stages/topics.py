"""Stage 01: sample machine-learning topics from the teacher, evenly over a grid, without near-duplicates.

Source: paper, stage 1 (about 1,000 topics); its prompt, its duplicate control and its temperature are not disclosed.
What was asked and answered lies in batches.jsonl; topics and rejections follow from it, so a resumed run and an
unresumed one are the same.
"""

from collections.abc import Iterator
from typing import Any

from synthkit.core.errors import ReplyError, StageError
from synthkit.core.executor import map_items
from synthkit.core.llm import ChatClient
from synthkit.core.params import TopicsParams
from synthkit.core.prompts import render_messages
from synthkit.core.records import append_record, read_records, write_records
from synthkit.core.runs import Stage
from synthkit.stages.grid import Cell, Grid, deal_cells, read_grid
from synthkit.stages.harvest import Batch, Harvest, Topic, TopicBatch, collect
from synthkit.stages.progress import Progress, follow
from synthkit.stages.seeds import derive_random, derive_seed

ROUNDS = 8  # Requests of a round go out together; they see what the rounds before found, so there must be several.
SHOWN = 80  # Titles that a request shows as taken.


def params_of(stage: Stage) -> TopicsParams:
    assert isinstance(stage.params, TopicsParams)
    return stage.params


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


def preview(stage: Stage) -> list[dict[str, Any]]:
    """What comes of the first request, as rows, nothing recorded; the full run then has the reply for nothing."""
    batch = ask_batch(stage, open_client(stage), plan_first(stage), [])
    return [topic.model_dump() for topic in collect([batch], params_of(stage).similarity, Harvest()).topics]


def plan_first(stage: Stage) -> Batch:
    return plan_round(stage, read_grid(params_of(stage).grid), [], Harvest())[0]


def open_client(stage: Stage) -> ChatClient:
    return ChatClient(params_of(stage).teacher, stage.run_dir, stage.name)


def run(stage: Stage, progress: Progress | None = None) -> list[Topic]:
    """Ask until there are `n_topics`, or `max_idle_batches` in a row brought nothing new. Resumable at any point."""
    params = params_of(stage)
    batches: list[Batch] = []
    harvest = Harvest()
    for _ in follow(progress, sample_topics(stage, batches, harvest), total=params.n_topics):
        pass
    write_records(stage.dir / "batches.jsonl", batches)
    write_records(stage.dir / "topics.jsonl", harvest.topics)
    write_records(stage.dir / "rejected.jsonl", harvest.rejected)
    return harvest.topics


def sample_topics(stage: Stage, batches: list[Batch], harvest: Harvest) -> Iterator[Topic]:
    """Round by round, fill `batches` and `harvest`; yields each topic that was kept.

    What batches.jsonl holds is not asked again.
    """
    params, grid = params_of(stage), read_grid(params_of(stage).grid)
    known = {batch.number: batch for batch in read_records(stage.dir / "batches.jsonl", Batch)}
    client: ChatClient | None = None
    while len(harvest.topics) < params.n_topics and harvest.idle < params.max_idle_batches:
        planned = plan_round(stage, grid, batches, harvest)
        missing = [batch for batch in planned if batch.number not in known]
        if missing:
            client = client or open_client(stage)
            known |= ask_round(stage, client, missing, [topic.title for topic in harvest.topics])
        check_same_cells(planned, known)
        before = len(harvest.topics)
        batches += [known[batch.number] for batch in planned]
        collect(batches[-len(planned):], params.similarity, harvest)
        yield from harvest.topics[before:]


def plan_round(stage: Stage, grid: Grid, batches: list[Batch], harvest: Harvest) -> list[Batch]:
    """The next requests, numbered from 1, with the cells whose area was asked for least."""
    params = params_of(stage)
    missing = params.n_topics - len(harvest.topics)
    at_once = max(1, params.n_topics // (ROUNDS * params.batch_size))
    asked = [cell for batch in batches for cell in batch.cells]
    cells = deal_cells(grid, asked, min(missing, at_once * params.batch_size), stage.seed)
    chunks = [cells[at:at + params.batch_size] for at in range(0, len(cells), params.batch_size)]
    return [Batch(number=len(batches) + 1 + k, cells=chunk) for k, chunk in enumerate(chunks)]


def ask_round(stage: Stage, client: ChatClient, planned: list[Batch], taken: list[str]) -> dict[int, Batch]:
    """Ask for all batches of a round together and keep each reply as it comes."""
    answered = {}

    def ask(batch: Batch) -> Batch:
        return ask_batch(stage, client, batch, taken)

    for planned_batch, result in map_items(ask, planned, params_of(stage).teacher.concurrency):
        if isinstance(result, Exception):
            raise result
        append_record(stage.dir / "batches.jsonl", result)
        answered[planned_batch.number] = result
    return answered


def ask_batch(stage: Stage, client: ChatClient, batch: Batch, taken: list[str]) -> Batch:
    """One request. A reply that does not follow the form is a batch without ideas."""
    messages = build_prompt(stage, batch, taken)
    try:
        reply, _ = client.ask(messages, TopicBatch, sample=batch.number,
                              seed=derive_seed(stage.seed, "topics", batch.number))
    except ReplyError as error:
        return batch.model_copy(update={"error": error.cause})
    return batch.model_copy(update={"ideas": reply.topics[:len(batch.cells)]})


def check_same_cells(planned: list[Batch], known: dict[int, Batch]) -> None:
    for batch in planned:
        if known[batch.number].cells != batch.cells:
            raise StageError("01_topics: the grid was changed since this run began",
                             "set resume to never, so that the old topics are archived, or restore the grid")


def load_topics(stage: Stage) -> list[dict[str, Any]]:
    """The kept topics as plain rows, for tables and plots."""
    return read_records(stage.dir / "topics.jsonl")


def read_topics(stage: Stage) -> list[Topic]:
    return read_records(stage.dir / "topics.jsonl", Topic)


def read_batches(stage: Stage) -> list[Batch]:
    return read_records(stage.dir / "batches.jsonl", Batch)


def harvest_of(stage: Stage) -> Harvest:
    return collect(read_batches(stage), params_of(stage).similarity, Harvest())


def funnel(stage: Stage) -> tuple[int, int, dict[str, int]]:
    """(topics asked for, kept, lost by reason): the three add up."""
    harvest = harvest_of(stage)
    return harvest.requested, len(harvest.topics), harvest.lost


def check(stage: Stage) -> None:
    """Ids and titles are unique, no two topics are near-duplicates, and there is at least one."""
    topics = read_topics(stage)
    if not topics:
        raise StageError("01_topics: no topic was kept", "look at 01_topics/batches.jsonl for what the teacher replied")
    for name in ("id", "title"):
        if len({getattr(topic, name) for topic in topics}) < len(topics):
            raise StageError(f"01_topics: two topics have the same {name}", "set resume to never and run again")
    if topics != harvest_of(stage).topics:
        raise StageError("01_topics: topics.jsonl does not follow from batches.jsonl", "run the stage again")


def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record, with the number of topics in each area."""
    areas: dict[str, int] = {}
    for topic in read_topics(stage):
        areas[topic.area] = areas.get(topic.area, 0) + 1
    return stage.finish(*funnel(stage), metrics={"areas": areas, "batches": len(read_batches(stage))})
