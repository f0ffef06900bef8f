"""Whether two runs are equal: the same ids, outcomes, messages, actions, scores, rows, files and weights.

Times, dates, attempt ids and the number of a record's format are left out.
`python tests/kits/compare_runs.py A B [--to 05]` lists what differs; the exit status says whether anything does.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STAGES = ("01_topics", "02_datasets", "03_codegen", "04_self_debug", "05_trajectories", "06_sft", "07_mlgym_eval")
TIMES = {"seconds", "execution_time", "finished_at", "opened_at", "attempt", "format", "calls"}
# Made of other things that are compared, or of how the run went.
LEFT_OUT = {"stage.json", "opened.json", "owed.jsonl", "model_id.json", "training_args.bin"}
LOSS = {"step", "loss", "learning_rate", "mean_token_accuracy"}


def diff_runs(first: Path, second: Path, stages: tuple[str, ...] = STAGES) -> list[str]:
    """One line for each file of the stages that differs, or that only one of the runs has."""
    found = []
    for stage in stages:
        ours, theirs = read_stage(first / stage), read_stage(second / stage)
        found += [f"{stage}/{name}: only in {(first if name in ours else second).name}"
                  for name in sorted(ours.keys() ^ theirs.keys())]
        found += [f"{stage}/{name}: {tell(ours[name], theirs[name])}"
                  for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]]
    return found


def read_stage(folder: Path) -> dict[str, Any]:
    """What is compared of each file of a stage's folder."""
    return {str(path.relative_to(folder)): read_content(path) for path in list_files(folder)}


def list_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        passing = path.name in LEFT_OUT or path.name.startswith(".") or parts[0] in ("downloads", "checkpoints")
        if path.is_file() and not passing and not any(".aside-" in part for part in parts):
            yield path


def read_content(path: Path) -> Any:
    if path.name == "training_log.jsonl":
        rows = map(json.loads, path.read_text().splitlines())
        return {row["step"]: {key: row[key] for key in LOSS & row.keys()} for row in rows if "loss" in row}
    if path.suffix == ".jsonl":
        return [without_times(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix in (".json", ".traj"):
        return without_times(json.loads(path.read_text()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        # A field that one kit has and the other has not is equal while it holds nothing.
        return {key: without_times(entry) for key, entry in value.items()
                if key not in TIMES and entry is not None and entry != ""}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def tell(ours: Any, theirs: Any) -> str:
    if isinstance(ours, list) and isinstance(theirs, list):
        rows = [at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]]
        keys = {key for at in rows if isinstance(ours[at], dict) and isinstance(theirs[at], dict)
                for key in ours[at].keys() | theirs[at].keys() if ours[at].get(key) != theirs[at].get(key)}
        return f"{len(ours)} and {len(theirs)} rows, {len(rows)} differ in {', '.join(sorted(keys)) or 'all'}"
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [str(key) for key in sorted(ours.keys() | theirs.keys(), key=str) if ours.get(key) != theirs.get(key)]
        return f"differs in {', '.join(keys[:8])}"
    return "differs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs=2)
    parser.add_argument("--to", default="07", help="last stage that is compared")
    args = parser.parse_args()
    found = diff_runs(*args.runs, tuple(stage for stage in STAGES if stage[:2] <= args.to))
    sys.stdout.write("\n".join(found or ["equal"]) + "\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
