"""What the teacher fills in about one topic: the dataset that it names, and the task that it plans on it."""

from pydantic import BaseModel

from synthkit.gym.scoring.metrics import MetricName, TaskKind
from synthkit.records import CustomMetric, Split, Text


class DatasetProposal(BaseModel):
    """The first question: which dataset of the Hub fits the topic."""

    dataset_id: Text
    search_words: list[str]
    reason: str


class TaskPlan(BaseModel):
    """The second question, asked with real columns and rows in sight. Only `features` are kept.

    `metric` is the one that scores the task or, with a `custom_metric`, the standard one that is nearest to it.
    """

    target: str
    task_kind: TaskKind
    metric: MetricName
    custom_metric: CustomMetric | None = None
    features: list[str]
    split: Split
    group_or_time: str | None
    title: Text
    description: Text
