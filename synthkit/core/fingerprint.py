"""Fingerprints: what a stage's results were made from, as one short hash; and the hash of the code that made them.

A fingerprint covers what shapes results: the parameters but for those that are `runtime_only`, prompts, the content of
what parameters name (a grid, a local benchmark, model or tokenizer, the embedded services' files), and the stage before
with its results. An address does not count, only whether something is embedded, local or remote. The code's hash
stands beside it: where only code differs, work stays and is marked.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from synthkit.core.code_hash import hash_syntax
from synthkit.core.endpoints import EMBEDDED
from synthkit.core.files import FORMAT
from synthkit.core.params import StageParams
from synthkit.core.paths import find_root
from synthkit.core.prompts import hash_prompts

PROMPTS_OF: dict[str, tuple[str, ...]] = {
    "01_topics": ("topics",),
    "02_datasets": ("dataset_proposal", "task_plan"),
    "03_codegen": ("task_code",),
    "04_self_debug": ("task_code", "task_repair", "task_solution"),
    "05_trajectories": ("agent_system", "agent_task", "agent_retry"),
    "06_sft": ("chatml",),
    "07_mlgym_eval": ("agent_system", "agent_task", "agent_retry"),
}
OFFLINE = Path(__file__).resolve().parent.parent / "offline"
WORDS = ("local", "none")
SERVICES = {"TeacherParams": "teacher", "HubParams": "hub"}
MADE_FROM: dict[str, tuple[str, ...]] = {
    "teacher": ("answers.py", "library.py", "policy.py", "recipes.py", "teacher_server.py", "library"),
    "hub": ("catalogue.py", "data.py", "hub_server.py", "tables.py", "entries"),
    "benchmark": ("benchmark.py", "catalogue.py", "data.py", "tables.py", "entries", "held_out"),
}
PASSED_OVER = (".git", "__pycache__")
_hashes: dict[tuple[str, int, int], str] = {}


def compute_fingerprint(name: str, params: StageParams, before: Mapping[str, str]) -> str:
    """A hash of all that can change the stage's results.

    `before` is what names the results of the stage before (see chain.name_results), empty for the first stage.
    """
    content = {
        "stage": name, "format": FORMAT, "params": bound_values(params), "prompts": hash_prompts(PROMPTS_OF[name]),
        "before": dict(before),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def bound_values(params: BaseModel) -> dict[str, Any]:
    """What each field that is not runtime_only contributes, nested models included; its mark says how."""
    values = {}
    for key, field in type(params).model_fields.items():
        mark = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        value = getattr(params, key)
        if mark.get("runtime_only"):
            continue
        if mark.get("address"):
            value = name_kind(value, SERVICES.get(type(params).__name__, "benchmark"))
        elif mark.get("content"):
            value = name_content(value)
        values[key] = bound_values(value) if isinstance(value, BaseModel) else value
    return values


def name_kind(address: str, service: str) -> str:
    """The kind of an address: embedded, local, none or remote. Another host or port of a service changes nothing."""
    return name_word(address, service) or "remote"


def name_content(value: str | None) -> str | None:
    """Of a file or folder its content; of anything else, such as a model's id on the Hub, the text itself."""
    if value is None:
        return None
    path = find_root() / Path(value).expanduser()
    return name_word(value, "benchmark") or hash_content(path) or value


def name_word(value: str, service: str) -> str | None:
    """A word that stands for a service or for none of it; `embedded` brings the files that it answers from."""
    if value == EMBEDDED:
        return f"{EMBEDDED} {hash_embedded(service)}"
    return value if value in WORDS else None


def hash_embedded(service: str) -> str:
    """What an embedded service answers from: modules as syntax trees, data byte by byte, code of tasks included.

    Only what it uses: a run with another teacher does not change with the scripted one.
    """
    names = MADE_FROM[service]
    parts = [(name, hash_syntax(OFFLINE / name) if name.endswith(".py") else hash_content(OFFLINE / name))
             for name in names]
    return hash_parts(parts)


def hash_content(path: Path) -> str | None:
    """A file's content, or a folder's files by relative path, size and content; None when there is nothing."""
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        return None
    return hash_parts((str(file.relative_to(path)), file.stat().st_size, hash_file(file)) for file in list_files(path))


def list_files(folder: Path) -> list[Path]:
    """All files below a folder, in order; what version control and Python leave there is passed over."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in PASSED_OVER]
        found += [Path(where, name) for name in names]
    return sorted(path for path in found if path.is_file())


def hash_file(path: Path) -> str:
    """The sha256 of a file, read again only when its size or its time has changed."""
    state = path.stat()
    key = (str(path), state.st_size, state.st_mtime_ns)
    if key not in _hashes:
        with path.open("rb") as file:
            _hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[key]


def hash_parts(parts: Any) -> str:
    """One hash over many named parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps(part).encode() + b"\n")
    return digest.hexdigest()
