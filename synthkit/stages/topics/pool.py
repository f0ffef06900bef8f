"""What a list of replies amounts to: topics that were kept, ideas that repeat one, and what never came."""

from pydantic import BaseModel, PrivateAttr

from synthkit.stages.common.forms import Text
from synthkit.stages.common.seeds import make_slug
from synthkit.stages.common.similarity import TextIndex
from synthkit.stages.topics.grid import Cell


class TopicIdea(Cell):
    """One topic as the teacher writes it."""

    title: Text
    summary: Text


class TopicBatch(BaseModel):
    """The form of one reply."""

    topics: list[TopicIdea]


class Topic(TopicIdea):
    """A topic that was kept."""

    id: str


class RejectedIdea(TopicIdea):
    """A topic that was not kept; `twin` is the one it repeats."""

    batch: int
    reason: str
    twin: str | None = None
    similarity: float | None = None


class Batch(BaseModel):
    """One request: the cells asked for and the ideas that came, or the typed reason why none did."""

    number: int
    cells: list[Cell]
    ideas: list[TopicIdea] = []
    reason: str | None = None
    detail: str = ""


class Harvest(BaseModel):
    """What a list of batches amounts to."""

    topics: list[Topic] = []
    rejected: list[RejectedIdea] = []
    lost: dict[str, int] = {}
    requested: int = 0
    idle: int = 0
    _texts: TextIndex = PrivateAttr(default_factory=TextIndex)


def collect(batches: list[Batch], similarity: float, harvest: Harvest) -> Harvest:
    """Add what more batches amount to. The whole harvest is a pure function of all batches in their order."""
    for batch in batches:
        before = len(harvest.topics)
        harvest.requested += len(batch.cells)
        count(harvest, batch.reason or "not_given", len(batch.cells) - len(batch.ideas))
        for idea in batch.ideas:
            judge(harvest, idea, batch.number, similarity)
        harvest.idle = 0 if len(harvest.topics) > before else harvest.idle + 1
    return harvest


def judge(harvest: Harvest, idea: TopicIdea, number: int, threshold: float) -> None:
    """Keep an idea as the next topic, or reject it as a near-duplicate of one that is kept."""
    twin, similarity = harvest._texts.find_twin(text_of(idea), threshold)
    if twin is None:
        harvest._texts.add(text_of(idea))
        ordinal = len(harvest.topics) + 1
        harvest.topics.append(Topic(id=f"t{ordinal:03d}-{make_slug(idea.title)}", **idea.model_dump()))
        return
    count(harvest, "near_duplicate", 1)
    harvest.rejected.append(RejectedIdea(**idea.model_dump(), batch=number, reason="near_duplicate",
                                         twin=harvest.topics[twin].title, similarity=round(similarity, 4)))


def text_of(idea: TopicIdea) -> str:
    return f"{idea.title}. {idea.summary}"


def count(harvest: Harvest, reason: str, n: int) -> None:
    if n:
        harvest.lost[reason] = harvest.lost.get(reason, 0) + n
