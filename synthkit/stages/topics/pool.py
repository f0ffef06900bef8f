"""The pool of topics that requests filled: topics that were kept, ideas that repeat one, and what never came."""

from pydantic import BaseModel, PrivateAttr

from synthkit.records import Batch, RefusedIdea, Topic, TopicIdea
from synthkit.stages.common.seeds import make_slug
from synthkit.stages.common.similarity import TextIndex


class TopicPool(BaseModel):
    """What a list of batches amounts to.

    `refused` counts ideas that were not kept by reason, those that never came included; `requested` counts the cells
    asked for, `idle` the last batches in a row that brought no new topic.
    """

    topics: list[Topic] = []
    refused_ideas: list[RefusedIdea] = []
    refused: dict[str, int] = {}
    requested: int = 0
    idle: int = 0
    _texts: TextIndex = PrivateAttr(default_factory=TextIndex)

    def add_batches(self, batches: list[Batch], similarity: float) -> None:
        """Take in more batches. The pool is a pure function of all of them in their order.

        An idea whose TF-IDF cosine with a topic is at least `similarity` is refused as its near-duplicate.
        """
        for batch in batches:
            before = len(self.topics)
            self.requested += len(batch.cells)
            self._count(batch.reason or "not_given", len(batch.cells) - len(batch.ideas))
            for idea in batch.ideas:
                self._add_idea(idea, batch.number, similarity)
            self.idle = 0 if len(self.topics) > before else self.idle + 1

    def _add_idea(self, idea: TopicIdea, number: int, threshold: float) -> None:
        text = f"{idea.title}. {idea.summary}"
        at, similarity = self._texts.find_near_duplicate(text, threshold)
        if at is None:
            self._texts.add(text)
            ordinal = len(self.topics) + 1
            self.topics.append(Topic(id=f"t{ordinal:03d}-{make_slug(idea.title)}", **idea.model_dump()))
            return
        self._count("near_duplicate", 1)
        self.refused_ideas.append(RefusedIdea(
            **idea.model_dump(), batch=number, reason="near_duplicate", near_duplicate_of=self.topics[at].title,
            similarity=round(similarity, 4)))

    def _count(self, reason: str, n: int) -> None:
        if n:
            self.refused[reason] = self.refused.get(reason, 0) + n
