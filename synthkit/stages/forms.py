"""What the teacher fills in about one topic: the dataset it names, the task it plans, the files it writes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel

from synthkit.stages.metrics import MetricName, TaskKind

Split = Literal["random", "stratified", "grouped", "time"]


def require_text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


# A validator rather than a length in the schema, which strict structured output does not take.
Text = Annotated[str, AfterValidator(require_text)]


class DatasetProposal(BaseModel):
    """Stage 02, first question: which dataset of the Hub fits the topic."""

    dataset_id: Text
    search_words: list[str]
    reason: str


class TaskPlan(BaseModel):
    """Stage 02, second question, asked with real columns and rows in sight. Only `features` are kept."""

    target: str
    task_kind: TaskKind
    metric: MetricName
    features: list[str]
    split: Split
    group_or_time: str | None
    title: Text
    description: Text


class TaskCode(BaseModel):
    """Stages 03 and 04: what the teacher writes of a task. The kit writes everything else."""

    description: Text
    baseline_py: Text
    evaluate_py: Text
