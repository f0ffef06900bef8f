"""Runs of a candidate's evaluate.py: beside the answers, in one sandbox, on many submissions in one action."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from synthkit.gym.sandbox import make_plain
from synthkit.gym.sandbox.workspace import place_files, take_file
from synthkit.gym.scoring.csv_form import SUBMISSION, Part, restrict
from synthkit.stages.self_debug.candidate import Candidate, EvaluationOutcome
from synthkit.stages.self_debug.in_sandbox import RUN_EVALUATIONS

EVALUATE = "evaluate.py"
PLAN, RESULTS = ".runs.json", ".ran.jsonl"
# Of an action with many runs, beside their own limits.
GRACE_S = 60


@dataclass(frozen=True)
class EvaluationRun:
    """One run of evaluate.py; paths are relative to the evaluation folder, `folder` is where it runs."""

    submission: str
    script: str = EVALUATE
    folder: str = "."


def run_evaluations(candidate: Candidate, runs: Mapping[str, EvaluationRun]) -> dict[str, EvaluationOutcome]:
    """The outcome of each run, by its name.

    After a timeout, or a crash of the script that runs them, the runs that remain count as failed.
    """
    plan = {"limit_s": candidate.time_limit_s, "output_bytes": candidate.sandbox.output_kb << 10,
            "runs": [{"name": name, **asdict(run)} for name, run in runs.items()]}
    files: dict[str, str | bytes | Path] = {PLAN: json.dumps(plan), RESULTS: "", RUN_EVALUATIONS.name: RUN_EVALUATIONS}
    place_files(files, candidate.evaluation_folder, replace=True)
    command = f"python {RUN_EVALUATIONS.name} {PLAN} {RESULTS}"
    action = candidate.session.run(command, candidate.time_limit_s * len(runs) + GRACE_S)
    told = {outcome.name: outcome for outcome in read_outcomes(candidate.evaluation_folder)}
    rest = EvaluationOutcome(name="", exit_code=action.exit_code or 1, timed_out=action.timed_out, output=action.output)
    return {name: told.get(name, rest) for name in runs}


def read_outcomes(folder: Path) -> list[EvaluationOutcome]:
    """What the script wrote; nothing when that is of another form, since the code under test can write there too."""
    lines = (take_file(folder, RESULTS) or b"").splitlines()
    try:
        found = [EvaluationOutcome.model_validate_json(line) for line in lines]
    except ValidationError:
        return []
    return [outcome.model_copy(update={"output": make_plain(outcome.output)}) for outcome in found]


def lay_out_part(candidate: Candidate, name: str, submission: bytes, part: Part) -> EvaluationRun:
    """Lay out a folder as scoring does, with one part of the rows of answers and submission; returns the run in it."""
    task, folder = candidate.loaded_task(), f"parts/{name}_{part}"
    files = task.all_files()
    kept = {path: files[path] for path in (EVALUATE, "data/test.csv")} | restrict(task, submission, part)
    place_files({f"{folder}/{path}": content for path, content in kept.items()}, candidate.evaluation_folder)
    return EvaluationRun(f"{folder}/{SUBMISSION}", f"{folder}/{EVALUATE}", folder)
