"""What passes between the notebooks: one row type for each JSON-lines file that a stage leaves.

| file | rows | file | rows |
|---|---|---|---|
| 01_topics/batches.jsonl | `Batch` | 04_self_debug/attempts.jsonl | `Attempt` |
| 01_topics/topics.jsonl | `Topic` | 04_self_debug/verified.jsonl | `Verified` |
| 01_topics/refused.jsonl | `RefusedIdea` | 04_self_debug/refused.jsonl | `RefusedTask` |
| 02_datasets/proposals.jsonl | `Proposal` | 05_trajectories/rollouts.jsonl, refused.jsonl | `Rollout` |
| 02_datasets/refused.jsonl | `RefusedTopic` | 05_trajectories/sft.jsonl | `SftExample` |
| 03_codegen/drafts.jsonl | `Draft` | 06_sft/training_log.jsonl | `TrainingStep` |
| 03_codegen/refused.jsonl | `RefusedDraft` | 07_mlgym_eval/runs.jsonl | `EvalRun` |
| any stage/owed.jsonl | `core.worklist.OwedItem` | 07_mlgym_eval/refused.jsonl | `RefusedRun` |

Every row carries the format of its file (core/files.py). A stage reads the rows of the stages before it and nothing
else of them but the folders that its docstring names. A refused row says why in `reason`, one of a fixed set of words,
and in `detail` or `evidence` as text.
"""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from synthkit.core.hub import DatasetInfo
from synthkit.gym.scoring.metrics import METRICS_BY_KIND, MetricName, TaskKind
from synthkit.gym.task.config import Origin
from synthkit.gym.task.published import Direction

METRICS = frozenset(name for names in METRICS_BY_KIND.values() for name in names)
Split = Literal["random", "stratified", "grouped", "time"]
How = Literal["draft", "repair", "restart"]
ModelName = Literal["base", "student", "teacher"]


def require_text(text: str) -> str:
    """The text, unless nothing but white space is in it. Raises ValueError."""
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def require_own_name(name: str) -> str:
    """The name of a custom metric. Raises ValueError for a standard one's, and for what is no identifier."""
    if not re.fullmatch("[a-z][a-z0-9_]{1,39}", name) or name in METRICS:
        raise ValueError("must be lower-case letters, digits and underscores, and no standard metric's name")
    return name


def require_finite(number: float) -> float:
    """The number, unless it is infinite or NaN. Raises ValueError."""
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


# A validator rather than a length in the schema, which strict structured output does not take.
Text = Annotated[str, AfterValidator(require_text)]


class Cell(BaseModel):
    """One combination of the topic grid, for which one topic is asked."""

    area: str
    modality: str
    task_type: str
    difficulty: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The four values, by which cells are counted."""
        return self.area, self.modality, self.task_type, self.difficulty


class TopicIdea(Cell):
    """One topic as the teacher writes it."""

    title: Text
    summary: Text


class Topic(TopicIdea):
    """A topic that was kept; every later row of it carries this id as `topic_id`."""

    id: str


class RefusedIdea(TopicIdea):
    """An idea that repeats a topic: `near_duplicate_of` is that topic's title, `similarity` their TF-IDF cosine."""

    batch: int
    reason: str
    near_duplicate_of: str | None = None
    similarity: float | None = None


class Batch(BaseModel):
    """One request of stage 01: the cells asked for and the ideas that came, or the reason why none did."""

    number: int
    cells: list[Cell]
    ideas: list[TopicIdea] = []
    reason: str | None = None
    detail: str = ""


class CustomMetric(BaseModel):
    """A score that no standard metric stands for, programmed with the task; `perfect` is that of a perfect answer."""

    name: Annotated[str, AfterValidator(require_own_name)]
    definition: Text
    direction: Direction
    perfect: Annotated[float, AfterValidator(require_finite)]


class Proposal(BaseModel):
    """A task on a real dataset; its files lie in 02_datasets/data/<task_id>.

    `metric` names its score; with a `custom_metric` that is its name, and `standard_metric` the nearest one known.
    `named` is the dataset that the teacher named, `near_match` says that another one was taken. `columns` describes
    each column in one line; `pictures` is the column that holds paths of pictures.
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


class RefusedTopic(BaseModel):
    """A topic for which no task could be made. A task that earlier ones already pose keeps its proposal here."""

    topic_id: str
    title: str
    reason: str
    detail: str
    named: str | None = None
    proposal: Proposal | None = None


class TaskCode(BaseModel):
    """What the teacher writes of a task, in stages 03 and 04; the kit writes the rest.

    `evaluate_py` is empty in a reply where the kit writes that too.
    """

    description: Text
    baseline_py: Text
    evaluate_py: str


class Draft(BaseModel):
    """A task as the teacher first wrote it; its files lie in 03_codegen/tasks/, an MLGym root."""

    task_id: str
    title: str
    metric: str
    time_limit_s: int
    evaluation: Literal["teacher", "kit"]
    code_hash: str
    origin: Origin
    code: TaskCode


class RefusedDraft(BaseModel):
    """A proposal for which the teacher wrote nothing that can be used."""

    task_id: str
    title: str
    reason: str
    detail: str


class Scores(BaseModel):
    """A task's scores: of a trivial answer, the baseline, a stronger reference and a perfect answer.

    All are on the private rows, but for `baseline_public`.
    """

    trivial: float
    baseline_public: float
    baseline_private: float
    reference: float
    perfect: float


class MeasuredDifficulty(BaseModel):
    """How hard it is to beat the baseline.

    `pass_rate` is the share of solvers that do: the generic models and, where these fail, the teacher's solutions.
    `gain` is what the best of them gains, 0 at the baseline and 1 at a perfect score; `model` names it.
    """

    pass_rate: float
    gain: float
    model: str


class Verdict(BaseModel):
    """What one gate said. `reason` is None when the task passed; `final` says that no other code could pass."""

    gate: str
    reason: str | None = None
    evidence: str = ""
    final: bool = False


class Attempt(BaseModel):
    """One attempt at a task's code: where the code came from, each gate's verdict, and the scores when it passed all.

    Tokens and USD are those of the requests that made and solved it, at the list price even where a reply was kept from
    before; what a draft cost stands in stage 03. `diff` is from the attempt before.
    """

    task_id: str
    number: int
    how: How
    code_hash: str
    gate: str | None
    reason: str | None
    evidence: str
    verdicts: list[Verdict]
    scores: Scores | None
    difficulty: MeasuredDifficulty | None = None
    solution: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    final: bool = False
    diff: str = ""
    code: TaskCode


class Verified(BaseModel):
    """A task that passed every gate; its files lie in 04_self_debug/tasks/, an MLGym root.

    `difficulty` is the one that was asked for, `measured` the one that was found; `saved` says that its draft failed.
    """

    task_id: str
    topic_id: str
    title: str
    area: str
    difficulty: str
    dataset_id: str
    target: str
    task_kind: str
    metric: str
    direction: Direction
    attempts: int
    saved: bool
    code_hash: str
    scores: Scores
    measured: MeasuredDifficulty


class RefusedTask(BaseModel):
    """A task that passed in none of its attempts; gate, reason and evidence are those of the last one.

    `gate` is empty where no gate refused it: `kit_fault`, `sandbox_died`.
    """

    task_id: str
    title: str
    attempts: int
    gate: str
    reason: str
    evidence: str


class Rollout(BaseModel):
    """One episode of the teacher; its trajectory lies in 05_trajectories/trajectories/<task_id>/<rollout>.

    `score` is on the private rows, `validated` the last score on the public ones, `better` whether `score` beats the
    baseline. `conversation_hash` tells equal conversations. `reason` says why the filter refused it, `fault` why it
    could not be played at all.
    """

    id: str
    task_id: str
    rollout: int
    seed: int
    exit_status: str
    steps: int
    n_tokens: int
    score: float | None
    validated: float | None
    baseline: float | None
    better: bool
    tokens_in: int
    tokens_out: int
    usd: float
    conversation_hash: str
    fault: str | None = None
    kept: bool = False
    reason: str | None = None


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class SftExample(BaseModel):
    """One kept trajectory as an example to train on; `prompt_hash` names the prompts that it was played with."""

    id: str
    task_id: str
    rollout: int
    messages: list[Message] = Field(min_length=2)
    score: float
    baseline: float | None
    n_tokens: int
    exit_status: str
    prompt_hash: str

    def to_chat(self) -> list[dict[str, str]]:
        """The conversation as chat templates and endpoints take it."""
        return [message.model_dump() for message in self.messages]


class TrainingStep(BaseModel):
    """A line of the training log: a step with its mean loss or, at the end, the whole training's loss and seconds."""

    step: int
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    mean_token_accuracy: float | None = None
    train_loss: float | None = None
    seconds: float | None = None


class EvalRun(BaseModel):
    """One seeded run of one model on one benchmark task; its trajectory lies in 07_mlgym_eval/trajectories.

    The scores are on the rows that the baseline's score is on; `valid` says that a submission was scored.
    """

    model: ModelName
    task: str
    run: int
    score_best: float | None
    score_last: float | None
    baseline: float
    direction: Direction
    valid: bool
    exit_status: str
    steps: int
    tokens_in: int
    tokens_out: int

    @property
    def id(self) -> str:
        """Model, task and number: the key of the run."""
        return f"{self.model}/{self.task}/{self.run:03d}"


class RefusedRun(BaseModel):
    """A run that could not be played at all, by no fault of the model; it counts in no score."""

    id: str
    model: str
    task: str
    run: int
    reason: str
    detail: str
