"""Records of completion, and the chain that they make: a stage is complete only on the stages that it was made from.

Each record names the results that its stage leaves and those that it was made from. So a stage that was made again
with other results breaks the chain behind it, and nobody goes on from drafts of splits that are no longer there.
"""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import synthkit
from synthkit.core.code_hash import hash_code
from synthkit.core.errors import StageError
from synthkit.core.files import FORMAT, write_json
from synthkit.core.fingerprint import compute_fingerprint, hash_content, hash_parts
from synthkit.core.params import STAGES, StageParams
from synthkit.core.paths import show_path

Record = dict[str, Any]
RECORD, OPENED = "stage.json", "opened.json"
# What the next stage reads of each; of a folder all its files count.
RESULT_FILES: dict[str, tuple[str, ...]] = {
    "01_topics": ("topics.jsonl",),
    "02_datasets": ("proposals.jsonl", "data"),
    "03_codegen": ("drafts.jsonl",),
    "04_self_debug": ("verified.jsonl", "tasks"),
    "05_trajectories": ("sft.jsonl",),
    "06_sft": ("student", "base"),
    "07_mlgym_eval": ("runs.jsonl",),
}
KEYS = {"name", "attempt", "fingerprint", "results", "made_from", "requested", "kept", "refused", "owed", "codes"}
PACKAGES = ("openai", "huggingface_hub", "datasets", "transformers", "trl", "peft", "torch", "scikit-learn", "pandas")


def load_stage_record(run_dir: Path, name: str) -> Record | None:
    """A stage's completion record, or None while it has none.

    Raises StageError when it cannot be read, or when another version of the kit wrote it in a format of its own.
    """
    path = run_dir / name / RECORD
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(f"{path} is damaged: {error}", "delete it and run the stage again") from error
    if not isinstance(record, dict) or not {"name", "attempt", "fingerprint"} <= record.keys():
        raise StageError(f"{path} is no completion record", "delete it and run the stage again")
    if (found := record.get("format", 1)) != FORMAT:
        age = "a newer" if isinstance(found, int) and found > FORMAT else "an older"
        raise StageError(f"{path} was made by {age} version of the kit (format {found}, this one reads {FORMAT})",
                         f"move {show_path(run_dir)} away, or start a new run: --run NAME")
    if missing := KEYS - record.keys():
        raise StageError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}",
                         "delete it and run the stage again")
    return record


def previous_stage(name: str) -> str | None:
    """The stage whose results a stage starts from; None for the first one."""
    names = list(STAGES)
    return names[names.index(name) - 1] if names.index(name) else None


def name_results(record: Record | None) -> dict[str, str]:
    """What names a stage's results to the next one: what they were made from, and what is in them."""
    return {"fingerprint": record["fingerprint"], "results": record["results"]} if record else {}


def name_below(run_dir: Path, name: str) -> dict[str, str]:
    """What names the results that a stage starts from; empty for the first one, and while there are none."""
    before = previous_stage(name)
    return name_results(load_stage_record(run_dir, before)) if before else {}


def find_break(run_dir: Path, name: str) -> tuple[str, str] | None:
    """The earlier stage that has to be run before `name`, and why; None when every earlier stage is valid."""
    names = list(STAGES)[:list(STAGES).index(name)]
    broken = [stage for stage in names if load_stage_record(run_dir, stage) is None]
    if broken:
        stage = names[-1] if names[-1] in broken else broken[0]
        return stage, f"{name} needs {stage}, which has not finished in this run"
    for stage in names:
        record, before = load_stage_record(run_dir, stage), previous_stage(stage)
        if record and record["made_from"] != name_below(run_dir, stage):
            return stage, f"{name} needs {stage}, but {before} has been made again since {stage} was made from it"
    return None


def check_chain(run_dir: Path, name: str) -> None:
    """Raises StageError, naming the stage to run, unless all stages before `name` stand on one another."""
    if found := find_break(run_dir, name):
        stage, cause = found
        raise StageError(cause, f"run notebooks/{stage}.ipynb to its end first (or: synthkit run --from {stage[:2]})")


def is_complete(name: str, params: StageParams, run_dir: Path) -> bool:
    """Whether a stage's results are those of these parameters and of the stages before it, which stand themselves."""
    record = load_stage_record(run_dir, name)
    if record is None or find_break(run_dir, name):
        return False
    below = name_below(run_dir, name)
    if record["made_from"] != below or record["fingerprint"] != compute_fingerprint(name, params, below):
        return False
    return may_owe(params, record["requested"], record["owed"])


def may_reuse(name: str, params: StageParams, run_dir: Path) -> bool:
    """Whether a stage is taken as it is: it is complete, and `resume` does not ask to start anew."""
    return params.resume != "never" and is_complete(name, params, run_dir)


def list_pending(stages: Mapping[str, StageParams], chosen: Sequence[str], run_dir: Path) -> list[str]:
    """The chosen stages that have to be run: from the first one that is not complete on, all of them."""
    for at, name in enumerate(chosen):
        if not may_reuse(name, stages[name], run_dir):
            return list(chosen[at:])
    return []


def may_owe(params: StageParams, requested: int, owed: int) -> bool:
    """Whether a stage may finish while so many of its items are owed."""
    return owed <= getattr(params, "allow_owed", 0.0) * requested


def hash_results(run_dir: Path, name: str) -> str:
    """A hash of what the next stage reads."""
    return hash_parts((file, hash_content(run_dir / name / file)) for file in RESULT_FILES[name])


def list_codes(folder: Path) -> list[str]:
    """The hashes of all code that worked on a stage's folder, in order."""
    return [str(code) for code in read_opened(folder).get("codes", [])]


def uses_other_code(run_dir: Path, name: str) -> bool:
    """Whether other code than today's worked on what lies in a stage's folder, finished or not."""
    return holds_other_code(list_codes(run_dir / name), hash_code(name))


def holds_other_code(codes: Iterable[str], today: str) -> bool:
    """Whether any of the codes that worked on a folder differs from today's; none at all is no other code."""
    return any(code != today for code in codes)


def mark_code(run_dir: Path, name: str) -> bool:
    """Say in a finished stage's record whether other code made it. Returns whether the record has changed."""
    record = load_stage_record(run_dir, name)
    found = record is not None and holds_other_code(record["codes"], hash_code(name))
    if record is None or record.get("made_by_other_code", False) == found:
        return False
    write_json(run_dir / name / RECORD, record | {"made_by_other_code": found})
    return True


def read_opened(folder: Path) -> Record:
    """What a stage's opening left: its fingerprint, the time, and the code; empty when there is nothing to read."""
    path = folder / OPENED
    try:
        opened = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        return {}
    return opened if isinstance(opened, dict) else {}


def archive_stage(run_dir: Path, name: str) -> None:
    """Move a stage's folder aside, to the next free place in archive/; without one nothing happens."""
    if not (run_dir / name).is_dir():
        return
    archive = run_dir / "archive"
    archive.mkdir(parents=True, exist_ok=True)
    taken = [int(path.suffix[1:]) for path in archive.glob(f"{name}.*") if path.suffix[1:].isdigit()]
    (run_dir / name).rename(archive / f"{name}.{max(taken, default=-1) + 1}")


def list_versions() -> dict[str, str]:
    """The versions that results may depend on."""
    found = {"synthkit": synthkit.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
