"""A run's folder and its stages: opened with checked parameters, finished by one record that is written last.

A stage counts as finished only when its `stage.json` is there. Its fingerprint covers all that can
change its results (parameters that are not free, prompts, the fingerprint of the stage before), so a
later call knows whether what lies in the folder may be continued.
"""

import hashlib
import json
import os
import platform
import random
import time
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ValidationError

import synthkit
from synthkit.core.errors import ParamError, StageError
from synthkit.core.loading import describe_fault, find_secrets
from synthkit.core.params import STAGES, StageParams, TopicsParams
from synthkit.core.prompts import hash_prompts
from synthkit.core.records import write_json

if TYPE_CHECKING:
    import pandas as pd

PROMPTS_OF: dict[str, tuple[str, ...]] = {
    "01_topics": ("topics",),
    "02_datasets": ("dataset_proposal", "task_plan"),
    "03_codegen": ("task_code",),
    "04_self_debug": ("task_code", "task_repair", "task_solution"),
    "05_trajectories": ("agent_system", "agent_task", "agent_retry"),
    "06_sft": ("chatml",),
    "07_mlgym_eval": ("agent_system", "agent_task", "agent_retry"),
}
PACKAGES = ("openai", "huggingface_hub", "datasets", "transformers", "trl", "peft", "torch", "scikit-learn", "pandas")


@dataclass
class Stage:
    """An open stage. `resumed`: its folder already holds work; `finished`: that work is complete."""

    name: str
    params: StageParams
    run_dir: Path
    dir: Path
    attempt: str
    fingerprint: str
    resumed: bool
    finished: bool
    started: float

    @property
    def seed(self) -> int:
        return self.params.seed

    def input(self, stage_name: str) -> Path:
        """The folder of an earlier stage. Raises StageError when that stage has not finished."""
        if load_stage_record(self.run_dir, stage_name) is None:
            raise unfinished(self.name, stage_name)
        return self.run_dir / stage_name

    def finish(self, requested: int, kept: int, lost: Mapping[str, int], metrics: Mapping[str, Any] | None = None,
               tokens: int | None = None, usd: float | None = None) -> dict[str, Any]:
        """Write the completion record, last and atomically; on a finished stage only the attempt is renewed.

        `tokens` and `usd` default to what the run's ledger says of this stage.
        """
        old = load_stage_record(self.run_dir, self.name)
        record = old | {"attempt": self.attempt} if old else self._complete(requested, kept, lost, metrics, tokens, usd)
        write_json(self.dir / "stage.json", record)
        self.finished = True
        return record

    def _complete(self, requested: int, kept: int, lost: Mapping[str, int], metrics: Mapping[str, Any] | None,
                  tokens: int | None, usd: float | None) -> dict[str, Any]:
        from synthkit.core.ledger import stage_usage

        used_tokens, used_usd = stage_usage(self.run_dir, self.name)
        return {
            "name": self.name, "attempt": self.attempt, "fingerprint": self.fingerprint,
            "requested": requested, "kept": kept, "lost": dict(sorted(lost.items())), "metrics": dict(metrics or {}),
            "tokens": used_tokens if tokens is None else tokens, "usd": used_usd if usd is None else usd,
            "seconds": round(self._spent() + time.time() - self.started, 1),
            "versions": list_versions(), "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _spent(self) -> float:
        """Seconds that earlier, interrupted attempts worked on this folder."""
        begun = read_opened(self.dir)
        return float(begun.get("seconds_before", 0.0))

    def describe(self) -> "pd.DataFrame":
        """The effective parameters, and whether the stage starts, continues or is already complete."""
        import pandas as pd

        state = "complete" if self.finished else "continued" if self.resumed else "fresh"
        rows = [("stage", f"{self.name} ({state})"), ("folder", str(self.params.run_dir) + f"/{self.name}")]
        rows += [(key, compact(value)) for key, value in self.params.model_dump().items() if key != "run_dir"]
        return pd.DataFrame(rows, columns=["parameter", "value"]).set_index("parameter")


def open_stage(name: str, values: Mapping[str, Any]) -> Stage:
    """Check parameters and the stage before, apply the resume mode, seed Python and numpy, and make the folder.

    `values` holds the parameters by name; other names in it (a notebook's globals) are passed over.
    Raises ParamError or StageError with cause and fix, before any work.
    """
    params = check_params(name, values)
    run_dir = find_root() / params.run_dir
    before = previous_stage(name)
    if before and load_stage_record(run_dir, before) is None:
        raise unfinished(name, before)
    fingerprint = compute_fingerprint(name, params, run_dir)
    folder = run_dir / name
    apply_resume(params.resume, folder, run_dir, fingerprint)
    resumed = holds_work(folder)
    note_opening(folder, fingerprint)
    quiet_bars()
    random.seed(params.seed)
    np.random.seed(params.seed % 2**32)
    return Stage(
        name, params, run_dir, folder, os.environ.get("SYNTHKIT_ATTEMPT") or new_attempt(), fingerprint,
        resumed=resumed, finished=load_stage_record(run_dir, name) is not None, started=time.time(),
    )


def quiet_bars() -> None:
    """Stages show their own progress; the libraries' bars would only fill a notebook with red text."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", message="IProgress not found")


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


def find_root() -> Path:
    """The repository's root: the nearest folder above that holds notebooks/ and params/, else where we are."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
            return folder
    return here


def previous_stage(name: str) -> str | None:
    names = list(STAGES)
    return names[names.index(name) - 1] if names.index(name) else None


def unfinished(name: str, before: str) -> StageError:
    fix = f"run notebooks/{before}.ipynb to its end first (or: synthkit run --from {before[:2]})"
    return StageError(f"{name} needs {before}, which has not finished in this run", fix)


def load_stage_record(run_dir: Path, name: str) -> dict[str, Any] | None:
    """A stage's completion record, or None while it has none. Raises StageError when it cannot be read."""
    path = run_dir / name / "stage.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(f"{path} is damaged: {error}", "delete it and run the stage again") from error
    if not isinstance(record, dict) or not {"name", "attempt", "fingerprint"} <= record.keys():
        raise StageError(f"{path} is no completion record", "delete it and run the stage again")
    return record


def compute_fingerprint(name: str, params: StageParams, run_dir: Path) -> str:
    """A hash of all that can change the stage's results."""
    before = previous_stage(name)
    record = load_stage_record(run_dir, before) if before else None
    return chain_fingerprint(name, params, record["fingerprint"] if record else "")


def chain_fingerprint(name: str, params: StageParams, before: str) -> str:
    """The fingerprint from parts; `before` is the fingerprint of the stage before, empty for the first."""
    content = {
        "stage": name, "params": bound_values(params), "prompts": hash_prompts(PROMPTS_OF[name]),
        "kit": synthkit.__version__, "before": before,
    }
    if isinstance(params, TopicsParams):
        content["grid"] = hash_file(find_root() / params.grid)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str | None:
    """A file that the parameters name shapes the results by what is in it; None when it is absent."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def bound_values(params: BaseModel) -> dict[str, Any]:
    """The values of all fields that are not marked free, nested models included."""
    values = {}
    for key, field in type(params).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("free"):
            continue
        value = getattr(params, key)
        values[key] = bound_values(value) if isinstance(value, BaseModel) else value
    return values


def apply_resume(resume: str, folder: Path, run_dir: Path, fingerprint: str) -> None:
    """Keep the folder or move it to archive/; `always` refuses to go on when results could differ."""
    if not holds_work(folder):
        return
    same = read_opened(folder).get("fingerprint") == fingerprint
    if resume == "always" and not same:
        fix = "set resume to if_possible (the old folder is then moved to archive/) or restore the parameters"
        raise StageError(f"{folder.name} was made with other parameters or inputs, so it cannot be resumed", fix)
    if resume == "never" or not same:
        archive = run_dir / "archive"
        archive.mkdir(parents=True, exist_ok=True)
        taken = [int(path.suffix[1:]) for path in archive.glob(f"{folder.name}.*") if path.suffix[1:].isdigit()]
        folder.rename(archive / f"{folder.name}.{max(taken, default=-1) + 1}")


def holds_work(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def note_opening(folder: Path, fingerprint: str) -> None:
    """Write who opened the folder and how long earlier attempts worked in it."""
    old = read_opened(folder)
    spent = float(old.get("seconds_before", 0.0))
    if old and not (folder / "stage.json").exists():
        spent += max(0.0, newest_change(folder) - float(old["opened_at"]))
    write_json(folder / "opened.json", {
        "fingerprint": fingerprint, "opened_at": time.time(), "seconds_before": round(spent, 1),
    })


def newest_change(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.iterdir())


def read_opened(folder: Path) -> dict[str, Any]:
    path = folder / "opened.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        return {}


def new_attempt() -> str:
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]


def list_versions() -> dict[str, str]:
    found = {"synthkit": synthkit.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def compact(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else text[:99] + "…"
