"""Parameters of the seven stages."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from synthkit.core.params.base import SpreadParams, StageParams, Strict, WorkParams, content, runtime_only
from synthkit.core.params.services import (
    Hub,
    HubParams,
    Sandbox,
    SandboxParams,
    StudentParams,
    Teacher,
    TeacherParams,
)

ReplyFormat = Literal["thought_action", "xml", "json", "tool_call"]
AgentFormat = Annotated[ReplyFormat, Field(
    description="How a model writes an action: thought_action (MLGym's form), xml, json or tool_call. The student "
    "learns the form of stage 05, so stage 07 needs the same one.")]


class TopicsParams(WorkParams):
    """Stage 01: how many topics the teacher is asked for, and which of them count as new."""

    n_topics: int = Field(
        36, ge=1, description="Topics to collect. The stage ends with fewer when `max_idle_batches` is reached.")
    batch_size: int = Field(8, ge=1, description="Topics asked for in one request.")
    max_idle_batches: int = Field(
        3, ge=1, description="Requests in a row without a new topic after which the stage ends.")
    similarity: float = Field(
        0.8, gt=0, le=1, description="TF-IDF cosine from which two topics count as the same. The later one is then "
        "dropped. It lies between 0 and 1; at 1 only topics that say the same in the same words are dropped.")
    grid: str = content(
        "params/topic_grid.yaml", description="YAML file of the areas, modalities, task types and difficulties to "
        "cover. It is named relative to the repository's root.")
    teacher: Teacher = TeacherParams()


class DatasetsParams(WorkParams):
    """Stage 02: which datasets a task may stand on, and how many of their rows it takes."""

    licences: list[str] = Field(
        ["mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-sa-4.0", "pddl",
         "public-domain", "odc-by"],
        description="Licences that a dataset may have, as the Hub writes them. A dataset with another licence is "
        "refused.")
    unknown_licence: Literal["refuse", "accept"] = Field(
        "refuse", description="What to do with a dataset whose card names no licence: refuse or accept. The licence "
        "'other' counts as none.")
    min_rows: int = Field(
        60, ge=10, description="Fewest rows with a target that a dataset may have. One with fewer is refused.")
    max_train_rows: int = Field(
        600, ge=10, description="Most rows of a task's training set. Of a larger dataset rows are drawn at random; "
        "where a task is split by time, the latest ones are taken.")
    max_test_rows: int = Field(
        300, ge=10, description="Most rows of a task's test set, half of them public and half private. It takes "
        "at most 30 % of a dataset.")
    max_download_mb: int = Field(
        100, ge=1, description="Most MB (millions of bytes) of a dataset's files. A larger one is refused before any "
        "of it is fetched.")
    search_limit: int = Field(
        8, ge=1, description="Near matches that are looked at when the named dataset does not exist. If none of them "
        "passes the checks, the topic is refused.")
    max_near_duplicates: int = Field(
        1, ge=1, description="Tasks that may say nearly the same about one dataset. Later ones are dropped; 1 keeps "
        "the first one only.")
    benchmark: str = content(
        "embedded", description="Benchmark whose datasets are refused, since a student must not train on them. "
        "'embedded', the root of an MLGym checkout or of exported tasks, or 'none' to refuse nothing.")
    teacher: Teacher = TeacherParams()
    hub: Hub = HubParams()


class CodegenParams(SpreadParams):
    """Stage 03: what the teacher is told when it writes a task's files."""

    sample_rows: int = Field(
        4, ge=0, description="Rows of each of the task's data files that the prompt shows. 0 shows the header only.")
    time_limit_s: int = Field(
        60, ge=1, description="Seconds of wall time that a task's baseline and its evaluation may take. Each has "
        "this time for itself. Stage 04 refuses a draft that takes longer.")
    evaluation: Literal["teacher", "kit"] = Field(
        "teacher", description="Who writes evaluate.py for a standard metric: teacher or kit. The evaluation of a "
        "metric that the teacher invented is always the teacher's.")
    teacher: Teacher = TeacherParams()


class SelfDebugParams(SpreadParams):
    """Stage 04: when a task counts as verified, and how often it is repaired before it is refused."""

    p_debug: float = Field(
        0.75, ge=0, le=1, description="Probability that a task that failed is repaired with the gate's evidence. "
        "Otherwise the request of stage 03 is sent again and the task's files start anew.")
    max_attempts: int = Field(
        4, ge=1, description="Attempts at one task, its draft included, before it is refused. 1 repairs nothing.")
    max_task_tokens: int | None = Field(
        None, ge=1, description="Tokens that repairing one task may take, in and out together. After a failed attempt "
        "that reaches this, the task is refused. null sets no limit.")
    max_task_usd: float | None = Field(
        None, gt=0, description="USD at list price that repairing one task may cost. After a failed attempt that "
        "reaches this, the task is refused. null sets no limit.")
    margin: float = Field(
        0.02, ge=0, description="Least distance of the baseline from the trivial and from the perfect score. It is a "
        "share of the way from one to the other; above 0.5 no task can pass.")
    leak: float = Field(
        0.98, gt=0, le=1, description="Share of the way to a perfect score at which a shortcut is a leak. The way "
        "starts at the trivial score. A task with a leak is refused at once.")
    solver_attempts: int = Field(
        1, ge=0, description="Solutions asked of the teacher when no generic model beats the baseline. If none of "
        "them does either, the attempt fails. 0 asks for none.")
    sample_rows: int = Field(
        4, ge=0, description="Rows of each data file that prompts for repairs and solutions show. Take the value of "
        "stage 03, so that a task that starts anew gets the same request. 0 shows the header only.")
    workers: int = runtime_only(2, ge=1, description="Tasks that are checked and repaired at the same time.")
    teacher: Teacher = TeacherParams()
    sandbox: Sandbox = SandboxParams()


class TrajectoriesParams(SpreadParams):
    """Stage 05: how the teacher plays the verified tasks, and which of its trajectories are kept."""

    per_task: int = Field(10, ge=1, description="Rollouts of each task.")
    max_steps: int = Field(
        24, ge=1, description="Most actions of a rollout. After the last one, whatever is there is handed in.")
    training_timeout_s: int = Field(
        60, ge=1, description="Seconds of wall time of an action that runs Python. One that takes longer is stopped. "
        "Other actions have 25 seconds.")
    episode_s: float | None = Field(
        None, gt=0, description="Seconds of wall time of a rollout. It is looked at before each request; a rollout "
        "that has passed it ends and is refused. null sets no limit.")
    episode_usd: float | None = Field(
        None, gt=0, description="USD at list price that the replies of a rollout may cost. A rollout that passes it "
        "ends and is refused. null sets no limit.")
    reply_format: AgentFormat = "thought_action"
    max_tokens: int = Field(
        48_000, ge=100, description="Most tokens of a trajectory that is kept. A longer one is refused.")
    tokenizer: str = content(
        "bytes/4", description="How a trajectory's tokens are counted: 'bytes/4', or a model's own tokenizer. "
        "'bytes/4' counts four bytes as a token. A model is named by its Hub id or its folder.")
    max_kept_per_task: int | None = Field(
        None, ge=1, description="Most trajectories of one task that are kept. The first ones are. null keeps all.")
    workers: int = runtime_only(2, ge=1, description="Rollouts that are played at the same time.")
    teacher: Teacher = TeacherParams()
    sandbox: Sandbox = SandboxParams()


class ScratchParams(Strict):
    """The size of a Qwen3 that starts from random weights, with its own tokenizer, instead of a model id."""

    vocab_size: int = Field(
        2048, ge=300, description="Most tokens in its vocabulary, a byte-level BPE made from the training rows. A "
        "small training set gives fewer.")
    hidden_size: int = Field(
        128, ge=16, description="Width of the model, in numbers per token. Each attention head takes an equal part.")
    intermediate_size: int = Field(384, ge=16, description="Width of the feed-forward layers, in numbers per token.")
    layers: int = Field(4, ge=1, description="Number of transformer layers.")
    heads: int = Field(4, ge=1, description="Attention heads of each layer.")
    kv_heads: int = Field(
        2, ge=1, description="Key-value heads of each layer, shared by its attention heads. Their number has to "
        "divide `heads`.")


class LoraParams(Strict):
    """Low-rank adapters that are trained instead of all weights, on every linear layer, and merged at the end."""

    r: int = Field(16, ge=1, description="Rank of each adapter's two matrices.")
    alpha: int = Field(32, ge=1, description="Strength of the adapters. What they add is multiplied by alpha / r.")
    dropout: float = Field(
        0.05, ge=0, lt=1, description="Probability that an input of an adapter is set to 0 during training. 0 sets "
        "none.")


class SftParams(StageParams):
    """Stage 06: which student is trained on the kept trajectories, and how."""

    model: str | None = content(
        None, description="Model to train: its Hub id or its folder. It is null when `from_scratch` is given. "
        "Its tokenizer needs the token <|im_end|>, as Qwen3 has it.")
    from_scratch: ScratchParams | None = Field(
        ScratchParams(), description="Size of a small Qwen3 with random weights and its own tokenizer. It is "
        "null when `model` is given; {} takes the default size.")
    lora: LoraParams | None = Field(
        None, description="LoRA adapters to train, such as {\"r\": 16, \"alpha\": 32, \"dropout\": 0.05}. null trains "
        "all weights.")
    max_length: int = Field(
        4096, ge=64, description="Tokens that a training row is cut to. If this leaves a row without a token of "
        "the teacher, the stage stops.")
    epochs: float = Field(5.0, gt=0, description="Passes over the training rows. A fraction stops within a pass.")
    learning_rate: float = Field(
        2e-3, gt=0, description="Highest learning rate, which is reached after the warm-up. From there it falls along "
        "a cosine to 0.")
    batch_size: int = Field(1, ge=1, description="Training rows that a device takes at a time.")
    gradient_accumulation: int = Field(
        1, ge=1, description="Batches whose gradients are added up before the weights change.")
    bf16: bool = Field(False, description="Whether to compute in bfloat16, which GPUs do faster than float32.")

    @model_validator(mode="after")
    def check_start(self) -> Self:
        """Raises ValueError unless exactly one start is given: a model, or a size for random weights."""
        if (self.model is None) == (self.from_scratch is None):
            raise ValueError("exactly one of model and from_scratch has to be given; set the other to null")
        return self


class MlgymEvalParams(SpreadParams):
    """Stage 07: which held-out tasks base, student and teacher play, and under which limits."""

    benchmark: str = content(
        "embedded", description="Held-out tasks: 'embedded', or the root of an MLGym checkout or of exported tasks.")
    tasks: list[str] | None = Field(
        None, description="Ids of the tasks that are played. null takes all of the benchmark.")
    runs: int = Field(5, ge=1, description="Runs of each model on each task, each with its own seed.")
    max_steps: int = Field(
        16, ge=1, description="Most actions of a run, which the paper calls rounds. After the last one, whatever is "
        "there is handed in.")
    history: str = Field(
        "default", pattern=r"^(default|closed_window|last[1-9]\d*)$",
        description="What a model sees of the past: 'default', 'closed_window' or 'last<N>'. 'default' shows all; "
        "'last5' shows only the last five observations; 'closed_window' shows only the latest view of each file. "
        "MLGym's own default is 'last5'.")
    reply_format: AgentFormat = "thought_action"
    episode_s: float | None = Field(
        None, gt=0, description="Seconds of wall time of a run. It is looked at before each request; a run that has "
        "passed it ends, and whatever is there is handed in. null sets no limit.")
    workers: int = runtime_only(
        16, ge=1, description="Runs that are played at the same time. The models take turns: base, student, teacher.")
    student: StudentParams = Field(StudentParams(), description="How base and student are run and sampled.")
    teacher: Teacher = TeacherParams()
    sandbox: Sandbox = SandboxParams()

    @model_validator(mode="after")
    def check_executor(self) -> Self:
        """Raises ValueError when a cluster would have to reach a model that runs in this process."""
        if self.executor == "ray" and self.student.base_url == "local":
            raise ValueError("executor ray needs base and student behind a URL, for a model in this process cannot "
                             "serve a cluster; set mlgym_eval.student.base_url, or mlgym_eval.executor to local")
        return self


STAGES: dict[str, type[StageParams]] = {
    "01_topics": TopicsParams,
    "02_datasets": DatasetsParams,
    "03_codegen": CodegenParams,
    "04_self_debug": SelfDebugParams,
    "05_trajectories": TrajectoriesParams,
    "06_sft": SftParams,
    "07_mlgym_eval": MlgymEvalParams,
}
