"""Parameters from YAML layers and from notebooks: merged, checked as a whole, and every fault told at once.

Order of layers: the models' defaults (= params/base.yaml), the profile, `--set section.key=value`. The
sections `run`, `teacher`, `hub`, `sandbox` and `ray` are shared: they flow into every stage that has such a
field, and the stage's own section may override parts of them.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from synthkit.core.errors import ParamError
from synthkit.core.faults import name_place, suggest, write_fault
from synthkit.core.params import STAGES, SpreadParams, StageParams

Values = dict[str, Any]
SHARED = ("teacher", "hub", "sandbox", "ray")
RUN_FIELDS = tuple(name for name in SpreadParams.model_fields if name not in SHARED)
SECTIONS = {name[3:]: name for name in STAGES}
SECRET_NAME = re.compile(r"(^|_)(key|token|secret|password)s?$", re.IGNORECASE)
TOKEN_COUNTS = ("max_tokens", "max_output_tokens", "max_new_tokens", "max_task_tokens")
SECRET_VALUE = re.compile(r"(^|[\s:=])(sk-|hf_)[A-Za-z0-9_-]{8,}|://[^/@\s]*:[^/@\s]+@")
RUN_NAME = re.compile(r"\w[\w.-]*")
FIX = "correct these in params/*.yaml or in --set; params/base.yaml lists every parameter"


def load_params(paths: Iterable[Path], sets: Iterable[str] = (), run: str | None = None) -> dict[str, StageParams]:
    """The parameters of every stage. Raises one ParamError that names every fault of every stage."""
    layers = [read_yaml(path) for path in paths] + [parse_set(text) for text in sets]
    if run:
        if not RUN_NAME.fullmatch(run):
            raise ParamError(f"--run {run!r} is no name for a folder", "use letters, digits, '-', '_' and '.'")
        layers.append({"run": {"run_dir": f"outputs/{run}"}})
    values: Values = {}
    for layer in layers:
        values = merge(values, layer)
    faults = find_section_faults(values) + find_secrets(values)
    stages, more = build_stages(values)
    if len({str(params.run_dir) for params in stages.values()}) > 1:
        more.append("run_dir differs between stages: set it once, in the section run")
    if faults + more:
        raise ParamError("\n".join(dict.fromkeys(faults + more)), FIX)
    return stages


def check_params(name: str, values: Mapping[str, Any]) -> StageParams:
    """The stage's parameters from plain values. Raises ParamError naming every fault."""
    model = STAGES[name]
    chosen = {key: values[key] for key in model.model_fields if key in values}
    faults = find_secrets(chosen)
    try:
        params = model.model_validate(chosen)
        if not faults:
            return params
    except ValidationError as error:
        faults += [describe_fault(name, model, fault, chosen) for fault in error.errors()]
    raise ParamError("\n".join(faults), "correct these in the parameters cell or in params/*.yaml")


def build_stages(values: Values) -> tuple[dict[str, StageParams], list[str]]:
    """Each stage's model from its own and the shared sections; faults as text, shared ones once."""
    stages: dict[str, StageParams] = {}
    faults: list[str] = []
    for section, name in SECTIONS.items():
        model = STAGES[name]
        shared = {key: values[key] for key in SHARED if key in values and key in model.model_fields}
        run = values.get("run") if isinstance(values.get("run"), dict) else {}
        run = {key: value for key, value in (run or {}).items() if key in RUN_FIELDS and key in model.model_fields}
        own = values.get(section) or {}
        merged = merge(merge(run, shared), own) if isinstance(own, dict) else {}
        try:
            stages[name] = model.model_validate(merged)
        except ValidationError as error:
            faults += [describe_fault(section, model, fault, own) for fault in error.errors()]
    return stages, faults


def read_yaml(path: Path) -> Values:
    """One layer. Raises ParamError naming file and line."""
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        raise ParamError(f"there is no {path}", f"did you mean {path.parent / near[0]}?" if near else "check the path")
    try:
        content: Any = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamError(f"{path} is not YAML: {' '.join(str(error).split())}", "correct the line it names") from error
    if not isinstance(content or {}, dict):
        raise ParamError(f"{path} holds no sections", "write `section:` and its parameters below")
    values: Values = content or {}
    return values


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is a fault: else the first one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping as PyYAML reads it. Raises ConstructorError, with its line, for a key that stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands here twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse_set(text: str) -> Values:
    """`section.key=value` as a layer; the value is read as YAML, and 2e-5 as the number that is meant."""
    name, equals, value = text.partition("=")
    keys = name.strip().split(".")
    if not equals or len(keys) < 2:
        raise ParamError(f"--set {text!r} is not section.key=value", "for example --set trajectories.per_task=8")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ParamError(f"--set {name.strip()}: {value!r} is not YAML", "quote it, or correct its brackets") from error
    *sections, last = keys
    layer: Values = {last: parsed}
    for key in reversed(sections):
        layer = {key: layer}
    return layer


def merge(below: Values, above: Mapping[str, Any]) -> Values:
    """Nested dicts are merged key by key; anything else above replaces what is below."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def find_section_faults(values: Values) -> list[str]:
    """Faults that no model sees: unknown sections, sections that hold no parameters, unknown names in `run`."""
    known = ["run", *SHARED, *SECTIONS]
    faults = [f"{key}: unknown section{suggest(str(key), known)}" for key in values if key not in known]
    faults += [f"{key}: holds no parameters, only {show(values[key])}" for key in known
               if key in values and values[key] is not None and not isinstance(values[key], dict)]
    run = values.get("run")
    unknown = [key for key in run if key not in RUN_FIELDS] if isinstance(run, dict) else []
    return faults + [f"run.{key}: unknown parameter{suggest(str(key), RUN_FIELDS)}" for key in unknown]


def find_secrets(values: Any, place: str = "") -> list[str]:
    """Keys and tokens must not stand in a file that is stored beside the results."""
    if isinstance(values, dict):
        found = [f"{place}{key}: secrets come from the environment only; name the variable in {key}_env"
                 for key in values if SECRET_NAME.search(str(key)) and key not in TOKEN_COUNTS]
        return found + [f for key, value in values.items() for f in find_secrets(value, f"{place}{key}.")]
    if isinstance(values, list):
        return [fault for value in values for fault in find_secrets(value, place)]
    if isinstance(values, str) and SECRET_VALUE.search(values):
        return [f"{place.rstrip('.')}: this looks like a secret; set it in the environment instead"]
    return []


def describe_fault(section: str, model: type[BaseModel], fault: Mapping[str, Any], own: Any) -> str:
    """One line a fault: where, what, and the nearest known name or what YAML made of the value."""
    loc = [str(part) for part in fault["loc"]]
    if not loc:
        return write_fault(section, fault)
    shared = loc[0] in (*SHARED, *RUN_FIELDS) and not has_path(own, loc)
    place = name_place(["run", *loc] if shared and loc[0] in RUN_FIELDS else loc if shared else [section, *loc])
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown parameter{suggest(loc[-1], fields_at(model, loc[:-1]))}"
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return write_fault(place, fault)
    given = fault["input"]
    hint = "; YAML reads no, off and yes as booleans, so quote it" if isinstance(given, bool) else ""
    return f"{write_fault(place, fault)} (got {show(given)}{hint})"


def has_path(values: Any, loc: Iterable[str]) -> bool:
    """Whether nested values hold this place, so that a fault there is theirs and not a shared section's."""
    for part in loc:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def show(value: Any) -> str:
    """A value for a message, never a secret."""
    return "a value that is not shown" if find_secrets(value) else repr(value)


def fields_at(model: type[BaseModel], loc: list[str]) -> list[str]:
    """The field names of the model nested at a place."""
    for part in loc:
        field = model.model_fields.get(part)
        nested = [t for t in (field.annotation, *get_args(field.annotation)) if is_model(t)] if field else []
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)


def is_model(kind: Any) -> bool:
    """Whether a part of an annotation is a model with fields of its own."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)
