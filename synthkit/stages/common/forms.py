"""What the teacher fills in about one topic: the dataset it names, the task it plans, the files it writes."""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel

from synthkit.gym.scoring.metrics import METRICS_BY_KIND, MetricName, TaskKind
from synthkit.gym.task.published import Direction

METRICS = frozenset(name for names in METRICS_BY_KIND.values() for name in names)
Split = Literal["random", "stratified", "grouped", "time"]


def require_text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def require_own_name(name: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{1,39}", name) or name in METRICS:
        raise ValueError("must be lower-case letters, digits and underscores, and no standard metric's name")
    return name


def require_finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


# A validator rather than a length in the schema, which strict structured output does not take.
Text = Annotated[str, AfterValidator(require_text)]


class DatasetProposal(BaseModel):
    """Stage 02, first question: which dataset of the Hub fits the topic."""

    dataset_id: Text
    search_words: list[str]
    reason: str


class CustomMetric(BaseModel):
    """A score that no standard metric stands for, programmed with the task; `perfect` is a perfect answer's."""

    name: Annotated[str, AfterValidator(require_own_name)]
    definition: Text
    direction: Direction
    perfect: Annotated[float, AfterValidator(require_finite)]


class TaskPlan(BaseModel):
    """Stage 02, second question, asked with real columns and rows in sight. Only `features` are kept.

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


class TaskSolution(BaseModel):
    """Stage 04: a script that beats a task's baseline, asked for where no generic model does."""

    solution_py: Text


class TaskCode(BaseModel):
    """Stages 03 and 04: what the teacher writes of a task. The kit writes everything else.

    `evaluate_py` is empty in a reply where the kit writes that too.
    """

    description: Text
    baseline_py: Text
    evaluate_py: str
