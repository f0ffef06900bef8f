"""One pydantic model per stage: the names, types, ranges and defaults of every parameter.

A notebook's parameters cell holds the same names as literals; `params/*.yaml` holds them as
sections. Fields marked with `free()` change cost or speed, never results, and stay out of the
fingerprint. Of an `address()` only its kind goes in, of what is marked `content()` the files that it names.
"""

from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Resume = Literal["never", "if_possible", "always"]
ReplyFormat = Literal["thought_action", "xml", "json", "tool_call"]


def free(default: Any = ..., **kw: Any) -> Any:
    """A field that never changes results (place, concurrency, timeouts, endpoints, prices)."""
    return Field(default, json_schema_extra={"free": True}, **kw)


def address(default: str, **kw: Any) -> Any:
    """A field that says where a service is: another host changes nothing, a service of another kind does."""
    return Field(default, json_schema_extra={"address": True}, **kw)


def content(default: Any, **kw: Any) -> Any:
    """A field that may name a local file or folder: what is in it shapes results, not where it lies."""
    return Field(default, json_schema_extra={"content": True}, **kw)


class Strict(BaseModel):
    """Unknown names are refused, and so is a boolean for a number: YAML reads `no` and `on` as booleans."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def refuse_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("a boolean does not belong here")
        return value


class TeacherParams(Strict):
    """An OpenAI-compatible chat endpoint. The key is read from the environment variable `key_env`."""

    model: str = "scripted-teacher"
    base_url: str = address("embedded", description="'embedded', or the URL of any OpenAI-compatible API")
    key_env: str = free("OPENAI_API_KEY")
    temperature: float | None = Field(None, ge=0, le=2, description="None leaves it out: GPT-5 refuses it")
    max_output_tokens: int = Field(8192, ge=1)
    send_seed: bool = True
    structured: Literal["json_schema", "json_object", "text"] = "json_schema"
    concurrency: int = free(8, ge=1)
    timeout_s: float = free(120.0, gt=0)
    max_retries: int = free(4, ge=0)
    usd_per_mtok_in: float | None = free(None, ge=0, description="None is free, and only for this machine's endpoints")
    usd_per_mtok_out: float | None = free(None, ge=0, description="as for input; write 0.0 for what costs nothing")
    budget_usd: float = free(0.0, ge=0, description="hard limit for the whole run; 0 allows only free endpoints")


class HubParams(Strict):
    """The Hugging Face Hub, or the embedded one. The token is read from the environment variable `token_env`."""

    endpoint: str = address("embedded", description="'embedded' or https://huggingface.co")
    token_env: str = free("HF_TOKEN")
    timeout_s: float = free(30.0, gt=0)


class SandboxParams(Strict):
    """Where code written by a model runs, and how much it may use."""

    backend: Literal["bwrap", "podman", "docker", "process"] = "bwrap"
    image: str | None = Field(None, description="image of podman or docker; it needs bash and Python 3.11 or newer")
    gpus: bool = Field(False, description="the host's NVIDIA GPUs are visible inside")
    warm: bool = free(True, description="fork Python from an interpreter that has the libraries loaded")
    warm_modules: list[str] = free(["numpy", "pandas", "sklearn.ensemble", "sklearn.linear_model",
                                    "sklearn.pipeline", "sklearn.compose", "sklearn.model_selection"])
    memory_mb: int = Field(4096, ge=64, description="of all processes together")
    cpu_s: int = Field(120, ge=1, description="CPU seconds of an action, all its processes together")
    episode_cpu_s: int | None = Field(None, ge=1, description="CPU seconds of a whole episode; None sets no limit")
    processes: int = Field(256, ge=8, description="processes and threads at one time")
    open_files: int = Field(1024, ge=64, description="per process")
    file_mb: int = Field(256, ge=1, description="largest file that may be written")
    disk_mb: int = Field(1024, ge=1, description="workspace, home and temporary files together")
    output_kb: int = Field(8, ge=1, description="output kept of an action, head and tail; also the editor's window")

    @model_validator(mode="after")
    def check_image(self) -> Self:
        if (self.backend in ("podman", "docker")) != (self.image is not None):
            raise ValueError("backend podman or docker needs an image, the others take none")
        return self


class RayParams(Strict):
    """A Ray cluster that is already there, and what one item takes of it; used with `executor: ray`."""

    address: str = free("auto", description="'auto' for the cluster of this machine, or host:port of its head")
    cpus: float = free(1.0, ge=0, description="processors an item")
    gpus: float = free(0.0, ge=0, description="GPUs an item")
    memory_mb: int | None = free(None, ge=1, description="memory an item; None reserves none")


class StageParams(Strict):
    """What every stage has."""

    run_dir: str = free("outputs/offline", description="the run's folder, relative to the repository root")
    seed: int = Field(0, ge=0)
    resume: Resume = free("if_possible")


class WorkParams(StageParams):
    """What every stage has that works through items."""

    allow_owed: float = free(0.0, ge=0, le=1, description="share of items that may be owed when the stage finishes")


class SpreadParams(WorkParams):
    """What a stage has whose items can be worked on elsewhere: each is made from a few files and the teacher."""

    executor: Literal["local", "ray"] = free("local", description="where items are worked on")
    ray: RayParams = free(RayParams())


class TopicsParams(WorkParams):
    n_topics: int = Field(36, ge=1)
    batch_size: int = Field(8, ge=1, description="topics asked for in one request")
    max_idle_batches: int = Field(3, ge=1, description="stop after so many batches in a row that bring nothing new")
    similarity: float = Field(0.8, gt=0, le=1, description="TF-IDF cosine from which two topics count as the same")
    grid: str = content("params/topic_grid.yaml", description="area x modality x task type x difficulty")
    teacher: TeacherParams = TeacherParams()


class DatasetsParams(WorkParams):
    licences: list[str] = [
        "mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-sa-4.0",
        "pddl", "public-domain", "odc-by",
    ]
    unknown_licence: Literal["refuse", "accept"] = "refuse"
    min_rows: int = Field(60, ge=10)
    max_train_rows: int = Field(600, ge=10)
    max_test_rows: int = Field(300, ge=10)
    max_download_mb: int = Field(100, ge=1)
    search_limit: int = Field(8, ge=1, description="near matches looked at when the named dataset is not found")
    max_twins: int = Field(1, ge=1, description="near-duplicate tasks kept on one dataset; 1 removes all others")
    benchmark: str = content("embedded", description="'embedded', an MLGym root, or 'none': its datasets are refused")
    teacher: TeacherParams = TeacherParams()
    hub: HubParams = HubParams()


class CodegenParams(SpreadParams):
    sample_rows: int = Field(4, ge=0, description="rows of the real dataset shown in the prompt")
    time_limit_s: int = Field(60, ge=1, description="wall time that a task's baseline and evaluation may take")
    evaluation: Literal["teacher", "kit"] = Field("teacher", description="who writes evaluate.py for standard metrics")
    teacher: TeacherParams = TeacherParams()


class SelfDebugParams(SpreadParams):
    p_debug: float = Field(0.75, ge=0, le=1, description="repair with the evidence, else restart stage 03's request")
    max_tries: int = Field(4, ge=1, description="attempts at one task before it is discarded (paper: k, not disclosed)")
    max_task_tokens: int | None = Field(None, ge=1, description="tokens that repairing one task may take")
    max_task_usd: float | None = Field(None, gt=0, description="USD that repairing one task may cost")
    margin: float = Field(0.02, ge=0, description="trivial < baseline < perfect, each by this share")
    leak: float = Field(0.98, gt=0, le=1, description="share of the way to perfect at which a shortcut is a leak")
    solve_tries: int = Field(1, ge=0, description="solutions asked of the teacher when no generic model will do")
    sample_rows: int = Field(4, ge=0, description="as in stage 03; used when generation restarts")
    workers: int = free(2, ge=1)
    teacher: TeacherParams = TeacherParams()
    sandbox: SandboxParams = SandboxParams()


class TrajectoriesParams(SpreadParams):
    per_task: int = Field(10, ge=1, description="rollouts per task (paper: 256)")
    max_steps: int = Field(24, ge=1)
    training_timeout_s: int = Field(60, ge=1)
    episode_s: float | None = Field(None, gt=0, description="wall time of a rollout; None sets no limit")
    episode_usd: float | None = Field(None, gt=0, description="USD of a rollout's replies; None sets no limit")
    reply_format: ReplyFormat = Field("thought_action", description="how an action is written; the student learns it")
    max_tokens: int = Field(48_000, ge=100, description="longer trajectories are refused (paper: 48K)")
    tokenizer: str = content("bytes/4", description="'bytes/4', or a Hub model id whose tokenizer counts")
    max_kept_per_task: int | None = Field(None, ge=1)
    workers: int = free(2, ge=1)
    teacher: TeacherParams = TeacherParams()
    sandbox: SandboxParams = SandboxParams()


class ScratchParams(Strict):
    """A Qwen3 from a configuration, with its own tokenizer, instead of a model id."""

    vocab_size: int = Field(2048, ge=300)
    hidden_size: int = Field(128, ge=16)
    intermediate_size: int = Field(384, ge=16)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1)


class LoraParams(Strict):
    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.05, ge=0, lt=1)


class SftParams(StageParams):
    model: str | None = content(None, description="a Hub model id or a folder; None with from_scratch")
    from_scratch: ScratchParams | None = ScratchParams()
    lora: LoraParams | None = None
    max_length: int = Field(4096, ge=64, description="tokens a training row is cut to (paper: 32K)")
    epochs: float = Field(5.0, gt=0)
    learning_rate: float = Field(2e-3, gt=0)
    batch_size: int = Field(1, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    bf16: bool = False

    @model_validator(mode="after")
    def check_start(self) -> Self:
        if (self.model is None) == (self.from_scratch is None):
            raise ValueError("exactly one of model and from_scratch has to be given; set the other to null")
        return self


class StudentParams(Strict):
    """How base and student are run at evaluation: in this process, or by a server such as vLLM."""

    base_url: str = address("local", description="'local', or an OpenAI-compatible URL that serves both by folder name")
    temperature: float = Field(0.2, ge=0, le=2)
    max_new_tokens: int = Field(384, ge=1)
    usd_per_mtok_in: float | None = free(None, ge=0, description="None is free, and only for this machine's endpoints")
    usd_per_mtok_out: float | None = free(None, ge=0, description="as for input; write 0.0 for what costs nothing")


class MlgymEvalParams(SpreadParams):
    benchmark: str = content("embedded",
                             description="'embedded', or the root of an MLGym checkout or of exported tasks")
    tasks: list[str] | None = Field(None, description="task ids; None takes all of the benchmark")
    runs: int = Field(5, ge=1, description="seeded runs per model and task (paper: 64)")
    max_steps: int = Field(16, ge=1, description="rounds (paper: 50)")
    history: str = Field("default", pattern=r"^(default|closed_window|last[1-9]\d*)$",
                         description="default, closed_window or last<N>; MLGym's own default is last5")
    reply_format: ReplyFormat = Field("thought_action", description="how a model writes an action; as in stage 05")
    episode_s: float | None = Field(None, gt=0, description="wall time of a run; None sets no limit")
    workers: int = free(16, ge=1)
    student: StudentParams = StudentParams()
    teacher: TeacherParams = TeacherParams()
    sandbox: SandboxParams = SandboxParams()

    @model_validator(mode="after")
    def check_executor(self) -> Self:
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
