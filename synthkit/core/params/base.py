"""What all parameters have in common: the marks that say what a fingerprint takes of them, and every stage's own.

Each field has a description. Its first sentence says what the parameter is and in which unit, short enough for a
comment behind a notebook's line; the sentences after it say what null means and what happens at a limit.
"""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Resume = Literal["never", "if_possible", "always"]


def runtime_only(default: Any = ..., **kw: Any) -> Any:
    """A field that says how a run is carried out (place, speed, patience, money); it stays out of the fingerprint.

    So a change of it keeps the work that is finished. What is made after the change can still differ: more workers
    reach limits of wall time sooner, and prices decide where a limit in USD is reached.
    """
    return Field(default, json_schema_extra={"runtime_only": True}, **kw)


def address(default: str, **kw: Any) -> Any:
    """A field that says where a service is; only the kind of service goes into the fingerprint.

    Another host counts as the same service, so it has to offer the same models or datasets.
    """
    return Field(default, json_schema_extra={"address": True}, **kw)


def content(default: Any, **kw: Any) -> Any:
    """A field that may name a local file or folder; what is in it goes into the fingerprint, not where it lies."""
    return Field(default, json_schema_extra={"content": True}, **kw)


class Strict(BaseModel):
    """Unknown names are refused, and so is a boolean for a number: YAML reads `no` and `on` as booleans."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def refuse_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """The value as it is. Raises ValueError for a boolean in a field that takes none."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("a boolean does not belong here")
        return value


class RayParams(Strict):
    """A Ray cluster that is already running, and what it reserves for each item; used with `executor: ray`."""

    address: str = runtime_only(
        "auto", description="The cluster: 'auto' for the one on this machine, or host:port of its head node.")
    cpus: float = runtime_only(1.0, ge=0, description="Processors that Ray reserves for each item. 0 reserves none.")
    gpus: float = runtime_only(0.0, ge=0, description="GPUs that Ray reserves for each item. 0 reserves none.")
    memory_mb: int | None = runtime_only(
        None, ge=1, description="MiB of memory that Ray reserves for each item. null reserves none. An item that "
        "uses more is not stopped.")


class StageParams(Strict):
    """What every stage has, set once for the whole run."""

    run_dir: str = runtime_only(
        "outputs/offline", description="Folder of the run, relative to the repository's root. All stages of a run "
        "need the same.")
    seed: int = Field(
        0, ge=0, description="Number that every random choice follows from. The seeds that are sent to the "
        "teacher follow from it too.")
    resume: Resume = runtime_only(
        "if_possible", description="What to do with work that is already there: 'never', 'if_possible' or 'always'. "
        "'never' moves it to archive/ and starts anew. 'if_possible' goes on with it when parameters and inputs are "
        "the same, and otherwise moves it to archive/. 'always' goes on with it or stops with an error.")


class WorkParams(StageParams):
    """What every stage has that works through a list of items: topics, tasks, rollouts or runs."""

    allow_owed: float = runtime_only(
        0.0, ge=0, le=1, description="Share of items that may still be owed when a stage finishes, from 0 to 1. An "
        "item is owed when the infrastructure failed, such as an endpoint that timed out. 0 lets a stage finish only "
        "when nothing is owed.")


class SpreadParams(WorkParams):
    """What a stage has whose items can be worked on elsewhere: each is made from a few files and the teacher."""

    executor: Literal["local", "ray"] = runtime_only(
        "local", description="Where items are worked on: local (this machine) or ray (a Ray cluster). Only stages 03, "
        "04, 05 and 07 have this choice; 07 can use ray only when base and student are served behind a URL.")
    ray: RayParams = runtime_only(
        RayParams(), description="The Ray cluster, and what it reserves for each item. Used when `executor` is ray.")
