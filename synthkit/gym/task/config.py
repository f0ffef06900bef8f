"""The YAML files of a task: MLGym's task and dataset files, and the kit's own beside them; read strictly, and written.

MLGym drops unknown keys without a word; here they are faults, with the nearest known name.
Field names and meanings: MLGym v0.1.1, mlgym/environment/tasks.py.
"""

import difflib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synthkit.core.errors import TaskError
from synthkit.core.faults import name_place, write_fault
from synthkit.gym.task.published import Direction

log = logging.getLogger(__name__)


class Section(BaseModel):
    """A YAML file, or a part of one, whose keys are all known."""
    model_config = ConfigDict(extra="forbid")


class Split(Section):
    """A split of an MLGym dataset: its name and the pattern of its files."""
    name: str
    file_regex: str


class DatasetConfig(Section):
    """MLGym's dataset file. `description` may hold braces; splits are carried along and never used."""

    name: str
    description: str
    data_path: str
    is_local: bool = False
    train_split: Split | None = None
    valid_split: Split | None = None
    test_split: Split | None = None


class TaskConfig(Section):
    """MLGym's task file, all of its fields. In `description` literal braces are doubled: it goes through str.format."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=120)
    name: str
    description: str
    dataset_configs: list[str] = []
    task_entrypoint: Literal[
        "CSVSubmissionTasks", "ModelSubmissionTasks", "LMSubmissionTasks", "PythonSubmissionTasks"
    ] = "CSVSubmissionTasks"
    training_timeout: int | None = Field(None, ge=1, description="seconds; None is MLGym's default of 3600")
    requirements_path: str | None = None
    benchmark_name: str | None = None
    use_generic_conda: bool = True
    starter_code: list[str] = []
    baseline_paths: list[str] = []
    baseline_scores: list[dict[str, float]] = []
    sample_submission: str | None = None
    evaluation_paths: list[str] = []
    evaluation_read_only: bool = False
    secret_files: list[str] = Field([], description="workspace paths that the agent never sees")
    memory_path: str | None = None


class Origin(Section):
    """Who made one stage's part of a task, from which prompts (sha256 of each template), and at what cost.

    Tokens and USD are of this task's requests, at the list price even where a reply was kept from before.
    """

    teacher: str
    seed: int
    prompts: dict[str, str]
    tokens_in: int
    tokens_out: int
    usd: float


class TaskMeta(Section):
    """The kit's own knowledge of a task: `synthkit.yaml`. Scores but `baseline_public` are on the private rows."""

    metric: str | None = None
    direction: Direction | None = None
    task_kind: Literal["classification", "regression"] | None = None
    target: str | None = None
    score_on: Literal["halves", "all"] = "halves"
    baseline_public: float | None = None
    baseline_private: float | None = None
    trivial_score: float | None = None
    reference_score: float | None = None
    perfect_score: float | None = None
    reference_model: str | None = Field(None, description="who got `reference_score`: a generic model or solution.py")
    solver_pass_rate: float | None = Field(
        None, description="share of the solvers that beat the baseline: generic models and, where they fail, solutions "
        "by the teacher")
    solver_gain: float | None = Field(None, description="what the best gains, in shares of baseline to perfect")
    dataset_id: str | None = None
    dataset_revision: str | None = None
    licence: str | None = None
    citation: str | None = None
    difficulty: str | None = None
    topic: str | None = None
    dataset_files: dict[str, str] = Field({}, description="sha256 of the files that were fetched at that revision")
    gates: list[str] = Field([], description="the gates that it passed, in their order")
    attempts: list[str] = Field([], description="outcome of each attempt; the last one is this task")
    origin: dict[str, Origin] = Field({}, description="by stage")
    hashes: dict[str, str] = Field({}, description="sha256 of the files under data/<id>/, filled in when written")


# libyaml's, ten times as fast, wherever PyYAML was built with it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
Form = TypeVar("Form", bound=Section)


def read_section(path: Path, form: type[Form], *, lenient: bool = False) -> Form:
    """A YAML file as one of the models above. Raises TaskError with every fault and a near name for unknown keys.

    `lenient` leaves unknown keys out with a warning: a checkout of MLGym may hold some, for MLGym drops them.
    """
    values = load_mapping(path)
    if unknown := sorted(values.keys() - form.model_fields.keys()) if lenient else []:
        log.warning("%s: unknown keys left out: %s", path, ", ".join(unknown))
    # A key that is left empty in YAML is None: MLGym then takes the field's default.
    given = {key: value for key, value in values.items() if value is not None and key not in unknown}
    try:
        return form.model_validate(given)
    except ValidationError as error:
        faults = [describe_fault(fault, form) for fault in error.errors()]
        raise TaskError(f"{path}: " + "; ".join(faults)) from error


def load_mapping(path: Path) -> dict[str, Any]:
    """The keys of a YAML file. Raises TaskError when it is missing, is not YAML, or holds no keys."""
    if not path.is_file():
        raise TaskError(f"{path} is missing", "paths in a task are relative to configs/ or to the root")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise TaskError(f"{path} holds no keys")
    return {str(key): value for key, value in values.items()}


def describe_fault(fault: Mapping[str, Any], form: type[Section]) -> str:
    """One of pydantic's faults in words, with a near name for an unknown key."""
    where = name_place(fault["loc"])
    if fault["type"] != "extra_forbidden":
        return write_fault(where, fault)
    close = difflib.get_close_matches(where, form.model_fields, n=1)
    return f"unknown key {where!r}" + (f" (did you mean {close[0]!r}?)" if close else "")


class _Dumper(DUMPER):  # type: ignore[misc, valid-type]
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # A block is readable, but YAML cannot hold trailing blanks or control characters in one.
    plain = re.search(r"[ \t]\n|[^\S\n ]|[\x00-\x09\x0b-\x1f]", text) is None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text and plain else None)


_Dumper.add_representer(str, _represent_text)


def write_section(path: Path, section: Section) -> None:
    """Write a section as YAML, empty fields left out; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {key: value for key, value in section.model_dump().items() if value not in (None, [], {})}
    path.write_text(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100), encoding="utf-8")
