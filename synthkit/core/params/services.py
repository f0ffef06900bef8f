"""Parameters of what a run uses: the teacher, the student's server, the Hub and the sandbox."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from synthkit.core.params.base import Strict, address, runtime_only

UsdPerMtokIn = Annotated[float | None, runtime_only(
    ge=0, description="USD per million input tokens. null counts as 0 and is allowed only for an endpoint on this "
    "machine; for another one that costs nothing, write 0.0.")]
UsdPerMtokOut = Annotated[float | None, runtime_only(
    ge=0, description="USD per million output tokens, reasoning tokens included. null counts as 0 and is allowed only "
    "for an endpoint on this machine; for another one that costs nothing, write 0.0.")]


class TeacherParams(Strict):
    """The teacher, which may be any endpoint that speaks the OpenAI chat API. Its key comes from the environment."""

    model: str = Field("scripted-teacher", description="Name of the model at the endpoint.")
    base_url: str = address(
        "embedded", description="Where the teacher is: 'embedded' for the scripted teacher of this kit, or the base "
        "URL of an OpenAI-compatible API.")
    key_env: str = runtime_only(
        "OPENAI_API_KEY", description="Environment variable that holds the key. An endpoint on this machine needs no "
        "key.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="Sampling temperature of the teacher, from 0 to 2. null leaves it out of the "
        "request, since GPT-5 refuses it.")
    max_output_tokens: int = Field(
        8192, ge=1, description="Most tokens of one reply, reasoning tokens included. A longer reply is cut; one that "
        "should have been JSON is then refused.")
    send_seed: bool = Field(
        True, description="Whether a seed is sent with each request. Write false for an endpoint that refuses one.")
    structured: Literal["json_schema", "json_object", "text"] = Field(
        "json_schema", description="How the endpoint is asked for JSON: json_schema, json_object or text. json_schema "
        "sends the schema in the request; the other two write it into the prompt, for an endpoint that takes no "
        "schema.")
    concurrency: int = runtime_only(
        8, ge=1, description="Requests of a stage that may be under way at the same time.")
    timeout_s: float = runtime_only(
        120.0, gt=0, description="Seconds to wait for a whole reply. A request that takes longer is charged in full "
        "and sent again, as often as `max_retries` allows.")
    max_retries: int = runtime_only(
        4, ge=0, description="How often a request is sent again after a timeout, a lost connection, 429 or 5xx. An "
        "item whose request still fails is owed. 0 sends each request once.")
    usd_per_mtok_in: UsdPerMtokIn = None
    usd_per_mtok_out: UsdPerMtokOut = None
    budget_usd: float = runtime_only(
        0.0, ge=0, description="USD that the whole run may spend, over all its stages. A request that could pass this "
        "is not sent, and the stage stops. 0 allows only requests that cost nothing.")


class HubParams(Strict):
    """The Hugging Face Hub, or the embedded one, where datasets come from. The token comes from the environment."""

    endpoint: str = address(
        "embedded", description="Where the Hub is: 'embedded' for the small one of this kit, or "
        "https://huggingface.co.")
    token_env: str = runtime_only(
        "HF_TOKEN", description="Environment variable that holds the Hub's token. Without a token the Hub allows "
        "fewer requests.")
    timeout_s: float = runtime_only(
        30.0, gt=0, description="Seconds to wait for the Hub's answer about a dataset or a file. It does not limit "
        "searches and downloads. After four failed tries the topic is owed.")


class SandboxParams(Strict):
    """Where code that a model wrote runs, and how much it may use."""

    backend: Literal["bwrap", "podman", "docker", "process"] = Field(
        "bwrap", description="What isolates the code: bwrap, podman, docker or process. bwrap (Linux) needs no "
        "rights; podman and docker run a container of `image`; process isolates nothing.")
    image: str | None = Field(
        None, description="Container image for podman or docker. It has to be on this machine already, with bash, tar "
        "and Python 3.11 or newer. It is null for the other backends.")
    gpus: bool = Field(False, description="Whether the host's NVIDIA GPUs are visible inside.")
    warm: bool = runtime_only(
        True, description="Whether Python starts as a fork of an interpreter that has `warm_modules` loaded. This "
        "saves more than a second of imports at each run; podman and docker always start a new interpreter.")
    warm_modules: list[str] = runtime_only(
        ["numpy", "pandas", "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "sklearn.compose",
         "sklearn.model_selection"],
        description="Modules that the warm interpreter has loaded. One that is not installed is passed over.")
    memory_mb: int = Field(
        4096, ge=64, description="MiB of memory that all processes may use together. An action that asks for more "
        "fails or is stopped.")
    cpu_s: int = Field(
        120, ge=1, description="Seconds of processor time of an action, all its processes together. An action that "
        "uses more is stopped.")
    episode_cpu_s: int | None = Field(
        None, ge=1, description="Seconds of processor time of a whole episode. The episode ends after the action that "
        "passes it, and whatever is there is handed in. null sets no limit.")
    processes: int = Field(
        256, ge=8, description="Processes and threads at the same time. An action that starts more is stopped.")
    open_files: int = Field(1024, ge=64, description="Files that one process may have open at the same time.")
    file_mb: int = Field(
        256, ge=1, description="MiB of the largest file that may be written. A write beyond it fails.")
    disk_mb: int = Field(
        1024, ge=1, description="MiB that workspace, home and temporary files may take up together. An action that "
        "writes more is stopped.")
    output_kb: int = Field(
        8, ge=1, description="KiB of an action's output that are kept. Of a longer output the beginning and the end "
        "stay. The editor's window is as large.")

    @model_validator(mode="after")
    def check_image(self) -> Self:
        """Raises ValueError unless exactly the backends with containers have an image."""
        if (self.backend in ("podman", "docker")) != (self.image is not None):
            raise ValueError("backend podman or docker needs an image, the others take none")
        return self


class StudentParams(Strict):
    """How base and student are run at evaluation: in this process, or by a server such as vLLM."""

    base_url: str = address(
        "local", description="Where base and student run: 'local' for this process, or the base URL of a server. The "
        "server speaks the OpenAI API and offers both, under the names base and student. If it needs a key, this is "
        "read from STUDENT_API_KEY.")
    temperature: float = Field(
        0.2, ge=0, le=2, description="Sampling temperature of base and student, from 0 to 2. 0 takes the likeliest "
        "token each time.")
    max_new_tokens: int = Field(
        384, ge=1, description="Most tokens of one reply of base or student. A longer reply is cut. A run ends where "
        "its conversation and a reply of this length no longer fit the context window.")
    usd_per_mtok_in: UsdPerMtokIn = None
    usd_per_mtok_out: UsdPerMtokOut = None


Teacher = Annotated[TeacherParams, Field(
    description="The teacher, behind an OpenAI-compatible API. In stage 07 it plays too, as a reference.")]
Hub = Annotated[HubParams, Field(description="The Hub that datasets come from.")]
Sandbox = Annotated[SandboxParams, Field(description="Where code that a model wrote runs, and how much it may use.")]
